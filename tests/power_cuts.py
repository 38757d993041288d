"""A model of a disk that loses what was not synced, to try power cuts at every step of a program."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

State = dict[str, bytes | None]
"""Contents by path relative to the root; None for a folder."""

_CHANGES = ("replace", "rename", "link", "unlink", "mkdir", "rmdir")


class Disk:
    """Watches this process write below ``root``, and shows what a power cut would leave.

    POSIX promises that an `os.fsync` of a file keeps its contents, and one of a folder its names. Two disks
    that keep no more are modelled: one loses names that were not synced, the other (such as XFS and ext4) may
    keep the newest names, and lose the contents.

    Args:
        root: an existing folder.
        on_moment: called with both states before each change of names and each sync.
    """

    def __init__(self, root: Path, on_moment: Callable[[list[State]], None]):
        self._root = root
        self._on_moment = on_moment
        self._held: list[int] = []  # inodes that are open are not used again
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._is_busy = False

    def __enter__(self) -> Disk:
        for path in (self._root, *self._root.rglob("*")):
            self._keep(os.open(path, os.O_RDONLY))
        self._patches = [mock.patch.object(os, name, self._watched(name)) for name in _CHANGES]
        self._patches.append(mock.patch.object(os, "fsync", self._watched("fsync")))
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()
        for number in self._held:
            os.close(number)

    def _watched(self, name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            if self._is_busy:
                return real(*args, **kwargs)
            self._is_busy = True
            try:
                self._on_moment([dict(self._older_names()), dict(self._newest_names())])
            finally:
                self._is_busy = False
            result = real(*args, **kwargs)
            if name == "fsync":
                self._keep(os.dup(args[0]))  # type: ignore[arg-type]
            return result

        return call

    def _keep(self, number: int) -> None:
        self._held.append(number)
        found = os.fstat(number)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(number) as entries:
                self._names[found.st_ino] = {
                    e.name: (e.inode(), e.is_dir(follow_symlinks=False)) for e in entries
                }
        else:
            self._contents[found.st_ino] = os.pread(number, found.st_size, 0)

    def _older_names(
        self, folder: int | None = None, prefix: str = ""
    ) -> Iterator[tuple[str, bytes | None]]:
        names = self._names.get(self._root.stat().st_ino if folder is None else folder, {})
        for name, (inode, is_folder) in names.items():
            yield prefix + name, None if is_folder else self._contents.get(inode, b"")
            if is_folder:
                yield from self._older_names(inode, f"{prefix}{name}/")

    def _newest_names(self) -> Iterator[tuple[str, bytes | None]]:
        for path in self._root.rglob("*"):
            data = None if path.is_dir() else self._contents.get(path.lstat().st_ino, b"")
            yield str(path.relative_to(self._root)), data


def write_state(state: State, folder: Path) -> None:
    """Writes a state to a new folder."""
    folder.mkdir()
    for name, data in sorted(state.items()):
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


def failing_sync(call: int, code: int) -> Callable[[int], None]:
    """Returns an `os.fsync` whose ``call``-th call, counted from 0, fails with the error ``code``."""
    real, count = os.fsync, iter(range(1 << 30))

    def sync(number: int) -> None:
        if next(count) == call:
            raise OSError(code, os.strerror(code))
        real(number)

    return sync
