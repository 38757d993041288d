"""Files on object stores, ``s3://`` and ``gs://``, and on ``hdfs://``; for both programs.

All goes through fsspec, whose `s3fs` and `gcsfs` are kept by the people whose dataframes depend on them. They
take credentials from where the stores' own tools take them (environment, profiles, instance roles), create
an object only if there is none, and abandon an upload that fails. Beam's `FileSystems` offers neither of the
last two, publishes what was half written when its writer raises, and cannot be imported by a trainer.

Do not use it for local files: it is slower than `open`, and imports much.

Everything here raises `OSError` with the URL as its ``filename`` and one line as its ``strerror``:
`FileNotFoundError` and `PermissionError` where that is what happened, `StorageError` otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

from tfrecords_schema.store_clients import (
    Stored,
    check_bucket,
    describe,
    described,
    speaking_of,
)

_READ_AHEAD = 2 << 20  # bytes a request of a stream
_BLOCKS_HELD = 2  # of a stream: the one that is read, and the one before; the next is on its way
_LINE_BYTES = 1 << 18  # first asked for, when a line is looked for


def join(folder: str, name: str) -> str:
    """The URL of ``name`` in ``folder``."""
    return f"{folder.rstrip('/')}/{name}"


def status(url: str) -> Stored:
    """What the store says of the object at ``url``."""
    with speaking_of(url) as (files, path):
        info = files.info(path)
        if info["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, "there is no such object", url)
        return describe(info)


def exists(url: str) -> bool:
    """Whether there is an object at ``url``."""
    try:
        status(url)
    except FileNotFoundError:
        return False
    return True


def is_folder(url: str) -> bool:
    """Whether there are objects whose names begin with ``url`` and a slash."""
    with speaking_of(url) as (files, path):
        there = bool(files.isdir(path))
        if not there:
            check_bucket(files, path)
        return there


def list_folder(folder: str) -> dict[str, Stored]:
    """The objects directly in ``folder``: names, sorted, and what the store says of them.

    A folder without objects is no folder, and gives none.
    """
    with speaking_of(folder) as (files, path):
        try:
            found = files.ls(path, detail=True)
        except FileNotFoundError:
            check_bucket(files, path)
            return {}
        return described(found, path)


def find_below(folder: str) -> dict[str, Stored]:
    """The objects below ``folder``: their names relative to it, sorted, and what the store says of them."""
    with speaking_of(folder) as (files, path):
        return described(files.find(path, detail=True).values(), path)


def find_matching(pattern: str) -> dict[str, Stored]:
    """The objects whose URL matches ``pattern``: URLs, sorted, and what the store says of them."""
    with speaking_of(pattern) as (files, path):
        found = files.glob(path, detail=True)
        if not found:
            check_bucket(files, path)
        root = pattern[: len(pattern) - len(path)]  # scheme, and the host where there is one
        named = {root + name: info for name, info in found.items()}
        return {url: describe(named[url]) for url in sorted(named) if named[url]["type"] == "file"}


def read_bytes(url: str) -> bytes:
    """The contents of an object."""
    with speaking_of(url) as (files, path):
        return cast(bytes, files.cat_file(path))


def read_range(url: str, start: int, end: int) -> bytes:
    """The bytes ``[start, end)`` of an object."""
    with speaking_of(url) as (files, path):
        return cast(bytes, files.cat_file(path, start=start, end=end))


def read_line(url: str, start: int) -> bytes:
    """The line of an object that begins at byte ``start``, in as few requests as its length allows."""
    line, wanted = b"", _LINE_BYTES
    with speaking_of(url) as (files, path):
        while True:
            end = start + len(line) + wanted
            block = cast(bytes, files.cat_file(path, start=start + len(line), end=end))
            own, newline, _ = block.partition(b"\n")
            line += own + newline
            if newline or len(block) < wanted:
                return line
            wanted *= 4


@contextlib.contextmanager
def open_stream(url: str) -> Iterator[BinaryIO]:
    """An object, for reading from front to back: the next block is fetched while one is read."""
    with speaking_of(url) as (files, path):
        options = {"block_size": _READ_AHEAD, "cache_type": "background"}
        raw = files.open(path, "rb", cache_options={"maxblocks": _BLOCKS_HELD}, **options)
        with raw, io.BufferedReader(raw, 1 << 20) as file:
            yield file


def download(url: str, path: str | os.PathLike[str]) -> None:
    """Copies an object to a local file."""
    with speaking_of(url) as (files, stored):
        files.get_file(stored, os.fspath(path))


def upload(path: str | os.PathLike[str], url: str) -> None:
    """Copies a local file to ``url``, where it appears complete or not at all."""
    with _writing_to(url) as (files, stored):
        if _is_folder_tree(url):
            _put_and_rename(files, os.fspath(path), stored)
        else:
            files.put_file(os.fspath(path), stored)


def write_bytes(url: str, data: bytes) -> None:
    """Writes an object, which appears complete or not at all."""
    with _writing_to(url) as (files, path):
        if _is_folder_tree(url):
            files.makedirs(files._parent(path), exist_ok=True)
        files.pipe_file(path, data)


def create(url: str, data: bytes) -> bool:
    """Writes an object unless there is one; whether it was written.

    Stores that know no conditional writing are asked first, so that two callers at the same moment may both
    be told that they were the first.
    """
    with _writing_to(url) as (files, path):
        if files.exists(path):
            return False
        if _is_folder_tree(url):
            files.makedirs(files._parent(path), exist_ok=True)
            files.pipe_file(path, data)
            return True
        try:
            files.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
    return True


def remove(urls: Iterable[str]) -> None:
    """Removes objects; those that are not there are passed over."""
    urls = list(urls)
    if not urls:
        return
    with speaking_of(urls[0]) as (files, _):
        paths = [files._strip_protocol(url) for url in urls]
        # Hadoop's client removes one at a time, the others many at a request.
        for some in paths if _is_folder_tree(urls[0]) else [paths]:
            with contextlib.suppress(FileNotFoundError):
                files.rm(some)


def remove_below(folder: str) -> None:
    """Removes ``folder`` and everything below it, if there is anything."""
    with speaking_of(folder) as (files, path), contextlib.suppress(FileNotFoundError):
        files.rm(path, recursive=True)


@contextlib.contextmanager
def _writing_to(url: str) -> Iterator[tuple[Any, str]]:
    with speaking_of(url) as (files, path):
        try:
            yield files, path
        except FileNotFoundError:
            check_bucket(files, path)
            raise


def _is_folder_tree(url: str) -> bool:
    """Whether the store has folders, and shows files while they are written."""
    return url.startswith("hdfs://")


def _put_and_rename(files: Any, local: str, path: str) -> None:
    partial = f"{path}.{os.getpid()}.partial"
    files.makedirs(files._parent(path), exist_ok=True)
    try:
        files.put_file(local, partial)
        files.mv(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            files.rm(partial)
        raise
