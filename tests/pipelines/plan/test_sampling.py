"""Tests of sampling against a slow, obvious oracle: a table from each slot to the frame on screen there."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.plan.sampling import (
    Position,
    TimeGrid,
    Window,
    count_windows,
    cover_slots,
    cut_windows,
    pick_last,
    pick_uniform,
    uniform_slots,
)

MS = Fraction(1, 1000)
NTSC = Fraction(30000, 1001)


class Frame(NamedTuple):
    """A frame whose picture is its name."""

    frame: Any
    after_break: bool = False
    slots: range = range(0)


def placed_frame(
    position: Position, frame: Any, after_break: bool = False
) -> tuple[Position, Frame]:
    return position, Frame(frame, after_break)


def covering_frame(slots: range, frame: Any) -> Frame:
    return Frame(frame, slots=slots)


@dataclasses.dataclass(frozen=True)
class Clip:
    """Presentation times, which of them come after a break, and the grid to sample them on."""

    times: tuple[Fraction, ...]
    breaks: frozenset[int]
    grid: TimeGrid
    end_slot: int | None = None

    def placed(self, first: int = 0) -> list[tuple[Position, Frame]]:
        """The frames from the ``first`` on, named by their index."""
        return [
            placed_frame(self.grid.position(self.times[i]), i, i in self.breaks)
            for i in range(first, len(self.times))
        ]

    def on_screen(self, slot: int) -> int | None:
        """The last frame presented at or before the slot, by looking at all of them."""
        time = self.grid.start + slot / self.grid.frame_rate
        shown = [i for i, t in enumerate(self.times) if t <= time + self.grid.tolerance]
        return shown[-1] if shown else None

    def table(self) -> dict[int, int]:
        """Slot to frame, for every slot that is covered."""
        slots = math.ceil((self.times[-1] - self.grid.start) * self.grid.frame_rate) + 2
        table = {}
        for slot in range(max(0, slots)):
            frame = self.on_screen(slot)
            if frame is None or (self.end_slot is not None and slot >= self.end_slot):
                continue
            # Nobody knows how long a frame stays that no frame follows.
            known = frame + 1 < len(self.times) and frame + 1 not in self.breaks
            if known or self.grid.seconds(slot) <= self.times[frame] + self.grid.tolerance:
                table[slot] = frame
        return table


@st.composite
def clips(draw: st.DrawFn, *, breaks: bool = True, ends: bool = True) -> Clip:
    """Variable-rate clips at rates above and below their own."""
    longest = draw(st.sampled_from([3, 45, 250]))
    gaps = draw(st.lists(st.integers(1, longest), max_size=24))
    offset = draw(st.integers(0, 5000))
    times = tuple((offset + t) * MS for t in itertools.accumulate([0, *gaps]))
    broken = draw(st.sets(st.integers(1, len(times)), max_size=3)) if breaks else set()
    rate = draw(st.sampled_from([1, 4, 10, Fraction(25, 3), 24, NTSC, 60, 240]))
    start = times[0] + draw(st.integers(0, 60)) * draw(st.sampled_from([0, 1, 7])) * MS
    tolerance = draw(st.sampled_from([0, 1, 2])) * MS
    end_slot = draw(st.none() | st.integers(0, 40)) if ends else None
    grid = TimeGrid(start, Fraction(rate), tolerance)
    return Clip(times, frozenset(broken), grid, end_slot)


def expected_windows(
    table: dict[int, int], num_frames: int, stride: int
) -> list[tuple[int, tuple[int, ...]]]:
    """All multiples of ``stride`` whose slots are all covered."""
    windows = []
    for start in range(0, max(table, default=-1) + 1, stride):
        frames = [table.get(slot) for slot in range(start, start + num_frames)]
        if None not in frames:
            windows.append((start, tuple(frames)))
    return windows


def cut(
    placed: Iterable[tuple[Position, Frame]],
    clip_end: int | None = None,
    prepared: Counter[int] | None = None,
    **cutting: Any,
) -> list[Window[int]]:
    def prepare(item: Frame) -> int:
        if prepared is not None:
            prepared[item.frame] += 1
        return item.frame

    return list(cut_windows(cover_slots(placed, end_slot=clip_end), prepare, **cutting))


def number(item: Frame) -> int:
    return item.frame


def plain(windows: Iterable[Window[Any]]) -> list[tuple[int, tuple[Any, ...]]]:
    return [(window.first_slot, window.frames) for window in windows]


def counted(items: Sequence[Any], consumed: Counter[str]) -> Iterator[Any]:
    for item in items:
        consumed["items"] += 1
        yield item


class TestTimeGrid:
    @given(
        st.fractions(-100, 100, max_denominator=10**6),
        st.fractions(0, 100, max_denominator=1000),
        st.fractions("1/10", 240, max_denominator=1001),
        st.fractions(0, "1/480", max_denominator=10**6),
    )
    def test_position_equals_fraction_arithmetic(self, seconds, start, rate, tolerance) -> None:
        exact, margin = (seconds - start) * rate, tolerance * rate
        expected = Position(math.ceil(exact - margin), math.ceil(exact - margin) - exact <= margin)
        assert TimeGrid(start, rate, tolerance).position(seconds) == expected
        slot = math.floor(exact)
        on_edge = start + (slot + margin) / rate
        assert TimeGrid(start, rate, tolerance).position(on_edge) == Position(slot, True)

    def test_position_on_a_slot_is_exact(self) -> None:
        grid = TimeGrid(Fraction(2), Fraction(10))
        assert grid.position(Fraction(2)) == Position(0, True)
        assert grid.position(Fraction("2.5")) == Position(5, True)
        assert grid.seconds(5) == Fraction("2.5")

    def test_position_between_slots_is_the_next_slot(self) -> None:
        grid = TimeGrid(Fraction(0), Fraction(10))
        assert grid.position(Fraction("0.41")) == Position(5, False)
        assert grid.position(Fraction("-0.01")) == Position(0, False)

    def test_position_within_tolerance_is_exact(self) -> None:
        grid = TimeGrid(Fraction(0), Fraction(10), Fraction(1, 100))
        assert grid.position(Fraction("0.41")) == Position(4, True)
        assert grid.position(Fraction("0.411")) == Position(5, False)

    def test_position_does_not_drift_in_ten_hours(self) -> None:
        frames = 10 * 3600 * 30  # 1,080,000 of them; slots are checked all along and at the end
        grid = TimeGrid(Fraction(0), NTSC)
        for index in [*range(0, frames, 997), frames - 1]:
            assert grid.position(index * 1001 * Fraction(1, 30000)) == Position(index, True)

    @pytest.mark.parametrize("rate", [Fraction(24), Fraction(25), NTSC, Fraction(30), Fraction(60)])
    @pytest.mark.parametrize("rounding", [round, math.floor, math.ceil], ids=lambda f: f.__name__)
    @pytest.mark.parametrize("first", [0, 1, 7])
    def test_position_of_rounded_times_is_unique(self, rate, rounding, first) -> None:
        """WebM's ticks. The clip's start is its first frame's time, rounded as all others are."""
        times = tuple(rounding((first + k) / rate / MS) * MS for k in range(2000))
        clip = Clip(times, frozenset(), TimeGrid(times[0], rate, MS))
        covering = list(cover_slots(clip.placed()))
        assert [tuple(item.slots) for item in covering] == [(k,) for k in range(2000)]

    def test_windows_in_the_tenth_hour_have_each_frame_once(self) -> None:
        last, frames = 10 * 3600 * 30, 3000
        times = tuple(Fraction(k * 1001, 30000) for k in range(last - frames, last))
        clip = Clip(times, frozenset(), TimeGrid(Fraction(0), NTSC))
        windows = cut(clip.placed(), num_frames=15, stride=15, first_slot=last - frames)
        assert [slot for slot, _ in plain(windows)] == list(range(last - frames, last, 15))
        assert [frame for window in windows for frame in window.frames] == list(range(frames))


