"""Aligns two pictures, and sequences of them: finds cropped or slightly scaled copies by correlation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 48, 64
"""Size of the gray pictures that are compared."""
_TOP, _LEFT = 5, 7
"""Rows and columns left out on each side, where copies are cropped and marked."""
_SCALES = (1.0, 0.9, 0.95, 1.05, 1.11)
_EXACT = 0.98
"""Correlation from which on no other scale is tried."""
_BLUR = 4.0
"""Standard deviation, in pixels, of the blur that removes texture."""
_MIN_TEXTURE = 5.0
"""Standard deviation, in levels, of the texture."""
_MIN_SAME = 0.9
"""Fraction of the common frames of two sequences of the same footage that are the same."""
_MAX_OF_MOTION = 0.5
"""Difference of a frame coded twice, as a fraction of that from frame to frame. Still footage looks the same
everywhere; only footage that moves in the same way is the same footage."""

Gray = NDArray[np.uint8]


class Alignment(NamedTuple):
    """The scale of another picture, and the place of the first one's middle in it."""

    scale: float
    top: int
    left: int


IN_PLACE = Alignment(1.0, _TOP, _LEFT)
"""Alignment of two pictures of one camera, neither cropped nor scaled."""


def to_gray(pixels: NDArray[np.uint8]) -> Gray:
    """Returns a picture, BGR or gray, in the form to compare: ``[ROWS, COLUMNS]``."""
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) if pixels.ndim == 3 else pixels
    return cv2.resize(gray, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)


def has_texture(picture: Gray) -> bool:
    """Returns True if there are edges; pictures that are only smooth look like many others."""
    values = picture.astype(np.float32)
    return float((values - cv2.GaussianBlur(values, (0, 0), _BLUR)).std()) >= _MIN_TEXTURE


def align(one: Gray, other: Gray) -> tuple[float, Alignment]:
    """Returns the largest correlation of the middle of ``one`` with a part of ``other``, and the part."""
    best = (-1.0, IN_PLACE)
    for scale in _SCALES:
        found = cv2.matchTemplate(_scale(other, scale), _middle(one), cv2.TM_CCOEFF_NORMED)
        _, correlation, _, (left, top) = cv2.minMaxLoc(found)
        best = max(best, (float(correlation), Alignment(scale, top, left)))
        if correlation > _EXACT:
            break
    return best


def distance(one: Gray, other: Gray, alignment: Alignment) -> float:
    """Returns the distance of the middle of ``one`` from a part of ``other``: 0 to about 1.4."""
    middle = _middle(one)
    rows, columns = middle.shape
    scale, top, left = alignment
    part = _scale(other, scale)[top : top + rows, left : left + columns]
    found = cv2.matchTemplate(part, middle, cv2.TM_CCOEFF_NORMED)
    return float(np.sqrt(2 * max(0.0, 1 - float(found[0, 0]))))


def same_footage(
    one: Sequence[Gray], other: Sequence[Gray], shifts: Iterable[int], alignment: Alignment
) -> bool:
    """Returns True if, for one of the shifts, frame ``i`` is frame ``i + shift`` of the other sequence."""
    limit = _MAX_OF_MOTION * min(_motion(one), _motion(other))
    for shift in shifts:
        common = [(i, i + shift) for i in range(len(one)) if 0 <= i + shift < len(other)]
        same = [distance(one[i], other[j], alignment) <= limit for i, j in common]
        if len(same) * 2 >= min(len(one), len(other)) and sum(same) >= _MIN_SAME * len(same):
            return True
    return False


def _motion(frames: Sequence[Gray]) -> float:
    """Returns the mean distance of a frame from the one before it."""
    steps = [distance(one, other, IN_PLACE) for one, other in itertools.pairwise(frames)]
    return sum(steps) / len(steps) if steps else 0.0


def _middle(picture: Gray) -> Gray:
    return picture[_TOP : ROWS - _TOP, _LEFT : COLUMNS - _LEFT]


def _scale(picture: Gray, scale: float) -> Gray:
    if scale == 1:
        return picture
    size = (round(COLUMNS * scale), round(ROWS * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=method)
