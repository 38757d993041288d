"""Aligns two pictures: finds a cropped or slightly scaled copy by correlation."""

from __future__ import annotations

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
    """Returns the largest correlation of the middle of ``one`` with a part of ``other``, and the part.

    Brightness and contrast do not matter: the correlation with ``a * one + b`` is 1.
    """
    best = (-1.0, IN_PLACE)
    for scale in _SCALES:
        found = cv2.matchTemplate(_scale(other, scale), _middle(one), cv2.TM_CCOEFF_NORMED)
        _, correlation, _, (left, top) = cv2.minMaxLoc(found)
        best = max(best, (float(correlation), Alignment(scale, top, left)))
        if correlation > _EXACT:
            break
    return best


def distance(one: Gray, other: Gray, alignment: Alignment) -> float:
    """Returns the distance of the middle of ``one`` from a part of ``other``.

    It is 0 for the same picture, and about 1.4 for unrelated ones.
    """
    middle = _middle(one)
    rows, columns = middle.shape
    scale, top, left = alignment
    part = _scale(other, scale)[top : top + rows, left : left + columns]
    found = cv2.matchTemplate(part, middle, cv2.TM_CCOEFF_NORMED)
    return float(np.sqrt(2 * max(0.0, 1 - float(found[0, 0]))))


def _middle(picture: Gray) -> Gray:
    return picture[_TOP : ROWS - _TOP, _LEFT : COLUMNS - _LEFT]


def _scale(picture: Gray, scale: float) -> Gray:
    if scale == 1:
        return picture
    size = (round(COLUMNS * scale), round(ROWS * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=method)
