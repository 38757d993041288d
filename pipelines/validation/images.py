"""Stored pictures, looked at without trusting them: see `pipelines.image_files`.

Every picture is decoded whole, once, and only a thumbnail of it is kept; what is asked of the pictures of a
record is computed from all their thumbnails at once. That, and not reading a header again that is the same
in every picture, is what keeps validation near the speed of the JPEG decoder.
"""

from __future__ import annotations

import functools
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
_POINTS = (4 * ROWS, 4 * COLUMNS)
"""Of a picture, that its thumbnail is the mean of."""
_STEP = 4
"""Every so many rows and columns are looked at for contrast, which varies slowly."""
_LEAST_STEP = 2
"""Levels by which a thumbnail must brighten to the right; less may be a coder's noise."""

_SCAN, _SIZES = 0xDA, (0xC0, 0xC1)
_END = b"\xff\xd9"


_PARTS = ROWS * COLUMNS
# Sums are by einsum: a product of matrices would start threads, which take longer than it does.
_BLUE_GREEN_RED = np.array([0.114, 0.587, 0.299], np.float32)


def _quarters() -> NDArray[np.float32]:
    weights = np.zeros((ROWS, COLUMNS, 4), np.float32)
    for quarter in range(4):
        down, across = divmod(quarter, 2)
        own = weights[down * ROWS // 2 :, across * COLUMNS // 2 :, quarter]
        own[: ROWS // 2, : COLUMNS // 2] = 1 / (ROWS // 2 * (COLUMNS // 2))
    return weights.reshape(_PARTS, 4)


_TO_QUARTERS = _quarters()


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
    def _values(self) -> NDArray[np.float32]:
        """``[pictures, ROWS * COLUMNS * channels]``."""
        return self.thumbnails.reshape(len(self), -1).astype(np.float32)

    @cached_property
    def gray(self) -> NDArray[np.float32]:
        """Brightness: ``[pictures, ROWS * COLUMNS]``."""
        channels = self.thumbnails.shape[-1]
        if channels == 1:
            return self._values
        pixels = self._values.reshape(len(self), _PARTS, channels)
        return np.einsum("ijk,k->ij", pixels, _BLUE_GREEN_RED)

    @cached_property
    def brightness(self) -> NDArray[np.float32]:
        """Mean of each, 0 to 255."""
        return np.einsum("ij->i", self.gray) / _PARTS

    @cached_property
    def spread(self) -> NDArray[np.float32]:
        """Standard deviation of the brightness of each thumbnail, which is less than its picture's."""
        squares = np.einsum("ij,ij->i", self.gray, self.gray) / _PARTS
        return np.sqrt(np.maximum(squares - self.brightness**2, 0.0))

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """The difference hash (dHash) of each: a bit for each step to the right that brightens."""
        gray = self.gray.reshape(-1, ROWS, COLUMNS)
        brighter = gray[:, :, 1:] > gray[:, :, :-1] + _LEAST_STEP
        return np.packbits(brighter.reshape(len(self), -1), axis=1).view(np.uint64).ravel()

    @cached_property
    def tones(self) -> NDArray[np.uint8]:
        """What the hash cannot see, ``[pictures, 8]``: four quarters' brightness, spread, three colours."""
        tones = np.empty((len(self), 8), np.uint8)
        tones[:, :4] = np.einsum("ij,jk->ik", self.gray, _TO_QUARTERS)
        tones[:, 4] = np.minimum(self.spread * 2, 255)
        tones[:, 5:] = self.colours
        return tones

    @cached_property
    def colours(self) -> NDArray[np.float32]:
        """Mean of each channel of each picture, ``[pictures, channels]``."""
        return np.einsum("ijk->ik", self._values.reshape(len(self), _PARTS, -1)) / _PARTS

    def contrast(self, index: int) -> float:
        """The largest standard deviation of a channel, 0 to 255; the picture is decoded again for it."""
        return self._contrast(index)

    def apart(self, steps: int) -> NDArray[np.float32]:
        """Mean absolute difference of brightness of each and the one ``steps`` behind it, 0 to 255."""
        return np.einsum("ij->i", np.abs(self.gray[steps:] - self.gray[:-steps])) / _PARTS

    def apart_in_colour(self) -> NDArray[np.float32]:
        """The same of all channels, and one behind."""
        return np.abs(self._values[1:] - self._values[:-1]).mean(1)

    def apart_swapped(self) -> NDArray[np.float32]:
        """The same, with red and blue of one of them exchanged."""
        swapped = self.thumbnails[:-1, :, :, ::-1].reshape(len(self) - 1, -1).astype(np.float32)
        return np.abs(self._values[1:] - swapped).mean(1)

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
        points = np.zeros((len(images), *_POINTS, spec.channels), np.uint8)
        problems: list[str | None] = [None] * len(images)
        for place, data in enumerate(images):
            look = looks.get(data)
            if look is None:
                look = looks[data] = known[data] if data in known else self._look(data)
            if isinstance(look, str):
                problems[place] = look
            else:
                points[place] = look
        self._known = looks
        thumbnails = average_points(points)

        def contrast(index: int) -> float:
            pixels = decode_frame(images[index], spec)
            return float(cv2.meanStdDev(pixels[::_STEP, ::_STEP])[1].max())

        return Pictures(problems, thumbnails, contrast)

    def _look(self, data: bytes) -> NDArray[np.uint8] | str:
        try:
            return take_points(self._decode(data))
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


def take_points(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Points of a picture, evenly spread: ``[*_POINTS, channels]``, or without channels when gray."""
    # The mean of all pixels takes four times as long, half as long as decoding them, and tells no more.
    rows, columns = _POINTS
    down, across = pixels.shape[0] // rows, pixels.shape[1] // columns
    if not down or not across:
        pixels = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR)
        return pixels.reshape(rows, columns, -1)
    top = (pixels.shape[0] - down * (rows - 1)) // 2
    left = (pixels.shape[1] - across * (columns - 1)) // 2
    places = _places(pixels.shape[1], top, left, down, across)
    return pixels.reshape(pixels.shape[0] * pixels.shape[1], -1).take(places, axis=0)


@functools.lru_cache(maxsize=8)
def _places(width: int, top: int, left: int, down: int, across: int) -> NDArray[np.int64]:
    rows, columns = _POINTS
    own_rows, own_columns = top + np.arange(rows) * down, left + np.arange(columns) * across
    return own_rows[:, None] * width + own_columns


def average_points(points: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Thumbnails, ``[pictures, ROWS, COLUMNS, channels]``, of the points of pictures."""
    count, rows, columns, channels = points.shape
    if not count:
        return np.zeros((0, ROWS, COLUMNS, channels), np.uint8)
    tall = points.reshape(count * rows, columns, channels)
    small = cv2.resize(tall, (COLUMNS, count * ROWS), interpolation=cv2.INTER_AREA)
    return small.reshape(count, ROWS, COLUMNS, channels)


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
