"""Reads stored pictures: checks that each decodes as its spec says, and keeps a thumbnail of it.

Every picture is decoded once, by a strict decoder that reads all coded data and reports errors in them. Of
large JPEG files it computes the pixels at a half, a quarter or an eighth of their size, which is enough for
a thumbnail. A header that equals that of the last correct picture is not parsed again. This keeps
validation near the speed of a JPEG decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, cast

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pipelines.images.headers import Header, ImageError, decode, read_header
from tfrecords_schema.spec import ImageSpec

ROWS, COLUMNS = 8, 9
"""Size of a thumbnail: with 9 columns, the 8 steps between neighbours in each row make 64 bits."""
_MIN_ROWS, _MIN_COLUMNS = 2 * ROWS, 2 * COLUMNS
"""Pixels that a thumbnail is computed from, if the picture has as many."""
_CONTRAST_STEP = 4
"""Every so many rows and columns are used for the contrast, which varies slowly."""
_MIN_STEP = 2
"""Levels by which a thumbnail must brighten to the right; smaller steps may be coding noise."""

_START_OF_SCAN, _START_OF_FRAME = 0xDA, (0xC0, 0xC1)
_END_OF_IMAGE = b"\xff\xd9"

_PIXELS = ROWS * COLUMNS
_BGR_WEIGHTS = np.array([0.114, 0.587, 0.299], np.float32)


def _quarter_weights() -> NDArray[np.float32]:
    """Returns ``[_PIXELS, 4]``: a product with a thumbnail gives the means of its quarters."""
    weights = np.zeros((ROWS, COLUMNS, 4), np.float32)
    rows, columns = ROWS // 2, COLUMNS // 2
    for quarter in range(4):
        down, across = divmod(quarter, 2)
        top, left = down * rows, across * COLUMNS // 2
        weights[top : top + rows, left : left + columns, quarter] = 1 / (rows * columns)
    return weights.reshape(_PIXELS, 4)


_QUARTERS = _quarter_weights()


class FrameError(ValueError):
    """A stored picture is not the one that its spec asks for; the message says why."""


class Pictures:
    """Thumbnails of consecutive pictures, with properties computed from all of them at once.

    Sums use einsum: a matrix product would start threads, which takes longer than the product.

    Attributes:
        problems: per picture, why it is not the one that the spec asks for; None if it is.
        thumbnails: ``[pictures, ROWS, COLUMNS, channels]`` uint8, BGR; zeros for a picture with a problem.
        complaints: per picture, what the decoder found wrong although it decodes; None for nothing.
    """

    def __init__(
        self,
        problems: Sequence[str | None],
        thumbnails: NDArray[np.uint8],
        complaints: Sequence[str | None] = (),
        *,
        images: Sequence[bytes] = (),
        spec: ImageSpec | None = None,
    ):
        self.problems = problems
        self.thumbnails = thumbnails
        self.complaints = complaints
        self._images = images
        self._spec = spec

    def __len__(self) -> int:
        return len(self.problems)

    @cached_property
    def _values(self) -> NDArray[np.float32]:
        """The thumbnails as ``[pictures, ROWS * COLUMNS * channels]``."""
        return self.thumbnails.reshape(len(self), -1).astype(np.float32)

    @cached_property
    def gray(self) -> NDArray[np.float32]:
        """Brightness of the thumbnails, ``[pictures, ROWS * COLUMNS]``."""
        channels = self.thumbnails.shape[-1]
        if channels == 1:
            return self._values
        pixels = self._values.reshape(len(self), _PIXELS, channels)
        return np.einsum("ijk,k->ij", pixels, _BGR_WEIGHTS)

    @cached_property
    def brightness(self) -> NDArray[np.float32]:
        """Mean brightness of each picture, 0 to 255."""
        return np.einsum("ij->i", self.gray) / _PIXELS

    @cached_property
    def spread(self) -> NDArray[np.float32]:
        """Standard deviation of each thumbnail's brightness, which is at most that of its picture."""
        squares = np.einsum("ij,ij->i", self.gray, self.gray) / _PIXELS
        return np.sqrt(np.maximum(squares - self.brightness**2, 0.0))

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """The difference hash (dHash) of each picture: a bit per step to the right that brightens."""
        gray = self.gray.reshape(-1, ROWS, COLUMNS)
        brighter = gray[:, :, 1:] > gray[:, :, :-1] + _MIN_STEP
        return np.packbits(brighter.reshape(len(self), -1), axis=1).view(np.uint64).ravel()

    @cached_property
    def tones(self) -> NDArray[np.uint8]:
        """Brightness of quarters, twice the spread, and colours, ``[pictures, 8]``: the hash omits them."""
        tones = np.empty((len(self), 8), np.uint8)
        tones[:, :4] = np.einsum("ij,jk->ik", self.gray, _QUARTERS)
        tones[:, 4] = np.minimum(self.spread * 2, 255)
        tones[:, 5:] = self.colours
        return tones

    @cached_property
    def colours(self) -> NDArray[np.float32]:
        """Mean of each channel, ``[pictures, channels]``."""
        return np.einsum("ijk->ik", self._values.reshape(len(self), _PIXELS, -1)) / _PIXELS

    def contrast(self, index: int) -> float:
        """Returns the largest standard deviation of a channel, 0 to 255. Decodes the picture again."""
        assert self._spec is not None
        pixels = decode_frame(self._images[index], self._spec)
        return float(cv2.meanStdDev(pixels[::_CONTRAST_STEP, ::_CONTRAST_STEP])[1].max())

    def differences(self, steps: int) -> NDArray[np.float32]:
        """Returns the mean absolute difference in brightness of each picture and the one ``steps`` later."""
        return np.einsum("ij->i", np.abs(self.gray[steps:] - self.gray[:-steps])) / _PIXELS

    def colour_differences(self) -> NDArray[np.float32]:
        """Returns the mean absolute difference in all channels of each picture and the next."""
        return np.abs(self._values[1:] - self._values[:-1]).mean(1)

    def swapped_differences(self) -> NDArray[np.float32]:
        """Returns `colour_differences` with red and blue of one picture swapped."""
        swapped = self.thumbnails[:-1, :, :, ::-1].reshape(len(self) - 1, -1).astype(np.float32)
        return np.abs(self._values[1:] - swapped).mean(1)

    def first(self, count: int) -> Pictures:
        """Returns the first ``count`` pictures."""
        return Pictures(
            self.problems[:count],
            self.thumbnails[:count],
            self.complaints[:count],
            images=self._images,
            spec=self._spec,
        )


