"""Sums over the pixels in records: of every frame that was encoded, and of a sample of files passed on.

What is passed on is decoded for nothing else, and a mean over a dataset needs no more than a sample. Nor does
it need each row of a picture: to add all of them up would take a third of the time of encoding them.
"""

from __future__ import annotations

from operator import add
from typing import NamedTuple

from pipelines import frames
from pipelines.frames import Pixels
from pipelines.yuv import YuvPixels

_ROWS = 24
_ONE_IN = 32
_FIRST = 4
_STEP, _ALL = 0x9E3779B1, 2**32  # their ratio is the golden one


class PixelSums(NamedTuple):
    """How many pixels, and sums of their values and of the squares of these, by channel."""

    pixels: int = 0
    values: tuple[int, ...] = ()
    squares: tuple[int, ...] = ()

    @classmethod
    def of(cls, pixels: Pixels | YuvPixels) -> PixelSums:
        """Of a picture: of some 24 of its rows or more, evenly spread, and of all of one with fewer.

        Of YUV, a pixel for each sample of chroma stands for four. All pictures of a size weigh the same.
        """
        if isinstance(pixels, YuvPixels):
            size, rows = pixels.y.size, pixels.rgb_sample(max(1, len(pixels.u) // _ROWS))
        else:
            size = pixels.shape[0] * pixels.shape[1]
            rows = pixels[:: max(1, len(pixels) // _ROWS)]
        looked_at = rows.shape[0] * rows.shape[1]
        return cls(looked_at, *frames.pixel_sums(rows)).times(size, looked_at)

    def plus(self, other: PixelSums) -> PixelSums:
        """Of the pixels of both."""
        if not self.pixels or not other.pixels:
            return self if self.pixels else other
        return PixelSums(
            self.pixels + other.pixels,
            tuple(map(add, self.values, other.values)),
            tuple(map(add, self.squares, other.squares)),
        )

    def times(self, count: int, divisor: int) -> PixelSums:
        """Of ``count / divisor`` times as many pixels that are like these."""
        half = divisor // 2
        return PixelSums(
            (self.pixels * count + half) // divisor,
            tuple((total * count + half) // divisor for total in self.values),
            tuple((total * count + half) // divisor for total in self.squares),
        )


def is_sampled(slot: int) -> bool:
    """Whether the frame at ``slot`` of a folder is in the sample: one in 32, from slot 4 on.

    Multiples of the golden ratio spread evenly between whole numbers, at whatever step they are taken. So do
    the samples among the frames that are used, though this asks for nothing but the frame's own place.
    """
    return (slot - _FIRST) * _STEP % _ALL < _ALL // _ONE_IN


class PixelTally:
    """Adds up the pixels of the frames in records.

    Attributes:
        frames: whose pixels were looked at.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._encoded = PixelSums()
        self._sampled = PixelSums()
        self._sampled_frames = 0
        self._passed_on = 0

    @property
    def lacks_sample(self) -> bool:
        """Whether frames were passed on and none of them was looked at."""
        return self._passed_on > 0 and not self._sampled_frames

    def add_encoded(self, sums: PixelSums) -> None:
        """Counts a frame that was encoded."""
        self.frames += 1
        self._encoded = self._encoded.plus(sums)

    def add_passed_on(self, sums: PixelSums | None) -> None:
        """Counts a frame that was passed on; None where it is not in the sample."""
        self._passed_on += 1
        if sums is not None:
            self.add_sample(sums)

    def add_sample(self, sums: PixelSums) -> None:
        """Takes a frame that was counted into the sample."""
        self.frames += 1
        self._sampled_frames += 1
        self._sampled = self._sampled.plus(sums)

    def total(self) -> PixelSums:
        """Of all frames: those passed on are taken to be like the sample of them."""
        if not self._sampled_frames:
            return self._encoded
        return self._encoded.plus(self._sampled.times(self._passed_on, self._sampled_frames))
