"""Stored pictures, looked at without trusting them: see `pipelines.image_files`.

Every picture is decoded whole, once, and only a thumbnail of it is kept; what is asked of the pictures of a
record is computed from all their thumbnails at once. That, and not reading a header again that is the same
in every picture, is what keeps validation near the speed of the JPEG decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.image_files import Header, ImageError, decode, read_header
from tfrecords_schema.spec import ImageSpec

ROWS, COLUMNS = 8, 9
"""Of a thumbnail: with 9 columns, the 8 steps from each to the next make 64 bits."""
_TAPS = 4
_STEP = 4
"""Every so many rows and columns are looked at for contrast, which varies slowly."""
_LEAST_STEP = 2
"""Levels by which a thumbnail must brighten to the right; less may be a coder's noise."""

_SCAN, _SIZES = 0xDA, (0xC0, 0xC1)
_END = b"\xff\xd9"


class FrameError(ValueError):
    """A stored picture that is not the one its spec asks for; the message says why."""


class Pictures:
    """What is known of some pictures.

    Attributes:
        problems: of each, why it is not the picture that the spec asks for; None when it is.
        thumbnails: of each, ``[ROWS, COLUMNS, channels]`` uint8 in OpenCV's order of colours; zeros where
            there is a problem.
    """

    def __init__(
        self,
        problems: Sequence[str | None],
        thumbnails: NDArray[np.uint8],
        contrast: Callable[[int], float],
    ):
        self.problems = problems
        self.thumbnails = thumbnails
        self._contrast = contrast

    def __len__(self) -> int:
        return len(self.problems)

    @cached_property
    def gray(self) -> NDArray[np.int16]:
        """Brightness: ``[pictures, ROWS, COLUMNS]``."""
        count, rows, columns, channels = self.thumbnails.shape
        tall = self.thumbnails.reshape(count * rows, columns, channels)
        levels = cv2.cvtColor(tall, cv2.COLOR_BGR2GRAY) if channels == 3 and count else tall
        return levels.reshape(count, rows, columns).astype(np.int16)

    @cached_property
    def brightness(self) -> NDArray[np.float64]:
        """Mean of each, 0 to 255."""
        return self.gray.reshape(len(self), -1).mean(1)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """The difference hash (dHash) of each: a bit for each step to the right that brightens."""
        brighter = self.gray[:, :, 1:] - self.gray[:, :, :-1] > _LEAST_STEP
        return np.packbits(brighter.reshape(len(self), -1), axis=1).view(np.uint64).ravel()

    @cached_property
    def tones(self) -> NDArray[np.uint8]:
        """What the hash cannot see, ``[pictures, 8]``: four quarters' brightness, spread, three colours."""
        count, gray = len(self), self.gray
        quarters = gray[:, :, :-1].reshape(count, 2, ROWS // 2, 2, COLUMNS // 2).mean((2, 4))
        spread = np.minimum(gray.reshape(count, -1).std(1) * 2, 255)
        colours = np.broadcast_to(self.colours, (count, 3))
        return np.column_stack([quarters.reshape(count, 4), spread, colours]).astype(np.uint8)

    @cached_property
    def colours(self) -> NDArray[np.float64]:
        """Mean of each channel of each picture, ``[pictures, channels]``."""
        return self.thumbnails.reshape(len(self), ROWS * COLUMNS, -1).mean(1)

    def contrast(self, index: int) -> float:
        """The largest standard deviation of a channel, 0 to 255; the picture is decoded again for it."""
        return self._contrast(index)

    def apart(self, steps: int) -> NDArray[np.float64]:
        """Mean absolute difference of brightness of each and the one ``steps`` behind it, 0 to 255."""
        gray = self.gray.reshape(len(self), -1)
        return np.abs(gray[steps:] - gray[:-steps]).mean(1)

    def apart_in_colour(self, *, swapped: bool) -> NDArray[np.float64]:
        """The same of all channels, and one behind; ``swapped``: with red and blue of one exchanged."""
        pixels = self.thumbnails.astype(np.int16)
        before = pixels[:-1, :, :, ::-1] if swapped else pixels[:-1]
        return np.abs(pixels[1:] - before).reshape(len(self) - 1, -1).mean(1)

    def first(self, count: int) -> Pictures:
        """The first ``count`` of them."""
        return Pictures(self.problems[:count], self.thumbnails[:count], self._contrast)


class PictureReader:
    """Reads the pictures of records that follow each other.

    Windows that overlap hold the same pictures: those of the record before are not decoded again.
    """

    def __init__(self, spec: ImageSpec):
        self._spec = spec
        self._known: dict[bytes, NDArray[np.uint8] | str] = {}
        self._start = b""

    def read(self, images: Sequence[bytes]) -> Pictures:
        """The pictures of one record, padding included."""
        spec, known = self._spec, self._known
        looks: dict[bytes, NDArray[np.uint8] | str] = {}
        for data in images:
            if data not in looks:
                looks[data] = known[data] if data in known else self._look(data)
        self._known = looks
        thumbnails = np.zeros((len(images), ROWS, COLUMNS, spec.channels), np.uint8)
        problems: list[str | None] = [None] * len(images)
        for place, data in enumerate(images):
            look = looks[data]
            if isinstance(look, str):
                problems[place] = look
            else:
                thumbnails[place] = look

        def contrast(index: int) -> float:
            pixels = decode_frame(images[index], spec)
            return float(cv2.meanStdDev(pixels[::_STEP, ::_STEP])[1].max())

        return Pictures(problems, thumbnails, contrast)

    def _look(self, data: bytes) -> NDArray[np.uint8] | str:
        try:
            return make_thumbnail(self._decode(data))
        except FrameError as error:
            return str(error)

    def _decode(self, data: bytes) -> NDArray[np.uint8]:
        """`decode_frame`, faster for a picture that begins as the last good one did, to its pixels."""
        if self._start and data.startswith(self._start) and data.endswith(_END):
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if pixels is not None and pixels.size == self._spec.height * self._spec.width * (
                self._spec.channels
            ):
                return cast("NDArray[np.uint8]", pixels)
        pixels = decode_frame(data, self._spec)
        self._start = _before_pixels(data)
        return pixels


def make_thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[ROWS, COLUMNS, channels]``: each pixel the mean of points of its part of the picture."""
    # Points first, then means: the mean of all pixels takes four times as long and tells no more.
    points = cv2.resize(pixels, (COLUMNS * _TAPS, ROWS * _TAPS), interpolation=cv2.INTER_LINEAR)
    small = cv2.resize(points, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    return small if small.ndim == 3 else small[:, :, None]


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


def stored_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that a picture's header names; None when it is no picture."""
    header = read_header(data)
    return None if header is None else (header.height, header.width)


def _before_pixels(data: bytes) -> bytes:
    """All that lies before the pixels of a plain JPEG file, as most are; empty for any other."""
    place, plain = 2, False
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker = data[place + 1]
        (length,) = struct.unpack_from(">H", data, place + 2)
        plain = plain or marker in _SIZES
        place += 2 + length
        if marker == _SCAN:
            return data[:place] if plain else b""
    return b""


def _describe(header: Header) -> str:
    return f"{header.format} {header.height}x{header.width} with {header.channels} channel(s)"
