"""A folder of this process for what is on its way to or from an object store.

It goes when the process is done. One that was killed leaves its folder behind, and the next process that
needs one on this machine removes it: a lock, which the system lets go when its holder ends, tells which are
still in use.
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
_making = threading.Lock()


def scratch_folder(name: str) -> Path:
    """The folder ``name`` within this process's own; ``TMPDIR`` says where that is."""
    with _making:
        folder = _own_folder().path / name
        folder.mkdir(exist_ok=True)
    return folder


def remove_scratch() -> None:
    """Removes this process's folder, if it has one."""
    if _own_folder.cache_info().currsize:
        shutil.rmtree(_own_folder().path, ignore_errors=True)
        _own_folder.cache_clear()


class _Folder:
    """A folder whose lock this process holds as long as the object lives."""

    def __init__(self) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._lock: BinaryIO = (self.path / _LOCK).open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if (
                self.path / _LOCK
            ).exists():  # else it was taken for a left one before it was locked
                return


@functools.cache
def _own_folder() -> _Folder:
    _remove_left_ones(Path(tempfile.gettempdir()))
    atexit.register(remove_scratch)
    return _Folder()


def _remove_left_ones(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        # Somebody else's, or gone meanwhile, or in use: all of them are passed over.
        with contextlib.suppress(OSError), (folder / _LOCK).open("rb") as lock:
            if os.fstat(lock.fileno()).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
