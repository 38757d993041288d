"""`Files`: what listing asks of files and folders, which are local paths or URLs on an object store."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import posixpath
import stat
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from pipelines.errors import UserError
from pipelines.storage.scratch import scratch_folder
from tfrecords_schema import storage
from tfrecords_schema.store_clients import Stored, UrlError, check_url, is_url

_REQUESTS_AT_ONCE = 16


class Files:
    """Files and folders, local or on object stores.

    A store is asked once for all objects below a folder. What it said of them is remembered, so that to
    describe them costs no requests. Make one for each listing.
    """

    def __init__(self) -> None:
        self._stored: dict[str, Stored] = {}
        self._listed: dict[str, list[str]] = {}  # URLs of objects, sorted, by folder

    def is_folder(self, path: str) -> bool:
        """Whether ``path`` is a folder."""
        return storage.is_folder(path) if is_url(path) else os.path.isdir(path)

    def is_file(self, path: str) -> bool:
        """Whether ``path`` is a file."""
        return storage.exists(path) if is_url(path) else os.path.isfile(path)

    def exists(self, path: str) -> bool:
        """Whether there is anything at ``path``."""
        if is_url(path):
            return storage.exists(path) or storage.is_folder(path)
        return os.path.exists(path)

    def status(self, path: str) -> Stored:
        """Size and time of the file at ``path``.

        Raises:
            OSError: when there is no such file, or it is a device.
        """
        if is_url(path):
            known = self._stored.get(path)
            return storage.status(path) if known is None else known
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            # Reading a pipe or a device might never end.
            reason = "it is a folder or a device, and no regular file"
            raise OSError(errno.EINVAL, reason, path)
        return Stored(status.st_size, status.st_mtime_ns)

    def look_up(self, paths: Iterable[str]) -> None:
        """Asks stores for the URLs among ``paths``, several at a time, so that `status` knows them."""

        def ask(url: str) -> tuple[str, Stored] | None:
            try:
                return url, storage.status(url)
            except (FileNotFoundError, PermissionError):
                return None  # to be said of the source that it is

        urls = sorted({path for path in paths if is_url(path)} - self._stored.keys())
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            self._stored |= dict(filter(None, threads.map(ask, urls)))

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        """The names of the folders and of the files in ``folder``, sorted; hidden ones are left out."""
        if not is_url(folder):
            entries = [entry for entry in Path(folder).iterdir() if not entry.name.startswith(".")]
            folders = sorted(entry.name for entry in entries if entry.is_dir())
            return folders, sorted(entry.name for entry in entries if entry.is_file())
        below = [url[len(folder) + 1 :].split("/", 1) for url in self.stored_below(folder)]
        return sorted({n for n, *rest in below if rest}), [n for n, *rest in below if not rest]

    def stored_below(self, folder: str) -> list[str]:
        """The URLs of the objects below ``folder``, sorted; hidden ones are left out."""
        listed = next((own for own in self._listed if f"{folder}/".startswith(f"{own}/")), None)
        if listed is None:
            found = storage.find_below(folder)
            shown = [name for name in found if not _is_hidden(name)]
            self._listed[folder] = sorted(storage.join(folder, name) for name in shown)
            self._stored |= {storage.join(folder, name): found[name] for name in shown}
            listed = folder
        urls = self._listed[listed]
        # "0" is what follows "/".
        return urls[bisect_left(urls, f"{folder}/") : bisect_left(urls, f"{folder}0")]

    def matching(self, pattern: str) -> list[str]:
        """The files and folders that match ``pattern`` (``**`` matches any depth); of a store, files only."""
        if not is_url(pattern):
            return glob.glob(pattern, recursive=True)
        found = storage.find_matching(pattern)
        fixed = len(fixed_prefix(pattern))
        shown = [url for url in found if not _is_hidden(url[fixed:].lstrip("/"))]
        self._stored |= {url: found[url] for url in shown}
        return shown

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[str]:
        """A local path of the file at ``path``, for reading."""
        if not is_url(path):
            yield path
            return
        with tempfile.TemporaryDirectory(dir=scratch_folder("listing")) as folder:
            copy = os.path.join(folder, file_name(path))
            storage.download(path, copy)
            yield copy


LOCAL_FILES = Files()
"""For local paths, of which nothing is remembered."""


def check_location(location: str) -> str:
    """``location`` as it was given, or a URL that can be asked about, without slashes at its end.

    Raises:
        UserError: for a URL that cannot.
    """
    if not is_url(location):
        return location
    try:
        return check_url(location)
    except UrlError as error:
        raise UserError(f"--input: {error}") from error


def joined(folder: str, path: str) -> str:
    """``path``, which counts from ``folder`` unless it is absolute, without detours."""
    if not is_url(path) and not is_url(folder):
        return os.path.normpath(os.path.join(folder, path))
    url = path if is_url(path) else f"{folder}/{path}"
    scheme, rest = url.split("://", 1)
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}{posixpath.normpath('/' + key).replace('//', '/')}".rstrip("/")


def absolute(path: str) -> str:
    """``path`` from the root of its file system; a URL is."""
    return path if is_url(path) else os.path.abspath(path)


def file_name(path: str) -> str:
    """The last part of ``path``."""
    return PurePosixPath(path).name if is_url(path) else os.path.basename(path)


def folder_name(path: str) -> str:
    """What the folder at ``path`` is called; "" for the root of a file system."""
    return file_name(path) if is_url(path) else Path(path).resolve().name


def relative(path: str, root: str) -> str:
    """``path`` from ``root`` on; outside of it, all of it: records never hold an absolute one."""
    root, path = absolute(root), absolute(path)
    if path == root:
        return file_name(root)
    if path.startswith(f"{root.rstrip('/')}/"):
        return path[len(root.rstrip("/")) + 1 :]
    return path.split("://", 1)[1] if is_url(path) else path.lstrip(os.sep)


def fixed_prefix(pattern: str) -> str:
    """The folders before the first glob character of ``pattern``."""
    if not is_url(pattern):
        parts = Path(pattern).parts
        count = next((n for n, part in enumerate(parts) if has_glob(part)), len(parts))
        return str(Path(*parts[:count]))
    start, rest = pattern.split("://", 1)
    parts = tuple(rest.split("/"))
    count = next((n for n, part in enumerate(parts) if has_glob(part)), len(parts))
    return f"{start}://{'/'.join(parts[:count])}"


def has_glob(text: str) -> bool:
    """Whether ``text`` holds a glob character."""
    return any(character in text for character in "*?[")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
