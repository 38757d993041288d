"""`Footage`: what the building of records needs of a video, a drive in several files, a folder of frames.

Whatever it is, footage has frames with presentation times in ticks of a time base, strictly increasing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.conversion import read_orientation
from pipelines.decoding.damage import Damage
from pipelines.decoding.lookahead import Wanted
from pipelines.images.frames import Pixels
from pipelines.images.yuv import YuvPixels
from pipelines.options.dataset import ImageOptions


@dataclass(frozen=True)
class FrameTime:
    """When a frame is presented, and its place among the others.

    Attributes:
        pts: presentation time in the footage's time base; strictly increasing.
        rank: place among the frames read, counted from where reading began. Where packets carry exact times
            a packet that gives no frame still counts, so that the rank does not depend on what was
            decoded before.
        after_break: footage is missing before this frame.
    """

    pts: int
    rank: int
    after_break: bool = False


F = TypeVar("F", bound=FrameTime)


class Footage(Protocol[F]):
    """Footage that was opened for one reading.

    Attributes:
        time_base: seconds a tick of ``FrameTime.pts``.
        tolerance: how much later than its true time a frame's presentation time may be, seconds.
        cuttable: ``frames(near=...)`` and ``packet_times`` may be used, and give exact times.
        begins_at: presentation time of the first frame, where that is known without decoding it.
        declared_seconds: duration by the header's word, 0 when it has none.
        breaks: places so far where frames are missing.
        unordered: frames so far that were left out because they were not later than the one before.
        damage: the first place so far where frames did not decode, or may be wrong; None while there is none.
        truncated: why the footage is not whole, as far as it was read; None while it is.
    """

    @property
    def time_base(self) -> Fraction: ...  # noqa: D102
    @property
    def tolerance(self) -> Fraction: ...  # noqa: D102
    @property
    def cuttable(self) -> bool: ...  # noqa: D102
    @property
    def begins_at(self) -> int | None: ...  # noqa: D102
    @property
    def declared_seconds(self) -> float: ...  # noqa: D102
    @property
    def breaks(self) -> int: ...  # noqa: D102
    @property
    def unordered(self) -> int: ...  # noqa: D102
    @property
    def damage(self) -> Damage | None: ...  # noqa: D102
    @property
    def truncated(self) -> str | None: ...  # noqa: D102

    def origin_pts(self) -> int:
        """Presentation time of the first frame, by its packet where packets tell, whether it decodes or not.

        Raises:
            DecodingFailure: when there is none.
        """

    def first_pts(self) -> int:
        """Presentation time of the first frame that can be used.

        Raises:
            DecodingFailure: when there is none.
        """

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[F]:
        """Yields frames in order of presentation, from the start or from a frame that may be entered.

        Args:
            near: begin with the last frame that may be entered at or before this presentation time.
            exactly: ``near`` is the time of such a frame: begin there, and count ranks from there.

        Raises:
            DecodingFailure: when a frame cannot be used, and the footage not without it.
        """

    def want(self, wanted: Wanted) -> None:
        """From now on, pictures that are not wanted need not be decoded; the frames are given all the same.

        One that is used nevertheless is decoded then, on its own.
        """

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Presentation times of all frames, and which may be entered; nothing is decoded.

        Returns:
            ``[frames]`` int64 in ascending order, and ``[frames]`` bool.
        """

    def to_rgb(self, frame: F) -> Pixels:
        """``[height, width, 3]`` uint8 RGB, full range, upright."""

    def to_scaled(self, frame: F, options: ImageOptions) -> Pixels | YuvPixels:
        """What is stored of it, of ``options.height`` by ``options.width`` pixels, upright.

        Returns:
            ``[height, width, 3]`` uint8 RGB, full range; or what JPEG files hold, where that is nearer.
        """

    def pixel_aspect(self, frame: F) -> Fraction:
        """Width of a pixel of the upright frame divided by its height."""

    def as_stored(self, frame: F, options: ImageOptions) -> bytes | None:
        """The frame's own file, where that is what ``options`` ask for; None where it is to be encoded."""


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
