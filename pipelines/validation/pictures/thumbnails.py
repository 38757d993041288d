"""Reads stored pictures: checks that each decodes as its spec says, and keeps a thumbnail of it.

A strict decoder reads all coded data of JPEG files and reports errors in them. It computes the pixels of
large ones at a half to an eighth of their size. A header that equals that of the last correct picture is not
parsed again. This keeps validation near the speed of a JPEG decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pipelines.images.headers import Header, ImageError, decode, jpeg_segments, read_header
from tfrecords_schema.spec import ImageSpec

ROWS, COLUMNS = 8, 9
"""Size of a thumbnail: with 9 columns, the 8 steps between neighbours in each row make 64 bits."""
_MIN_ROWS, _MIN_COLUMNS = 2 * ROWS, 2 * COLUMNS
"""Pixels that a thumbnail is computed from, if the picture has as many."""
_MIN_STEP = 2
"""Levels by which a thumbnail must brighten to the right; smaller steps may be coding noise."""

_CONTRAST_STEP = 4
"""Every so many rows and columns are used for the contrast, which varies slowly."""
ALIKE = 3.0
"""Alike pictures differ at least this many times less than a foreign one does."""
CODING_NOISE = 2.0
"""Levels by which thumbnails of one picture may differ after it was coded again."""

_START_OF_SCAN, _START_OF_FRAME = 0xDA, (0xC0, 0xC1)
_END_OF_IMAGE = b"\xff\xd9"

_PIXELS = ROWS * COLUMNS
_BGR_WEIGHTS = np.array([0.114, 0.587, 0.299], np.float32)


class FrameError(ValueError):
    """A stored picture is not the one that its spec asks for; the message says why."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Thumbnails of consecutive pictures, with properties computed from all of them at once.

    Sums use einsum: a matrix product would start threads, which takes longer than the product.

    Attributes:
        problems: per picture, why it is not the one that the spec asks for; None if it is.
        thumbnails: ``[pictures, ROWS, COLUMNS, channels]`` uint8, BGR; zeros for a picture with a problem.
        complaints: per picture, what the decoder found wrong although it decodes; None for nothing.
    """

    problems: Sequence[str | None]
    thumbnails: NDArray[np.uint8]
    complaints: Sequence[str | None] = ()

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
        halves = self.gray.reshape(-1, ROWS, COLUMNS)[:, :, : COLUMNS - 1].reshape(-1, 2, 4, 2, 4)
        tones[:, :4] = np.einsum("ijklm->ijl", halves).reshape(-1, 4) / 16
        tones[:, 4] = np.minimum(self.spread * 2, 255)
        tones[:, 5:] = self.colours
        return tones

    @cached_property
    def colours(self) -> NDArray[np.float32]:
        """Mean of each channel, ``[pictures, channels]``."""
        return np.einsum("ijk->ik", self._values.reshape(len(self), _PIXELS, -1)) / _PIXELS

    def differences(self, steps: int) -> NDArray[np.float32]:
        """Returns the mean absolute difference in brightness of each picture and the one ``steps`` later."""
        return np.einsum("ij->i", np.abs(self.gray[steps:] - self.gray[:-steps])) / _PIXELS

    def find_foreign(self, limit: float) -> list[int]:
        """Returns the indices of pictures ``limit`` levels from both their neighbours, which are alike."""
        if len(self) < 3:
            return []
        steps = self.differences(1)
        smaller = np.minimum(steps[:-1], steps[1:])
        foreign = (smaller > limit) & (self.differences(2) * ALIKE < smaller)
        return (np.flatnonzero(foreign) + 1).tolist()

    def find_swapped_colours(self) -> list[int]:
        """Returns the indices of pictures that are like the one before only with red and blue swapped."""
        if len(self) < 2 or self.thumbnails.shape[-1] != 3:
            return []
        before, after = self.thumbnails[:-1].astype(np.float32), self._values[1:]
        same = np.abs(after - self._values[:-1]).mean(1)
        swapped = np.abs(after - before[..., ::-1].reshape(after.shape)).mean(1)
        return (np.flatnonzero(swapped * ALIKE + CODING_NOISE < same) + 1).tolist()

    def first(self, count: int) -> Pictures:
        """Returns the first ``count`` pictures."""
        return Pictures(self.problems[:count], self.thumbnails[:count], self.complaints[:count])


class _Reading(NamedTuple):
    """A picture that was read: its thumbnail or its problem, and the decoder's complaint."""

    thumbnail: NDArray[np.uint8]
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
        self._blank = np.zeros((ROWS, COLUMNS, spec.channels), np.uint8)

    def read(self, images: Sequence[bytes]) -> Pictures:
        """Returns the pictures of one record, with padding."""
        known, readings = self._known, {}
        for data in images:
            if data not in readings:
                readings[data] = known.get(data) or self._read(data)
        self._known = readings
        own = [readings[data] for data in images]
        return Pictures(
            [reading.problem for reading in own],
            np.stack([reading.thumbnail for reading in own]),
            [reading.complaint for reading in own],
        )

    def _read(self, data: bytes) -> _Reading:
        header = self._correct_header
        if not (header and data.startswith(header) and data.endswith(_END_OF_IMAGE)):
            try:
                pixels = decode_frame(data, self._spec)
            except FrameError as error:
                return _Reading(self._blank, str(error))
            self._correct_header = _header_of(data) if self._spec.format == "JPEG" else b""
            if not self._correct_header:
                return _Reading(_shrink(pixels))
        try:
            pixels = simplejpeg.decode_jpeg(
                data, self._colours, min_height=_MIN_ROWS, min_width=_MIN_COLUMNS, strict=True
            )
            return _Reading(_shrink(pixels))
        except ValueError as error:
            complaint: str | None = str(error)
        try:
            pixels = decode_frame(data, self._spec)
        except FrameError as error:
            return _Reading(self._blank, str(error))
        try:
            simplejpeg.decode_jpeg(data, self._colours, strict=False)
        except ValueError:  # it does not read this rare kind of JPEG
            complaint = None
        return _Reading(_shrink(pixels), complaint=complaint)


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


def contrast(data: bytes, spec: ImageSpec) -> float:
    """Returns the largest standard deviation of a channel of a stored picture, 0 to 255."""
    pixels = decode_frame(data, spec)
    return float(cv2.meanStdDev(pixels[::_CONTRAST_STEP, ::_CONTRAST_STEP])[1].max())


def _header_of(data: bytes) -> bytes:
    """Returns everything before the coded data of a baseline JPEG file; empty for other files."""
    is_baseline = False
    for marker, _, end in jpeg_segments(data):
        is_baseline = is_baseline or marker in _START_OF_FRAME
        if marker == _START_OF_SCAN:
            return data[:end] if is_baseline else b""
    return b""


def _describe(header: Header) -> str:
    return f"{header.format} {header.height}x{header.width} with {header.channels} channel(s)"
