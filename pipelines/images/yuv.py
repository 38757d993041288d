"""Pixels as video and JPEG files hold them: luma, and chroma of half the size.

Equations are those of H.273, section 8.3.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

# Weights of red and blue in luma, by H.273's matrix coefficients.
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
BT601 = 6
_BLACK, _NO_COLOUR = 0, 128


class YuvPixels(NamedTuple):
    """A picture as JFIF has it: BT.601, full range, with a sample of chroma for 2x2 pixels.

    Attributes:
        y: ``[height, width]`` uint8; both are even.
        u, v: ``[height / 2, width / 2]`` uint8; 128 is none.
    """

    y: Plane
    u: Plane
    v: Plane

    def rgb_sample(self, step: int = 1) -> NDArray[np.uint8]:
        """A pixel for each sample of chroma, of every ``step``-th row of them: ``[rows, columns, 3]`` RGB."""
        sample = cv2.merge([self.y[:: 2 * step, ::2], self.u[::step], self.v[::step]])
        return cast(Plane, cv2.transform(sample, yuv_to_rgb(BT601, True)))

    def placed(self, height: int, width: int) -> YuvPixels:
        """In the middle of black, with even margins."""
        own_height, own_width = self.y.shape
        if (own_height, own_width) == (height, width):
            return self
        planes = []
        for plane, value, size in zip(
            self, (_BLACK, _NO_COLOUR, _NO_COLOUR), (1, 2, 2), strict=True
        ):
            canvas = np.full((height // size, width // size), value, np.uint8)
            top, left = (height - own_height) // 2 // size, (width - own_width) // 2 // size
            canvas[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
            planes.append(canvas)
        return YuvPixels(*planes)


def to_jfif(planes: Sequence[Plane], matrix: int, full_range: bool) -> YuvPixels:
    """What JFIF has for YUV of video.

    Args:
        planes: luma and chroma, ``[height, width]`` each, which are even.
        matrix: of `LUMA_WEIGHTS`, which they are of.
        full_range: whether they use all values; else 16 to 235 for luma, 16 to 240 for chroma.
    """
    y, u, v = planes
    height, width = y.shape
    u, v = (cv2.resize(p, (width // 2, height // 2), interpolation=cv2.INTER_AREA) for p in (u, v))
    to = _yuv_to_jfif(matrix, full_range)
    if LUMA_WEIGHTS[matrix] == LUMA_WEIGHTS[BT601]:
        return YuvPixels(*(_mapped(p, to[i, i], to[i, 3]) for i, p in enumerate((y, u, v))))
    new_u, new_v = (_mixed(u, row[1], v, row[2], row[3]) for row in to[1:])
    # What moves from chroma into luma is told from 128, so that it can be below none.
    shift = _NO_COLOUR * (1 - to[0, 1] - to[0, 2])
    moved = cv2.resize(_mixed(u, to[0, 1], v, to[0, 2], shift), (width, height))
    return YuvPixels(_mixed(y, to[0, 0], moved, 1.0, to[0, 3] - shift), new_u, new_v)


@functools.cache
def yuv_to_rgb(matrix: int, full_range: bool) -> NDArray[np.float64]:
    """``[3, 4]``: full-range RGB from 8-bit YUV and 1, for a matrix of `LUMA_WEIGHTS`."""
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    from_luma = 1.0 if full_range else 255 / 219
    from_chroma = 2.0 if full_range else 2 * 255 / 224
    u = from_chroma * np.array([0.0, -blue * (1 - blue) / green, 1 - blue])
    v = from_chroma * np.array([1 - red, -red * (1 - red) / green, 0.0])
    y = np.full(3, from_luma)
    offset = -128 * (u + v) - (0.0 if full_range else 16 * from_luma)
    return np.stack([y, u, v, offset], axis=1)


@functools.cache
def _yuv_to_jfif(matrix: int, full_range: bool) -> NDArray[np.float64]:
    """``[3, 4]``: YUV of `YuvPixels` from 8-bit YUV and 1."""
    to_rgb, from_jfif = yuv_to_rgb(matrix, full_range), yuv_to_rgb(BT601, True)
    to_jfif = np.linalg.inv(from_jfif[:, :3])
    to_rgb = to_rgb - np.pad(from_jfif[:, 3:], [(0, 0), (3, 0)])
    return to_jfif @ to_rgb


def _mapped(plane: Plane, factor: float, offset: float) -> Plane:
    return cast(Plane, cv2.transform(plane, np.array([[factor, offset]])))


def _mixed(one: Plane, factor: float, other: Plane, other_factor: float, offset: float) -> Plane:
    return cast(
        Plane, cv2.addWeighted(one, float(factor), other, float(other_factor), float(offset))
    )
