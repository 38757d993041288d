"""Tests of joining the files of a drive, against frames on a time line, and of cutting drives into splits."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.plan.descriptors import Extent, Part, SideFile, Source
from pipelines.plan.drive_files import (
    CLOCK_TOLERANCE,
    MAX_OVERLAP,
    Gap,
    cut_by_time,
    gap_between,
    missing_before,
)
from pipelines.plan.drive_files import place_parts as place

TRACK = SideFile(path="/in/track.csv", data_path="track.csv")


def extent(
    frames: int = 50,
    *,
    first: int = 0,
    base: int = 25,
    created: float | None = None,
    length: int = 1,
) -> Extent:
    """Frames of ``length`` ticks of 1 / ``base`` s."""
    return Extent(
        time_base=(1, base),
        first_pts=first,
        seconds=Fraction(frames * length, base).as_integer_ratio(),
        frames=frames,
        cuttable=True,
        tolerance=(1, base),
        created=created,
    )


def drive(*extents: Extent | None, orders: str = "123456789", **fields: Any) -> Source:
    parts = tuple(
        Part(
            path=f"/in/d_{order}.mp4",
            data_path=f"d_{order}.mp4",
            bytes=10 + place,
            mtime_ns=100 - place,
            order=order,
            extent=own,
        )
        for place, (order, own) in enumerate(zip(orders, extents, strict=False))
    )
    first = parts[0].data_path
    return Source(id="d", path=f"/in/{first}", data_path=first, group=first, parts=parts, **fields)


def orders(source: Source) -> str:
    return "".join(part.order for part in source.parts)


def shifts(source: Source) -> list[Fraction]:
    return [Fraction(*part.shift) for part in source.parts]


class TestMissingBefore:
    @pytest.mark.parametrize(
        ("orders", "expected"),
        [
            ("1 2 3", "..."),
            ("1 2 4", "..x"),
            ("0 2", ".x"),
            ("1 3 5", ".xx"),
            ("0000 0001 0003", "..x"),
            ("5 6 9", "..x"),
            ("7 9 11", "..."),  # nothing says that they count by ones
            ("5 9", ".."),
            ("5", "."),
            ("1", "."),
            ("", "."),
            ("1 2 2 4", "...x"),
            ("20240531 20240601", ".."),
            ("10000 10001 10003", "..."),  # five digits: a time of day, without its leading zero
            ("0001 0002 00004", "..."),
            ("093000 093100", ".."),
            ("1 2 b", "..."),
            ("1 2 4.", "..."),
        ],
    )
    def test_by_hand(self, orders, expected) -> None:
        found = missing_before(orders.split(" "))
        assert "".join(".x"[missing] for missing in found) == expected

    @given(st.sets(st.integers(0, 30), min_size=1))
    def test_missing_before_finds_each_hole(self, numbers) -> None:
        found = missing_before([f"{number:04}" for number in sorted(numbers)])
        counts = min(numbers) in (0, 1) or any(number + 1 in numbers for number in numbers)
        assert found == [
            counts and number != min(numbers) and number - 1 not in numbers
            for number in sorted(numbers)
        ]


class TestGapBetween:
    """The first file holds 2 s: 50 frames of 0.04 s."""

    @pytest.mark.parametrize(
        ("first", "gap"),
        [
            (50, None),
            (51, None),  # one frame lost, as it may be within a file
            (52, Fraction(2, 25)),
            (125, Fraction(3)),
        ],
    )
    @pytest.mark.parametrize("number_missing", [False, True])
    def test_gap_between_continuing_times(self, first, gap, number_missing) -> None:
        # Whatever clocks and names say.
        previous, following = extent(created=1e9), extent(first=first, created=2e9)
        found = gap_between(previous, following, number_missing=number_missing)
        assert found == (None if gap is None else Gap(gap, number_missing))

    @pytest.mark.parametrize(
        ("frames", "overlap"),
        [(50, 1000), (100, 2000), (250, 5000), (1000, 5000)],  # half the file, or 5 s
    )
    def test_gap_between_overlapping_files_is_none(self, frames, overlap) -> None:
        assert MAX_OVERLAP == 5
        previous, begins = extent(frames, created=1e9), 40 * frames - overlap
        repeats = extent(first=begins + 1, base=1000, created=1e9 + 100)
        anew = extent(first=begins, base=1000, created=1e9 + 100)
        assert gap_between(previous, repeats, number_missing=True) is None
        found = gap_between(previous, anew, number_missing=False)
        assert found == Gap(100 - Fraction(frames, 25))

    @pytest.mark.parametrize(
        ("created", "gap"), [(1000, None), (1002, None), (1004, None), (1005, 3), (1060, 58)]
    )
    def test_gap_between_restarted_times_uses_creation_times(self, created, gap) -> None:
        assert CLOCK_TOLERANCE == 2
        found = gap_between(extent(created=1000), extent(created=created), number_missing=False)
        assert found == (None if gap is None else Gap(Fraction(gap)))

    @pytest.mark.parametrize("created", [(None, None), (1000, None), (None, 1000), (1000, 1002)])
    def test_gap_between_without_times_uses_missing_number(self, created) -> None:
        files = [extent(created=seconds) for seconds in created]
        assert gap_between(*files, number_missing=False) is None
        assert gap_between(*files, number_missing=True) == Gap(None, footage_lost=True)

    def test_gap_between_creation_times_has_length(self) -> None:
        found = gap_between(extent(created=1000), extent(created=1062), number_missing=True)
        assert found == Gap(Fraction(60), footage_lost=True)


class TestPlaceParts:
    def test_place_parts_concatenates_restarted_files(self) -> None:
        source = drive(extent(50), extent(25, first=7), extent(10))
        (placed,), failures = place(source, by_time=True, by_clock=False)
        assert failures == []
        # The second begins at 2 s, and its own times at 7 ticks of 0.04 s.
        assert shifts(placed) == [0, 2 - Fraction(7, 25), 3]
        assert dataclasses.replace(placed, parts=()) == dataclasses.replace(
            source, parts=(), group="d", bytes=33, mtime_ns=100
        )
        assert [dataclasses.replace(part, shift=(0, 1)) for part in placed.parts] == list(
            source.parts
        )

    def test_place_parts_keeps_continuing_times(self) -> None:
        source = drive(extent(50, first=10), extent(50, first=60), extent(50, first=111))
        (placed,), _ = place(source, by_time=True, by_clock=False)
        assert shifts(placed) == [0, 0, 0]

    def test_place_parts_mixes_restarted_and_continuing_files(self) -> None:
        source = drive(extent(50), extent(50), extent(50, first=50))
        (placed,), _ = place(source, by_time=True, by_clock=False)
        assert shifts(placed) == [0, 2, 2]

    def test_place_parts_of_one_file(self) -> None:
        source = drive(extent(50, first=3, created=1000.0), telemetry=TRACK)
        ((placed,), failures) = place(source, by_time=True, by_clock=False)
        assert (placed.id, placed.group, failures) == ("d", "d", [])
        assert (placed.clock_start, placed.telemetry_start, placed.telemetry_row) == (1000.0, 0, 0)
        assert placed.parts == source.parts

    def test_place_parts_splits_at_gap_and_keeps_group(self) -> None:
        source = drive(
            extent(50, created=1000.0),
            extent(50, created=1002.0),
            extent(25, first=100, created=1034.0),
            extent(50),
        )
        sources, failures = place(source, by_time=True, by_clock=True)
        assert failures == []
        assert [own.id for own in sources] == ["d#from=1", "d#from=3"]
        assert [orders(own) for own in sources] == ["12", "34"]
        assert {own.group for own in sources} == {"d"}
        assert [own.path for own in sources] == ["/in/d_1.mp4", "/in/d_3.mp4"]
        assert [own.data_path for own in sources] == ["d_1.mp4", "d_3.mp4"]
        assert [own.clock_start for own in sources] == [1000.0, 1034.0]
        assert [own.bytes for own in sources] == [10 + 11, 12 + 13]
        assert [own.mtime_ns for own in sources] == [100, 98]
        # Each on a scale of its own: the second run's 100 ticks are 4 s, and 1 s is over.
        assert [shifts(own) for own in sources] == [[0, 2], [0, 5]]

    def test_place_parts_keeps_named_group(self) -> None:
        source = dataclasses.replace(drive(extent(), extent()), group="car 7")
        (placed,), _ = place(source, by_time=True, by_clock=False)
        assert placed.group == "car 7"

    def test_place_parts_offsets_shared_telemetry(self) -> None:
        source = drive(extent(50), extent(50, first=50), extent(25, first=200), telemetry=TRACK)
        sources, failures = place(source, by_time=True, by_clock=False)
        assert failures == []
        # 100 frames are over, and 8 s since the first: rows go on with the frames, times with the clock.
        assert [(own.telemetry_start, own.telemetry_row) for own in sources] == [(0, 0), (8.0, 100)]

    def test_place_parts_by_clock_needs_no_offset(self) -> None:
        source = drive(extent(created=1000.0), extent(created=1040.0), telemetry=TRACK)
        sources, _ = place(source, by_time=True, by_clock=True)
        assert [(own.telemetry_start, own.clock_start) for own in sources] == [
            (0.0, 1000.0),
            (38.0 + 2.0, 1040.0),  # and has one, where the gap is known
        ]
        unknown = drive(extent(created=1000.0), extent(), orders="13", telemetry=TRACK)
        sources, failures = place(unknown, by_time=True, by_clock=True)
        assert [own.telemetry_start for own in sources] == [0.0, 0.0]
        assert failures == []

    def test_place_parts_refuses_unknown_offset_of_shared_telemetry(self) -> None:
        source = drive(extent(), extent(), extent(), orders="124", telemetry=TRACK)
        sources, (failure,) = place(source, by_time=True, by_clock=False)
        assert [orders(own) for own in sources] == ["12"]
        assert (failure.source, failure.stage, failure.truncated) == (
            "d#from=4",
            "telemetry",
            False,
        )
        assert failure.reason == (
            "a file is missing before d_4.mp4, so its position in track.csv is unknown: "
            "give each file its own telemetry, or use --time_origin clock"
        )
        # By row the clock is no help; telemetry of each file's own and the clock are.
        assert len(place(source, by_time=False, by_clock=True)[1]) == 1
        assert place(source, by_time=True, by_clock=True)[1] == []
        own_files = dataclasses.replace(source, telemetry=None)
        assert place(own_files, by_time=True, by_clock=False)[1] == []

    def test_place_parts_keeps_time_of_frames_lost_between_files(self) -> None:
        """Ten seams with 0.08 s each that no file holds, and a gap: files lie where their times say."""
        firsts = [52 * number for number in range(10)]
        source = drive(
            *(extent(51, first=first) for first in firsts),
            extent(50, first=1000),
            orders="0123456789A",
            telemetry=TRACK,
        )
        (run, late), failures = place(source, by_time=True, by_clock=False)
        assert failures == []
        assert [part.start for part in run.parts] == [Fraction(first, 25) for first in firsts]
        assert run.parts[-1].end == Fraction(9 * 52 + 51, 25)
        assert (late.telemetry_start, late.telemetry_row) == (40.0, 510)

    def test_place_parts_keeps_times_of_overlapping_file(self) -> None:
        source = drive(extent(50, first=10), extent(50, first=50))
        (placed,), _ = place(source, by_time=True, by_clock=False)
        assert shifts(placed) == [0, 0]
        assert [part.start for part in placed.parts] == [Fraction(10, 25), 2]

    def test_place_parts_by_row_separates_overlapping_files(self) -> None:
        """The rows of frames in both files cannot be told apart."""
        source = drive(extent(50), extent(50, first=40), extent(50, first=90), telemetry=TRACK)
        sources, failures = place(source, by_time=False, by_clock=False)
        assert [orders(own) for own in sources] == ["1", "23"]
        assert ([own.telemetry_row for own in sources], failures) == ([0, 50], [])
        (joined,), _ = place(source, by_time=True, by_clock=False)
        assert orders(joined) == "123"

    def test_place_parts_has_gap_after_truncated_file(self) -> None:
        files = [extent(), dataclasses.replace(extent(), truncated=True), extent()]
        sources, failures = place(drive(*files), by_time=True, by_clock=False)
        assert ([orders(own) for own in sources], failures) == (["12", "3"], [])
        running_on = [files[0], dataclasses.replace(files[1], first_pts=50), extent(first=100)]
        (joined,), _ = place(drive(*running_on), by_time=True, by_clock=False)
        assert orders(joined) == "123"  # nothing is missing between them

    @pytest.mark.parametrize(("orders", "unplaced"), [("124", ["d#from=4"]), ("123", [])])
    def test_place_parts_by_row_refuses_missing_file(self, orders, unplaced) -> None:
        """Times that run on say when the next file was begun, and not how many rows lie between."""
        files = [extent(), extent(first=50), extent(first=150)]
        source = drive(*files, orders=orders, telemetry=TRACK)
        sources, failures = place(source, by_time=False, by_clock=False)
        assert [failure.source for failure in failures] == unplaced
        assert [own.telemetry_row for own in sources] == [0, 100][: 2 - len(unplaced)]
        sources, failures = place(source, by_time=True, by_clock=False)
        assert failures == []
        assert [own.telemetry_start for own in sources] == [0.0, 6.0]

    def test_place_parts_marks_shared_telemetry(self) -> None:
        apart = drive(extent(), extent(first=200), telemetry=TRACK)
        sources, _ = place(apart, by_time=True, by_clock=False)
        assert [own.telemetry_shared for own in sources] == [True, True]
        for whole in (drive(extent(), telemetry=TRACK), drive(extent(), extent(), telemetry=TRACK)):
            (own,), _ = place(whole, by_time=True, by_clock=False)
            assert not own.telemetry_shared
        # What could not be read has rows of it, too.
        (own,), _ = place(drive(extent(), None, telemetry=TRACK), by_time=True, by_clock=False)
        assert own.telemetry_shared

    def test_place_parts_refuses_all_runs_after_unknown_gap(self) -> None:
        source = drive(extent(), extent(), extent(first=500), orders="134", telemetry=TRACK)
        sources, failures = place(source, by_time=True, by_clock=False)
        assert [orders(own) for own in sources] == ["1"]
        assert [failure.source for failure in failures] == ["d#from=3", "d#from=4"]

    @pytest.mark.parametrize(
        ("readable", "runs"),
        [("x23", ["23"]), ("1x3", ["1", "3"]), ("12x", ["12"]), ("x2x", ["2"]), ("xxx", [])],
    )
    def test_place_parts_has_gap_at_unreadable_file(self, readable, runs) -> None:
        files = [None if name == "x" else extent() for name in readable]
        sources, failures = place(drive(*files), by_time=True, by_clock=False)
        assert failures == []
        assert [orders(own) for own in sources] == runs
        assert [own.id for own in sources] == [f"d#from={run[0]}" for run in runs]
        # And nobody knows how long it was.
        shared = drive(*files, telemetry=TRACK)
        sources, failures = place(shared, by_time=True, by_clock=False)
        assert [orders(own) for own in sources] == [run for run in runs if run[0] == "1"]
        assert len(failures) == sum(run[0] != "1" for run in runs)

    @given(
        st.lists(
            st.tuples(st.integers(1, 60), st.sampled_from([0, 0, 0, 1, 2, 30]), st.booleans()),
            min_size=1,
            max_size=6,
        ),
        st.sampled_from([1, 2, 40]),
    )
    def test_place_parts_puts_frames_at_recorded_times(self, files, ticks) -> None:
        """Against frames on a line; some between two files are lost, some files begin their times anew."""
        extents, recorded, gaps = [], [], []
        now, scale = 0, 0  # where the camera is; where the scale of the current file's times begins
        for number, (frames, lost, begins_anew) in enumerate(files):
            if begins_anew:
                scale, lost = now, 0
            now += lost * ticks if number else 0
            extents.append(extent(frames, first=now - scale, base=1000, length=ticks))
            recorded.append(now)
            gaps.append(bool(number) and lost > 1)
            now += frames * ticks
        source = drive(*extents, telemetry=TRACK)
        sources, failures = place(source, by_time=True, by_clock=False)
        assert failures == []
        assert [len(own.parts) for own in sources] == [
            len(run) for run in _runs(list(range(len(files))), gaps)
        ]
        for own in sources:
            begins = [
                Fraction(*part.shift) + part.extent.first_pts * Fraction(1, 1000)
                for part in own.parts
            ]
            places = [int(part.order) - 1 for part in own.parts]
            assert [b - begins[0] for b in begins] == [
                Fraction(recorded[p] - recorded[places[0]], 1000) for p in places
            ]
            assert own.telemetry_row == sum(files[p][0] for p in range(places[0]))


def _runs(items: list[int], gaps: list[bool]) -> list[list[int]]:
    runs: list[list[int]] = []
    for item, gap in zip(items, gaps, strict=True):
        if gap or not runs:
            runs.append([])
        runs[-1].append(item)
    return runs


class TestCutByTime:
    SPLITS = (("train", 0.5), ("validation", 0.25), ("test", 0.25))

    def cut(
        self, seconds: float, guard: float, splits: Any = SPLITS, **fields: Any
    ) -> list[Source]:
        source = Source(id="a.mp4", path="/in/a.mp4", data_path="a.mp4", group="a.mp4")
        return cut_by_time([(dataclasses.replace(source, **fields), seconds)], splits, guard)

    def test_by_hand(self) -> None:
        blocks = self.cut(104.0, 2.0)
        # 100 s are left between two guards.
        assert [(block.start, block.end) for block in blocks] == [
            (None, 50.0),
            (52.0, 77.0),
            (79.0, None),
        ]
        assert [block.id for block in blocks] == ["a.mp4#t=0,50", "a.mp4#t=52,77", "a.mp4#t=79"]
        assert [block.split for block in blocks] == ["train", "validation", "test"]
        assert [block.group for block in blocks] == [
            "a.mp4#train",
            "a.mp4#validation",
            "a.mp4#test",
        ]
        assert {(block.path, block.data_path) for block in blocks} == {("/in/a.mp4", "a.mp4")}

    def test_cut_by_time_skips_empty_splits(self) -> None:
        splits = (("train", 0.0), ("validation", 0.6), ("test", 0.4), ("spare", 0.0))
        blocks = self.cut(11.0, 1.0, splits)
        assert [(b.split, b.start, b.end) for b in blocks] == [
            ("validation", None, 6.0),
            ("test", 7.0, None),
        ]

    def test_cut_by_time_into_one_split(self) -> None:
        (block,) = self.cut(3.0, 100.0, (("train", 1.0),))
        assert (block.start, block.end, block.id) == (None, None, "a.mp4#t=0")

    def test_cut_by_time_of_a_span(self) -> None:
        fields = {"id": "a.mp4#t=5,15", "start": 5.0, "end": 15.0}
        blocks = self.cut(10.0, 1.0, (("train", 2 / 3), ("test", 1 / 3)), **fields)
        assert [(block.split, block.start, block.end, block.id) for block in blocks] == [
            ("train", 5.0, 11.0, "a.mp4#t=5,11"),
            ("test", 12.0, 15.0, "a.mp4#t=12,15"),
        ]
        (whole,) = self.cut(10.0, 1.0, (("train", 1.0),), **fields)
        assert (whole.start, whole.end, whole.id) == (5.0, 15.0, "a.mp4#t=5,15")

    def test_cut_by_time_treats_runs_as_one_drive(self) -> None:
        """In seconds of footage: what lies between runs was not recorded."""
        runs = [
            (Source(id=name, path=f"/in/{name}", data_path=name, group="d"), seconds)
            for name, seconds in (("a", 10.0), ("b", 1.5), ("c", 10.0))
        ]
        blocks = cut_by_time(runs, (("train", 0.5), ("test", 0.5)), 0.5)
        assert [(block.id, block.split) for block in blocks] == [
            ("a#t=0", "train"),
            ("b#t=0,0.5", "train"),
            ("b#t=1", "test"),
            ("c#t=0", "test"),
        ]
        assert [(block.start, block.end) for block in blocks] == [
            (None, None),
            (None, 0.5),
            (1.0, None),
            (None, None),
        ]
        assert [block.group for block in blocks] == ["d#train", "d#train", "d#test", "d#test"]
        # A guard may be longer than a run.
        blocks = cut_by_time(runs, (("train", 0.5), ("test", 0.5)), 3.5)
        assert [block.id for block in blocks] == ["a#t=0,9", "c#t=1"]

    @given(
        st.lists(st.integers(1, 40), min_size=1, max_size=5),
        st.integers(0, 10),
        st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any),
    )
    def test_cut_by_time_drops_only_guards(self, runs, guard, weights) -> None:
        """Against a line of footage, of which each second is in one block or in a guard."""
        sources = [
            (Source(id=f"{k}", path=f"/in/{k}", data_path=f"{k}", group="d"), float(seconds))
            for k, seconds in enumerate(runs)
        ]
        splits = [(f"s{i}", weight / sum(weights)) for i, weight in enumerate(weights)]
        blocks = cut_by_time(sources, splits, float(guard))
        spans: dict[str, list[tuple[float, float]]] = {}
        for block in blocks:
            begin = sum(runs[: int(block.data_path)])
            length = runs[int(block.data_path)]
            end = length if block.end is None else block.end
            spans.setdefault(block.split, []).append((begin + (block.start or 0), begin + end))
        wanted = [(name, fraction) for name, fraction in splits if fraction]
        usable = sum(runs) - guard * (len(wanted) - 1)
        if usable <= 0:
            assert blocks == []
            return
        shortest = min(fraction * usable for _, fraction in wanted)
        assume(len(runs) == 1 or shortest > 0.2)
        assert list(spans) == [name for name, _ in wanted]
        for name, fraction in wanted:
            length = sum(end - start for start, end in spans[name])
            slivers = 0.1 * (len(runs) - 1)  # what lies at the edge of a file may be no whole frame
            assert fraction * usable - slivers - 2e-5 <= length <= fraction * usable + 2e-5
            for before, after in pairwise(spans[name]):
                assert after[0] == before[1]
        for (_, before), (_, after) in pairwise(spans.items()):
            assert guard - 2e-6 <= after[0][0] - before[-1][1] <= guard + 0.2
        assert len({block.id for block in blocks}) == len(blocks)

    def test_cut_by_time_ids_have_decimals(self) -> None:
        blocks = self.cut(10.0, 0.0, (("a", 1 / 3), ("b", 2 / 3)))
        assert [block.id for block in blocks] == ["a.mp4#t=0,3.333333", "a.mp4#t=3.333333"]
        assert (blocks[0].end, blocks[1].start) == (3.333333, 3.333333)

    @pytest.mark.parametrize("seconds", [0.0, 3.99, 4.0])
    def test_cut_by_time_drops_drive_shorter_than_guards(self, seconds) -> None:
        assert self.cut(seconds, 2.0) == []
        assert len(self.cut(4.001, 2.0)) == 3

    @given(
        st.floats(0.1, 1e5),
        st.floats(0.0, 10.0),
        st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any),
    )
    def test_cut_by_time_blocks_match_fractions_and_guard(self, seconds, guard, weights) -> None:
        splits = [(f"s{i}", weight / sum(weights)) for i, weight in enumerate(weights)]
        blocks = self.cut(seconds, guard, splits)
        wanted = [(name, fraction) for name, fraction in splits if fraction]
        usable = seconds - guard * (len(wanted) - 1)
        if usable <= 0:
            assert blocks == []
            return
        assert [block.split for block in blocks] == [name for name, _ in wanted]
        assert (blocks[0].start, blocks[-1].end) == (None, None)
        assert len({block.id for block in blocks}) == len(blocks)
        for before, after in pairwise(blocks):
            assert after.start - before.end == pytest.approx(guard, abs=2e-6)
        for block, (_, fraction) in zip(blocks, wanted, strict=True):
            length = (seconds if block.end is None else block.end) - (block.start or 0)
            assert length == pytest.approx(fraction * usable, abs=2e-5)
