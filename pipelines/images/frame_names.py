"""Orders and numbers frames that are stored as image files, by their names alone.

Reads no file. Names are file names without a folder.
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from tfrecords_schema.natural_order import Natural, natural_parts

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_MAX_HOLE = 100_000
"""Missing frames in a row. Names that skip more are times, or belong to several recordings."""

_MAX_DIGITS = 300  # Python refuses to read numbers of several thousand digits


def is_image(name: str) -> bool:
    """Returns True if a file name has the extension of an image and is not hidden."""
    hidden = os.path.basename(name).startswith(".")
    return not hidden and os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def frame_key(name: str) -> tuple[Natural, str]:
    """Returns a sort key that compares numbers in file names as numbers: ``2.jpg`` before ``10.jpg``."""
    return _natural_stem(name), name


def find_duplicate(names: Iterable[str]) -> tuple[str, str] | None:
    """Returns the first two names that differ only in extension or leading zeros; None without any."""
    for one, other in pairwise(sorted(names, key=frame_key)):
        if _natural_stem(one) == _natural_stem(other):
            return one, other
    return None


def find_other_recording(names: Iterable[str]) -> tuple[str, str] | None:
    """Returns two names of one number and other words, such as flow_x_01.jpg and img_01.jpg, or None.

    They belong to several recordings. Words that differ only in their digits may be times.
    """
    seen: dict[int, tuple[str, str]] = {}
    for name in sorted(names, key=frame_key):
        part = _last_number(name)
        if part is None:
            continue
        words = re.sub("[0-9]+", "0", f"{part.prefix}0{part.suffix}")
        before, other = seen.setdefault(part.number, (words, name))
        if before != words:
            return other, name
    return None


def number_frames(names: Sequence[str]) -> tuple[int, ...] | None:
    """Returns the slot of each frame, from 0; a missing frame leaves its slot empty.

    ``001.jpg 002.jpg 003.jpg 005.jpg`` are in slots 0, 1, 2 and 4, and so are 010, 020, 030 and 050.

    Names are a numbering if they differ only in the last number of the stem, and if that grows from each name
    to the next by a multiple of a step, which more than half of the names have. The result is None if the
    names, in natural order, are not a numbering but, for example, times.
    """
    numbered = [_last_number(name) for name in names]
    numbers = [part.number for part in numbered if part is not None]
    if len(numbers) != len(names) or not numbers:
        return None
    if len({(part.prefix, part.suffix) for part in numbered if part is not None}) != 1:
        return None
    differences = [after - before for before, after in pairwise(numbers)]
    if not differences:
        return (0,)
    step, shared = Counter(differences).most_common(1)[0]
    if step <= 0 or 2 * shared <= len(differences):
        return None
    if any(d < step or d % step or d > step * _MAX_HOLE for d in differences):
        return None
    return tuple((number - numbers[0]) // step for number in numbers)


@dataclass(frozen=True)
class FrameSequence:
    """Image files as the frames of one recording; see `order_frames`.

    Attributes:
        names: file names in order.
        slots: slot of each name, strictly increasing from 0. A slot without a name is a missing frame.
        numbered: True if the names are a numbering. If not, no frame is known to be missing.
    """

    names: tuple[str, ...]
    slots: tuple[int, ...]
    numbered: bool

    @property
    def total_slots(self) -> int:
        """The number of slots from the first frame to the last."""
        return self.slots[-1] + 1 if self.slots else 0

    def runs(self) -> list[range]:
        """Returns the ranges of slots without a hole, in order."""
        holes = self.holes()
        starts = [0, *(self.slots[index] for index in holes)]
        ends = [*(self.slots[index - 1] + 1 for index in holes), self.total_slots]
        return [range(start, end) for start, end in zip(starts, ends, strict=True)]

    def holes(self) -> list[int]:
        """Returns the indices of the frames before which frames are missing."""
        return [index for index in range(len(self.slots)) if self.is_hole_before(index)]

    def is_hole_before(self, index: int) -> bool:
        """Returns True if frames are missing between those at ``index - 1`` and ``index``."""
        return index > 0 and self.slots[index] > self.slots[index - 1] + 1

    def describe_hole(self, index: int) -> str:
        """Describes the frames missing before the one at ``index``: ``frame 004 is missing between ...``."""
        before, after = self.names[index - 1], self.names[index]
        first, last = _last_number(before), _last_number(after)
        if first is None or last is None:
            raise ValueError(f"expected numbered frames, got {before!r} and {after!r}")
        step = (last.number - first.number) // (self.slots[index] - self.slots[index - 1])
        missing = [
            str(number).zfill(first.digits)
            for number in sorted({first.number + step, last.number - step})
        ]
        which = f"frames {' to '.join(missing)} are" if missing[1:] else f"frame {missing[0]} is"
        return f"{which} missing between {before} and {after}"


def order_frames(names: Iterable[str]) -> FrameSequence:
    """Returns names in natural order, with slots by their numbers; without numbers, in consecutive slots."""
    ordered = tuple(sorted(names, key=frame_key))
    slots = number_frames(ordered)
    return FrameSequence(ordered, slots or tuple(range(len(ordered))), numbered=slots is not None)


class _LastNumber(NamedTuple):
    prefix: str
    number: int
    digits: int
    suffix: str


# The folders of a dataset often contain the same names.
@functools.lru_cache(maxsize=4096)
def _last_number(name: str) -> _LastNumber | None:
    stem = os.path.splitext(name)[0]
    found = re.fullmatch(r"(|.*[^0-9])([0-9]+)([^0-9]*)", stem, re.DOTALL)
    if found is None or len(found[2]) > _MAX_DIGITS:
        return None
    return _LastNumber(found[1], int(found[2]), len(found[2]), found[3])


@functools.lru_cache(maxsize=4096)
def _natural_stem(name: str) -> Natural:
    return natural_parts(os.path.splitext(name)[0])
