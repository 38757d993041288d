"""The part of footage that a source uses: its start and end, its slots, and the frames that are used."""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import chain, takewhile

from pipelines.decoding.footage import Footage, Frame
from pipelines.decoding.lookahead import IsUsed
from pipelines.decoding.protocol import DecodingFailure
from pipelines.options.dataset import SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.plan.sampling import Position, TimeGrid, cover_slots, uniform_slots

UsesAny = Callable[[int, float], bool]
"""Returns True if a sequence uses any slot from a first one until another, which may be infinite."""


class Clip:
    """The part of footage from ``start`` to ``end``, in seconds after the footage's first frame.

    None is the start or end of the footage.

    Attributes:
        start_pts, end_pts: presentation times in the footage's time base. Frames of the clip lie in
            ``[start_pts, end_pts)``.
        ends_at_frame: ``end`` is the time of a frame that is not in the clip.
    """

    ends_at_frame = False

    def __init__(
        self,
        footage: Footage,
        first_pts: int,
        start: float | Fraction | None,
        end: float | Fraction | None,
    ):
        self.time_base = footage.time_base
        self.tolerance = footage.tolerance
        self.first_pts = first_pts
        # The decimal that was written in the manifest, not the nearest binary fraction.
        self.start = Fraction(str(start or 0))
        self.end = None if end is None else Fraction(str(end))
        self.start_pts = first_pts if start is None else self._first_at(self.start)
        self.end_pts = None if self.end is None else self._first_at(self.end)

    @classmethod
    def of(cls, source: Source, footage: Footage, first_pts: int) -> Clip:
        """Returns the clip of a source in ``footage``, whose first frame is at ``first_pts``."""
        span = source.frame_span
        if span is None:
            return cls(footage, first_pts, source.start, source.end)
        clip = cls(footage, first_pts, span.start, span.end)
        clip.ends_at_frame = True
        return clip

    def seconds_after_first(self, pts: int) -> Fraction:
        """Returns ``pts`` in seconds after the file's first frame."""
        return (pts - self.first_pts) * self.time_base

    def time_grid(self, frame_rate: Fraction) -> TimeGrid:
        """Returns the slots of this clip at ``frame_rate``, in seconds after the file's first frame."""
        # With more than half a slot, the slot of a frame would be ambiguous.
        return TimeGrid(self.start, frame_rate, min(self.tolerance, 1 / (2 * frame_rate)))

    def _first_at(self, seconds: Fraction) -> int:
        """Returns the earliest presentation time that counts as at or after ``seconds``."""
        return self.first_pts + math.ceil((seconds - self.tolerance) / self.time_base)


class CountedFrames:
    """Passes frames on and counts them.

    Attributes:
        frames: number of frames so far.
        last_pts: presentation time of the last one, 0 before the first.
        end_slot: slot after the last one that a frame covers.
        finished: all frames have passed.
    """

    def __init__(self, frames: Iterable[Frame]):
        self._frames = frames
        self.frames = self.last_pts = self.end_slot = 0
        self.finished = False

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self.frames += 1
            self.last_pts = frame.pts
            if frame.slots:
                self.end_slot = frame.slots.stop
            yield frame
        self.finished = True


class OwnFrames:
    """Passes the frames of a clip on, and keeps the times of those that belong to a segment of it.

    Each frame of the clip belongs to one segment, whether it is on screen at a slot or not: to the one with
    the last slot at or before its time.
    """

    def __init__(
        self, frames: Iterable[Frame], clip: Clip, segment: Segment, sampling: SamplingOptions
    ):
        self._frames = iter(frames)
        self._clip, self._segment = clip, segment
        rate = sampling.frame_rate
        self._grid = None if rate is None else clip.time_grid(rate)
        self._times: list[int] = []
        self._has_ended = False

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            slot, segment = self._slot(frame), self._segment
            end_pts, end_slot = self._clip.end_pts, segment.end_slot
            is_late = end_pts is not None and frame.pts >= end_pts
            self._has_ended = is_late or (end_slot is not None and slot >= end_slot)
            if slot >= segment.first_slot and not self._has_ended:
                self._times.append(frame.pts)
            yield frame

    def all_times(self) -> list[int]:
        """Returns the presentation times; reads the rest of the segment."""
        for _ in takewhile(lambda _: not self._has_ended, self if not self._has_ended else ()):
            pass
        return self._times

    def _slot(self, frame: Frame) -> int:
        if self._grid is None:
            return frame.slots.start
        position = self._grid.position(self._clip.seconds_after_first(frame.pts))
        return position.slot - (not position.exact)


