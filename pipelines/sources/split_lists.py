"""Published splits, in the formats of UCF101 and HMDB51.

UCF101 (https://www.crcv.ucf.edu/data/UCF101.php) has one file per split, ``--split_list
train=trainlist01.txt``, with one video per line, ``Archery/v_Archery_g08_c01.avi 1``. The number is ignored.
HMDB51 (https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/) has one file per class,
``--split_list wave_test_split1.txt``, with lines ``name.avi CODE``: 1 is train, 2 is test, 0 is neither.

Columns may be separated by spaces, tabs, commas or semicolons, and folders by ``/`` or a backslash.
"""

from __future__ import annotations

import glob
import operator
import posixpath
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import UserError
from pipelines.labels.cells import TelemetryError
from pipelines.options.dataset import SPLIT_NAME_RULE, split_name
from pipelines.plan.descriptors import Listing
from pipelines.sources.listing import VIDEO_EXTENSIONS, is_video
from pipelines.sources.manifest_table import find_columns
from tfrecords_schema.split_names import standard_split
from tfrecords_schema.tables import name_some

_HMDB51_SPLITS = {"0": None, "1": "train", "2": "test"}
_HMDB51_FILE = re.compile(r"(.+)_test_split\d+")
_CODED = re.compile(r"(.*[^\s,;])[\s,;]+([012])")
_DELIMITER = re.compile(r"[\t,;]")
_QUOTED = re.compile(r"""(["'])(.+?)\1(?:[\s,;].*)?""")
_SUFFIXES = frozenset(VIDEO_EXTENSIONS)
_MAX_PATH = 4096  # characters, as in Linux
_MAX_NUMBERS = 4  # behind a path that may be part of it


class _Owner(NamedTuple):
    """A list, and the split that it names for a video; None excludes it."""

    file: str
    split: str | None


class _Line(NamedTuple):
    """A line of a split list: its place, and the paths that it may mean.

    ``class_name`` is the class in the file name of HMDB51's list. ``is_header`` is True if the line may name
    columns instead.
    """

    place: str
    owner: _Owner
    paths: Sequence[str]
    class_name: str | None = None
    is_header: bool = False


def apply_split_lists(listing: Listing, split_lists: Sequence[str]) -> Listing:
    """Returns the listing with the splits that the lists name, without the sources that HMDB51 excludes.

    A listed video is found by its path relative to the input. If there is none, a source of the same path
    with another suffix or none is taken, else one whose path ends with the listed path, or the listed path
    with its own. Lists are ``NAME=FILE`` or ``FILE``, which may be a glob.

    Raises:
        UserError: if a line cannot be read, or means several sources; if a source is in two splits; or if no
            video of a list is there.
    """
    if not split_lists:
        return listing
    for source in listing.sources:
        if source.split is not None:
            raise UserError(
                f"--split_list and the input (a split column, or folders of splits) both name the split of "
                f"{source.id!r}. Use one of them (--split_folders off leaves folders out)"
            )
    owners, missing, count = _find_owners(listing, split_lists)
    kept, excluded = [], []
    for source, owner in zip(listing.sources, owners, strict=True):
        if owner is None or owner.split is not None:
            kept.append(source if owner is None else replace(source, split=owner.split))
        else:
            excluded.append(source.id)
    if not kept:
        raise UserError(
            f"expected the split lists to leave sources to build, but they exclude all {len(excluded)}. "
            "Code 1 is train, 2 is test, 0 is neither"
        )
    notes = list(listing.notes)
    if missing:
        notes.append(
            f"{len(missing)} of the {count} videos in the split lists are not in the input: "
            f"{name_some(missing)}"
        )
    if excluded:
        notes.append(
            f"{len(excluded)} sources that the split lists exclude (0) were left out: {name_some(excluded)}"
        )
    return replace(listing, sources=tuple(kept), notes=tuple(notes))


