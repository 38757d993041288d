"""Temporary folders of this process, which are removed when it ends.

If a process is killed, its folder is removed by the next process on this machine that needs one. A file lock,
which the system releases when its holder ends, marks folders in use.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import glob
import shutil
import tempfile
import threading
import uuid
from pathlib import Path
from typing import BinaryIO

from tfrecords_schema.storage import remove_abandoned

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
    atexit.register(remove_scratch)
    return marked_folder(Path(tempfile.gettempdir()), _PREFIX, mode=0o700)


def keep_file(path: str) -> str:
    """Moves a file out of this process's temporary folder, to stay beside it; returns its new path."""
    return str(shutil.move(path, str(_own_folder()[0].parent)))


def hold_temporary_files() -> None:
    """Makes this process's temporary folder the one for all temporary files, also those of libraries."""
    tempfile.tempdir = str(scratch_folder("files"))


def marked_folder(parent: Path, prefix: str, *, mode: int = 0o777) -> tuple[Path, BinaryIO]:
    """Makes a folder whose name begins with ``prefix``, and removes those of killed processes.

    Returns it with the open lock that marks it as used.
    """
    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        remove_abandoned(folder, folder / _LOCK)
    while True:
        folder = parent / f"{prefix}{uuid.uuid4().hex}"
        folder.mkdir(mode)
        try:
            lock = (folder / _LOCK).open("wb")
        except OSError:
            folder.rmdir()  # without a lock, no later process would remove it
            raise
        with contextlib.suppress(OSError):  # a disk without locks: then nobody removes it either
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Another process may have removed the folder before it was locked.
        if (folder / _LOCK).exists():
            return folder, lock