class _Reading(NamedTuple):
    """A picture that was read: its thumbnail or its problem, and the decoder's complaint."""

    thumbnail: NDArray[np.uint8] | None
    problem: str | None = None
    complaint: str | None = None


class PictureReader:
    """Reads the pictures of consecutive records.

    Windows that overlap hold the same pictures: those of the record before are not decoded again.
    """

    def __init__(self, spec: ImageSpec):
        self._spec = spec
        self._colours = "BGR" if spec.channels == 3 else "GRAY"
        self._known: dict[bytes, _Reading] = {}
        self._correct_header = b""

    def read(self, images: Sequence[bytes]) -> Pictures:
        """Returns the pictures of one record, with padding."""
        known, readings = self._known, {}
        for data in images:
            if data not in readings:
                readings[data] = known.get(data) or self._read(data)
        self._known = readings
        own = [readings[data] for data in images]
        thumbnails = np.zeros((len(images), ROWS, COLUMNS, self._spec.channels), np.uint8)
        for index, reading in enumerate(own):
            if reading.thumbnail is not None:
                thumbnails[index] = reading.thumbnail
        return Pictures(
            [reading.problem for reading in own],
            thumbnails,
            [reading.complaint for reading in own],
            images=images,
            spec=self._spec,
        )

    def _read(self, data: bytes) -> _Reading:
        header = self._correct_header
        if header and data.startswith(header) and data.endswith(_END_OF_IMAGE):
            return self._read_jpeg(data)
        try:
            pixels = decode_frame(data, self._spec)
        except FrameError as error:
            return _Reading(None, str(error))
        self._correct_header = _header_of(data)
        return self._read_jpeg(data) if self._correct_header else _Reading(_shrink(pixels))

    def _read_jpeg(self, data: bytes) -> _Reading:
        """Reads a JPEG file whose header is correct."""
        try:
            pixels = simplejpeg.decode_jpeg(
                data, self._colours, min_height=_MIN_ROWS, min_width=_MIN_COLUMNS, strict=True
            )
            return _Reading(_shrink(pixels))
        except ValueError as error:
            complaint = str(error)
        try:
            pixels = decode_frame(data, self._spec)
        except FrameError as error:
            return _Reading(None, str(error))
        return _Reading(_shrink(pixels), complaint=complaint if self._supports(data) else None)

    def _supports(self, data: bytes) -> bool:
        """Returns True if the strict decoder reads this kind of JPEG; it does not read rare kinds."""
        try:
            simplejpeg.decode_jpeg(data, self._colours, strict=False)
        except ValueError:
            return False
        return True


def _shrink(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the thumbnail of a picture, ``[ROWS, COLUMNS, channels]``."""
    small = cv2.resize(pixels, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    return cast("NDArray[np.uint8]", small.reshape(ROWS, COLUMNS, -1))


def decode_frame(data: bytes, spec: ImageSpec) -> NDArray[np.uint8]:
    """Returns a stored picture, ``[height, width, 3]`` in BGR order, or ``[height, width]`` if it is gray.

    Raises:
        FrameError: if it is not the picture that ``spec`` asks for.
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
    """Returns height and width by a picture's header; None if it is not a picture."""
    header = read_header(data)
    return None if header is None else (header.height, header.width)


def _header_of(data: bytes) -> bytes:
    """Returns everything before the coded data of a baseline JPEG file; empty for other files."""
    place, is_baseline = 2, False
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker = data[place + 1]
        (length,) = struct.unpack_from(">H", data, place + 2)
        is_baseline = is_baseline or marker in _START_OF_FRAME
        place += 2 + length
        if marker == _START_OF_SCAN:
            return data[:place] if is_baseline else b""
    return b""


def _describe(header: Header) -> str:
    return f"{header.format} {header.height}x{header.width} with {header.channels} channel(s)"
