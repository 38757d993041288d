"""Files and folders at local paths or URLs (``s3://``, ``gs://``, ``hdfs://``), with one set of calls.

Local paths go to the operating system, URLs through fsspec, whose clients take credentials from the same
places as the stores' own tools. Errors are `OSError` with the path or URL as ``filename`` and one line as
``strerror``: `FileNotFoundError`, `PermissionError`, or `StorageError` for another failure of a store. An
unusable URL is a `tfrecords_schema.paths.UrlError`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from tfrecords_schema.paths import StrPath, is_url
from tfrecords_schema.store_clients import (
    Stored,
    check_bucket,
    describe,
    described,
    is_path,
    store_client,
)

_BLOCK_BYTES = 2 << 20  # per request of a stream
_MAX_BYTES = 1 << 30  # of a local file that is read as a whole
_MAX_BLOCKS = 2  # in memory per stream, the current and the previous, beside the one being fetched

# Names of temporary files begin with a digest of their machine: locks may not reach across a network.
MACHINE = hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]
_PARTIAL = re.compile(rf"\..+\.{MACHINE}[0-9a-f]{{24}}\.partial(\.\w+)?")
_NO_FOLDER_SYNC = (errno.EINVAL, errno.EACCES, errno.ENOTSUP, errno.ENOSYS)


def status(path: StrPath) -> Stored:
    """Returns the size and modification time of a file; refuses folders and devices, which may be endless."""
    if not is_url(path):
        found = os.stat(path)
        _check_regular(found, path)
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
    with contextlib.suppress(FileNotFoundError):
        status(path)
        return True
    return False


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
    """Returns True if there is a file, a folder or anything else at ``path``."""
    return is_file(path) or is_folder(path) if is_url(path) else os.path.exists(path)


def list_folder(folder: StrPath) -> dict[str, Stored]:
    """Returns the files directly in ``folder``, by name, sorted; none if there is no such folder."""
    if not is_url(folder):
        try:
            with os.scandir(folder) as entries:
                files = {entry.name: entry.stat() for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}
        return {n: Stored(files[n].st_size, files[n].st_mtime_ns) for n in sorted(files)}
    with store_client(folder) as (client, name):
        try:
            found = client.ls(name, detail=True)
        except FileNotFoundError:
            check_bucket(client, name)
            return {}
        return described(found, name)


def find_below(url: str) -> dict[str, Stored]:
    """Returns the objects at any depth below ``url``, by name relative to it, sorted.

    No local file can have some of the names, such as ``a//b`` (`tfrecords_schema.store_clients.is_path`).
    """
    with store_client(url) as (client, name):
        return described(client.find(name, detail=True).values(), name)


def find_matching(pattern: str) -> dict[str, Stored]:
    """Returns the objects that match a URL pattern, by URL, sorted."""
    with store_client(pattern) as (client, name):
        found = client.glob(name, detail=True)
        if not found:
            check_bucket(client, name)
        root = pattern[: len(pattern) - len(name)]  # the scheme, and the host if there is one
        files = [path for path in sorted(found) if found[path]["type"] == "file"]
        return {root + path: describe(found[path]) for path in files}


def read_bytes(path: StrPath) -> bytes:
    """Returns the contents of a file; raises OSError for more than `_MAX_BYTES`, which may be a hole."""
    if not is_url(path):
        with _open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > _MAX_BYTES:
                reason = f"it has {size} bytes, more than the limit of {_MAX_BYTES}"
                raise OSError(errno.EFBIG, reason, os.fspath(path))
            return file.read()
    with store_client(path) as (client, name):
        return cast(bytes, client.cat_file(name))


def _open_regular(path: StrPath) -> BinaryIO:
    """Opens a local file for reading, and no device or pipe, which might never end or never begin."""

    def open_at_once(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)  # does not wait for a pipe's writer

    file = open(path, "rb", opener=open_at_once)  # noqa: SIM115 - returned
    try:
        _check_regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def _check_regular(found: os.stat_result, path: StrPath) -> None:
    if not stat.S_ISREG(found.st_mode):
        reason = "it is a folder, a device or a pipe, not a regular file"
        raise OSError(errno.EINVAL, reason, os.fspath(path))


def read_range(path: StrPath, start: int, end: int) -> bytes:
    """Returns the bytes ``[start, end)`` of a file; fewer if it ends before."""
    if not is_url(path):
        with _open_regular(path) as file:
            return os.pread(file.fileno(), end - start, start)
    with store_client(path) as (client, name):
        return cast(bytes, client.cat_file(name, start=start, end=end))


def read_line(path: StrPath, start: int) -> bytes:
    """Returns the line that begins at byte ``start``."""
    with open_stream(path) as stream:
        stream.seek(start)
        return stream.readline()


@contextlib.contextmanager
def open_stream(path: StrPath) -> Iterator[BinaryIO]:
    """Opens a file for reading from front to back. Of an object, the next block is fetched in advance."""
    if not is_url(path):
        with _open_regular(path) as file:
            yield file
        return
    with store_client(path) as (client, name):
        options = {"block_size": _BLOCK_BYTES, "cache_type": "background"}
        raw = client.open(name, "rb", cache_options={"maxblocks": _MAX_BLOCKS}, **options)
        with raw, io.BufferedReader(raw, 1 << 20) as stream:
            yield cast(BinaryIO, stream)


@contextlib.contextmanager
def local_copy(path: StrPath, *, scratch: Path | None = None) -> Iterator[str]:
    """Yields a local path of the file or folder at ``path``: itself, or a temporary copy in ``scratch``."""
    if not is_url(path):
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        copy = Path(folder) / os.path.basename(path)
        if is_file(path):
            download(os.fspath(path), copy)
        else:
            copy.mkdir()
            for name in filter(is_path, find_below(os.fspath(path))):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                download(f"{os.fspath(path)}/{name}", copy / name)
        yield str(copy)


def download(url: str, path: StrPath) -> None:
    """Copies an object to a local file."""
    with store_client(url) as (client, name):
        client.get_file(name, os.fspath(path))


def upload(path: StrPath, url: str) -> None:
    """Copies a local file to ``url``, where it appears complete or not at all."""
    with store_client(url, writing=True) as (client, name):
        if not _is_folder_tree(url):
            client.put_file(os.fspath(path), name)
            return
        # Hidden from those who read the folder, if this process is killed.
        parent, _, own_name = name.rpartition("/")
        partial = f"{parent}/.{own_name}.{uuid.uuid4().hex}.partial"
        client.makedirs(client._parent(name), exist_ok=True)
        try:
            client.put_file(os.fspath(path), partial)
            client.mv(partial, name)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                client.rm(partial)
            raise


@contextlib.contextmanager
def replacing(
    path: StrPath, *, suffix: str = "", scratch: Path | None = None, folder: bool = False
) -> Iterator[Path]:
    """Yields the path of a temporary file to write. It replaces the file at ``path`` if the block succeeds.

    Readers of ``path`` see the old file or the whole new one, even after a power cut. If the block raises,
    the old file stays and the temporary one is removed. If the process is killed, the next one that writes
    to the same folder removes it. A link at ``path`` is replaced, and nothing is written to its target.

    Args:
        path: a local path or a URL.
        suffix: end of the temporary file's name, for writers that derive the format from it.
        scratch: local folder for the temporary file, on the same disk as a local ``path``; by default the
            folder of a local ``path``, or the system's.
        folder: yield a new folder, which replaces the local folder at ``path``.
    """
    name = os.path.basename(path)
    if is_url(path):
        with tempfile.TemporaryDirectory(dir=scratch) as parent:
            partial = Path(parent) / f".{name}{suffix}"
            yield partial
            upload(partial, os.fspath(path))
        return
    if scratch is None:
        _remove_abandoned(Path(path).parent)
    partial, lock = _new_partial(scratch or Path(path).parent, name, suffix, folder)
    try:
        yield partial
        if folder:
            for parent, _, files in os.walk(partial, topdown=False):
                for file in (*files, ""):
                    sync(os.path.join(parent, file))
            remove_folder(path)
        sync(partial)  # else a power cut may leave the new name on an empty file
        partial.replace(path)
        sync(Path(path).parent)
    except OSError as error:
        # Of a full disk, `write` says only that it is full.
        if error.errno and error.filename is None:
            error.filename = os.fspath(path)
        raise
    finally:
        if folder:
            remove_folder(partial)
        else:
            partial.unlink(missing_ok=True)
        os.close(lock)


def _new_partial(folder: Path, name: str, suffix: str, is_folder: bool) -> tuple[Path, int]:
    """Makes a temporary file or folder, whose name nobody can foresee.

    Returns its path, and a descriptor that holds a lock on it while it is in use.
    """
    while True:
        partial = folder / f".{name}.{MACHINE}{uuid.uuid4().hex[:24]}.partial{suffix}"
        if is_folder:
            partial.mkdir()
            lock = os.open(partial, os.O_RDONLY)
        else:
            lock = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        with contextlib.suppress(OSError):  # a disk without locks: then nobody removes it either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if partial.exists():  # else another process removed it before it was locked
            return partial, lock
        os.close(lock)


@functools.lru_cache(maxsize=256)
def _remove_abandoned(folder: Path) -> None:
    """Removes temporary files that killed processes of this user left in ``folder``."""
    with contextlib.suppress(OSError):
        for name in filter(is_partial, os.listdir(folder)):
            remove_abandoned(folder / name, folder / name)


def remove_abandoned(path: Path, lock: Path) -> None:
    """Removes this user's file or folder at ``path``, unless a process has locked the file ``lock``."""
    # OSError: it is another user's, in use, or already removed.
    with contextlib.suppress(OSError):
        number = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if os.fstat(number).st_uid == os.getuid():
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_folder(path) if path.is_dir() else path.unlink()
        finally:
            os.close(number)


