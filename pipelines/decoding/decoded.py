"""`DecodedFrame`: a frame as it leaves the decoder."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import av

from pipelines.decoding.conversion import read_orientation
from pipelines.decoding.footage import FrameTime


@dataclass(frozen=True)
class DecodedFrame(FrameTime):
    """A frame of a video.

    Attributes:
        decoded: its picture; or, where it was expected that nobody wants it, what decodes it after all.
        stored_aspect: width of a pixel of the picture as it is stored, divided by its height.
    """

    decoded: av.VideoFrame | Callable[[], av.VideoFrame] = field(kw_only=True, compare=False)
    stored_aspect: Fraction = field(kw_only=True)

    @functools.cached_property
    def image(self) -> av.VideoFrame:
        """The picture, as PyAV has it.

        Raises:
            DecodingFailure: when it does not decode after all.
        """
        return self.decoded if isinstance(self.decoded, av.VideoFrame) else self.decoded()

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel of the upright frame divided by its height."""
        if self.stored_aspect == 1 or not read_orientation(self.image).quarter_turns % 2:
            return self.stored_aspect
        return 1 / self.stored_aspect
