"""Which pictures of a clip its sequences use: told ahead, by the frames' times alone."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable, Sequence

from pipelines.decoding.clip import Clip
from pipelines.decoding.lookahead import Wanted
from pipelines.options.dataset import SamplingOptions
from pipelines.plan.descriptors import Segment
from pipelines.plan.sampling import Position, uniform_slots

AnyOf = Callable[[int, "int | None"], bool]
"""Whether any slot from a first one until another (None: without end) is used."""


def find_wanted(
    clip: Clip,
    segment: Segment,
    sampling: SamplingOptions,
    *,
    total_slots: int = 0,
    times: Sequence[int] | None = None,
) -> Wanted | None:
    """What the sequences of a segment use.

    Args:
        clip: that the segment is of.
        segment: whose sequences are made.
        sampling: how.
        total_slots: slots of the clip, as a first pass found; for sampling other than by windows.
        times: presentation times of the clip's frames, as a first pass found, if it did.

    Returns:
        What tells; None when every frame is used, or it cannot be told.
    """
    rate = sampling.frame_rate
    any_of = _used_slots(segment, sampling, total_slots)
    if rate is not None:
        grid = clip.time_grid(rate)
        return _wanted(any_of, lambda pts: grid.position(clip.seconds_after_first(pts)))
    if times is not None:
        return _wanted(any_of, lambda pts: Position(bisect_left(times, pts), True))
    return None


def _wanted(any_of: AnyOf, position: Callable[[int], Position]) -> Wanted:
    # A time is asked for as a frame's own, and as the one before's end.
    position = functools.lru_cache(maxsize=64)(position)

    def wanted(pts: int, until: int | None) -> bool:
        slot, exact = position(pts)
        if until is None:
            return any_of(slot, None)
        # A frame that is exactly at a slot has it even where the next frame is missing.
        return any_of(slot, max(position(until).slot, slot + exact))

    return wanted


def _used_slots(segment: Segment, sampling: SamplingOptions, total_slots: int) -> AnyOf:
    count = sampling.num_frames
    if sampling.sampling == "windows":
        return _of_windows(count, sampling.window_stride, segment.first_slot, segment.end_slot)
    if total_slots <= count:
        return _of_windows(total_slots, count, 0, 1)
    if sampling.sampling == "last":
        # Where the last slots are missing, those before them are used.
        begin = max(0, total_slots - 2 * count)
        return lambda first, until: until is None or max(first, begin) < until
    slots = uniform_slots(total_slots, count)
    return lambda first, until: (
        bisect_left(slots, first) < (len(slots) if until is None else bisect_left(slots, until))
    )


def _of_windows(count: int, stride: int, first_slot: int, end_slot: int | None) -> AnyOf:
    """Slots of windows that start at multiples of ``stride`` from ``first_slot`` until ``end_slot``."""
    begin = -(-first_slot // stride) * stride
    end = None if end_slot is None else (end_slot - 1) // stride * stride + count

    def any_of(first: int, until: int | None) -> bool:
        slot = max(first, begin)
        if slot % stride >= count:
            slot += stride - slot % stride
        return (until is None or slot < until) and (end is None or slot < end)

    return any_of