def is_partial(name: str) -> bool:
    """Returns True for the name of a temporary file of `replacing` on this machine."""
    return _PARTIAL.fullmatch(name) is not None


def sync(path: StrPath) -> None:
    """Returns once a local file's contents, or the names in a local folder, would survive a power cut."""
    try:
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC or not os.path.isdir(path):
            raise


def write_bytes(path: StrPath, data: bytes) -> None:
    """Writes a file, which appears complete or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def create(path: StrPath, data: bytes) -> bool:
    """Writes a file or an object if there is none; returns True if it was written.

    Stores without conditional writes are asked first, so two callers at the same moment may both get True.
    """
    if not is_url(path):
        partial, lock = _new_partial(Path(path).parent, os.path.basename(path), "", False)
        try:
            partial.write_bytes(data)
            os.link(partial, path)
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
            os.close(lock)
        return True
    with store_client(path, writing=True) as (client, name):
        if client.exists(name):
            return False
        if _is_folder_tree(path):
            write_bytes(path, data)
            return True
        with contextlib.suppress(FileExistsError):
            client.pipe_file(name, data, mode="create")
            return True
    return False


def make_folder(path: StrPath, *, inside: StrPath | None = None) -> None:
    """Makes a folder and its parents. Stores need none: their folders appear with the first object.

    Below ``inside``, a folder that is a link raises an error, because writing would go elsewhere.
    """
    if is_url(path):
        return
    path = os.path.abspath(path)
    parents = [path, *map(os.fspath, Path(path).parents)]
    for folder in parents[: 0 if inside is None else parents.index(os.path.abspath(inside))]:
        if os.path.islink(folder):
            reason = "it is a link, through which nothing is written. Delete it"
            raise OSError(errno.ELOOP, reason, folder)
    new = [folder for folder in parents if not os.path.isdir(folder)]
    os.makedirs(path, exist_ok=True)
    for folder in new:
        sync(os.path.dirname(folder))


def remove(paths: Iterable[StrPath]) -> None:
    """Removes files, all local or all on one store; missing ones are skipped."""
    paths = list(paths)
    if not paths:
        return
    if not is_url(paths[0]):
        for path in paths:
            Path(path).unlink(missing_ok=True)
        for folder in {Path(path).parent for path in paths}:
            with contextlib.suppress(FileNotFoundError):
                sync(folder)
        return
    with store_client(paths[0]) as (client, _):
        names = [client._strip_protocol(path) for path in paths]
        # Hadoop's client removes one at a time, the others many per request.
        for some in names if _is_folder_tree(paths[0]) else [names]:
            with contextlib.suppress(FileNotFoundError):
                client.rm(some)


def remove_folder(folder: StrPath) -> None:
    """Removes ``folder`` and everything below it, if it exists. Of a link, only the link is removed."""
    if not is_url(folder):
        if os.path.islink(folder):
            os.unlink(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return
    with store_client(folder) as (client, name), contextlib.suppress(FileNotFoundError):
        client.rm(name, recursive=True)


def _is_folder_tree(url: StrPath) -> bool:
    """Returns True if the store has real folders, and shows files while they are being written."""
    return os.fspath(url).startswith("hdfs://")
