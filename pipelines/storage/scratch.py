"""A temporary folder of this process, for files on their way to or from an object store.

It is removed when the process ends. If a process is killed, its folder is removed by the next process on this
machine that needs one. A file lock, which the system releases when its holder ends, marks folders in use.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import BinaryIO

_PREFIX = "reelbeam-scratch-"
_LOCK = "in-use"
_creation = threading.Lock()


def scratch_folder(name: str) -> Path:
    """Returns the folder ``name`` in this process's temporary folder, which lies in ``TMPDIR``."""
    with _creation:
        folder = _own_folder()[0] / name
        folder.mkdir(exist_ok=True)
    return folder


def remove_scratch() -> None:
    """Removes this process's temporary folder, if it has one."""
    if _own_folder.cache_info().currsize:
        shutil.rmtree(_own_folder()[0], ignore_errors=True)
        _own_folder.cache_clear()


@functools.cache
def _own_folder() -> tuple[Path, BinaryIO]:
    """Makes this process's temporary folder; returns it with the open lock that marks it as used."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    atexit.register(remove_scratch)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = (folder / _LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another process may have removed the folder before it was locked.
        if (folder / _LOCK).exists():
            return folder, lock


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        # OSError: the folder is another user's, in use, or already removed.
        with contextlib.suppress(OSError), (folder / _LOCK).open("rb") as lock:
            if os.fstat(lock.fileno()).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
