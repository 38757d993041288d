"""Footage without pictures, whose frames are rows of telemetry or steps of constant length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.footage import Frame, ListedFootage
from pipelines.decoding.protocol import DecodingFailure
from pipelines.labels.rows import Telemetry


class TelemetryRows(ListedFootage):
    """`Footage` without pictures.

    Args:
        telemetry: the rows.
        frame_rate: with times, frames are steps of this rate from the first row to the last. Without times,
            the rows are one step apart. If None, frames are the rows at their times.
        max_gap: seconds between two rows beyond which the footage breaks.
    """

    # Records store microseconds, to which steps are rounded.
    time_base = tolerance = Fraction(1, 1_000_000)

    def __init__(
        self, telemetry: Telemetry, frame_rate: Fraction | None, max_gap: float = math.inf
    ):
        super().__init__(_row_times(telemetry.times, telemetry.rows, frame_rate))
        self.declared_seconds = float(int(self._times[-1] - self._times[0]) * self.time_base)
        self._max_ticks = math.inf if frame_rate is not None else max_gap * 1e6 + 1

    def frames(self, *, near: int | None = None, exactly: bool = False) -> Iterator[Frame]:
        """See `Footage`."""
        before = math.inf
        for rank, pts in enumerate(self._times[self._first_index(near) :].tolist()):
            after_break = pts - before > self._max_ticks
            self.breaks += after_break
            before = pts
            # A skipped rank is a missing frame, which no sequence spans.
            yield Frame(pts, rank + self.breaks, after_break)


def _row_times(
    times: NDArray[np.float64] | None, rows: int, frame_rate: Fraction | None
) -> NDArray[np.int64]:
    """Returns presentation times in microseconds, ``[frames]`` int64."""
    if times is not None and frame_rate is None:
        pts = np.round(times * 1e6).astype(np.int64)
        near = np.flatnonzero(np.diff(pts) < 1)
        if len(near):
            raise DecodingFailure(
                "telemetry",
                f"rows {near[0] + 1} and {near[0] + 2} are less than a microsecond apart, the finest time "
                "that records hold: remove one of them",
            )
        return pts
    if frame_rate is None:
        raise ValueError("rows without times need a frame rate")
    first, steps = 0.0, rows
    if times is not None:
        first = float(times[0])
        steps = math.floor(Fraction(float(times[-1]) - first + 1e-6) * frame_rate) + 1
    microseconds, ticks = 1_000_000 * frame_rate.denominator, frame_rate.numerator
    place = np.arange(steps, dtype=np.int64) * microseconds
    return round(first * 1e6) + (2 * place + ticks) // (2 * ticks)  # rounded