def _find_owners(
    listing: Listing, split_lists: Sequence[str]
) -> tuple[list[_Owner | None], list[str], int]:
    """Returns the owner of each source, the listed videos that are missing, and the number of all."""
    index = _Index(listing)
    owners: list[_Owner | None] = [None] * len(listing.sources)
    missing: list[str] = []
    matched = 0
    for item in split_lists:
        line, before = None, matched
        for line in _read(item):
            found = index.find(line)
            matched += bool(found)
            if not found and not line.is_header:
                missing.append(line.paths[0])
            for i in found:
                other, owners[i] = owners[i] or line.owner, line.owner
                if other.split != line.owner.split:
                    first, second = (own.split or "left out (0)" for own in (other, line.owner))
                    raise UserError(
                        f"{line.place}: a video must be in one split, but {listing.sources[i].id!r} is "
                        f"listed as {first} ({other.file}) and as {second}"
                    )
        if line is None:
            raise UserError(f"--split_list {item}: expected videos, but this split list is empty")
        # Lists by class may include classes that the input lacks.
        is_optional = line.class_name is not None and (matched or item != split_lists[-1])
        if matched == before and not is_optional:
            hint = f" in a folder or class {line.class_name!r}" if line.class_name else ""
            example = f", such as {listing.sources[0].data_path!r}" if listing.sources else ""
            raise UserError(
                f"--split_list {item}: expected paths of videos relative to --input{example}, but none of "
                f"its videos is there, for example {line.paths[-1]!r}{hint} ({line.place}). Correct the "
                "paths, or leave the list out"
            )
    return owners, missing, matched + len(missing)


