"""Locks that keep two runs from building in one folder.

On this machine the operating system releases a file lock when its holder ends. On an object store the lock is
an object that names its holder, who rewrites it as long as it builds. It is valid while it is fresh and, if
the holder ran on this machine, while its process exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from pipelines.errors import UserError
from tfrecords_schema import storage

BEAT_SECONDS = 60.0
EXPIRY_SECONDS = 300.0
"""Age at which the lock of a store expires, and its holder is considered dead."""

_SETTLE_SECONDS = 1.0


@contextlib.contextmanager
def file_lock(path: str, folder: str) -> Iterator[None]:
    """Holds a lock on the local file at ``path``; an error, if another run holds it, names ``folder``."""
    with open(path, "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another run is building in {folder}. Wait for it, or give another --output"
            ) from None
        yield


@contextlib.contextmanager
def store_lock(url: str, folder: str) -> Iterator[None]:
    """Holds the lock that is the object at ``url``; an error, if another run holds it, names ``folder``."""
    own = {"id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
    data = json.dumps(own).encode()
    _acquire(url, own, data, folder)
    ended = threading.Event()

    def keep_fresh() -> None:
        while not ended.wait(BEAT_SECONDS):
            # If the store cannot be reached, the next beat tries again.
            with contextlib.suppress(OSError):
                storage.write_bytes(url, data)

    beats = threading.Thread(target=keep_fresh, daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        # A lock that cannot be removed expires. An error here would hide the one of the block.
        with contextlib.suppress(OSError):
            storage.remove([url])


def _acquire(url: str, own: dict[str, Any], data: bytes, folder: str) -> None:
    if storage.create(url, data):
        return
    holder = _live_holder(url)
    if holder is None:
        # Two runs may both find the holder dead. The one whose lock remains has won.
        storage.write_bytes(url, data)
        time.sleep(_SETTLE_SECONDS)
        holder = _live_holder(url)
        if holder is None or holder["id"] == own["id"]:
            return
    raise UserError(
        f"another run is building in {folder} ({holder['host']}, process {holder['pid']}). Wait for it, "
        f"or give another --output. The lock of a killed run expires after {EXPIRY_SECONDS / 60:g} minutes"
    )


def _live_holder(url: str) -> dict[str, Any] | None:
    """Returns the holder of a valid lock; None without one."""
    try:
        age = time.time() - storage.status(url).mtime_ns / 1e9
        holder = json.loads(storage.read_bytes(url))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(holder, dict) or not {"id", "host", "pid"} <= holder.keys():
        return None
    is_dead = holder["host"] == socket.gethostname() and not _is_running(holder["pid"])
    return None if is_dead or age > EXPIRY_SECONDS else holder


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # the process of another user
    return True
