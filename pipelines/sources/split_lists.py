"""Published splits, in the formats of UCF101 and HMDB51.

UCF101 (https://www.crcv.ucf.edu/data/UCF101.php) has one file per split, ``--split_list
train=trainlist01.txt``, with one video per line, ``Archery/v_Archery_g08_c01.avi 1``. The number is ignored.
HMDB51 (https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/) has one file per class,
``--split_list wave_test_split1.txt``, with lines ``name.avi CODE``: 1 is train, 2 is test, 0 is neither.

Columns may be separated by spaces, tabs, commas or semicolons, and folders by ``/`` or a backslash.
"""

from __future__ import annotations

import glob
import posixpath
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.errors import UserError
from pipelines.options.dataset import SPLIT_NAME_RULE, split_name
from pipelines.plan.descriptors import Listing, Source
from pipelines.sources.listing import VIDEO_EXTENSIONS, is_video
from tfrecords_schema.split_names import standard_split
from tfrecords_schema.tables import name_some

_HMDB51_SPLITS = {"0": None, "1": "train", "2": "test"}
_HMDB51_FILE = re.compile(r"(.+)_test_split\d+")
_CODED = re.compile(r"(.*[^\s,;])[\s,;]+([012])")
_DELIMITER = re.compile(r"[\t,;]")
_PLAIN = re.compile(r"([^\s\"',;]+)(?: -?\d+)*")
_QUOTED = re.compile(r"""(["'])(.+?)\1(?:[\s,;].*)?""")
_ABOVE_ROOT = re.compile(r"(?:[A-Za-z]:)?(?:/|\.\.(?:/|$))*")
_PATH_HEADERS = re.compile(r"(video|file|clip|youtube)?_?(path|file|name|id)s?|video|clip|file")
_SPLIT_HEADERS = frozenset(("split", "subset", "set", "phase", "partition", "usage"))
_SUFFIXES = frozenset(VIDEO_EXTENSIONS)
_MAX_FOLDERS = 16  # of a path that are compared


@dataclass(slots=True)
class _Line:
    """A line of a split list.

    Attributes:
        file, number: the list, and the number of the line.
        split: the split that it names; None excludes the video.
        class_name: the class in the file name of HMDB51's list.
        paths: the paths that the line may mean.
        is_header: the line names columns, unless there is a video of that name.
        score: of the best matches so far; the lowest is the best.
        found: positions of these sources.
    """

    file: str
    number: int
    split: str | None
    paths: tuple[str, ...]
    class_name: str | None = None
    is_header: bool = False
    score: int = 99
    found: tuple[int, ...] = ()

    @property
    def place(self) -> str:
        """File and number, for messages."""
        return f"{self.file} line {self.number}"

    def offer(self, score: int, index: int, source: Source, stem: str) -> None:
        """Adds a source that the line may mean, and forgets matches with a higher score."""
        classes = () if self.class_name is None else (*source.labels, *stem.split("/")[:-1])
        if self.class_name is not None and self.class_name not in classes:
            return
        if score < self.score:
            self.score, self.found = score, ()
        if score == self.score:
            self.found += (index,)


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
    lists = [(item, list(_read(item))) for item in split_lists]
    lines = [line for _, own in lists for line in own]
    _match(lines, listing)
    lines = [line for line in lines if line.found or not line.is_header]
    for item, own in lists:
        if not own:
            raise UserError(f"--split_list {item}: expected videos, but this split list is empty")
        # Lists by class may include classes that the input lacks.
        if not any(line.found for line in (own if own[0].class_name is None else lines)):
            raise UserError(_describe_unmatched(item, own, listing))
    return _with_splits(listing, lines)


def _describe_unmatched(item: str, lines: Sequence[_Line], listing: Listing) -> str:
    line = lines[-1]
    hint = f" in a folder or class {line.class_name!r}" if line.class_name else ""
    example = f", such as {listing.sources[0].data_path!r}" if listing.sources else ""
    return (
        f"--split_list {item}: expected paths of videos relative to --input{example}, but none of its "
        f"{len(lines)} videos is there, for example {line.paths[-1]!r}{hint} ({line.place}). Correct the "
        "paths, or leave the list out"
    )