class _Index:
    """Sources sorted by their paths read backwards, so that those whose paths end alike are neighbours."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        keys = [_key(source.data_path)[0] for source in listing.sources]
        self._order = sorted(range(len(keys)), key=keys.__getitem__)
        self._keys = [keys[i] for i in self._order]

    def find(self, line: _Line) -> Sequence[int]:
        """Returns the positions of the sources of the one file that the line means."""
        keys = [_key(path) for path in line.paths]
        for match in (self._same, self._longer, self._shorter):
            found = [
                i for key, _ in keys for i in match(key) if self._is_of_class(i, line.class_name)
            ]
            if found:
                break
        else:
            return ()
        sources = self._listing.sources
        if len({sources[i].data_path for i in found}) > 1:
            suffixes = {suffix for _, suffix in keys}
            found = [i for i in found if _key(sources[i].data_path)[1] in suffixes] or found
            paths = dict.fromkeys(sources[i].data_path for i in found)
            if len(paths) > 1:
                raise UserError(
                    f"{line.place}: expected {line.paths[0]!r} to mean one source, but it may mean "
                    f"{name_some(paths)}. Give its whole path relative to --input, in quotes"
                )
        return found

    def _same(self, key: str) -> Sequence[int]:
        first = bisect_left(self._keys, key)
        return self._order[first : bisect_right(self._keys, key, first)]

    def _longer(self, key: str) -> Sequence[int]:
        """Returns the sources whose paths end with the listed path."""
        first = bisect_left(self._keys, key)
        return self._order[first : bisect_left(self._keys, key + chr(0x10FFFF), first)]

    def _shorter(self, key: str) -> Sequence[int]:
        """Returns the sources with the longest path that the listed path ends with."""
        while end := key.rfind("/", 0, -1) + 1:
            folder, key = key[end:-1].partition("/")[0][::-1], key[:end]
            if found := self._same(key):
                # A file outside any folder is in the listed folder only if this is its class or the input.
                own = {i: self._listing.sources[i].labels for i in found if key.count("/") == 1}
                return [
                    i for i in found if not own.get(i) or folder in (*own[i], self._listing.name)
                ]
        return ()

    def _is_of_class(self, i: int, name: str | None) -> bool:
        source = self._listing.sources[i]
        return (
            name is None
            or name in source.labels
            or name in _clean(source.data_path).split("/")[:-1]
        )


def _clean(path: str) -> str:
    """Returns ``path`` with ``/``, without ``./``, ``../`` or a root before it."""
    path = unicodedata.normalize("NFC", path.strip().replace("\\", "/"))
    if "//" in path or "/." in path:
        path = posixpath.normpath(path)
    return path.lstrip("./")[-_MAX_PATH:]


def _key(path: str) -> tuple[str, str]:
    """Returns ``/`` and a path without the suffix of a video, backwards, and this suffix or ""."""
    stem, suffix = posixpath.splitext(_clean(path))
    if suffix.lower() not in _SUFFIXES:
        stem, suffix = stem + suffix, ""
    return f"/{stem}"[::-1], suffix


def _read(item: str) -> Iterator[_Line]:
    """Yields the lines of the files that ``[NAME=]FILE`` names."""
    name, equals, pattern = item.partition("=")
    if not equals or Path(item).is_file():  # or "=" is part of the file's name
        equals, pattern = "", item
    split = split_name(name) if equals else None
    if equals and split is None:
        raise UserError(f"--split_list NAME=FILE takes {SPLIT_NAME_RULE}, got {item!r}")
    files = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern))
    if not files:
        raise UserError(f"--split_list must name a local file, but there is none at {pattern}")
    for file in files:
        try:
            with open(file, encoding="utf-8-sig") as lines:
                numbered = ((f"{file} line {i}", text.strip()) for i, text in enumerate(lines, 1))
                texts = filter(operator.itemgetter(1), numbered)
                yield from _read_split(file, texts, split) if split else _read_codes(file, texts)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--split_list {file} could not be read: {error}") from error


def _is_header(text: str, file: str) -> bool:
    columns = [column.strip("\"'") for column in re.split(r"[\s,;]+", text)]
    try:
        found = find_columns(file, columns, ("path", "split"), ())
    except TelemetryError:
        return False
    if "split" in found:
        raise UserError(
            f"{file}: expected a list of one split, but it has a column {found['split']!r}. Give the "
            "file as --input (a manifest with the columns path, label and split), or one list per split"
        )
    return True


def _read_split(file: str, texts: Iterable[tuple[str, str]], split: str) -> Iterator[_Line]:
    """Yields the lines of a list of one split."""
    owner, is_header = _Owner(file, split), None
    for place, text in texts:
        if is_header is None and _HMDB51_FILE.fullmatch(Path(file).stem) and _CODED.fullmatch(text):
            raise UserError(
                f"{file}: expected a list of the videos in {split}, but by its name and codes it is "
                "HMDB51's, which names the split of each video. Give it as --split_list FILE, without NAME="
            )
        others = {standard_split(part.strip(" \"'")) for part in _DELIMITER.split(text)[1:]}
        if others - {None, split}:
            raise UserError(
                f"{place}: expected a video in {split}, such as 'Archery/v_Archery_g08_c01.avi 1', "
                f"got {text!r}, which names another split"
            )
        is_header = is_header is None and _is_header(text, file)
        yield _Line(place, owner, _paths(text), is_header=is_header)


def _read_codes(file: str, texts: Iterable[tuple[str, str]]) -> Iterator[_Line]:
    """Yields the lines of a list with HMDB51's codes."""
    named = _HMDB51_FILE.fullmatch(Path(file).stem)
    codes: dict[str, set[str]] = defaultdict(set)  # by folder
    owners = {code: _Owner(file, split) for code, split in _HMDB51_SPLITS.items()}
    for place, text in texts:
        match = _CODED.fullmatch(text)
        if not match:
            if not codes and _is_header(text, file):
                continue
            raise UserError(
                f"{place}: expected a video and 0, 1 or 2 (HMDB51's format), such as 'a.avi 1', "
                f"got {text!r}. Give a list of one split as --split_list NAME=FILE"
            )
        quoted = _QUOTED.fullmatch(match[1])
        path, class_name = quoted[2] if quoted else match[1], None
        folder = posixpath.dirname(_clean(path))
        codes[folder].add(match[2])
        paths = [path]
        if named and not folder:
            class_name = named[1]
            paths.insert(0, f"{class_name}/{path}")
        yield _Line(place, owners[match[2]], paths, class_name)
    if not named and len(set().union(*codes.values())) > 1 == max(map(len, codes.values())):
        raise UserError(
            f"{file}: expected HMDB51's codes (1 is train, 2 is test, 0 is neither), but each folder has one "
            "number, which may be that of its class. Give a list of one split as --split_list NAME=FILE"
        )


def _paths(text: str) -> Sequence[str]:
    """Returns the paths that a line may mean: all of it or some columns, with or without numbers behind."""
    if quoted := _QUOTED.fullmatch(text):
        return (quoted[2],)
    columns = [column.strip(" \"'") for column in _DELIMITER.split(text)]
    readings = [_without_numbers(reading) for reading in dict.fromkeys((text, *columns))]
    videos = [paths[-1] for paths in readings if is_video(paths[-1])]
    return videos or list(dict.fromkeys(path for paths in readings[:2] for path in paths))


def _without_numbers(text: str) -> list[str]:
    """Returns ``text`` without the last 0, 1, ... of the numbers behind it."""
    readings = [text]
    while len(words := readings[-1].rsplit(None, 1)) > 1 and len(readings) <= _MAX_NUMBERS:
        if not words[1].lstrip("-").isdigit():
            break
        readings.append(words[0])
    return readings
