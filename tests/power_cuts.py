"""Disks that lose what was not synced, to try power cuts at every step of a program: a model, and ext4."""

from __future__ import annotations

import builtins
import contextlib
import io
import itertools
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from unittest import mock

State = dict[str, bytes | None]
"""Contents by path relative to the root; None for a folder."""

_CHANGES = ("replace", "rename", "link", "unlink", "mkdir", "rmdir")


class _Watch:
    """Watches this process call functions of `os`, inside its context."""

    _CALLS: tuple[str, ...]

    def _watched(self, name: str) -> Callable[..., object]:
        raise NotImplementedError

    def __enter__(self) -> Any:
        self._patches = [mock.patch.object(os, name, self._watched(name)) for name in self._CALLS]
        self._patches += self._other_patches()
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    def _other_patches(self) -> list[Any]:
        return []


class Disk(_Watch):
    """Watches this process write below ``root``, and shows what a power cut would leave.

    POSIX promises that an `os.fsync` of a file keeps its contents, and one of a folder its names. Two disks
    that keep no more are modelled: one loses names that were not synced, the other (such as XFS and ext4) may
    keep the newest names, and lose the contents.

    Args:
        root: an existing folder.
        on_moment: called with both states before each change of names and each sync.
    """

    _CALLS = (*_CHANGES, "fsync")

    def __init__(self, root: Path, on_moment: Callable[[list[Any]], None]):
        self._root = root
        self._on_moment = on_moment
        self._held: list[int] = []  # inodes that are open are not used again
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._is_busy = False

    def __enter__(self) -> Disk:
        for path in (self._root, *self._root.rglob("*")):
            self._keep(os.open(path, os.O_RDONLY))
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for number in self._held:
            os.close(number)

    def _watched(self, name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            if self._is_busy:
                return real(*args, **kwargs)
            self._is_busy = True
            try:
                self._on_moment(self._states())
            finally:
                self._is_busy = False
            result = real(*args, **kwargs)
            if name == "fsync":
                self._keep(os.dup(args[0]))  # type: ignore[arg-type]
            return result

        return call

    def _states(self) -> list[Any]:
        return [dict(self._older_names()), dict(self._newest_names())]

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


class Ext4Disk(Disk):
    """An ext4 file system in a file. What the kernel has written to the file is what a power cut would leave.

    The pages that the kernel still holds are not in it. Writes that a drive reorders or loses in a cache of
    its own are not tried.

    Args:
        root: an existing folder, where the file system is mounted inside the context.
        images: a folder for the file and its copies, one per moment.
        on_moment: called with a copy before each change of names and each sync.
    """

    def __init__(self, root: Path, images: Path, on_moment: Callable[[list[Path]], None]):
        super().__init__(root, on_moment)
        self._images, self._count = images, 0

    def __enter__(self) -> Ext4Disk:
        image = self._images / "disk.img"
        image.touch()
        os.truncate(image, _IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-m", "0", "-J", "size=4", image)
        # Without a limit of 5 s, only a sync writes to the disk.
        _run("mount", "-o", "loop,commit=3600", image, self._root)
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        _run("umount", self._root)

    def _states(self) -> list[Any]:
        self._count += 1
        copy = self._images / f"{self._count}.img"
        _run("cp", "--sparse=always", self._images / "disk.img", copy)
        return [copy]

    def _keep(self, number: int) -> None:
        os.close(number)


_IMAGE_BYTES = 24 << 20


def _run(*words: object) -> None:
    subprocess.run(list(map(str, words)), check=True, capture_output=True)


def why_no_ext4(folder: Path) -> str | None:
    """Returns why no `Ext4Disk` can be used on this machine, tried in an empty folder; None if it can."""
    if not all(map(shutil.which, ("mkfs.ext4", "mount", "umount"))):
        return "no mkfs.ext4 or mount"
    (folder / "root").mkdir()
    try:
        with Ext4Disk(folder / "root", folder, lambda _: None):
            return None
    except subprocess.CalledProcessError as error:
        return error.stderr.decode(errors="replace").strip()


@contextlib.contextmanager
def restored(state: State | Path, folder: Path) -> Iterator[None]:
    """Makes ``folder``, which holds a state inside the context: that of a model, or a copy of `Ext4Disk`."""
    if isinstance(state, dict):
        write_state(state, folder)
        yield
        return
    folder.mkdir()
    _run("mount", "-o", "loop", state, folder)  # replays the journal
    try:
        yield
    finally:
        _run("umount", folder)


def write_state(state: State, folder: Path) -> None:
    """Writes a state to a new folder."""
    folder.mkdir()
    for name, data in sorted(state.items()):
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


class FailingDisk(_Watch):
    """Lets one call of this process that writes below ``root`` fail with an error.

    The calls are those that make, sync and rename files and folders, and each write to a file, of which half
    the bytes are written.

    Attributes:
        failed: the name of the call that failed; None if there were fewer calls.

    Args:
        root: a folder.
        call: the number of the call, from 0.
        code: the number of the error.
    """

    _CALLS = ("open", "mkdir", "link", "replace", "rename", "fsync")

    def __init__(self, root: Path, call: int, code: int):
        self._root, self._call, self._code = str(root), call, code
        self._count = itertools.count()
        self._open_file = io.open
        self.failed: str | None = None

    def _other_patches(self) -> list[Any]:
        return [mock.patch.object(module, "open", self._open) for module in (io, builtins)]

    def _step(self, name: str, place: object) -> None:
        path = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else place
        if not os.fspath(path).startswith(self._root):  # type: ignore[call-overload]
            return
        if next(self._count) == self._call:
            self.failed = name
            raise OSError(self._code, os.strerror(self._code))

    def _watched(self, name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(place: object, *args: object, **options: object) -> object:
            if name != "open" or (args and isinstance(args[0], int) and args[0] & os.O_CREAT):
                self._step(name, place)
            return real(place, *args, **options)

        return call

    def _open(
        self,
        file: object,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **options: object,
    ) -> IO[bytes] | IO[str]:
        text = {"encoding": encoding, "errors": errors, "newline": newline}
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return self._open_file(file, mode, buffering, **text, **options)  # type: ignore
        self._step("open a file", file)

        class File(io.FileIO):
            def write(self, data: bytes) -> int:  # type: ignore[override]
                try:
                    step("write", file)
                except OSError:
                    super().write(memoryview(data).cast("B")[: len(data) // 2])
                    raise
                return super().write(data)

        step = self._step
        raw = File(file, mode.replace("b", "").replace("t", ""), **options)  # type: ignore
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, **text)
