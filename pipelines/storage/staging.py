"""Local copies of sources on object stores, within a disk budget.

Decoders seek, and read only local files, so each source is downloaded before it is decoded. A copy stays
until its space is needed, because the segments of a long video are built one after the other. Threads share
the copies; each process has its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pipelines.options.dataset import RunOptions
from tfrecords_schema import storage
from tfrecords_schema.codec import map_paths, paths_in
from tfrecords_schema.paths import is_url, join
from tfrecords_schema.running.scratch import scratch_folder

T = TypeVar("T")

END_BYTES = 4 << 20
"""Size of the two ends of an object in which its header is searched."""

_WITH_HEADERS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi"),
    *(".ts", ".mts", ".m2ts"),
)
_MIN_ENDS = 4  # an object is downloaded whole unless it is this many ends long


class StagingError(Exception):
    """A source that cannot be staged: it is missing, unreadable or too large. The message is the reason."""


@dataclass
class _Copy:
    """The local copy of a file, or of a folder of files.

    Attributes:
        path: of the copy.
        bytes: its size.
        users: number of `Staging.copies` blocks that use it.
        download: done when the copy is there, or cannot be.
    """

    path: Path
    bytes: int
    users: int = 0
    download: Future[None] = field(default_factory=Future)


class Staging:
    """Local copies of at most ``budget`` bytes, for all threads of this process."""

    def __init__(self, budget: int = RunOptions.staging_size):
        self._budget = budget
        self._copies: dict[str, _Copy] = {}  # by URL, the most recently used last
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def localized(self, request: T) -> Iterator[T]:
        """Yields ``request`` with local files and folders in place of the URLs in it, at any depth.

        Raises:
            StagingError: if an object does not exist or may not be read, or all need more than the budget.
            OSError: if the store or the disk fails.
        """
        urls = sorted(filter(is_url, paths_in(request)))
        if not urls:
            yield request
            return
        with self.copies(urls) as paths:
            yield map_paths(request, lambda path: paths.get(path, path))

    @contextlib.contextmanager
    def copies(self, urls: Iterable[str]) -> Iterator[dict[str, str]]:
        """Yields local paths of the files or folders at ``urls``, by URL; raises as `localized` does."""
        urls = list(dict.fromkeys(urls))
        own, missing = self._reserve(urls)
        try:
            for url in missing:
                try:
                    _download(url, own[url].path)
                    own[url].download.set_result(None)
                except OSError as error:
                    own[url].download.set_exception(_as_staging_error(error))
            for copy in own.values():
                copy.download.result()
            yield {url: str(copy.path) for url, copy in own.items()}
        finally:
            self._release(own, missing)

    @contextlib.contextmanager
    def outline(self, path: str) -> Iterator[str | None]:
        """Yields a local sparse file with the first and last bytes of a large object, for its header.

        Headers mostly lie there, so footage need not be downloaded to learn its duration. Yields None for
        local files, for small objects and for containers that do not state their duration. Raises as
        `localized` does.
        """
        has_header = is_url(path) and path.lower().endswith(_WITH_HEADERS)
        size = self._size(path) if has_header else 0
        if size < _MIN_ENDS * END_BYTES:
            yield None
            return
        with tempfile.TemporaryDirectory(dir=scratch_folder("outlines")) as folder:
            outline = os.path.join(folder, _file_name(path))
            with open(outline, "wb") as file:
                file.write(storage.read_range(path, 0, END_BYTES))
                file.seek(size - END_BYTES)
                file.write(storage.read_range(path, size - END_BYTES, size))
            yield outline

    def _reserve(self, urls: list[str]) -> tuple[dict[str, _Copy], list[str]]:
        """Returns the copies by URL, and the URLs that the caller must fetch.

        Space is reserved for all together, because callers that each hold some would deadlock.
        """
        sizes = {url: self._size(url) for url in urls}
        needed = sum(sizes.values())
        if needed > self._budget:
            raise StagingError(
                f"it needs {needed} bytes of local disk, more than --staging_size {self._budget}"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._used_by_others(urls) + needed <= self._budget)
            missing = [url for url in urls if url not in self._copies]
            self._make_room(sum(sizes[url] for url in missing), keep=urls)
            # The most recently used are the last.
            for url in urls:
                copy = _new_copy(url, sizes[url]) if url in missing else self._copies.pop(url)
                self._copies[url] = copy
                copy.users += 1
            return {url: self._copies[url] for url in urls}, missing

    def _size(self, url: str) -> int:
        with self._changed:
            if url in self._copies:
                return self._copies[url].bytes
        try:
            return _stored_bytes(url)
        except OSError as error:
            raise _as_staging_error(error) from error

    def _used_by_others(self, urls: list[str]) -> int:
        return sum(c.bytes for url, c in self._copies.items() if c.users and url not in urls)

    def _make_room(self, needed: int, keep: list[str]) -> None:
        """Removes unused copies, the least recently used first, until ``needed`` bytes fit."""
        for url, copy in list(self._copies.items()):
            if sum(c.bytes for c in self._copies.values()) + needed <= self._budget:
                return
            if not copy.users and url not in keep:
                del self._copies[url]
                _remove(copy.path)

    def _release(self, own: dict[str, _Copy], missing: list[str]) -> None:
        with self._changed:
            for url, copy in own.items():
                copy.users -= 1
                if url in missing and not copy.download.done():
                    interrupted = "it was not fetched, because the download before it failed"
                    copy.download.set_exception(OSError(interrupted))
                failed = copy.download.done() and copy.download.exception() is not None
                if failed and self._copies.get(url) is copy:
                    del self._copies[url]  # the next user tries again
                    _remove(copy.path)
            self._changed.notify_all()


def _new_copy(url: str, size: int) -> _Copy:
    """Returns a copy that is not there yet. It keeps the file name, which may tell the container format."""
    folder = scratch_folder("staging") / hashlib.sha256(url.encode()).hexdigest()[:32]
    return _Copy(folder / _file_name(url), size)


def _file_name(url: str) -> str:
    name = url.rsplit("/", 1)[1]
    return name if name.strip(".") else "source"


def _stored_bytes(url: str) -> int:
    try:
        return storage.status(url).bytes
    except FileNotFoundError:
        files = storage.list_folder(url)
        if not files:
            raise
        return sum(file.bytes for file in files.values())


def _download(url: str, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    try:
        storage.download(url, path)
    except FileNotFoundError:
        files = storage.list_folder(url)
        if not files:
            raise
        path.mkdir()
        for name in files:
            storage.download(join(url, name), path / name)


def _remove(path: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)


def _as_staging_error(error: OSError) -> Exception:
    """Returns a `StagingError` for errors of the source itself; others may be temporary and stay."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return StagingError(error.strerror or str(error))
    return error
