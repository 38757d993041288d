"""The part of footage that a source is: where it begins and ends, and which slots its frames cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import chain
from typing import Any, Generic, TypeVar

from pipelines.decoding.footage import Footage, FrameTime
from pipelines.decoding.protocol import DecodingFailure
from pipelines.options.dataset import SamplingOptions
from pipelines.plan.descriptors import Segment
from pipelines.plan.sampling import CoveringFrame, PlacedFrame, Position, TimeGrid, cover_slots

T = TypeVar("T", bound=FrameTime)
F = TypeVar("F")


class Clip:
    """The part of footage that a source is.

    Args:
        footage: that it is part of.
        first_pts: presentation time of the footage's first frame.
        start, end: in seconds after that; None is the footage's own.

    Attributes:
        start_pts, end_pts: presentation times in the footage's time base; frames of the clip lie in
            ``[start_pts, end_pts)``.
    """

    def __init__(
        self, footage: Footage[Any], first_pts: int, start: float | None, end: float | None
    ):
        self.time_base = footage.time_base
        self.tolerance = footage.tolerance
        self.first_pts = first_pts
        self.start = _exactly(start or 0)
        self.end = None if end is None else _exactly(end)
        self.start_pts = first_pts if start is None else self._first_at(self.start)
        self.end_pts = None if self.end is None else self._first_at(self.end)

    def seconds_after_first(self, pts: int) -> Fraction:
        """``pts`` in seconds after the file's first frame."""
        return (pts - self.first_pts) * self.time_base

    def time_grid(self, frame_rate: Fraction) -> TimeGrid:
        """The slots of this clip at ``frame_rate``, in seconds after the file's first frame."""
        # Beyond half a slot, it would no longer be clear which slot a frame is at.
        return TimeGrid(self.start, frame_rate, min(self.tolerance, 1 / (2 * frame_rate)))

    def slot_timestamp(self, slot: int, frame_rate: Fraction) -> int:
        """The time of ``slot`` on the scale of presentation times, microseconds."""
        seconds = self.first_pts * self.time_base + self.time_grid(frame_rate).seconds(slot)
        return round(seconds * 1_000_000)

    def end_slot(self, frame_rate: Fraction | None) -> int | None:
        """The slot before which the clip is said to end; None when slots do not follow from time."""
        if self.end is None or frame_rate is None:
            return None
        return math.ceil((self.end - self.start) * frame_rate)

    def _first_at(self, seconds: Fraction) -> int:
        """The earliest presentation time that counts as at or after ``seconds``."""
        return self.first_pts + math.ceil((seconds - self.tolerance) / self.time_base)


class Watched(Generic[T]):
    """Frames as they come, counted."""

    def __init__(self, decoded: Iterable[T]):
        self._decoded = decoded
        self.frames = 0
        self.last_pts = 0
        self.finished = False

    def __iter__(self) -> Iterator[T]:
        for frame in self._decoded:
            self.frames += 1
            self.last_pts = frame.pts
            yield frame
        self.finished = True


class Covered(Generic[F]):
    """Covering frames as they pass; ``slots`` is how many slots there were up to the last one."""

    def __init__(self, covering: Iterable[CoveringFrame[F]]):
        self._covering = covering
        self.slots = 0

    def __iter__(self) -> Iterator[CoveringFrame[F]]:
        for frame in self._covering:
            if frame.slots:
                self.slots = frame.slots.stop
            yield frame


def start_reading(
    footage: Footage[T],
    reopen: Callable[[], AbstractContextManager[Footage[T]]],
    segment: Segment,
    sampling: SamplingOptions,
) -> tuple[Clip, Iterator[T]]:
    """The clip, and frames from where the segment's first window needs them.

    Args:
        footage: to read them from.
        reopen: opens the same once more.
        segment: of the clip.
        sampling: by time, or every frame.

    Raises:
        DecodingFailure: when no frame can be decoded.
    """
    source = segment.source
    if not footage.cuttable or not (segment.first_slot or source.start):
        decoded = footage.frames()
        first = next(decoded, None)
        if first is None:
            raise DecodingFailure("decode", footage.truncated or "no frame could be decoded")
        begin = first.pts if footage.begins_at is None else footage.begins_at
        return Clip(footage, begin, source.start, source.end), chain([first], decoded)
    # All times count from the file's first frame, so it is decoded even if the clip lies elsewhere.
    with reopen() as beginning:
        clip = Clip(footage, beginning.first_pts(), source.start, source.end)
    if segment.anchor_pts is not None:
        return clip, footage.frames(near=segment.anchor_pts, exactly=True)
    near = clip.start_pts
    if sampling.frame_rate is not None:
        seconds = clip.time_grid(sampling.frame_rate).seconds(segment.first_slot)
        near = clip.first_pts + math.floor(seconds / clip.time_base)
    return clip, footage.frames(near=near)


def cover_clip(
    clip: Clip, decoded: Iterable[T], segment: Segment, sampling: SamplingOptions
) -> Iterator[CoveringFrame[T]]:
    """The frames of the clip with the slots they cover."""
    rate = sampling.frame_rate
    if rate is None:
        placed = _place_by_rank(clip, decoded, segment)
    else:
        placed = _place_by_time(clip, decoded, clip.time_grid(rate))
    return cover_slots(placed, end_slot=clip.end_slot(rate))


def _place_by_time(clip: Clip, decoded: Iterable[T], grid: TimeGrid) -> Iterator[PlacedFrame[T]]:
    for frame in decoded:
        position = grid.position(clip.seconds_after_first(frame.pts))
        yield PlacedFrame(position, frame, frame.after_break)


def _place_by_rank(clip: Clip, decoded: Iterable[T], segment: Segment) -> Iterator[PlacedFrame[T]]:
    # Ranks count from where reading began: from the anchor, whose slot is known, or from somewhere
    # before the clip's first frame, whose slot is 0.
    slot_of_rank_0 = segment.anchor_slot
    for frame in decoded:
        if clip.end_pts is not None and frame.pts >= clip.end_pts:
            return
        if slot_of_rank_0 is None:
            if frame.pts < clip.start_pts:
                continue
            slot_of_rank_0 = -frame.rank
        yield PlacedFrame(Position(slot_of_rank_0 + frame.rank, True), frame, frame.after_break)


def _exactly(seconds: float) -> Fraction:
    """The decimal that was written in the manifest, not the binary fraction nearest to it."""
    return Fraction(str(seconds))
