"""`TelemetryRows`: footage without pictures, whose frames are rows of telemetry or even steps of time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.footage import FrameTime
from pipelines.decoding.lookahead import Wanted
from pipelines.decoding.protocol import DecodingFailure
from pipelines.images.frames import Pixels
from pipelines.labels.telemetry import Telemetry
from pipelines.options.dataset import ImageOptions

_MICROSECOND = Fraction(1, 1_000_000)


class TelemetryRows:
    """`Footage` without pictures.

    Its frames are the rows; with times and a frame rate, the steps of that rate from the first row to the
    last.
    Rows without times are one step of the frame rate apart. Rows more than ``max_gap`` seconds apart do not
    go on.
    """

    def __init__(
        self, telemetry: Telemetry, frame_rate: Fraction | None, max_gap: float = math.inf
    ):
        if telemetry.times is None and frame_rate is None:
            raise ValueError("rows without times need a frame rate")
        # Rows are stored with the precision of records, to which evenly spaced steps are rounded.
        self.time_base = _MICROSECOND
        self.tolerance = _MICROSECOND
        self._pts = _row_times(telemetry.times, telemetry.rows, frame_rate)
        self._most_apart = math.inf if frame_rate is not None else max_gap * 1e6 + 1
        self.cuttable = True
        self.breaks = 0
        self.unordered = 0
        self.damage = None
        self.truncated: str | None = None

    @property
    def declared_seconds(self) -> float:
        """From the first frame to the last."""
        return float((int(self._pts[-1]) - int(self._pts[0])) * self.time_base)

    @property
    def begins_at(self) -> int:
        """See `Footage`."""
        return int(self._pts[0])

    def origin_pts(self) -> int:
        """See `begins_at`."""
        return self.begins_at

    def first_pts(self) -> int:
        """See `Footage`."""
        return self.begins_at

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[FrameTime]:
        """See `Footage`; every frame may be entered."""
        first = 0
        if near is not None:
            first = max(0, int(np.searchsorted(self._pts, near, side="right")) - 1)
        before: int | None = None
        for rank, pts in enumerate(self._pts[first:].tolist()):
            after_break = before is not None and pts - before > self._most_apart
            self.breaks += after_break
            before = pts
            # A rank left out is a frame that is missing, over which no sequence runs.
            yield FrameTime(pts, rank + self.breaks, after_break)

    def want(self, wanted: Wanted) -> None:
        """There are no pictures."""

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """See `Footage`."""
        return self._pts, np.ones(len(self._pts), np.bool_)

    def to_rgb(self, frame: FrameTime) -> Pixels:
        """There is nothing to see."""
        raise ValueError("telemetry has no pictures")

    def to_scaled(self, frame: FrameTime, options: ImageOptions) -> Pixels:
        """There is nothing to see."""
        raise ValueError("telemetry has no pictures")

    def pixel_aspect(self, frame: FrameTime) -> Fraction:
        """See `Footage`."""
        return Fraction(1)

    def as_stored(self, frame: FrameTime, options: ImageOptions) -> None:
        """There are no files to store."""


def _row_times(
    times: NDArray[np.float64] | None, rows: int, frame_rate: Fraction | None
) -> NDArray[np.int64]:
    """Presentation times in microseconds, ``[frames]``."""
    if times is not None and frame_rate is None:
        pts = np.round(times * 1e6).astype(np.int64)
        if len(pts) > 1 and np.diff(pts).min() < 1:
            raise DecodingFailure(
                "telemetry",
                "rows less than a microsecond apart cannot be told apart: thin them out",
            )
        return pts
    if frame_rate is None:
        raise ValueError("rows without times need a frame rate")
    first = 0.0 if times is None else float(times[0])
    steps = rows
    if times is not None:
        steps = math.floor(Fraction(float(times[-1]) - first + 1e-6) * frame_rate) + 1
    microseconds, ticks = 1_000_000 * frame_rate.denominator, frame_rate.numerator
    place = np.arange(steps, dtype=np.int64) * microseconds
    return round(first * 1e6) + (2 * place + ticks) // (2 * ticks)  # rounded
