"""The order and numbering of frames that are stored as image files, from their names alone.

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

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_LONGEST_HOLE = 100_000
"""Frames: names that skip more are taken for times, or for those of several recordings."""

_MOST_DIGITS = 300  # no number of a frame has more; Python refuses to read some thousands

# Texts and numbers by turns, beginning with a text. A number is its length and digits without leading zeros,
# which compare as numbers do.
_Natural = tuple["str | tuple[int, str]", ...]


def is_image(name: str) -> bool:
    """Whether the file name ends as an image's does, and is not hidden."""
    hidden = os.path.basename(name).startswith(".")
    return not hidden and os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def natural_key(name: str) -> tuple[_Natural, str]:
    """What to sort by so that numbers in names count as numbers: ``2.jpg`` before ``10.jpg``."""
    return _natural_stem(name), name


def find_duplicate(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two of ``names`` that differ in extension or leading zeros alone; None when none do."""
    for one, other in pairwise(sorted(names, key=natural_key)):
        if _natural_stem(one) == _natural_stem(other):
            return one, other
    return None


def number_frames(names: Sequence[str]) -> tuple[int, ...] | None:
    """The slot of each frame, from 0, where a frame that is missing leaves its slot empty.

    ``001.jpg 002.jpg 003.jpg 005.jpg`` are in slots 0, 1, 2 and 4; and so are 010, 020, 030 and 050.

    Names are a numbering when they differ in the last number of the stem alone, and it grows from each to the
    next by a step that more than half share, or a multiple of it.

    Args:
        names: in natural order.

    Returns:
        None when the names are no numbering: times, say.
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
    if any(d < step or d % step or d > step * _LONGEST_HOLE for d in differences):
        return None
    return tuple((number - numbers[0]) // step for number in numbers)


@dataclass(frozen=True)
class FrameSequence:
    """Image files as the frames of one recording; see `order_frames`.

    Attributes:
        names: in order.
        slots: of each, strictly increasing from 0; an empty slot is that of a frame that is missing.
        numbered: whether the names are a numbering; if not, no frame can be known to be missing.
    """

    names: tuple[str, ...]
    slots: tuple[int, ...]
    numbered: bool

    @property
    def total_slots(self) -> int:
        """Slots from the first frame's to the last one's."""
        return self.slots[-1] + 1 if self.slots else 0

    def runs(self) -> list[range]:
        """Ranges of slots without a hole, in order."""
        holes = self.holes()
        starts = [0, *(self.slots[index] for index in holes)]
        ends = [*(self.slots[index - 1] + 1 for index in holes), self.total_slots]
        return [range(start, end) for start, end in zip(starts, ends, strict=True)]

    def holes(self) -> list[int]:
        """Indices of the frames that others are missing before."""
        return [index for index in range(len(self.slots)) if self.is_hole_before(index)]

    def is_hole_before(self, index: int) -> bool:
        """Whether frames are missing between those at ``index - 1`` and ``index``."""
        return index > 0 and self.slots[index] > self.slots[index - 1] + 1

    def describe_hole(self, index: int) -> str:
        """What is missing before the frame at ``index``: ``frame 004 is missing between ...``."""
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
    """``names`` in natural order, with the slots that their numbers give, or one after the other."""
    ordered = tuple(sorted(names, key=natural_key))
    slots = number_frames(ordered)
    return FrameSequence(ordered, slots or tuple(range(len(ordered))), numbered=slots is not None)


class _LastNumber(NamedTuple):
    prefix: str
    number: int
    digits: int
    suffix: str


# Folders of one dataset name their frames alike.
@functools.lru_cache(maxsize=4096)
def _last_number(name: str) -> _LastNumber | None:
    found = re.fullmatch(r"(|.*[^0-9])([0-9]+)([^0-9]*)", _stem(name), re.DOTALL)
    if found is None or len(found[2]) > _MOST_DIGITS:
        return None
    return _LastNumber(found[1], int(found[2]), len(found[2]), found[3])


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


@functools.lru_cache(maxsize=4096)
def _natural_stem(name: str) -> _Natural:
    parts = re.split("([0-9]+)", _stem(name))
    return tuple(_number_key(part) if index % 2 else part for index, part in enumerate(parts))


def _number_key(digits: str) -> tuple[int, str]:
    significant = digits.lstrip("0")
    return len(significant), significant
