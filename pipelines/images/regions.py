"""Parts of a picture, as flags name them: a region to keep, and rectangles to hide."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.options.base import region_numbers


class RegionError(ValueError):
    """A rectangle that a picture does not have."""


class Box(NamedTuple):
    """A rectangle in pixels; the ends are excluded."""

    left: int
    top: int
    right: int
    bottom: int


def find_box(text: str, height: int, width: int) -> Box:
    """Returns the pixels of ``"x0,y0,x1,y1"`` in a picture; fractions are rounded to whole pixels.

    Example: ``find_box("0,0.25,1,1", 100, 200)`` is ``Box(0, 25, 200, 100)``.

    Raises:
        RegionError: if the rectangle holds no pixel, or lies outside the picture.
    """
    numbers = region_numbers(text)
    if max(numbers) <= 1:
        sizes = (width, height) * 2
        numbers = [math.floor(n * size + 0.5) for n, size in zip(numbers, sizes, strict=True)]
    box = Box(*map(int, numbers))
    if not (box.left < box.right <= width and box.top < box.bottom <= height):
        raise RegionError(
            f"the rectangle {text} holds no pixel of a picture of {width}x{height}, or reaches beyond it"
        )
    return box


def cut_out(
    pixels: NDArray[np.uint8], region: str | None, masks: tuple[str, ...]
) -> NDArray[np.uint8]:
    """Returns the region of an upright picture ``[height, width, channels]``, black where a mask lies.

    Masks, too, are parts of the whole picture.

    Raises:
        RegionError: as `find_box`.
    """
    height, width = pixels.shape[:2]
    if masks:
        pixels = pixels.copy()
    for mask in masks:
        box = find_box(mask, height, width)
        pixels[box.top : box.bottom, box.left : box.right] = 0
    if region is not None:
        box = find_box(region, height, width)
        pixels = pixels[box.top : box.bottom, box.left : box.right]
    return pixels
