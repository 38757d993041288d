"""Arithmetic of timestamps, in microseconds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

MICROSECONDS = 1e6
_ROUNDING = 2.0
"""Microseconds by which two that were rounded may differ."""


def seconds_off_grid(times: Sequence[int], frame_rate: float) -> float:
    """How far ``times`` are from any sampling at ``frame_rate``; 0 or less when there is one that gives them.

    A frame sampled at a time is the last one presented at or before it. So with samples at
    ``start + k * period``, each sample lies at or after its own frame, and before the next frame that
    differs from it. The starts that fit all of them are an interval; what is returned is by how much its ends
    have crossed. No knowledge of the source's own rate is needed: a slow source repeats frames, and an
    irregular one comes late, but only as long as the frame before it stays.

    Args:
        times: microseconds, not decreasing.
        frame_rate: frames/s.

    Returns:
        Seconds.
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
    """How far ``times`` are from the sampling that begins at ``start``; 0 or less for not at all.

    Args:
        times: microseconds, not decreasing.
        start: of the first sample, microseconds.
        frame_rate: frames/s.

    Returns:
        Seconds by which a frame is later than its sample, or by which the frame after it came before it.
    """
    period = MICROSECONDS / frame_rate
    late = [time - (start + k * period) for k, time in enumerate(times)]
    passed = [
        start + k * period - following
        for k, (time, following) in enumerate(itertools.pairwise(times))
        if following > time
    ]
    # A frame at the time of a sample is the sample; when it is the next one throughout, all are one late.
    if passed and min(passed) > -_ROUNDING:
        return period / MICROSECONDS
    return max(late + passed) / MICROSECONDS


def first_lap(times: Sequence[int]) -> Sequence[int]:
    """``times`` up to where they first go back."""
    for index in range(1, len(times)):
        if times[index] < times[index - 1]:
            return times[:index]
    return times


def length_of_last_run(times: Sequence[int]) -> int:
    """How many times at the end are the same; 0 for none."""
    return next(
        (n for n, time in enumerate(reversed(times)) if time != times[-1]),
        len(times),
    )


def longest_run(times: Sequence[int]) -> int:
    """How many times that follow each other are the same, at most."""
    longest = run = 0
    for index, time in enumerate(times):
        run = run + 1 if index and time == times[index - 1] else 1
        longest = max(longest, run)
    return longest


def seconds(time: int) -> str:
    """``1.250 s``."""
    return f"{time / MICROSECONDS:.3f} s"


def show_times(times: Sequence[int], most: int = 8) -> str:
    """The first times, in seconds."""
    shown = ", ".join(f"{time / MICROSECONDS:.3f}" for time in times[:most])
    return shown + (", ..." if len(times) > most else "")
