"""Chooses and shrinks the frames of a sequence for a filmstrip in a report."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_MAX_FRAMES = 8
_MAX_HEIGHT, _MAX_WIDTH = 96, 240
_JPEG_QUALITY = 75


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


def choose_frames(count: int) -> list[int]:
    """Returns indices spread evenly over ``count`` frames, the first and the last among them."""
    chosen = np.linspace(0, count - 1, min(_MAX_FRAMES, count))
    return np.unique(chosen.round().astype(int)).tolist()


def make_thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Returns an image, ``[height, width]`` or ``[height, width, channels]`` BGR, as a small base64 JPEG."""
    height, width = pixels.shape[:2]
    scale = min(_MAX_HEIGHT / height, _MAX_WIDTH / width, 1.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return base64.b64encode(jpeg.tobytes()).decode()
