"""Two pictures laid over each other: whether one shows what the other shows, cut or scaled a little."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 48, 64
"""Of the pictures that are compared, in gray."""
_TOP, _LEFT = 5, 7
"""Rows and columns that are left out on each side, where copies are cut and marked."""
_SCALES = (1.0, 0.9, 0.95, 1.05, 1.11)
_EXACT = 0.98
"""Correlation from which on no other scale is tried."""
_BLUR = 4.0
"""Standard deviation, in pixels, of the blur that leaves of a picture what shades off."""
_LEAST_TEXTURE = 5.0
"""Levels by which a picture deviates from itself blurred."""

Gray = NDArray[np.uint8]


class Alignment(NamedTuple):
    """How another picture is scaled, and where the middle of the first lies in it then."""

    scale: float
    top: int
    left: int


def to_gray(pixels: NDArray[np.uint8]) -> Gray:
    """A picture, BGR or gray, as it is compared: ``[ROWS, COLUMNS]``."""
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) if pixels.ndim == 3 else pixels
    return cv2.resize(gray, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)


def has_texture(picture: Gray) -> bool:
    """Whether there are edges that could be another picture's; what only shades off looks like much else."""
    values = picture.astype(np.float32)
    return float((values - cv2.GaussianBlur(values, (0, 0), _BLUR)).std()) >= _LEAST_TEXTURE


def align(one: Gray, other: Gray) -> tuple[float, Alignment]:
    """The largest correlation of the middle of ``one`` with a part of ``other``, and the part.

    Brightness and contrast do not matter: the correlation is 1 for a picture that is ``a * one + b``.
    """
    best = (-1.0, Alignment(1.0, _TOP, _LEFT))
    for scale in _SCALES:
        found = cv2.matchTemplate(_scale(other, scale), _middle(one), cv2.TM_CCOEFF_NORMED)
        _, most, _, (left, top) = cv2.minMaxLoc(found)
        best = max(best, (float(most), Alignment(scale, top, left)))
        if most > _EXACT:
            break
    return best


def distance(one: Gray, other: Gray, alignment: Alignment) -> float:
    """How unlike the middle of ``one`` and a part of ``other`` are: 0 for the same, about 1.4 for others."""
    middle = _middle(one)
    rows, columns = middle.shape
    scale, top, left = alignment
    part = _scale(other, scale)[top : top + rows, left : left + columns]
    found = cv2.matchTemplate(part, middle, cv2.TM_CCOEFF_NORMED)
    return float(np.sqrt(2 * max(0.0, 1 - float(found[0, 0]))))


IN_PLACE = Alignment(1.0, _TOP, _LEFT)
"""Two pictures of one camera, neither cut nor scaled."""


def _middle(picture: Gray) -> Gray:
    return picture[_TOP : ROWS - _TOP, _LEFT : COLUMNS - _LEFT]


def _scale(picture: Gray, scale: float) -> Gray:
    if scale == 1:
        return picture
    size = (round(COLUMNS * scale), round(ROWS * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=how)
