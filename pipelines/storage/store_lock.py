"""A lock on an object store: an object that says who builds, written anew as long as they do.

Stores take it from nobody when its holder ends. So it is believed as long as it is fresh, and no longer than
its process lives where that can be seen, on the machine that holds it.
"""

from __future__ import annotations

import contextlib
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
FORGOTTEN_SECONDS = 300.0
"""After so long without a beat the holder is taken for dead."""

_SETTLE_SECONDS = 1.0


@contextlib.contextmanager
def store_lock(url: str, what: str) -> Iterator[None]:
    """Holds the lock that is the object at ``url``.

    Raises:
        UserError: when another run holds it; ``what`` names what that one is building.
    """
    own = {"id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
    data = json.dumps(own).encode()
    _take(url, own, data, what)
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(url, data, ended), daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        # Where that fails, the lock is forgotten; what happened before is what matters.
        with contextlib.suppress(OSError):
            storage.remove([url])


def _take(url: str, own: dict[str, Any], data: bytes, what: str) -> None:
    if storage.create(url, data):
        return
    holder = _living_holder(url)
    if holder is None:
        # Two runs may both find it dead: the one whose lock remains has it.
        storage.write_bytes(url, data)
        time.sleep(_SETTLE_SECONDS)
        holder = _living_holder(url)
        if holder is None or holder["id"] == own["id"]:
            return
    raise UserError(
        f"another run is building in {what} ({holder['host']}, process {holder['pid']}): wait for it, "
        "or give another --output; one that was killed is forgotten after "
        f"{FORGOTTEN_SECONDS / 60:g} minutes"
    )


def _living_holder(url: str) -> dict[str, Any] | None:
    try:
        age = time.time() - storage.status(url).mtime_ns / 1e9
        holder = json.loads(storage.read_bytes(url))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(holder, dict) or not {"id", "host", "pid"} <= holder.keys():
        return None
    is_dead = holder["host"] == socket.gethostname() and not _lives(holder["pid"])
    return None if is_dead or age > FORGOTTEN_SECONDS else holder


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def _beat(url: str, data: bytes, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        # A store that is out of reach for a moment is met with the next beat.
        with contextlib.suppress(OSError):
            storage.write_bytes(url, data)
