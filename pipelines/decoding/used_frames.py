"""Predicts which frames of a clip its sequences use, from the frames' times alone."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable, Sequence

from pipelines.decoding.clip import Clip
from pipelines.decoding.lookahead import IsUsed
from pipelines.options.dataset import SamplingOptions
from pipelines.plan.descriptors import Segment
from pipelines.plan.sampling import Position, uniform_slots

UsesAny = Callable[[int, "int | None"], bool]
"""Returns True if a sequence uses any slot from a first one until another (None: without end)."""


def find_used_frames(
    clip: Clip,
    segment: Segment,
    sampling: SamplingOptions,
    *,
    total_slots: int = 0,
    times: Sequence[int] | None = None,
) -> IsUsed | None:
    """Returns a function that tells which frames the sequences of a segment use.

    Args:
        clip: the clip of the segment.
        segment: the segment.
        sampling: how sequences are sampled.
        total_slots: slots of the clip by a first pass; for sampling other than windows.
        times: presentation times of the clip's frames by a first pass, if there was one.

    Returns:
        None if all frames are used, or if times do not tell.
    """
    rate = sampling.frame_rate
    uses_any = _used_slots(segment, sampling, total_slots)
    if rate is not None:
        grid = clip.time_grid(rate)
        return _by_position(uses_any, lambda pts: grid.position(clip.seconds_after_first(pts)))
    if times is not None:
        return _by_position(uses_any, lambda pts: Position(bisect_left(times, pts), True))
    return None


def _by_position(uses_any: UsesAny, position: Callable[[int], Position]) -> IsUsed:
    # Each time is looked up twice: as a frame's own, and as the end of the frame before.
    position = functools.lru_cache(maxsize=64)(position)

    def is_used(pts: int, until: int | None) -> bool:
        slot, exact = position(pts)
        if until is None:
            return uses_any(slot, None)
        # A frame that is exactly at a slot covers it even if the next frame is missing.
        return uses_any(slot, max(position(until).slot, slot + exact))

    return is_used


def _used_slots(segment: Segment, sampling: SamplingOptions, total_slots: int) -> UsesAny:
    count = sampling.num_frames
    if sampling.sampling == "windows":
        return _window_slots(count, sampling.window_stride, segment.first_slot, segment.end_slot)
    if total_slots <= count:
        return _window_slots(total_slots, count, 0, 1)
    if sampling.sampling == "last":
        # If the last slots are missing, those before them are used.
        begin = max(0, total_slots - 2 * count)
        return lambda first, until: until is None or max(first, begin) < until
    slots = uniform_slots(total_slots, count)
    return lambda first, until: (
        bisect_left(slots, first) < (len(slots) if until is None else bisect_left(slots, until))
    )


def _window_slots(count: int, stride: int, first_slot: int, end_slot: int | None) -> UsesAny:
    """Tests slots of windows that start at multiples of ``stride`` from ``first_slot`` until ``end_slot``."""
    start = -(-first_slot // stride) * stride
    end = None if end_slot is None else (end_slot - 1) // stride * stride + count

    def uses_any(first: int, until: int | None) -> bool:
        slot = max(first, start)
        if slot % stride >= count:
            slot += stride - slot % stride
        return (until is None or slot < until) and (end is None or slot < end)

    return uses_any