def _with_splits(listing: Listing, lines: Sequence[_Line]) -> Listing:
    """Returns the listing with the splits of the sources that each line has found."""
    owners: dict[int, _Line] = {}
    for line in lines:
        # Clips of one file are one match.
        paths = dict.fromkeys(listing.sources[index].data_path for index in line.found)
        if len(paths) > 1:
            raise UserError(
                f"{line.place}: expected {line.paths[0]!r} to mean one source, but it may mean "
                f"{name_some(paths)}. Give its whole path relative to --input, in quotes"
            )
        for index in line.found:
            other = owners.setdefault(index, line)
            if other.split != line.split:
                first, second = (known.split or "left out (0)" for known in (other, line))
                raise UserError(
                    f"{line.place}: a video must be in one split, but {listing.sources[index].id!r} is "
                    f"listed as {first} ({other.place}) and as {second}"
                )
    kept, excluded = [], []
    for index, source in enumerate(listing.sources):
        if index not in owners:
            kept.append(source)
        elif owners[index].split is None:
            excluded.append(source.id)
        else:
            kept.append(replace(source, split=owners[index].split))
    if not kept:
        raise UserError(
            f"expected the split lists to leave sources to build, but they exclude all {len(excluded)}. "
            "Code 1 is train, 2 is test, 0 is neither"
        )
    notes = list(listing.notes)
    if missing := [line.paths[0] for line in lines if not line.found]:
        notes.append(
            f"{len(missing)} of the {len(lines)} videos in the split lists are not in the input: "
            f"{name_some(missing)}"
        )
    if excluded:
        notes.append(
            f"{len(excluded)} sources that the split lists exclude (0) were left out: {name_some(excluded)}"
        )
    return replace(listing, sources=tuple(kept), notes=tuple(notes))


def _match(lines: Sequence[_Line], listing: Listing) -> None:
    """Offers each line the sources that it may mean."""
    listed = _by_stem(lines)
    for index, source in enumerate(listing.sources):
        stem, suffix = _split_suffix(_clean(source.data_path))
        for line, own in listed.get(stem, ()):
            line.offer(own != suffix, index, source, stem)
    listed = _by_stem([line for line in lines if not line.found and not line.is_header])
    if not listed:
        return
    longer: dict[str, list[tuple[_Line, str, str]]] = defaultdict(list)  # by the end of the path
    for stem, items in listed.items():
        for end in _ends(stem):
            folder = posixpath.basename(stem[: -len(end) - 1])
            longer[end] += [(line, suffix, folder) for line, suffix in items]
    for index, source in enumerate(listing.sources):
        stem, suffix = _split_suffix(_clean(source.data_path))
        for line, own, folder in longer.get(stem, ()):
            # A file outside any folder is in the listed folder only if this is its class or the input itself.
            if "/" in stem or not source.labels or folder in (*source.labels, listing.name):
                line.offer(_score(own == suffix, stem), index, source, stem)
        for end in _ends(stem):
            for line, own in listed.get(end, ()):
                line.offer(_score(own == suffix, end), index, source, stem)


def _score(same_suffix: bool, end: str) -> int:
    """Returns the score of a match of the end of a path; less for a longer one."""
    return 3 * _MAX_FOLDERS - 2 * _MAX_FOLDERS * same_suffix - min(end.count("/"), _MAX_FOLDERS)


def _by_stem(lines: Iterable[_Line]) -> dict[str, list[tuple[_Line, str]]]:
    """Returns lines with the suffix of each path that they may mean, by the path without it."""
    found: dict[str, list[tuple[_Line, str]]] = {}
    for line in lines:
        for path in line.paths:
            stem, suffix = _split_suffix(path)
            found.setdefault(stem, []).append((line, suffix))
    return found


def _clean(path: str) -> str:
    """Returns ``path`` with ``/``, without ``./``, ``../``, a drive or a root before it."""
    path = posixpath.normpath(unicodedata.normalize("NFC", path.strip().replace("\\", "/")))
    return path[_ABOVE_ROOT.match(path).end() :]  # type: ignore[union-attr]


def _split_suffix(path: str) -> tuple[str, str]:
    """Returns a path without the suffix of a video, and this suffix or ""."""
    stem, dot, extension = path.rpartition(".")
    suffix = sys.intern(dot + extension)
    return (stem, suffix) if suffix.lower() in _SUFFIXES else (path, "")


def _ends(stem: str) -> Iterator[str]:
    """Yields the shorter paths that ``stem`` ends with: ``b/c`` and ``c`` for ``a/b/c``."""
    parts = stem.split("/")
    for count in range(1, min(len(parts), _MAX_FOLDERS)):
        yield "/".join(parts[-count:])