class TestCoverSlots:
    def test_cover_slots_until_next_frame(self) -> None:
        clip = Clip(
            tuple(Fraction(t) for t in (0, Fraction("0.25"), Fraction("0.31"), 1)),
            frozenset(),
            TimeGrid(Fraction(0), Fraction(10)),
        )
        assert list(cover_slots(clip.placed())) == [
            covering_frame(range(0, 3), 0),
            covering_frame(range(3, 4), 1),
            covering_frame(range(4, 10), 2),
            covering_frame(range(10, 11), 3),
        ]

    def test_cover_slots_leaves_break_uncovered(self) -> None:
        placed = [
            placed_frame(Position(0, True), "a"),
            placed_frame(Position(3, False), "b"),
            placed_frame(Position(7, True), "c", after_break=True),
        ]
        assert [tuple(item.slots) for item in cover_slots(placed)] == [(0, 1, 2), (), (7,)]

    def test_cover_slots_prefers_later_frame_across_break(
        self,
    ) -> None:
        placed = [
            placed_frame(Position(4, True), "a"),
            placed_frame(Position(4, True), "b", after_break=True),
        ]
        assert [tuple(item.slots) for item in cover_slots(placed)] == [(), (4,)]

    def test_cover_slots_starts_at_slot_0(self) -> None:
        placed = [placed_frame(Position(slot, True), slot) for slot in (-7, -3, 2)]
        assert [tuple(item.slots) for item in cover_slots(placed)] == [(), (0, 1), (2,)]

    def test_cover_slots_stops_reading_beyond_end(self) -> None:
        consumed: Counter[str] = Counter()
        placed = [placed_frame(Position(slot, True), slot) for slot in range(100)]
        covering = list(cover_slots(counted(placed, consumed), end_slot=5))
        assert [slot for item in covering for slot in item.slots] == [0, 1, 2, 3, 4]
        assert consumed["items"] == 6

    def test_cover_slots_of_no_frames(self) -> None:
        assert list(cover_slots([])) == []

    @given(clips())
    @settings(max_examples=150, deadline=None)
    def test_cover_slots_matches_oracle(self, clip: Clip) -> None:
        covering = list(cover_slots(clip.placed(), end_slot=clip.end_slot))
        pairs = [(slot, item.frame) for item in covering for slot in item.slots]
        assert dict(pairs) == clip.table()
        # In order, and no slot twice.
        assert [slot for slot, _ in pairs] == sorted(dict(pairs))
        assert [item.frame for item in covering] == list(range(len(covering)))


