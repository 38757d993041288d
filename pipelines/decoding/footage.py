"""The interface of footage: a video, a drive in several files, a folder of frames, or telemetry alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.damage import Damage
from pipelines.decoding.lookahead import IsUsed
from pipelines.decoding.protocol import DecodingFailure
from pipelines.images.frames import Pixels
from pipelines.images.pixel_sums import PixelSums
from pipelines.images.yuv import YuvPixels
from pipelines.labels.alignment import Aligned
from pipelines.options.dataset import ImageOptions
from pipelines.plan.sampling import max_hold

OnProgress = Callable[[], None]
"""Called now and then, which shows that a long reading goes on."""


class FramePicture(Protocol):
    """The picture of a frame, which is decoded, converted and scaled when it is needed."""

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel of the upright picture divided by its height."""

    def to_rgb(self) -> Pixels:
        """Returns the upright picture as ``[height, width, 3]`` uint8 RGB, full range."""

    def to_scaled(self, options: ImageOptions) -> Pixels | YuvPixels:
        """Returns the upright picture of ``options.size``, for encoding.

        It is RGB as `to_rgb` gives it; or YUV as JPEG files store it, if that is closer.
        """

    def stored_file(self, options: ImageOptions) -> bytes | None:
        """Returns the image file of the frame if it is already what ``options`` ask for, else None."""


class Frame(NamedTuple):
    """A frame on its way from a reading to a record. Each stage fills in what it finds out.

    A reading sets the first four fields, `cover_clip` the slots, `Measurements` the measured values, and
    `encode_frame` the rest; it drops the picture, so that only encoded frames wait in a window.

    Attributes:
        pts: presentation time in the footage's time base; strictly increasing.
        rank: place among the frames, counted from where reading started. If packets carry exact times, a
            packet that yields no frame is counted too, so that ranks do not depend on what was decoded.
        after_break: frames are missing before this one.
        picture: the picture; None for telemetry alone, for packets, and once it is encoded.
        slots: the slots that the frame is on screen for.
        measured: values and class measured at its time; None if nothing is measured in this dataset.
        timestamp: presentation time in microseconds.
        encoded: the image file; empty in a dataset without images.
        is_stored_file: ``encoded`` is the file that the footage consists of, not a new one.
        pixel_sums: sums over its pixels; None if they were not decoded.
    """

    pts: int
    rank: int
    after_break: bool = False
    picture: FramePicture | None = None
    slots: range = range(0)
    measured: Aligned | None = None
    timestamp: int = 0
    encoded: bytes = b""
    is_stored_file: bool = False
    pixel_sums: PixelSums | None = None


class Footage(ABC):
    """Footage that was opened for one reading; its frames have strictly increasing presentation times.

    Attributes:
        time_base: seconds per tick of ``Frame.pts``.
        tolerance: seconds by which a presentation time may be later than the true one.
        cuttable: ``frames(near=...)`` and ``packet_times`` may be used, and give exact times.
        begins_at: presentation time of the first frame if it is known without decoding it.
        max_hold: most seconds that a frame stays on screen.
        declared_seconds: duration by the header, 0 if it has none.
        breaks: places so far where frames are missing.
        unordered: frames so far that were left out because they were not later than the one before.
    """

    time_base: Fraction
    tolerance: Fraction
    cuttable: bool
    begins_at: int | None = None
    max_hold: Fraction = max_hold(None)
    declared_seconds: float
    breaks = 0
    unordered = 0

    @property
    def damage(self) -> Damage | None:
        """The first damage so far; None without any."""
        return None

    @property
    def truncated(self) -> str | None:
        """Reason why the footage is incomplete, as far as it was read; None if it is complete."""
        return None

    @abstractmethod
    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[Frame]:
        """Yields frames in order of presentation, from the start or from a keyframe.

        Args:
            near: start at the last keyframe at or before this presentation time.
            exactly: ``near`` is the time of a keyframe: start there, and count ranks from there.

        Raises:
            DecodingFailure: if a frame cannot be used, and the footage cannot be used without it.
        """

    @abstractmethod
    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns the presentation times of all frames, ascending, and if each is a keyframe."""

    def first_pts(self) -> int:
        """Returns the presentation time of the first frame that can be used; reads the footage up to it.

        Raises:
            DecodingFailure: if there is none.
        """
        if self.begins_at is not None:
            return self.begins_at
        for frame in self.frames():
            return frame.pts
        raise DecodingFailure("decode", self.truncated or "no frame could be decoded")

    def origin_pts(self) -> int:
        """Returns the presentation time of the first frame, by its packet if possible, decodable or not.

        Raises:
            DecodingFailure: if there is none.
        """
        return self.first_pts()

    def skip_unused(self, is_used: IsUsed) -> None:  # noqa: B027 - nothing is decoded that could be skipped
        """Allows to skip decoding of unused frames from now on; they are yielded all the same.

        The picture of such a frame is decoded on its own if it is asked for.
        """


class ListedFootage(Footage):
    """Footage whose times are known before it is read, and whose frames are all keyframes."""

    cuttable = True

    def __init__(self, times: NDArray[np.int64]):
        self._times = times
        self.begins_at = int(times[0])

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """See `Footage`; reads nothing."""
        return self._times, np.ones(len(self._times), np.bool_)

    def _first_index(self, near: int | None) -> int:
        """Returns the index of the frame to start at."""
        return 0 if near is None else max(0, int(self._times.searchsorted(near, "right")) - 1)
