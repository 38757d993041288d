"""Samples frames into fixed-length sequences: pure index arithmetic, no decoding, no Beam.

A clip has *slots* 0, 1, 2, ...: with a frame rate, slot k is the time k / frame_rate after the clip's start;
without one, slot k is the clip's k-th frame. The frame on screen at a slot is the last one presented at or
before it, so each frame *covers* the slots from its own up to the next frame's. This one rule handles
variable frame rates, dropped frames, and sampling above or below the source's rate.

Sequences are windows of consecutive slots that start at multiples of the stride. Slots are counted from the
clip's start, so a part of the clip has the same windows as the whole, and cutting a clip anywhere neither
loses nor repeats one.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from typing import Generic, NamedTuple, Protocol, TypeVar

from pipelines.options.dataset import ShortClips

F = TypeVar("F", bound="PlacedFrame")
T = TypeVar("T")  # a frame prepared for a record


_MAX_HOLD = 60
_MAX_REPEATED = 10
_MIN_REPEATS = 16


def max_hold(frame_rate: Fraction | None) -> Fraction:
    """Returns the most seconds that a frame stays on screen; a longer gap is a break in the footage.

    60 s, but at most 10 s of copies of one frame, or 16 copies if these take longer: a few bytes of footage
    must not become gigabytes of records. ``max_hold(Fraction(10)) == 10``, ``max_hold(Fraction(1)) == 16``.
    """
    if frame_rate is None:
        return Fraction(_MAX_HOLD)
    return min(Fraction(_MAX_HOLD), max(Fraction(_MAX_REPEATED), _MIN_REPEATS / frame_rate))


class Position(NamedTuple):
    """A frame's position on the grid: the first slot at or after it, and True if it lies exactly there."""

    slot: int
    exact: bool

    @property
    def end(self) -> int:
        """The slot after the frame's own presentation."""
        return self.slot + self.exact


