"""Stored pictures, looked at without trusting them: see `pipelines.images.headers`.

Every picture is decoded once, and only a thumbnail of it is kept; what is asked of the pictures of a
record is computed from all their thumbnails at once. The decoder reads all that is coded, and complains of
what makes no sense; but of large JPEG files it computes the pixels at a half, a quarter or an eighth of their
size, which is all that a thumbnail needs. That, and not reading a header again that is the same in every
picture, is what keeps validation near the speed of the JPEG decoder, or above it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple, cast

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pipelines.images.headers import Header, ImageError, decode, read_header
from tfrecords_schema.spec import ImageSpec

ROWS, COLUMNS = 8, 9
"""Of a thumbnail: with 9 columns, the 8 steps from each to the next make 64 bits."""
_LEAST_ROWS, _LEAST_COLUMNS = 2 * ROWS, 2 * COLUMNS
"""Of the pixels that a thumbnail is the mean of, where the picture has as many."""
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
        complaints: of each that decodes, what the decoder found wrong with it nevertheless; None for nothing.
    """

    def __init__(
        self,
        problems: Sequence[str | None],
        thumbnails: NDArray[np.uint8],
        contrast: Callable[[int], float],
        complaints: Sequence[str | None] = (),
    ):
        self.problems = problems
        self.thumbnails = thumbnails
        self.complaints = complaints
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
        return Pictures(
            self.problems[:count],
            self.thumbnails[:count],
            self._contrast,
            self.complaints[:count],
        )


class _Look(NamedTuple):
    """A picture: its thumbnail, or the problem with it; and what the decoder complains of."""

    thumbnail: NDArray[np.uint8] | None
    problem: str | None = None
    complaint: str | None = None


class PictureReader:
    """Reads the pictures of records that follow each other.

    Windows that overlap hold the same pictures: those of the record before are not decoded again.
    """

    def __init__(self, spec: ImageSpec):
        self._spec = spec
        self._colours = "BGR" if spec.channels == 3 else "GRAY"
        self._known: dict[bytes, _Look] = {}
        self._start = b""

    def read(self, images: Sequence[bytes]) -> Pictures:
        """The pictures of one record, padding included."""
        spec, known = self._spec, self._known
        looks: dict[bytes, _Look] = {}
        for data in images:
            if data not in looks:
                looks[data] = known.get(data) or self._look(data)
        self._known = looks
        own = [looks[data] for data in images]
        thumbnails = np.zeros((len(images), ROWS, COLUMNS, spec.channels), np.uint8)
        for place, look in enumerate(own):
            if look.thumbnail is not None:
                thumbnails[place] = look.thumbnail

        def contrast(index: int) -> float:
            pixels = decode_frame(images[index], spec)
            return float(cv2.meanStdDev(pixels[::_STEP, ::_STEP])[1].max())

        problems, complaints = [look.problem for look in own], [look.complaint for look in own]
        return Pictures(problems, thumbnails, contrast, complaints)

    def _look(self, data: bytes) -> _Look:
        # A header that is that of the last good picture, to the last bit, need not be read again.
        if self._start and data.startswith(self._start) and data.endswith(_END):
            return self._look_at_jpeg(data)
        try:
            pixels = decode_frame(data, self._spec)
        except FrameError as error:
            return _Look(None, str(error))
        self._start = _before_pixels(data)
        return self._look_at_jpeg(data) if self._start else _Look(_shrink(pixels))

    def _look_at_jpeg(self, data: bytes) -> _Look:
        """Looks at a JPEG file whose header is that of a picture as the spec asks for."""
        try:
            return _Look(
                _shrink(
                    simplejpeg.decode_jpeg(
                        data,
                        self._colours,
                        min_height=_LEAST_ROWS,
                        min_width=_LEAST_COLUMNS,
                        strict=True,
                    )
                )
            )
        except ValueError as error:
            complaint = str(error)
        try:
            pixels = decode_frame(data, self._spec)
        except FrameError as error:
            return _Look(None, str(error))
        return _Look(_shrink(pixels), complaint=complaint if self._is_readable(data) else None)

    def _is_readable(self, data: bytes) -> bool:
        """Whether the strict decoder, less strict, can read it; of rare kinds of JPEG it cannot."""
        try:
            simplejpeg.decode_jpeg(data, self._colours, strict=False)
        except ValueError:
            return False
        return True


def _shrink(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The thumbnail of a picture, ``[ROWS, COLUMNS, channels]``."""
    small = cv2.resize(pixels, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    return cast("NDArray[np.uint8]", small.reshape(ROWS, COLUMNS, -1))


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