def _read(item: str) -> Iterator[_Line]:
    """Yields the lines of the files that ``[NAME=]FILE`` names."""
    name, equals, pattern = item.partition("=")
    if Path(item).is_file():
        equals = ""  # part of the file's name
    split = split_name(name) if equals else None
    if equals and split is None:
        raise UserError(f"--split_list NAME=FILE takes {SPLIT_NAME_RULE}, got {item!r}")
    pattern = pattern if equals else item
    files = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern))
    if not files:
        raise UserError(f"--split_list must name a local file, but there is none at {pattern}")
    for file in files:
        try:
            texts = Path(file).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--split_list {file} could not be read: {error}") from error
        lines = [(i, text.strip()) for i, text in enumerate(texts, start=1) if text.strip()]
        header = lines.pop(0) if lines and _is_header(lines[0][1], file) else None
        if split is None:
            yield from _read_codes(file, lines)
            continue
        if header:  # or a video of this name
            yield _Line(file, header[0], split, _paths(header[1]), is_header=True)
        yield from _read_split(file, lines, split)


def _is_header(text: str, file: str) -> bool:
    columns = [column.strip("\"'") for column in re.split(r"[\s,;]+", text.lower())]
    if not any(map(_PATH_HEADERS.fullmatch, columns)) or any(map(is_video, columns)):
        return False
    if splits := _SPLIT_HEADERS.intersection(columns):
        raise UserError(
            f"{file}: expected a list of the videos of one split, but it has a column {min(splits)!r}. Give "
            "the file as --input (a manifest with the columns path, label and split), or one list per split"
        )
    return True


def _read_split(file: str, lines: Sequence[tuple[int, str]], split: str) -> Iterator[_Line]:
    """Yields the lines of a list of one split."""
    if _HMDB51_FILE.fullmatch(Path(file).stem) and all(_CODED.fullmatch(text) for _, text in lines):
        raise UserError(
            f"{file}: expected a list of the videos in {split}, but by its name and codes it is HMDB51's, "
            "which names the split of each video. Give it as --split_list FILE, without NAME="
        )
    for number, text in lines:
        others = {standard_split(part.strip(" \"'")) for part in _DELIMITER.split(text)[1:]}
        if others - {None, split}:
            raise UserError(
                f"{file} line {number}: expected a video in {split}, such as "
                f"'Archery/v_Archery_g08_c01.avi 1', got {text!r}, which names another split"
            )
        yield _Line(file, number, split, _paths(text))


def _read_codes(file: str, lines: Sequence[tuple[int, str]]) -> Iterator[_Line]:
    """Yields the lines of a list with HMDB51's codes."""
    named = _HMDB51_FILE.fullmatch(Path(file).stem)
    codes: dict[str, set[str]] = defaultdict(set)  # by folder
    for number, text in lines:
        match = _CODED.fullmatch(text)
        if not match:
            raise UserError(
                f"{file} line {number}: expected a video and 0, 1 or 2 (HMDB51's format), such as 'a.avi 1', "
                f"got {text!r}. Give a list of one split as --split_list NAME=FILE"
            )
        paths, class_name = _paths(match[1], has_numbers=False), None
        folder = posixpath.dirname(paths[-1])
        codes[folder].add(match[2])
        if named and not folder:
            class_name = named[1]
            paths = (f"{class_name}/{paths[-1]}", *paths)
        yield _Line(file, number, _HMDB51_SPLITS[match[2]], paths, class_name)
    if not named and len(set().union(*codes.values())) > 1 == max(map(len, codes.values())):
        raise UserError(
            f"{file}: expected HMDB51's codes (1 is train, 2 is test, 0 is neither), but each folder has one "
            "number, which may be that of its class. Give a list of one split as --split_list NAME=FILE"
        )


def _paths(text: str, *, has_numbers: bool = True) -> tuple[str, ...]:
    """Returns the paths that a line may mean: all of it or some columns, with or without numbers behind."""
    plain = _PLAIN.fullmatch(text)
    if plain and has_numbers and is_video(plain[1]):
        return (_clean(plain[1]),)
    if quoted := _QUOTED.fullmatch(text):
        return (_clean(quoted[2]),)
    columns = [column.strip(" \"'") for column in _DELIMITER.split(text)]
    videos = [column for column in columns if is_video(column)] if len(columns) > 1 else []
    readings = [text] if is_video(text) or not videos else []
    readings += videos or columns[:1]
    found: dict[str, None] = {}
    for reading in filter(None, readings):
        words, numbers = reading.split(), 0
        while has_numbers and numbers + 1 < len(words) and _is_number(words[-1 - numbers]):
            numbers += 1
        shortest = reading.rsplit(None, numbers)[0]
        if not is_video(shortest):
            found |= {_clean(reading.rsplit(None, n)[0]): None for n in range(min(numbers, 4))}
        found[_clean(shortest)] = None
    return tuple(found)


def _is_number(word: str) -> bool:
    return word.lstrip("-").replace(".", "", 1).isdigit()
