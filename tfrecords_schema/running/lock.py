"""Locks that keep two runs from writing to one folder.

On a local disk the operating system releases a file lock when its holder ends. On an object store, or a disk
without such locks, the lock is a file that names its holder, who rewrites it as long as it runs. It is valid
while it is fresh and, if the holder ran on this machine, while its process exists.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from tfrecords_schema import storage
from tfrecords_schema.paths import is_url

BEAT_SECONDS = 60.0
EXPIRY_SECONDS = 300.0
"""Age at which the lock of a store expires, and its holder is considered dead."""

_SETTLE_SECONDS = 1.0
# Lustre without its option `flock`, some network file systems, and some of those in user space.
_NO_FILE_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)


class LockedError(Exception):
    """Another run writes to the folder. The message says which, and what to do."""


@contextlib.contextmanager
def folder_lock(path: str, folder: str, doing: str) -> Iterator[None]:
    """Holds the lock that is the file or object at ``path``.

    Raises:
        LockedError: if another run holds it; says that the run is ``doing``, such as building, in ``folder``.
    """
    if is_url(path):
        with _named_lock(path, folder, doing):
            yield
        return
    try:
        number = _flock(path)
    except BlockingIOError:
        raise LockedError(_refusal(folder, doing, "")) from None
    except OSError as error:
        if error.errno not in _NO_FILE_LOCKS:
            raise
        number = None
    if number is None:
        with _named_lock(f"{path}.holder", folder, doing):
            yield
        return
    try:
        yield
    finally:
        os.close(number)


def _flock(path: str) -> int:
    """Returns the descriptor of the locked file; raises `BlockingIOError` if another process holds it."""
    while True:
        # A link is not followed. The file is not truncated, lest it is another one with a second name.
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A holder that ends may remove the file after it was opened here.
            if os.path.samestat(os.fstat(number), os.lstat(path)):
                return number
        except FileNotFoundError:
            pass
        except OSError:
            os.close(number)
            raise
        os.close(number)


def _refusal(folder: str, doing: str, holder: str) -> str:
    return f"another run is {doing} in {folder}{holder}. Wait for it, or give another --output"


@contextlib.contextmanager
def _named_lock(path: str, folder: str, doing: str) -> Iterator[None]:
    own = {"id": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
    data = json.dumps(own).encode()
    _acquire(path, own, data, folder, doing)
    ended = threading.Event()

    def keep_fresh() -> None:
        while not ended.wait(BEAT_SECONDS):
            # If the store cannot be reached, the next beat tries again.
            with contextlib.suppress(OSError):
                storage.write_bytes(path, data)

    beats = threading.Thread(target=keep_fresh, daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        # A lock that cannot be removed expires. An error here would hide the one of the block.
        with contextlib.suppress(OSError):
            storage.remove([path])


def _acquire(path: str, own: dict[str, Any], data: bytes, folder: str, doing: str) -> None:
    if storage.create(path, data):
        return
    holder = _live_holder(path)
    if holder is None:
        # Two runs may both find the holder dead. The one whose lock remains has won.
        storage.write_bytes(path, data)
        time.sleep(_SETTLE_SECONDS)
        holder = _live_holder(path)
        if holder is None or holder["id"] == own["id"]:
            return
    expiry = f"The lock of a killed run expires after {EXPIRY_SECONDS / 60:g} minutes"
    named = f" ({holder['host']}, process {holder['pid']})"
    raise LockedError(f"{_refusal(folder, doing, named)}. {expiry}")


def _live_holder(path: str) -> dict[str, Any] | None:
    """Returns the holder of a valid lock; None without one."""
    try:
        age = time.time() - storage.status(path).mtime_ns / 1e9
        holder = json.loads(storage.read_bytes(path))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(holder, dict) or not {"id", "host", "pid"} <= holder.keys():
        return None
    is_dead = holder["host"] == socket.gethostname() and not _is_running(holder["pid"])
    return None if is_dead or age > EXPIRY_SECONDS else holder


def _is_running(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except (ValueError, OverflowError):
        return False
    except OSError as error:
        return isinstance(error, PermissionError)  # the process of another user
    return True
