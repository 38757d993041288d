"""Facts about one stored picture, found without trusting it: see `pipelines.image_files`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.image_files import Header, ImageError, decode, read_header
from tfrecords_schema.spec import ImageSpec

_STEP = 4
"""Every so many rows and columns are looked at for brightness and contrast, which vary slowly."""


class FrameError(ValueError):
    """A stored picture that is not the one its spec asks for; the message says why."""


@dataclass(frozen=True)
class FrameFacts:
    """What is known of one stored picture.

    Attributes:
        problem: why it is not the picture that the spec asks for; None when it is.
        mean: over all pixels and channels, 0 to 255.
        std: the largest standard deviation of a channel, 0 to 255.
    """

    problem: str | None = None
    mean: float = 0.0
    std: float = 0.0


def decode_frame(data: bytes, spec: ImageSpec) -> NDArray[np.uint8]:
    """One stored picture, ``[height, width, channels]``, or ``[height, width]`` when gray; colours are BGR.

    Raises:
        FrameError: when it is not the picture that ``spec`` asks for.
    """
    header = read_header(data)
    if header is None or header.format not in ("JPEG", "PNG"):
        raise FrameError(f"is neither a JPEG nor a PNG file ({len(data)} bytes)")
    expected = Header(spec.format, spec.height, spec.width, spec.channels, header.orientation)
    if header != expected:
        raise FrameError(f"must be {_describe(expected)}, got {_describe(header)}")
    try:
        pixels = decode(data, header, cv2.IMREAD_UNCHANGED)
    except ImageError as error:
        raise FrameError(str(error)) from error
    shape = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    if shape != spec.shape or pixels.dtype != np.uint8:
        raise FrameError(f"must decode to {spec.shape} uint8, got {shape} {pixels.dtype.name}")
    return cast("NDArray[np.uint8]", pixels)


def examine_frame(data: bytes, spec: ImageSpec) -> FrameFacts:
    """Decodes one picture and compares it with what ``spec`` says of all."""
    try:
        pixels = decode_frame(data, spec)
    except FrameError as error:
        return FrameFacts(str(error))
    mean, std = cv2.meanStdDev(pixels[::_STEP, ::_STEP])
    return FrameFacts(None, float(mean.mean()), float(std.max()))


def _describe(header: Header) -> str:
    return f"{header.format} {header.height}x{header.width} with {header.channels} channel(s)"