@dataclass(frozen=True)
class TimeGrid:
    """Slots at ``start + k / frame_rate`` seconds.

    Containers round presentation times to their tick (1 ms in WebM). So a frame counts as presented at a slot
    if it comes at most ``tolerance`` seconds after it, and a frame that no other follows stays until
    ``tolerance`` seconds after its own time.
    """

    start: Fraction
    frame_rate: Fraction
    tolerance: Fraction = Fraction(0)

    def position(self, seconds: Fraction) -> Position:
        """Returns the position of a frame presented at ``seconds``."""
        # Integers are faster than Fractions, which are reduced at each step.
        start, rate, tolerance = self.start, self.frame_rate, self._tolerance_in_slots
        elapsed = seconds.numerator * start.denominator - start.numerator * seconds.denominator
        divisor = seconds.denominator * start.denominator * rate.denominator
        exact = elapsed * rate.numerator * tolerance.denominator
        margin = tolerance.numerator * divisor
        divisor *= tolerance.denominator
        slot = -((margin - exact) // divisor)
        return Position(slot, slot * divisor <= exact + margin)

    @functools.cached_property
    def _tolerance_in_slots(self) -> Fraction:
        return self.tolerance * self.frame_rate

    def seconds(self, slot: int) -> Fraction:
        """Returns the time of ``slot``."""
        return self.start + slot / self.frame_rate


class PlacedFrame(Protocol):
    """A frame, as a named tuple with at least these fields.

    Attributes:
        after_break: footage is missing before it.
        slots: the slots at which it is on screen, which `cover_slots` finds; no two frames share one.
    """

    @property
    def after_break(self) -> bool: ...  # noqa: D102

    @property
    def slots(self) -> range: ...  # noqa: D102

    def _replace(self: F, *, slots: range) -> F: ...


@dataclass(frozen=True)
class Window(Generic[T]):
    """One sequence: frames of consecutive slots from ``first_slot``; those from ``valid`` on are padding."""

    first_slot: int
    frames: tuple[T, ...]
    valid: int


def cover_slots(
    placed: Iterable[tuple[Position, F]], *, end_slot: int | None = None
) -> Iterator[F]:
    """Gives each frame the slots from its own up to the next frame's.

    Example: frames at slots 0, 1 and 4 cover ``range(0, 1)``, ``range(1, 4)`` and ``range(4, 5)``.

    The last frame, and the frame before a break, cover no slot after their own presentation, because their
    duration is known only from the container's header, which may be wrong.

    Frames come in order of presentation, with positions that never decrease. The clip ends before
    ``end_slot``: reading stops at the first frame beyond it. Every frame is yielded; ``slots`` is empty for
    one that is on screen at no slot.
    """

    def cover(position: Position, frame: F, end: int) -> F:
        first = max(position.slot, 0)
        limit = end if end_slot is None else min(end, end_slot)
        return frame._replace(slots=range(first, max(limit, first)))

    previous: tuple[Position, F] | None = None
    for position, frame in placed:
        if previous is not None:
            end = position.slot
            if frame.after_break:
                end = min(end, previous[0].end)
            yield cover(*previous, end)
        previous = position, frame
        if end_slot is not None and position.slot >= end_slot:
            break
    if previous is not None:
        yield cover(*previous, previous[0].end)


def cut_windows(
    covering: Iterable[F],
    prepare: Callable[[F], T],
    *,
    num_frames: int,
    stride: int,
    first_slot: int = 0,
    end_slot: int | None = None,
    short_clips: ShortClips = "drop",
) -> Iterator[Window[T]]:
    """Cuts covered slots into windows that start at multiples of ``stride``, in order of their start.

    Example: frames covering slots 0 to 9, ``num_frames=4`` and ``stride=3`` give the windows at slots
    0, 3 and 6. No window contains a slot that no frame covers.

    ``prepare`` scales and encodes a frame; it is called at most once per frame, and only for frames that a
    window may use. Windows start in ``[first_slot, end_slot)``, and reading stops once they are complete.
    ``short_clips`` is the policy for a clip that starts at slot 0 and ends before ``num_frames`` slots; it
    applies only if the range includes window 0.
    """
    start = _next_multiple(first_slot, stride)
    ready: deque[T] = deque()  # of consecutive slots from `start` on
    next_slot = 0  # the slot after the last covered one
    if end_slot is not None and start >= end_slot:
        return
    for item in covering:
        if not item.slots:
            continue
        if item.slots.start > next_slot:
            # Slots are missing: the frames held cannot complete a window. Restart after the hole.
            ready.clear()
            start = _next_multiple(max(start, item.slots.start), stride)
            if end_slot is not None and start >= end_slot:
                return
        next_slot = item.slots.stop
        prepared: T | None = None
        for slot in range(max(item.slots.start, start), item.slots.stop):
            if slot < start:
                continue  # a window was completed within this frame
            if prepared is None:
                prepared = prepare(item)
            ready.append(prepared)
            if len(ready) == num_frames:
                yield Window(start, tuple(ready), num_frames)
                start += stride
                for _ in range(min(stride, num_frames)):
                    ready.popleft()
                if end_slot is not None and start >= end_slot:
                    return
    # Window 0 is still open only if `ready` holds every slot from 0 on.
    if start == 0 and ready and short_clips != "drop":
        yield _fill(ready, num_frames, short_clips)


def pick_uniform(
    covering: Iterable[F],
    prepare: Callable[[F], T],
    *,
    num_frames: int,
    total_slots: int,
    short_clips: ShortClips = "drop",
) -> Iterator[Window[T]]:
    """Picks ``num_frames`` slots spread evenly over a clip of ``total_slots``, as one sequence.

    The sequence has the middle of each of ``num_frames`` equal parts of the clip, as temporal segment
    networks do at test time (https://arxiv.org/abs/1608.00859). Arguments are as in `cut_windows`; a first
    pass counted the slots. A clip with fewer than ``num_frames`` is short. There is no window for an empty
    clip, or a short one that is dropped.
    """
    if not total_slots or (total_slots < num_frames and short_clips == "drop"):
        return
    wanted = uniform_slots(total_slots, min(num_frames, total_slots))
    picked: list[T] = []
    for item in covering:
        # A slot in a break gets the frame after the break.
        count = bisect_left(wanted, item.slots.stop) if item.slots else 0
        if count:
            picked += [prepare(item)] * count
            del wanted[:count]
        if not wanted:
            break
    if picked:
        # The first pass counted slots that the second did not find: repeat the last frame.
        picked += [picked[-1]] * len(wanted)
        yield _fill(picked, num_frames, short_clips)


def pick_last(
    covering: Iterable[F],
    prepare: Callable[[F], T],
    *,
    num_frames: int,
    total_slots: int,
    short_clips: ShortClips = "drop",
) -> Iterator[Window[T]]:
    """Picks the last ``num_frames`` consecutive slots of a clip of ``total_slots``, as one sequence.

    Arguments are as in `pick_uniform`. If the last slots, at most ``num_frames`` of them, turn out to be
    uncovered, the sequence ends before them. If slots are missing inside the sequence, there is none.
    """
    if total_slots < num_frames:
        yield from cut_windows(
            covering, prepare, num_frames=num_frames, stride=num_frames, short_clips=short_clips
        )
        return
    ready: deque[T] = deque(maxlen=num_frames)
    next_slot = max(0, total_slots - 2 * num_frames)
    for item in covering:
        slots = range(max(item.slots.start, next_slot), item.slots.stop)
        if not slots:
            continue
        if slots.start > next_slot:
            ready.clear()
        ready.extend([prepare(item)] * len(slots))
        next_slot = slots.stop
    if len(ready) == num_frames:
        yield Window(next_slot - num_frames, tuple(ready), num_frames)


def uniform_slots(total_slots: int, num_frames: int) -> list[int]:
    """Returns the middle slot of each of ``num_frames`` equal parts: [2, 7] for 10 slots and 2 frames."""
    return [(2 * part + 1) * total_slots // (2 * num_frames) for part in range(num_frames)]


def count_windows(total_slots: int, *, num_frames: int, stride: int) -> int:
    """Returns the number of windows in an unbroken clip of ``total_slots``; 0 if it is too short."""
    return max(0, (total_slots - num_frames) // stride + 1)


def _next_multiple(slot: int, stride: int) -> int:
    return -(-slot // stride) * stride


def _fill(frames: Sequence[T], num_frames: int, short_clips: ShortClips) -> Window[T]:
    """Returns the window of a clip of at most ``num_frames`` frames."""
    if short_clips == "loop":
        return Window(0, tuple(islice(cycle(frames), num_frames)), num_frames)
    padding = [frames[-1]] * (num_frames - len(frames))
    return Window(0, (*frames, *padding), len(frames))
