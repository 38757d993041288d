"""Listings of local folders and of object stores, where each store is asked only once."""

from __future__ import annotations

import functools
import glob
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.errors import UserError
from pipelines.plan.descriptors import SourceFailure
from tfrecords_schema import storage
from tfrecords_schema.paths import UrlError, check_path, fixed_prefix, is_url, join, relative
from tfrecords_schema.store_clients import Stored, is_path

_MAX_REQUESTS = 16  # at a time
_UNREADABLE = "a key must not have an empty, '.' or '..' part, as in 'a//b'. Rename the object"
_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"}


class Files:
    """Files and folders, local or on object stores. Make one for each listing.

    A store lists all objects below a folder in one request. Their sizes and times are kept, so that
    describing them takes no further requests. Hidden files and folders of a store are left out.

    Attributes:
        from_glob: True if files were found by a pattern, which may match only some files of a folder.
        failures: of objects whose keys no local file can have (``a//b``), and folders that cannot be listed.
        unnumbered: folders of frames in which missing frames cannot be noticed.
        time_units: number of folders of frames by the unit of the times in their names.
    """

    def __init__(self) -> None:
        self._stored: dict[str, Stored] = {}
        self._listed: dict[str, list[str]] = {}  # sorted URLs of objects, by folder
        self.from_glob = False
        self.failures: list[SourceFailure] = []
        self.unnumbered: list[str] = []
        self.time_units: Counter[str] = Counter()

    def status(self, path: str) -> Stored:
        """Returns the size and time of the file at ``path``; raises `OSError` for anything but a file."""
        known = self._stored.get(path)
        return storage.status(path) if known is None else known

    def look_up(self, paths: Iterable[str]) -> None:
        """Fetches the `status` of the URLs among ``paths``, several at a time."""

        def fetch(url: str) -> tuple[str, Stored] | None:
            try:
                return url, storage.status(url)
            except (FileNotFoundError, PermissionError):
                return None  # raised again by `status`, when the source is described

        urls = sorted({path for path in paths if is_url(path)} - self._stored.keys())
        with ThreadPoolExecutor(_MAX_REQUESTS) as threads:
            self._stored |= dict(filter(None, threads.map(fetch, urls)))

    def walk(
        self, root: str, *, without: str | None = None
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """Yields each folder below ``root``, parents first: its path, and the names of its folders and files.

        Names are sorted. Hidden ones and the folders of operating systems are left out. Links to folders are
        followed, but each folder is entered once, so that loops of links end. The local folder ``without`` is
        not entered, even by a link. Folders that cannot be listed are kept in ``failures``, relative to
        ``without`` if given. If not, `OSError` is raised for ``root``.
        """
        keep = functools.partial(self._keep_unread, without or root)
        if is_url(root):
            yield from self._walk_stored(root)
            return
        seen = set() if without is None else {_identity(without)}
        for folder, folders, names in os.walk(root, followlinks=True, onerror=keep):
            identity = _identity(folder)
            if identity in seen:
                folders.clear()
                continue
            seen.add(identity)
            folders[:] = sorted(name for name in folders if not _is_hidden(name))
            yield folder, folders, sorted(name for name in names if not name.startswith("."))

    def _keep_unread(self, base: str, error: OSError) -> None:
        if error.filename == base:
            raise error
        source = f"{relative(error.filename, base)}/"
        reason = error.strerror or str(error)
        self.failures.append(SourceFailure(source=source, stage="list", reason=reason))

    def _walk_stored(self, root: str) -> Iterator[tuple[str, list[str], list[str]]]:
        inside: dict[str, tuple[set[str], list[str]]] = {"": (set(), [])}
        for url in self._stored_below(root):
            folder, name = os.path.split(relative(url, root))
            inside.setdefault(folder, (set(), []))[1].append(name)
            while folder:  # parents may hold nothing but folders
                folder, name = os.path.split(folder)
                inside.setdefault(folder, (set(), []))[0].add(name)
        for folder in sorted(inside):
            folders, names = inside[folder]
            yield join(root, folder).rstrip("/"), sorted(folders), names

    def _stored_below(self, folder: str) -> list[str]:
        """Returns the sorted URLs of the objects below ``folder``."""
        listed = next((own for own in self._listed if f"{folder}/".startswith(f"{own}/")), None)
        if listed is None:
            self._listed[folder] = self._keep(folder, storage.find_below(folder))
            listed = folder
        urls = self._listed[listed]
        # The character after "/" is "0".
        return urls[bisect_left(urls, f"{folder}/") : bisect_left(urls, f"{folder}0")]

    def matching(self, pattern: str) -> list[str]:
        """Returns the sorted paths of the files that match ``pattern`` (``**`` matches any depth).

        Folders that cannot be listed are kept in ``failures``; `OSError` is raised for the root.
        """
        self.from_glob = True
        if not is_url(pattern):
            is_in_loop = functools.cache(_is_in_loop)
            found = set(glob.glob(pattern, recursive=True))  # it repeats what two ** find
            root = fixed_prefix(pattern)
            for folder in _listed_folders(pattern):
                if not _is_hidden(relative(folder, root)):
                    try:
                        os.scandir(folder).close()  # `glob` skips those that it cannot list
                    except OSError as error:
                        self._keep_unread(root, error)
            system = _SYSTEM_FOLDERS.difference(root.split("/"))
            return sorted(
                path
                for path in found
                if system.isdisjoint(path.split("/"))
                and not (os.path.isdir(path) or is_in_loop(os.path.dirname(path)))
            )
        root = fixed_prefix(pattern)
        stored = storage.find_matching(pattern)
        return self._keep(root, {url.removeprefix(root)[1:]: stored[url] for url in stored})

    def _keep(self, folder: str, found: Mapping[str, Stored]) -> list[str]:
        """Returns the sorted URLs of the objects in ``folder`` that are not hidden and can be read."""
        kept = []
        for name, stored in found.items():
            if not is_path(name):
                failure = SourceFailure(source=name, stage="list", reason=_UNREADABLE)
                self.failures.append(failure)
            elif not _is_hidden(name):
                kept.append(join(folder, name))
                self._stored[kept[-1]] = stored
        if self.failures and not kept:
            raise UserError(
                f"{folder}: none of {len(self.failures)} objects can be read, for example "
                f"{self.failures[0].source!r}: {_UNREADABLE}"
            )
        return sorted(kept)


def _listed_folders(pattern: str) -> Iterator[str]:
    """Yields the local folders whose names decide what matches ``pattern``."""
    parts = [f"{part}/" for part in pattern.split("/")]
    places = {
        "".join(parts[: number + (part == "**/")])
        for number, part in enumerate(parts)
        if glob.has_magic(part)
    }
    found = {path for place in places for path in glob.glob(place or "./", recursive=True)}
    return (path.rstrip("/") or "/" for path in sorted(found))


def check_distinct(folders: Iterable[str]) -> None:
    """Raises `UserError` if links make two of ``folders`` one, whose files would be listed twice."""
    seen: dict[tuple[int, int], str] = {}
    for folder in folders:
        other = folder if is_url(folder) else seen.setdefault(_identity(folder), folder)
        if other != folder:
            raise UserError(
                f"{other} and {folder} are the same folder, by a link, so its files would be listed in "
                "both. Remove one of them"
            )


def check_location(location: str) -> str:
    """Returns the value of ``--input``, without the slashes at the end of a URL."""
    try:
        return check_path(location)
    except UrlError as error:
        raise UserError(f"--input: {error}") from error


def _identity(folder: str) -> tuple[int, int]:
    """Returns device and inode, which two paths to one folder share."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _is_in_loop(folder: str) -> bool:
    """Returns True if links lead ``folder`` through one folder twice."""
    path = Path(folder).absolute()
    folders = [os.path.realpath(parent) for parent in (path, *path.parents)]
    return len(set(folders)) != len(folders)


def _is_hidden(name: str) -> bool:
    """Returns True if a part of ``name`` is hidden, or a folder of an operating system."""
    return any(part.startswith(".") or part in _SYSTEM_FOLDERS for part in name.split("/"))