def start_reading(
    footage: Footage,
    reopen: Callable[[], AbstractContextManager[Footage]],
    segment: Segment,
    sampling: SamplingOptions,
) -> tuple[Clip, Iterator[Frame]]:
    """Returns the clip, and frames from where the segment's first window needs them.

    ``reopen`` opens the same footage once more.

    Raises:
        DecodingFailure: if no frame can be decoded.
    """
    source = segment.source
    if not footage.cuttable or not (segment.first_slot or source.start):
        frames = footage.frames()
        first = next(frames, None)
        if first is None:
            raise DecodingFailure("decode", footage.truncated or "no frame could be decoded")
        first_pts = first.pts if footage.begins_at is None else footage.begins_at
        return Clip.of(source, footage, first_pts), chain([first], frames)
    # All times count from the file's first frame, so that it is decoded even if the clip starts later.
    with reopen() as beginning:
        clip = Clip.of(source, footage, beginning.first_pts())
    if segment.anchor_pts is not None:
        return clip, footage.frames(near=segment.anchor_pts, exactly=True)
    near = clip.start_pts
    if sampling.frame_rate is not None:
        seconds = clip.time_grid(sampling.frame_rate).seconds(segment.first_slot)
        near = clip.first_pts + math.floor(seconds / clip.time_base)
    return clip, footage.frames(near=near)


def cover_clip(
    clip: Clip, frames: Iterable[Frame], segment: Segment, sampling: SamplingOptions
) -> Iterator[Frame]:
    """Returns the frames of the clip with the slots that they cover."""
    rate, end_slot = sampling.frame_rate, None
    if rate is None:
        placed = _place_by_rank(clip, frames, segment)
    else:
        position = clip.time_grid(rate).position
        placed = ((position(clip.seconds_after_first(frame.pts)), frame) for frame in frames)
        if clip.end is not None and clip.ends_at_frame:
            end_slot = position(clip.end).slot
        elif clip.end is not None:
            end_slot = math.ceil((clip.end - clip.start) * rate)
    return cover_slots(placed, end_slot=end_slot)


def _place_by_rank(
    clip: Clip, frames: Iterable[Frame], segment: Segment
) -> Iterator[tuple[Position, Frame]]:
    # Ranks count from where reading started: from the anchor, whose slot is known, or from somewhere before
    # the clip's first frame, whose slot is 0.
    slot_of_rank_0 = segment.anchor_slot
    for frame in frames:
        if clip.end_pts is not None and frame.pts >= clip.end_pts:
            return
        if slot_of_rank_0 is None:
            if frame.pts < clip.start_pts:
                continue
            slot_of_rank_0 = -frame.rank
        yield Position(slot_of_rank_0 + frame.rank, True), frame


def find_used_frames(
    clip: Clip,
    segment: Segment,
    sampling: SamplingOptions,
    total_slots: int = 0,
    times: Sequence[int] | None = None,
) -> IsUsed | None:
    """Returns a function that tells which frames the sequences of a segment use.

    A first pass over the clip found ``total_slots``, for sampling other than windows, and the presentation
    ``times`` of its frames. The result is None if all frames are used, or if times do not tell.
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
        # A frame that is exactly at a slot covers it even if the next frame is missing.
        end = math.inf if until is None else max(position(until).slot, slot + exact)
        return uses_any(slot, end)

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
        return lambda first, until: max(first, begin) < until
    slots = uniform_slots(total_slots, count)
    return lambda first, until: bisect_left(slots, first) < bisect_left(slots, until)


def _window_slots(count: int, stride: int, first_slot: int, end_slot: int | None) -> UsesAny:
    """Tests slots of windows that start at multiples of ``stride`` from ``first_slot`` until ``end_slot``."""
    start = -(-first_slot // stride) * stride
    end = math.inf if end_slot is None else (end_slot - 1) // stride * stride + count

    def uses_any(first: int, until: float) -> bool:
        slot = max(first, start)
        if slot % stride >= count:
            slot += stride - slot % stride
        return slot < until and slot < end

    return uses_any
