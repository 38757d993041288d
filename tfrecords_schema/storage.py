"""Files and folders that are local paths or URLs (``s3://``, ``gs://``, ``hdfs://``), by one set of calls.

Both programs use it, so that no caller asks where a file lies. Local paths go straight to the operating
system. URLs go through fsspec, whose `s3fs` and `gcsfs` take credentials from where the stores' own tools
take them (environment, profiles, instance roles), create an object only if there is none, and abandon an
upload that fails. Beam's `FileSystems` offers neither of the last two, publishes half-written files when
its writer raises, and cannot be imported by a trainer.

Errors are `OSError` with the path or URL as ``filename`` and one line as ``strerror``: `FileNotFoundError`
and `PermissionError` where that is what happened. A store's other answers are `StorageError`, and a URL
that cannot be used is `tfrecords_schema.store_clients.UrlError`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from tfrecords_schema.store_clients import (
    Stored,
    check_bucket,
    describe,
    described,
    is_url,
    store_client,
)

StrPath = str | os.PathLike[str]

_READ_AHEAD = 2 << 20  # bytes per request of a stream
_BLOCKS_HELD = 2  # per stream: the current block and the one before; the next is being fetched
_LINE_BYTES = 1 << 18  # size of the first request for a line


def join(folder: StrPath, name: str) -> str:
    """Returns the path or URL of ``name`` in ``folder``."""
    return f"{os.fspath(folder).rstrip('/')}/{name}"


def status(path: StrPath) -> Stored:
    """Returns the size and modification time of a file.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it is a folder or a device, which might never end.
    """
    if not is_url(path):
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            reason = "it is a folder or a device, not a regular file"
            raise OSError(errno.EINVAL, reason, os.fspath(path))
        return Stored(found.st_size, found.st_mtime_ns)
    with store_client(path) as (client, name):
        info = client.info(name)
        if info["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, "there is no such object", os.fspath(path))
        return describe(info)


def is_file(path: StrPath) -> bool:
    """Returns True if there is a file or an object at ``path``."""
    if not is_url(path):
        return os.path.isfile(path)
    try:
        status(path)
    except FileNotFoundError:
        return False
    return True


def is_folder(path: StrPath) -> bool:
    """Returns True if ``path`` is a folder, or objects lie below it."""
    if not is_url(path):
        return os.path.isdir(path)
    with store_client(path) as (client, name):
        found = bool(client.isdir(name))
        if not found:
            check_bucket(client, name)
        return found


def exists(path: StrPath) -> bool:
    """Returns True if there is anything at ``path``."""
    return is_file(path) or is_folder(path) if is_url(path) else os.path.exists(path)


def list_folder(folder: StrPath) -> dict[str, Stored]:
    """Returns the files directly in ``folder``, by name, sorted.

    A folder of a store that has no objects does not exist there, and gives none.
    """
    if not is_url(folder):
        with os.scandir(folder) as entries:
            files = {entry.name: entry.stat() for entry in entries if entry.is_file()}
        return {
            name: Stored(files[name].st_size, files[name].st_mtime_ns) for name in sorted(files)
        }
    with store_client(folder) as (client, name):
        try:
            found = client.ls(name, detail=True)
        except FileNotFoundError:
            check_bucket(client, name)
            return {}
        return described(found, name)


def find_below(url: str) -> dict[str, Stored]:
    """Returns the objects at any depth below ``url``, by their names relative to it, sorted."""
    with store_client(url) as (client, name):
        return described(client.find(name, detail=True).values(), name)


def find_matching(pattern: str) -> dict[str, Stored]:
    """Returns the objects that match a URL pattern, by URL, sorted."""
    with store_client(pattern) as (client, name):
        found = client.glob(name, detail=True)
        if not found:
            check_bucket(client, name)
        root = pattern[: len(pattern) - len(name)]  # the scheme, and the host if there is one
        by_url = {root + path: info for path, info in found.items()}
        return {
            url: describe(by_url[url]) for url in sorted(by_url) if by_url[url]["type"] == "file"
        }


def read_bytes(path: StrPath) -> bytes:
    """Returns the contents of a file."""
    if not is_url(path):
        return Path(path).read_bytes()
    with store_client(path) as (client, name):
        return cast(bytes, client.cat_file(name))


def read_range(url: str, start: int, end: int) -> bytes:
    """Returns the bytes ``[start, end)`` of an object."""
    with store_client(url) as (client, name):
        return cast(bytes, client.cat_file(name, start=start, end=end))


def read_line(path: StrPath, start: int) -> bytes:
    """Returns the line that begins at byte ``start``, with as few requests as its length allows."""
    if not is_url(path):
        with open(path, "rb") as file:
            file.seek(start)
            return file.readline()
    line, wanted = b"", _LINE_BYTES
    with store_client(path) as (client, name):
        while True:
            end = start + len(line) + wanted
            block = cast(bytes, client.cat_file(name, start=start + len(line), end=end))
            head, newline, _ = block.partition(b"\n")
            line += head + newline
            if newline or len(block) < wanted:
                return line
            wanted *= 4


@contextlib.contextmanager
def open_stream(path: StrPath) -> Iterator[BinaryIO]:
    """Opens a file for reading from front to back; of an object, the next block is fetched meanwhile."""
    if not is_url(path):
        with open(path, "rb") as file:
            yield file
        return
    with store_client(path) as (client, name):
        options = {"block_size": _READ_AHEAD, "cache_type": "background"}
        raw = client.open(name, "rb", cache_options={"maxblocks": _BLOCKS_HELD}, **options)
        with raw, io.BufferedReader(raw, 1 << 20) as stream:
            yield cast(BinaryIO, stream)


def download(url: str, path: StrPath) -> None:
    """Copies an object to a local file."""
    with store_client(url) as (client, name):
        client.get_file(name, os.fspath(path))


def upload(path: StrPath, url: str) -> None:
    """Copies a local file to ``url``, where it appears complete or not at all."""
    with _writing_to(url) as (client, name):
        if _is_folder_tree(url):
            _put_and_rename(client, os.fspath(path), name)
        else:
            client.put_file(os.fspath(path), name)


@contextlib.contextmanager
def replacing(path: StrPath, *, suffix: str = "", scratch: Path | None = None) -> Iterator[Path]:
    """Yields the path of a local file to write; it replaces the file at ``path`` when the block succeeds.

    Readers of ``path`` see the old file or the whole new one. If the block raises, the old file stays.

    Example::

        with replacing("run/model.keras", suffix=".keras") as partial:
            model.save(partial)

    Args:
        path: a local path or a URL.
        suffix: end of the temporary file's name, for writers that derive the format from it.
        scratch: local folder for the temporary file if ``path`` is a URL; by default the system's.
    """
    partial_name = f".{os.path.basename(path)}.{uuid.uuid4().hex}.partial{suffix}"
    if is_url(path):
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            partial = Path(folder) / partial_name
            yield partial
            upload(partial, os.fspath(path))
        return
    partial = Path(path).with_name(partial_name)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: StrPath, data: bytes) -> None:
    """Writes a file, which appears complete or not at all."""
    if not is_url(path):
        with replacing(path) as partial:
            partial.write_bytes(data)
        return
    with _writing_to(path) as (client, name):
        if _is_folder_tree(path):
            client.makedirs(client._parent(name), exist_ok=True)
        client.pipe_file(name, data)


def create(url: str, data: bytes) -> bool:
    """Writes an object unless there is one; returns True if it was written.

    Stores without conditional writing are asked first, so that two callers at the same moment may both be
    told that they were the first.
    """
    with _writing_to(url) as (client, name):
        if client.exists(name):
            return False
        if _is_folder_tree(url):
            client.makedirs(client._parent(name), exist_ok=True)
            client.pipe_file(name, data)
            return True
        try:
            client.pipe_file(name, data, mode="create")
        except FileExistsError:
            return False
    return True


def remove(paths: Iterable[StrPath]) -> None:
    """Removes files, all local or all on one store; those that are absent are skipped."""
    paths = list(paths)
    if not paths:
        return
    if not is_url(paths[0]):
        for path in paths:
            Path(path).unlink(missing_ok=True)
        return
    with store_client(paths[0]) as (client, _):
        names = [client._strip_protocol(path) for path in paths]
        # Hadoop's client removes one at a time, the others many per request.
        for some in names if _is_folder_tree(paths[0]) else [names]:
            with contextlib.suppress(FileNotFoundError):
                client.rm(some)


def remove_folder(folder: StrPath) -> None:
    """Removes ``folder`` and everything below it, if there is anything."""
    if not is_url(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with store_client(folder) as (client, name), contextlib.suppress(FileNotFoundError):
        client.rm(name, recursive=True)


@contextlib.contextmanager
def _writing_to(url: StrPath) -> Iterator[tuple[Any, str]]:
    with store_client(url) as (client, name):
        try:
            yield client, name
        except FileNotFoundError:
            check_bucket(client, name)
            raise


def _is_folder_tree(url: StrPath) -> bool:
    """Returns True if the store has real folders, and shows files while they are being written."""
    return os.fspath(url).startswith("hdfs://")


def _put_and_rename(client: Any, local: str, name: str) -> None:
    partial = f"{name}.{uuid.uuid4().hex}.partial"
    client.makedirs(client._parent(name), exist_ok=True)
    try:
        client.put_file(local, partial)
        client.mv(partial, name)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            client.rm(partial)
        raise
