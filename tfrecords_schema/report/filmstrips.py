"""Chooses and shrinks the frames of a sequence for a filmstrip in a report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_FILM_FRAMES = 16
_MAX_FRAMES = 8
_MAX_HEIGHT, _MAX_WIDTH = 96, 240
_JPEG_QUALITY = 75
_MAX_FILM_HEIGHT, _MAX_FILM_WIDTH = 144, 256


@dataclass(frozen=True, kw_only=True)
class StripFrame:
    """One frame of a filmstrip.

    Attributes:
        index: of the frame in its sequence.
        seconds: its timestamp; None when it is missing.
        jpeg: the shrunk image as JPEG in base64; None when the stored image is damaged.
        label: the frame's own label; empty when labels are by sequence.
        is_padding: True if the frame is padding.
        is_marked: True if the report points at this frame.
    """

    index: int
    seconds: float | None
    jpeg: str | None
    label: str = ""
    is_padding: bool = False
    is_marked: bool = False


@dataclass(frozen=True, kw_only=True)
class Film:
    """A sequence that a page plays by CSS: a JPEG in base64 with the frames side by side.

    Attributes:
        jpeg: ``count`` pictures, each ``width`` by ``height`` pixels.
        seconds: how long they are shown together.
    """

    jpeg: str
    count: int
    width: int
    height: int
    seconds: float


def make_film(frames: Sequence[NDArray[np.uint8]], seconds: float) -> Film | None:
    """Returns the frames, of one size in BGR order or gray, as a `Film`; None for fewer than two."""
    if len(frames) < 2:
        return None
    small = [shrink(pixels, _MAX_FILM_HEIGHT, _MAX_FILM_WIDTH) for pixels in frames]
    height, width = small[0].shape[:2]
    jpeg = base64.b64encode(encode_jpeg(np.concatenate(small, axis=1))).decode()
    return Film(jpeg=jpeg, count=len(small), width=width, height=height, seconds=seconds)


def choose_frames(count: int, most: int = _MAX_FRAMES) -> list[int]:
    """Returns indices spread evenly over ``count`` frames, the first and the last among them."""
    chosen = np.linspace(0, count - 1, min(most, count))
    return np.unique(chosen.round().astype(int)).tolist()


def make_thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Returns an image, ``[height, width]`` or ``[height, width, channels]`` BGR, as a small base64 JPEG."""
    return base64.b64encode(encode_jpeg(shrink(pixels, _MAX_HEIGHT, _MAX_WIDTH))).decode()


def shrink(pixels: NDArray[np.uint8], max_height: int, max_width: int) -> NDArray[np.uint8]:
    """Returns an image, ``[height, width]`` or ``[height, width, channels]``, in at most that size."""
    height, width = pixels.shape[:2]
    scale = min(max_height / height, max_width / width, 1.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cast("NDArray[np.uint8]", cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Returns an image, gray or BGR, as the JPEG file of a report."""
    _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes()