class TestCutWindows:
    def test_cut_windows_docstring_example(self) -> None:
        covering = [covering_frame(range(slot, slot + 1), slot) for slot in range(10)]
        windows = list(cut_windows(covering, lambda item: str(item.frame), num_frames=4, stride=3))
        assert windows == [
            Window(0, ("0", "1", "2", "3"), 4),
            Window(3, ("3", "4", "5", "6"), 4),
            Window(6, ("6", "7", "8", "9"), 4),
        ]

    def test_cut_windows_prepares_frame_of_many_windows_once(self) -> None:
        prepared: Counter[int] = Counter()
        placed = [placed_frame(Position(0, True), 0), placed_frame(Position(6, True), 1)]
        windows = cut(placed, prepared=prepared, num_frames=2, stride=2)
        assert plain(windows) == [(0, (0, 0)), (2, (0, 0)), (4, (0, 0))]
        assert prepared[0] == 1

    @given(clips(), st.integers(1, 9), st.integers(1, 14))
    @settings(max_examples=150, deadline=None)
    def test_cut_windows_matches_oracle(self, clip: Clip, num_frames: int, stride: int) -> None:
        windows = cut(clip.placed(), clip.end_slot, num_frames=num_frames, stride=stride)
        assert plain(windows) == expected_windows(clip.table(), num_frames, stride)
        assert {window.valid for window in windows} <= {num_frames}

    @given(clips(), st.integers(1, 9), st.integers(1, 14), st.lists(st.integers(0, 60)), st.data())
    @settings(max_examples=300, deadline=None)
    def test_cut_windows_of_segments_equal_windows_of_clip(
        self, clip: Clip, num_frames: int, stride: int, cuts: list[int], data: st.DataObject
    ) -> None:
        short_clips = data.draw(st.sampled_from(["drop", "pad", "loop"]))
        settings = {"num_frames": num_frames, "stride": stride, "short_clips": short_clips}
        whole = cut(clip.placed(), clip.end_slot, **settings)
        edges = [0, *sorted(cuts), None]
        parts = []
        for first_slot, end_slot in itertools.pairwise(edges):
            # A decoder enters at a keyframe: at the frame that is on screen at the first slot, or before.
            needed = clip.on_screen(first_slot) or 0
            entered = data.draw(st.integers(0, needed))
            own = cut(
                clip.placed(entered),
                clip.end_slot,
                first_slot=first_slot,
                end_slot=end_slot,
                **settings,
            )
            for window in own:
                assert first_slot <= window.first_slot
                assert end_slot is None or window.first_slot < end_slot
            parts += own
        assert parts == whole

    @given(clips(), st.integers(1, 9), st.integers(1, 14), st.integers(0, 60), st.integers(0, 60))
    @settings(max_examples=150, deadline=None)
    def test_cut_windows_prepares_only_needed_frames_once(
        self, clip: Clip, num_frames: int, stride: int, first_slot: int, length: int
    ) -> None:
        end_slot = first_slot + length
        prepared: Counter[int] = Counter()
        windows = cut(
            clip.placed(),
            clip.end_slot,
            prepared,
            num_frames=num_frames,
            stride=stride,
            first_slot=first_slot,
            end_slot=end_slot,
        )
        table = clip.table()
        usable = set()
        for start in range(first_slot, end_slot):
            if start % stride == 0:
                slots = itertools.takewhile(table.__contains__, range(start, start + num_frames))
                usable |= {table[slot] for slot in slots}
        assert set(prepared) <= usable
        assert set(prepared.values()) <= {1}
        assert {frame for window in windows for frame in window.frames} <= set(prepared)

    @given(
        clips(breaks=False, ends=False),
        st.integers(1, 9),
        st.integers(1, 14),
        st.integers(0, 60),
        st.integers(0, 60),
    )
    @settings(max_examples=150, deadline=None)
    def test_cut_windows_stops_reading_after_last_window(
        self, clip: Clip, num_frames: int, stride: int, first_slot: int, length: int
    ) -> None:
        end_slot = first_slot + length
        consumed: Counter[str] = Counter()
        windows = cut(
            counted(clip.placed(), consumed),
            num_frames=num_frames,
            stride=stride,
            first_slot=first_slot,
            end_slot=end_slot,
        )
        starts = [slot for slot in range(first_slot, end_slot) if slot % stride == 0]
        if not starts:
            assert consumed["items"] == 0
        elif windows and windows[-1].first_slot == starts[-1]:
            # The frame after the last one used tells how long that one is on screen.
            last = windows[-1].frames[-1]
            assert consumed["items"] <= last + 2

    def test_cut_windows_reads_nothing_for_segment_without_windows(self) -> None:
        def unread() -> Iterator[Frame]:
            raise AssertionError("was read")
            yield

        assert not list(
            cut_windows(unread(), number, num_frames=2, stride=10, first_slot=1, end_slot=10)
        )

    @pytest.mark.parametrize(
        ("short_clips", "frames", "valid"),
        [("pad", (0, 1, 2, 2, 2, 2, 2), 3), ("loop", (0, 1, 2, 0, 1, 2, 0), 7)],
    )
    def test_cut_windows_pads_or_loops_short_clip(self, short_clips, frames, valid) -> None:
        placed = [placed_frame(Position(slot, True), slot) for slot in range(3)]
        windows = cut(placed, num_frames=7, stride=2, short_clips=short_clips)
        assert windows == [Window(0, frames, valid)]

    @given(clips(), st.integers(1, 9), st.integers(1, 14), st.sampled_from(["pad", "loop"]))
    @settings(max_examples=150, deadline=None)
    def test_cut_windows_fills_only_whole_short_clips(
        self, clip: Clip, num_frames: int, stride: int, short_clips: Any
    ) -> None:
        windows = cut(
            clip.placed(),
            clip.end_slot,
            num_frames=num_frames,
            stride=stride,
            short_clips=short_clips,
        )
        table = clip.table()
        short = 0 < len(table) < num_frames and list(table) == list(range(len(table)))
        if not short:
            assert plain(windows) == expected_windows(table, num_frames, stride)
            return
        shown = list(table.values())
        filled = [
            shown[k % len(shown)] if short_clips == "loop" else shown[min(k, len(shown) - 1)]
            for k in range(num_frames)
        ]
        valid = num_frames if short_clips == "loop" else len(shown)
        assert windows == [Window(0, tuple(filled), valid)]

    def test_cut_windows_drops_short_clips_by_default(self) -> None:
        placed = [placed_frame(Position(slot, True), slot) for slot in range(3)]
        assert cut(placed, num_frames=4, stride=4) == []

    @given(clips(breaks=False), st.integers(1, 9), st.integers(1, 14))
    @settings(max_examples=150, deadline=None)
    def test_count_windows_equals_number_of_windows(
        self, clip: Clip, num_frames: int, stride: int
    ) -> None:
        table = clip.table()
        if list(table) == list(range(len(table))):
            counted_windows = count_windows(len(table), num_frames=num_frames, stride=stride)
            assert counted_windows == len(expected_windows(table, num_frames, stride))


