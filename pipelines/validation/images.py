"""Facts about one stored picture, found without trusting it.

The header is read first, so that a picture that claims to be huge is refused before it takes any memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tfrecords_schema.spec import ImageFormat, ImageSpec

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Start-of-frame markers; C4, C8 and CC, which lie among them, mean other things.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STEP = 4
"""Every so many rows and columns are looked at for brightness and contrast, which vary slowly."""


class FrameError(ValueError):
    """A stored picture that is not the one its spec asks for; the message says why."""


class Header(NamedTuple):
    """What a picture's header says."""

    format: ImageFormat
    height: int
    width: int
    channels: int


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


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG or PNG file; None when ``data`` is neither."""
    if data.startswith(_PNG_SIGNATURE):
        if len(data) < 26 or data[12:16] != b"IHDR":
            return None
        width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
        return Header("PNG", height, width, _PNG_CHANNELS.get(colour, 0))
    if data.startswith(_JPEG_START):
        return _read_jpeg_header(data)
    return None


def _read_jpeg_header(data: bytes) -> Header | None:
    place = len(_JPEG_START)
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker in _START_OF_FRAME:
            if place + 10 > len(data):
                return None
            height, width, channels = struct.unpack_from(">HHB", data, place + 5)
            return Header("JPEG", height, width, channels)
        (length,) = struct.unpack_from(">H", data, place + 2)
        place += 2 + length
    return None


def decode_frame(data: bytes, spec: ImageSpec) -> NDArray[np.uint8]:
    """One stored picture, ``[height, width, channels]``, or ``[height, width]`` when gray; colours are BGR.

    Raises:
        FrameError: when it is not the picture that ``spec`` asks for.
    """
    header = read_header(data)
    if header is None:
        raise FrameError(f"is neither a JPEG nor a PNG file ({len(data)} bytes)")
    expected = Header(spec.format, spec.height, spec.width, spec.channels)
    if header != expected:
        raise FrameError(f"must be {_describe(expected)}, got {_describe(header)}")
    # Decoders fill what is missing of a cut JPEG with gray. Some cameras pad files with zeros.
    if header.format == "JPEG" and not data.rstrip(b"\0").endswith(_JPEG_END):
        raise FrameError("is a JPEG file that was cut short: it has no end marker")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise FrameError(f"does not decode: {str(error).strip()[-200:]}") from error
    if pixels is None:
        raise FrameError(f"is a damaged {header.format} file: it does not decode")
    shape = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    if shape != spec.shape or pixels.dtype != np.uint8:
        raise FrameError(f"must decode to {spec.shape} uint8, got {shape} {pixels.dtype.name}")
    return pixels


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
