"""Published splits, in the formats of UCF101 and HMDB51.

UCF101 (https://www.crcv.ucf.edu/data/UCF101.php) has one file per split, ``--split_list
train=trainlist01.txt``, with one video per line, ``Archery/v_Archery_g08_c01.avi 1``. The number is ignored.
HMDB51 (https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/) has one file per class,
``--split_list wave_test_split1.txt``, with lines ``name.avi CODE``: 1 is train, 2 is test, 0 is neither.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from pipelines.errors import UserError
from pipelines.options.dataset import SPLIT_NAME_RULE, is_split_name
from pipelines.plan.descriptors import Listing

_HMDB51_SPLITS = {"0": None, "1": "train", "2": "test"}


def apply_split_lists(listing: Listing, split_lists: Sequence[str]) -> Listing:
    """Returns the listing with the splits that the lists name, without the sources that HMDB51 excludes.

    A source is found by its path relative to the input, or by its file name alone. The split of a source that
    is in no list is decided by its hash. Lists are ``NAME=FILE`` or ``FILE``, which may be a glob.
    """
    if not split_lists:
        return listing
    split_of: dict[str, str | None] = {}
    for item in split_lists:
        name, equals, pattern = item.partition("=")
        if Path(item).is_file():
            equals = ""  # part of the file's name
        if equals and not is_split_name(name):
            raise UserError(f"--split_list NAME=FILE takes {SPLIT_NAME_RULE}, got {item!r}")
        pattern = pattern if equals else item
        files = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern))
        if not files:
            raise UserError(f"--split_list must name a local file, but there is none at {pattern}")
        for file in files:
            for video, split in _read_list(file, name if equals else None):
                if split_of.setdefault(video, split) != split:
                    raise UserError(
                        f"{file}: a video must be in one split, but {video!r} is listed as "
                        f"{split_of[video] or 'left out (0)'} and as {split or 'left out (0)'}"
                    )
    if not split_of:
        raise UserError(
            f"{', '.join(split_lists)}: expected videos, but these split lists are empty"
        )
    kept, unlisted = [], 0
    for source in listing.sources:
        path = PurePath(source.data_path)
        key = next((key for key in (path.as_posix(), path.name) if key in split_of), None)
        if source.split is not None:
            raise UserError(
                f"--split_list and the manifest's split column both name the split of {source.id!r}. "
                "Use one of them"
            )
        if key is None:
            unlisted += 1
            kept.append(source)
        elif split_of[key] is not None:
            kept.append(replace(source, split=split_of[key]))
    left_out = len(listing.sources) - len(kept)
    if not kept:
        raise UserError(
            f"expected the split lists to leave sources to build, but they exclude all {left_out}. "
            "Code 1 is train, 2 is test, 0 is neither"
        )
    if unlisted == len(listing.sources):
        raise UserError(
            f"expected the split lists to name videos of the input, but none of their {len(split_of)} videos "
            f"is there, for example {next(iter(split_of))!r}. Their paths must be relative to --input"
        )
    notes = list(listing.notes)
    if unlisted:
        notes.append(f"{unlisted} sources are in no split list and are split by --splits")
    if left_out:
        notes.append(f"{left_out} sources that the split lists exclude were left out")
    return replace(listing, sources=tuple(kept), notes=tuple(notes))


def _read_list(file: str, split: str | None) -> Iterator[tuple[str, str | None]]:
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--split_list {file} could not be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        # The path may contain spaces. The word after the last one is a number, or part of the path.
        path, _, code = line.strip().rpartition(" ")
        if split is not None:
            yield (path.strip() if path and code.isdigit() else line.strip()), split
        elif path and code in _HMDB51_SPLITS:
            yield path.strip(), _HMDB51_SPLITS[code]
        else:
            raise UserError(
                f"{file} line {number}: expected a video and 0, 1 or 2 (HMDB51's format), got {line!r}. "
                "Give a list of one split as --split_list NAME=FILE"
            )
