"""Converts YUV between the matrices and ranges of video, JPEG files and RGB (H.273 section 8.3)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

# Weights of red and blue in luma, by the matrix coefficients of H.273.
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
BT601 = 6
NEUTRAL = 128  # chroma of gray


class YuvPixels(NamedTuple):
    """A picture as JFIF stores it: BT.601, full range, one sample of chroma per 2x2 pixels.

    Attributes:
        y: ``[height, width]`` uint8; both sizes are even.
        u, v: ``[height / 2, width / 2]`` uint8; 128 is neutral.
    """

    y: Plane
    u: Plane
    v: Plane


def to_jfif(planes: Sequence[Plane], matrix: int, full_range: bool) -> YuvPixels:
    """Returns the YUV of a video as JFIF stores it.

    Args:
        planes: luma and chroma, ``[height, width]`` each, with even sizes.
        matrix: a key of `LUMA_WEIGHTS`.
        full_range: all values are used; if False, 16 to 235 for luma and 16 to 240 for chroma.
    """
    y, u, v = planes
    height, width = y.shape
    u, v = (cv2.resize(p, (width // 2, height // 2), interpolation=cv2.INTER_AREA) for p in (u, v))
    to = _yuv_to_jfif(matrix, full_range)
    if LUMA_WEIGHTS[matrix] == LUMA_WEIGHTS[BT601]:
        y, u, v = (cv2.transform(p, to[i : i + 1, (i, 3)]) for i, p in enumerate((y, u, v)))
        return YuvPixels(y, u, v)
    new_u, new_v = (_mixed(u, row[1], v, row[2], row[3]) for row in to[1:])
    # The part that chroma adds to luma may be negative, so that it is stored relative to 128.
    shift = NEUTRAL * (1 - to[0, 1] - to[0, 2])
    moved = cv2.resize(_mixed(u, to[0, 1], v, to[0, 2], shift), (width, height))
    return YuvPixels(_mixed(y, to[0, 0], moved, 1.0, to[0, 3] - shift), new_u, new_v)


@functools.cache
def yuv_to_rgb(matrix: int, full_range: bool) -> NDArray[np.float64]:
    """Returns the ``[3, 4]`` matrix from (Y, U, V, 1) to full-range RGB, for a matrix of `LUMA_WEIGHTS`."""
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
    """Returns the ``[3, 4]`` matrix from (Y, U, V, 1) to the YUV of `YuvPixels`."""
    to_rgb, from_jfif = yuv_to_rgb(matrix, full_range), yuv_to_rgb(BT601, True)
    to_jfif = np.linalg.inv(from_jfif[:, :3])
    to_rgb = to_rgb - np.pad(from_jfif[:, 3:], [(0, 0), (3, 0)])
    return to_jfif @ to_rgb


def _mixed(one: Plane, factor: float, other: Plane, other_factor: float, offset: float) -> Plane:
    return cast(
        Plane, cv2.addWeighted(one, float(factor), other, float(other_factor), float(offset))
    )