class TestPickUniform:
    @pytest.mark.parametrize(
        ("total_slots", "num_frames", "slots"),
        [
            (10, 2, [2, 7]),
            (10, 1, [5]),
            (10, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            (9, 3, [1, 4, 7]),
            (100, 8, [6, 18, 31, 43, 56, 68, 81, 93]),
            (5, 4, [0, 1, 3, 4]),
            (0, 0, []),
        ],
    )
    def test_uniform_slots_by_hand(self, total_slots, num_frames, slots) -> None:
        assert uniform_slots(total_slots, num_frames) == slots

    @given(st.integers(1, 10**6), st.integers(1, 200))
    def test_uniform_slots_are_distinct_middles_of_equal_parts(
        self, total_slots: int, num_frames: int
    ) -> None:
        num_frames = min(num_frames, total_slots)
        slots = uniform_slots(total_slots, num_frames)
        part = Fraction(total_slots, num_frames)
        assert slots == [math.floor((k + Fraction(1, 2)) * part) for k in range(num_frames)]
        assert len(set(slots)) == num_frames
        assert 0 <= slots[0] <= slots[-1] < total_slots

    @given(clips(), st.integers(1, 12), st.sampled_from(["drop", "pad", "loop"]))
    @settings(max_examples=150, deadline=None)
    def test_pick_uniform_matches_oracle(
        self, clip: Clip, num_frames: int, short_clips: Any
    ) -> None:
        table = clip.table()
        total = max(table, default=-1) + 1
        prepared: Counter[int] = Counter()
        consumed: Counter[str] = Counter()

        def prepare(item: Frame) -> int:
            prepared[item.frame] += 1
            return item.frame

        windows = list(
            pick_uniform(
                cover_slots(counted(clip.placed(), consumed), end_slot=clip.end_slot),
                prepare,
                num_frames=num_frames,
                total_slots=total,
                short_clips=short_clips,
            )
        )
        if total == 0 or (total < num_frames and short_clips == "drop"):
            assert windows == []
            return
        # A slot in a hole is filled by the frame after the hole.
        wanted = uniform_slots(total, min(num_frames, total))
        shown = [table[min(s for s in table if s >= slot)] for slot in wanted]
        valid = num_frames
        if total < num_frames and short_clips == "pad":
            shown, valid = [*shown, *[shown[-1]] * (num_frames - total)], total
        elif total < num_frames:
            shown = [shown[k % total] for k in range(num_frames)]
        assert windows == [Window(0, tuple(shown), valid)]
        assert prepared == Counter(set(shown))
        assert consumed["items"] <= max(shown) + 2

    def test_pick_uniform_repeats_last_frame_for_missing_slots(
        self,
    ) -> None:
        covering = [covering_frame(range(slot, slot + 1), slot) for slot in range(5)]
        (window,) = pick_uniform(covering, number, num_frames=4, total_slots=8)
        assert window == Window(0, (1, 3, 3, 3), 4)  # the slots 1, 3, 5 and 7 were wanted

    def test_pick_uniform_of_no_frames(self) -> None:
        assert not list(pick_uniform([], number, num_frames=4, total_slots=8, short_clips="pad"))
        assert not list(pick_uniform([], number, num_frames=4, total_slots=0, short_clips="loop"))


class TestPickLast:
    @staticmethod
    def one_frame_a_slot(slots: Iterable[int]) -> list[Frame]:
        return [covering_frame(range(slot, slot + 1), slot) for slot in slots]

    @pytest.mark.parametrize(
        ("slots", "total_slots", "frames"),
        [
            (range(10), 10, (7, 8, 9)),
            (range(3), 3, (0, 1, 2)),
            ([0, 1, 2, 3, 7, 8, 9], 10, (7, 8, 9)),
            ([0, 1, 2, 3, 8, 9], 10, None),  # a hole among the last ones
            ([*range(9), 10, 11], 12, None),
            (range(9), 10, (6, 7, 8)),  # the second pass did not find the last slot
            (range(8), 10, (5, 6, 7)),
            (range(7), 10, (4, 5, 6)),  # as many as there are frames in a sequence
            (range(6), 10, None),  # and more: that is not the end
            (range(3), 4, (0, 1, 2)),
            (range(2), 4, None),
            ([], 10, None),
        ],
    )
    @pytest.mark.parametrize("short_clips", ["drop", "pad", "loop"])
    def test_by_hand(self, slots, total_slots, frames, short_clips) -> None:
        windows = pick_last(
            self.one_frame_a_slot(slots),
            number,
            num_frames=3,
            total_slots=total_slots,
            short_clips=short_clips,
        )
        expected = [] if frames is None else [Window(frames[0], frames, 3)]
        assert list(windows) == expected

    @pytest.mark.parametrize(
        ("short_clips", "expected"),
        [
            ("drop", []),
            ("pad", [Window(0, (0, 1, 1, 1, 1), 2)]),
            ("loop", [Window(0, (0, 1, 0, 1, 0), 5)]),
        ],
    )
    def test_short_clips(self, short_clips, expected) -> None:
        how = {"num_frames": 5, "total_slots": 2, "short_clips": short_clips}
        assert list(pick_last(self.one_frame_a_slot(range(2)), number, **how)) == expected
        # Without its beginning there is nothing to fill up.
        assert list(pick_last(self.one_frame_a_slot([1]), number, **how)) == []
        how["total_slots"] = 0
        assert list(pick_last([], number, **how)) == []

    @given(clips(), st.integers(1, 12), st.sampled_from(["drop", "pad", "loop"]))
    @settings(max_examples=150, deadline=None)
    def test_pick_last_matches_oracle(self, clip: Clip, num_frames: int, short_clips: Any) -> None:
        table = clip.table()
        total = max(table, default=-1) + 1
        prepared: Counter[int] = Counter()

        def prepare(item: Frame) -> int:
            prepared[item.frame] += 1
            return item.frame

        windows = list(
            pick_last(
                cover_slots(clip.placed(), end_slot=clip.end_slot),
                prepare,
                num_frames=num_frames,
                total_slots=total,
                short_clips=short_clips,
            )
        )
        first = max(0, total - num_frames)
        shown = [table.get(slot) for slot in range(first, total)]
        if not shown or None in shown or (total < num_frames and short_clips == "drop"):
            assert windows == []
            return
        valid = num_frames
        if total < num_frames and short_clips == "pad":
            shown, valid = [*shown, *[shown[-1]] * (num_frames - total)], total
        elif total < num_frames:
            shown = [shown[k % total] for k in range(num_frames)]
        assert windows == [Window(first, tuple(shown), valid)]
        assert set(prepared) >= set(shown)
        assert set(prepared.values()) == {1}
        assert set(prepared) <= {table.get(slot) for slot in range(first - num_frames, total)}
