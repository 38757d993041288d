"""Arithmetic of timestamps, in microseconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

MICROSECONDS = 1e6
_MAX_ROUNDING = 2.0
"""Microseconds by which two rounded timestamps may differ."""


def seconds_off_grid(times: Sequence[int], frame_rate: float) -> float:
    """Returns by how many seconds rising timestamps differ from any sampling at ``frame_rate``.

    A frame sampled at a time is the last one presented at or before it. With samples at ``start + k *
    period``, each sample is at or after its own frame, and before the next different frame. The starts that
    fit all samples are an interval. If there are none, the ends of the interval have crossed, and the
    result is the distance between them; 0 or less if a sampling fits. The source's own rate is not needed: a
    slow source repeats frames, and an irregular one delays them, but only as long as the frame before is on
    screen.
    """
    earliest, ends = _bounds_of_start(times, frame_rate)
    return (earliest - min(ends, default=math.inf)) / MICROSECONDS


def seconds_off_slots(times: Sequence[int], start: int, frame_rate: float) -> float:
    """Returns how far timestamps are from those that sampling from ``start`` on gives, in seconds.

    It is the time by which a frame is later than its sample, or by which the next frame is earlier than the
    sample; 0 or less if the sampling fits.
    """
    earliest, ends = _bounds_of_start(times, frame_rate)
    # A frame at the time of a sample is that sample. If the next frame always is, all are one frame late.
    if ends and start - max(ends) > -_MAX_ROUNDING:
        return 1 / frame_rate
    return max(earliest - start, start - min(ends, default=math.inf)) / MICROSECONDS


def _bounds_of_start(times: Sequence[int], frame_rate: float) -> tuple[float, list[float]]:
    """Returns the earliest start of a sampling that gives ``times``, and a latest one by each next frame."""
    period = MICROSECONDS / frame_rate
    ends = [
        following - k * period
        for k, (time, following) in enumerate(itertools.pairwise(times))
        if following > time
    ]
    return max(time - k * period for k, time in enumerate(times)), ends


def until_first_decrease(times: Sequence[int]) -> Sequence[int]:
    """Returns ``times`` up to where they first go back, as those of looped sequences do."""
    for index in range(1, len(times)):
        if times[index] < times[index - 1]:
            return times[:index]
    return times


def runs_of(times: Sequence[int]) -> list[tuple[int, int]]:
    """Returns length and time of each run of equal timestamps."""
    return [(len(list(run)), time) for time, run in itertools.groupby(times)]


def format_seconds(time: int) -> str:
    """Returns ``1.250 s`` for 1,250,000 microseconds."""
    return f"{time / MICROSECONDS:.3f} s"


def format_times(times: Sequence[int], max_shown: int = 8) -> str:
    """Returns the first times in seconds: ``0.000, 0.100, ...``."""
    shown = ", ".join(f"{time / MICROSECONDS:.3f}" for time in times[:max_shown])
    return shown + (", ..." if len(times) > max_shown else "")
