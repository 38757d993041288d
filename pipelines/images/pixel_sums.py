"""Sums over the pixels of a dataset's frames, from which mean and standard deviation are computed."""

from __future__ import annotations

from operator import add
from typing import NamedTuple

import cv2

from pipelines.images.frames import Pixels
from pipelines.images.yuv import BT601, YuvPixels, yuv_to_rgb

_ROWS = 24  # per picture
_SAMPLED_ONE_IN = 32
_FIRST_SAMPLED = 4
_STEP, _MODULUS = 0x9E3779B1, 2**32
"""Their ratio is the golden ratio, modulo 1."""


class PixelSums(NamedTuple):
    """A number of pixels, and the sums of their values and squared values by channel."""

    pixels: int = 0
    values: tuple[int, ...] = ()
    squares: tuple[int, ...] = ()

    @classmethod
    def of(cls, pixels: Pixels | YuvPixels) -> PixelSums:
        """Returns the sums of a picture, estimated from about 24 evenly spaced rows, or more.

        Of YUV, one pixel per sample of chroma stands for four. Pictures of one size have equal weights.
        """
        if isinstance(pixels, YuvPixels):
            step = max(1, len(pixels.u) // _ROWS)
            sample = cv2.merge([pixels.y[:: 2 * step, ::2], pixels.u[::step], pixels.v[::step]])
            size, rows = pixels.y.size, cv2.transform(sample, yuv_to_rgb(BT601, True))
        else:
            size = pixels.shape[0] * pixels.shape[1]
            rows = pixels[:: max(1, len(pixels) // _ROWS)]
        count = rows.shape[0] * rows.shape[1]
        mean, std = (array.ravel().tolist() for array in cv2.meanStdDev(rows))
        # Both sums are integers far below 2**53, so that rounding removes the floating-point error.
        values = tuple(round(m * count) for m in mean)
        squares = tuple(round((s**2 + m**2) * count) for m, s in zip(mean, std, strict=True))
        return cls(count, values, squares).scaled(size, count)

    def plus(self, other: PixelSums) -> PixelSums:
        """Returns the sums over the pixels of both."""
        if not self.pixels or not other.pixels:
            return self if self.pixels else other
        return PixelSums(
            self.pixels + other.pixels,
            tuple(map(add, self.values, other.values)),
            tuple(map(add, self.squares, other.squares)),
        )

    def scaled(self, count: int, divisor: int) -> PixelSums:
        """Returns the sums of ``count / divisor`` times as many pixels of the same distribution."""

        def scale(total: int) -> int:
            return (total * count + divisor // 2) // divisor

        return PixelSums(
            scale(self.pixels), tuple(map(scale, self.values)), tuple(map(scale, self.squares))
        )


def is_sampled(slot: int) -> bool:
    """Returns True for one frame in 32, whose pixels stand for those of the others.

    Multiples of the golden ratio are spread evenly modulo 1, also if only every n-th is taken, so the sampled
    frames are spread evenly among the frames of any stride. The first is at slot 4: short folders have one.
    """
    return (slot - _FIRST_SAMPLED) * _STEP % _MODULUS < _MODULUS // _SAMPLED_ONE_IN


class PixelTally:
    """The pixel sums over the frames of a segment's records.

    Files that are stored as they are need not be decoded. Their pixels are estimated from a sample.

    Attributes:
        frames: frames whose pixels were decoded.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._encoded = PixelSums()
        self._sampled = PixelSums()
        self._sampled_frames = 0
        self._stored_files = 0

    @property
    def lacks_sample(self) -> bool:
        """True if there are stored files, and none of them is in the sample."""
        return self._stored_files > 0 and not self._sampled_frames

    def add(self, sums: PixelSums | None, *, is_stored_file: bool = False) -> None:
        """Adds a frame; ``sums`` is None for a stored file that is not in the sample."""
        self._stored_files += is_stored_file
        if sums is None:
            return
        if is_stored_file:
            self.add_sample(sums)
        else:
            self.frames += 1
            self._encoded = self._encoded.plus(sums)

    def add_sample(self, sums: PixelSums) -> None:
        """Adds to the sample a frame that was counted already."""
        self.frames += 1
        self._sampled_frames += 1
        self._sampled = self._sampled.plus(sums)

    def total(self) -> PixelSums:
        """Returns the sums over all frames; stored files are represented by their sample."""
        if not self._sampled_frames:
            return self._encoded
        return self._encoded.plus(self._sampled.scaled(self._stored_files, self._sampled_frames))
