"""Footage without pictures, whose frames are rows of telemetry or steps of constant length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.footage import Frame
from pipelines.decoding.lookahead import IsUsed
from pipelines.decoding.protocol import DecodingFailure
from pipelines.labels.telemetry import Telemetry

_MICROSECOND = Fraction(1, 1_000_000)


class TelemetryRows:
    """`Footage` without pictures.

    Args:
        telemetry: the rows.
        frame_rate: with times, frames are steps of this rate from the first row to the last. Without times,
            the rows are one step apart. If None, frames are the rows at their times.
        max_gap: seconds between two rows beyond which the footage breaks.
    """

    cuttable = True
    unordered = 0
    damage = None
    truncated: str | None = None

    def __init__(
        self, telemetry: Telemetry, frame_rate: Fraction | None, max_gap: float = math.inf
    ):
        if telemetry.times is None and frame_rate is None:
            raise ValueError("rows without times need a frame rate")
        # Records store microseconds, to which steps are rounded.
        self.time_base = _MICROSECOND
        self.tolerance = _MICROSECOND
        self._pts = _row_times(telemetry.times, telemetry.rows, frame_rate)
        self._max_ticks = math.inf if frame_rate is not None else max_gap * 1e6 + 1
        self.breaks = 0

    @property
    def declared_seconds(self) -> float:
        """Seconds from the first frame to the last."""
        return float((int(self._pts[-1]) - int(self._pts[0])) * self.time_base)

    @property
    def begins_at(self) -> int:
        """See `Footage`."""
        return int(self._pts[0])

    def origin_pts(self) -> int:
        """See `begins_at`."""
        return self.begins_at

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[Frame]:
        """See `Footage`; every frame is a keyframe."""
        first = 0
        if near is not None:
            first = max(0, int(np.searchsorted(self._pts, near, side="right")) - 1)
        before: int | None = None
        for rank, pts in enumerate(self._pts[first:].tolist()):
            after_break = before is not None and pts - before > self._max_ticks
            self.breaks += after_break
            before = pts
            # A skipped rank is a missing frame, which no sequence spans.
            yield Frame(pts, rank + self.breaks, after_break)

    def skip_unused(self, is_used: IsUsed) -> None:
        """Does nothing: there are no pictures."""

    def packet_times(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """See `Footage`."""
        return self._pts, np.ones(len(self._pts), np.bool_)


def _row_times(
    times: NDArray[np.float64] | None, rows: int, frame_rate: Fraction | None
) -> NDArray[np.int64]:
    """Returns presentation times in microseconds, ``[frames]`` int64."""
    if times is not None and frame_rate is None:
        pts = np.round(times * 1e6).astype(np.int64)
        if len(pts) > 1 and np.diff(pts).min() < 1:
            raise DecodingFailure(
                "telemetry",
                "two rows are less than a microsecond apart, which records cannot store: remove some rows",
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
