"""Arithmetic of timestamps, in microseconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

MICROSECONDS = 1e6
_MAX_ROUNDING = 2.0
"""Microseconds by which two rounded timestamps may differ."""


def seconds_off_grid(times: Sequence[int], frame_rate: float) -> float:
    """Returns how far timestamps are from those that any sampling at ``frame_rate`` gives.

    A frame sampled at a time is the last one presented at or before it. With samples at ``start + k *
    period``, each sample is at or after its own frame, and before the next different frame. The starts that
    fit all samples are an interval. If there are none, the ends of the interval have crossed, and the
    result is the distance between them. The source's own rate is not needed: a slow source repeats frames,
    and an irregular one delays them, but only as long as the frame before is on screen.

    Args:
        times: microseconds, not decreasing.
        frame_rate: frames/s.

    Returns:
        Seconds; 0 or less if a sampling fits.
    """
    period = MICROSECONDS / frame_rate
    earliest = max(time - k * period for k, time in enumerate(times))
    latest, following = math.inf, math.inf
    for k in range(len(times) - 1, -1, -1):
        if k + 1 < len(times) and times[k + 1] > times[k]:
            following = times[k + 1]
        latest = min(latest, following - k * period)
    return (earliest - latest) / MICROSECONDS


def seconds_off_slots(times: Sequence[int], start: int, frame_rate: float) -> float:
    """Returns how far timestamps are from those that sampling from ``start`` on gives.

    Args:
        times: microseconds, not decreasing.
        start: time of the first sample, microseconds.
        frame_rate: frames/s.

    Returns:
        Seconds by which a frame is later than its sample, or by which the next frame is earlier than the
        sample; 0 or less if the sampling fits.
    """
    period = MICROSECONDS / frame_rate
    late = [time - (start + k * period) for k, time in enumerate(times)]
    passed = [
        start + k * period - following
        for k, (time, following) in enumerate(itertools.pairwise(times))
        if following > time
    ]
    # A frame at the time of a sample is that sample. If the next frame always is, all are one frame late.
    if passed and min(passed) > -_MAX_ROUNDING:
        return period / MICROSECONDS
    return max(late + passed) / MICROSECONDS


def first_lap(times: Sequence[int]) -> Sequence[int]:
    """Returns ``times`` up to where they first go back."""
    for index in range(1, len(times)):
        if times[index] < times[index - 1]:
            return times[:index]
    return times


def last_run_length(times: Sequence[int]) -> int:
    """Returns the number of equal times at the end; 0 for no times."""
    return next((n for n, time in enumerate(reversed(times)) if time != times[-1]), len(times))


def longest_run(times: Sequence[int]) -> int:
    """Returns the largest number of consecutive equal times."""
    return max((len(list(run)) for _, run in itertools.groupby(times)), default=0)


def format_seconds(time: int) -> str:
    """Returns ``1.250 s`` for 1,250,000 microseconds."""
    return f"{time / MICROSECONDS:.3f} s"


def format_times(times: Sequence[int], max_shown: int = 8) -> str:
    """Returns the first times in seconds: ``0.000, 0.100, ...``."""
    shown = ", ".join(f"{time / MICROSECONDS:.3f}" for time in times[:max_shown])
    return shown + (", ..." if len(times) > max_shown else "")
