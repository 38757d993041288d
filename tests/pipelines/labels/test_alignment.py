"""Alignment against a slow, obvious oracle that looks at every row, and numbers computed by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.labels.alignment import (
    Aligned,
    Alignment,
    combine,
    concatenate,
    concatenate_rows,
)
from pipelines.labels.rows import Telemetry
from pipelines.labels.telemetry import TelemetryError

NAN = math.nan
MICROSECOND = 1e-6
WAYS = ("linear", "nearest", "hold")


def telemetry(
    times: list[float] | None, classes: tuple[str | None, ...] = (), **columns: list[float]
) -> Telemetry:
    return Telemetry(
        times=None if times is None else np.array(times, np.float64),
        dates=False,
        columns={name: np.array(values, np.float64) for name, values in columns.items()},
        classes=classes,
    )


def align(found: Telemetry, interpolate: Any = "linear", **how: Any) -> Alignment:
    settings = {"columns": list(found.columns), "max_gap": 2.0} | how
    return Alignment(found, interpolate=interpolate, **settings)


def value_at(
    found: Telemetry, seconds: float, interpolate: Any = "linear", **how: Any
) -> float | None:
    aligned = align(found, interpolate, **how).at_time(seconds)
    return None if aligned is None else aligned.values[0]


def oracle(
    rows: list[tuple[float, Any]], seconds: float, way: str, max_gap: float, angle: bool
) -> tuple[Any, float] | None:
    """The value of one column and the distance of its rows, by looking at all rows that have one."""
    rows = [(t, value) for t, value in rows if value is not None]
    if not rows:
        return None
    # min() takes the first of equals, the earlier row. All times here are whole milliseconds.
    nearest = min(rows, key=lambda row: round(abs(row[0] - seconds), 4))
    if abs(nearest[0] - seconds) <= MICROSECOND:
        return nearest[1], 0.0
    before = [row for row in rows if row[0] < seconds]
    after = [row for row in rows if row[0] > seconds]
    if not before or not after:
        gaps = sorted(b[0] - a[0] for a, b in itertools.pairwise(rows))
        half = min(float(np.median(gaps)), max_gap) / 2 if gaps else 0.0
        return (nearest[1], 0.0) if abs(nearest[0] - seconds) <= half + MICROSECOND else None
    (t0, v0), (t1, v1) = before[-1], after[0]
    if t1 - t0 > max_gap + MICROSECOND:
        return None
    if way == "hold":
        return v0, t1 - t0
    if way == "nearest" or isinstance(v0, str):
        return nearest[1], t1 - t0
    if angle:
        v1 = min((v1 + turn for turn in range(-1080, 1440, 360)), key=lambda v: abs(v - v0))
    return float(np.interp(seconds, [t0, t1], [v0, v1])), t1 - t0


def degrees_apart(one: float, other: float) -> float:
    return abs((one - other + 180) % 360 - 180)


@st.composite
def drives(draw: st.DrawFn) -> tuple[Telemetry, list[float]]:
    """Rows on a grid of milliseconds with gaps and missing values, and times to look at."""
    gaps = draw(st.lists(st.sampled_from([1, 33, 100, 500, 1000, 2000, 2001, 5000]), max_size=12))
    offset = draw(st.sampled_from([0, -1500, 1_700_000_000_000]))
    ticks = [offset + sum(gaps[:i]) for i in range(len(gaps) + 1)]
    missing = draw(st.sampled_from([0.0, 0.3]))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        chance = st.floats(0, 1)
        return [None if draw(chance) < missing else draw(values) for _ in ticks]

    numbers = column(st.integers(-1000, 1000).map(float))
    # Multiples of 7 are never 180 apart, where both ways round are as short.
    angles = column(st.integers(-60, 60).map(lambda n: 7.0 * n))
    names = tuple(column(st.sampled_from("abc")))
    as_floats = [[NAN if v is None else v for v in values] for values in (numbers, angles)]
    found = telemetry([t / 1e3 for t in ticks], names, v=as_floats[0], a=as_floats[1])
    asked = st.sampled_from(ticks).flatmap(
        lambda tick: st.integers(-1500, 1500).map(lambda ms: (tick + ms) / 1e3)
    )
    return found, draw(st.lists(asked | st.sampled_from([t / 1e3 for t in ticks]), min_size=1))


class TestAlignmentAgainstOracle:
    @given(
        drive=drives(), way=st.sampled_from(WAYS), max_gap=st.sampled_from([0.05, 0.5, 2.0, 60.0])
    )
    def test_at_time(self, drive, way, max_gap) -> None:
        found, asked = drive
        times = found.times.tolist()
        with_classes = align(found, way, max_gap=max_gap, angle_columns=["a"])
        columns = {
            "v": [None if math.isnan(v) else v for v in found.columns["v"].tolist()],
            "a": [None if math.isnan(v) else v for v in found.columns["a"].tolist()],
            "class": list(found.classes),
        }
        for seconds in asked:
            expected = {
                name: oracle(
                    list(zip(times, rows, strict=True)), seconds, way, max_gap, name == "a"
                )
                for name, rows in columns.items()
            }
            aligned = with_classes.at_time(seconds)
            assert (aligned is None) == any(one is None for one in expected.values())
            if aligned is None:
                continue
            (value, _), (angle, _), (name, _) = (expected[key] for key in ("v", "a", "class"))
            assert aligned.values[0] == pytest.approx(value, rel=1e-9, abs=1e-9)
            assert 0 <= aligned.values[1] < 360
            assert degrees_apart(aligned.values[1], angle) < 1e-6
            assert aligned.class_name == name
            assert aligned.distance == pytest.approx(max(one[1] for one in expected.values()))

    @given(
        times=st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=30, unique=True).map(sorted),
        data=st.data(),
    )
    def test_at_time_linear_equals_numpy(self, times, data) -> None:
        number = st.floats(-1e6, 1e6)
        values = data.draw(st.lists(number, min_size=len(times), max_size=len(times)))
        seconds = data.draw(st.floats(times[0], times[-1]))
        assume(min(abs(seconds - t) for t in times) > 2 * MICROSECOND)
        found = value_at(telemetry(times, v=values), seconds, max_gap=1e5)
        assert found == pytest.approx(np.interp(seconds, times, values), rel=1e-9, abs=1e-9)


class TestAtTime:
    def test_by_hand(self) -> None:
        found = telemetry([0, 1, 2], v=[10, 20, 40])
        assert align(found).at_time(1.5) == Aligned((30.0,), None, 1.0)
        assert align(found).at_time(2.5) == Aligned((40.0,), None, 0.0)
        assert align(found).at_time(2.6) is None
        assert align(found).at_time(-0.5) == Aligned((10.0,), None, 0.0)
        assert align(found).at_time(-0.6) is None
        assert [value_at(found, t, "nearest") for t in (1.5, 1.6)] == [20.0, 40.0]
        assert [value_at(found, t, "hold") for t in (1.5, 1.99, 2.0)] == [20.0, 20.0, 40.0]

    @pytest.mark.parametrize("way", WAYS)
    def test_at_time_within_a_microsecond_of_a_row_returns_the_row(self, way) -> None:
        found = telemetry([0, 100], v=[1, 2])  # and no gap matters
        for seconds in (0.0, 9e-7, 100 - 9e-7, 100.0):
            aligned = align(found, way).at_time(seconds)
            assert aligned == Aligned((1.0 if seconds < 50 else 2.0,), None, 0.0)
        assert align(found, way).at_time(2e-6) is None

    @pytest.mark.parametrize("way", WAYS)
    def test_at_time_in_a_gap_is_none(self, way) -> None:
        found = telemetry([0, 2, 4.001], v=[1, 2, 3])
        expected = {"linear": (1.95, 2 + 0.1 / 2.001), "nearest": (2, 2), "hold": (1, 2)}[way]
        assert value_at(found, 1.9, way) == pytest.approx(expected[0])
        assert value_at(found, 2.1, way) is None
        assert value_at(found, 2.1, way, max_gap=2.5) == pytest.approx(expected[1])

    def test_at_time_measures_gap_between_values_of_the_column(self) -> None:
        found = telemetry([0, 1, 2, 3], v=[0, NAN, NAN, 3], w=[0, 1, 2, 3])
        assert align(found, max_gap=3.0).at_time(1.5) == Aligned((1.5, 1.5), None, 3.0)
        assert align(found, max_gap=2.0).at_time(1.5) is None
        assert align(found, max_gap=2.0, columns=["w"]).at_time(1.5) == Aligned((1.5,), None, 1.0)

    def test_at_time_holds_edges_for_half_an_interval_or_half_max_gap(self) -> None:
        found = telemetry([0, 1, 2, 12], v=[1, 2, 3, 4])
        assert value_at(found, 12.5) == 4.0
        assert value_at(found, 12.51) is None
        assert value_at(found, 12.05, max_gap=0.1) == 4.0
        assert value_at(found, 12.06, max_gap=0.1) is None

    def test_at_time_of_a_single_row(self) -> None:
        found = telemetry([5, 6], v=[1, NAN])
        assert value_at(found, 5.0) == 1.0
        assert value_at(found, 5.00001) is None
        assert value_at(found, 6.0) is None

    @pytest.mark.parametrize(
        ("first", "second", "middle"),
        [
            (350, 20, 5), (20, 350, 5), (0, 358, 359), (10, 30, 20), (-10, 10, 0), (370, 730, 10),
            (180, 540, 180),
        ],
    )  # fmt: skip
    def test_at_time_turns_angles_the_shorter_way(self, first, second, middle) -> None:
        found = telemetry([0, 1], v=[first, second])
        assert value_at(found, 0.5, angle_columns=["v"]) == pytest.approx(middle, abs=1e-9)
        assert value_at(found, 0.0, "hold", angle_columns=["v"]) == first % 360
        assert value_at(found, 0.5) == (first + second) / 2

    def test_at_time_angle_is_below_360(self) -> None:
        found = telemetry([0, 1], v=[-1e-17, -1e-17])
        for way in WAYS:
            assert value_at(found, 0.5, way, angle_columns=["v"]) == 0.0

    def test_at_time_returns_nearest_or_held_class(self) -> None:
        found = telemetry([0, 1, 2], ("a", None, "b"), v=[0, 1, 2])
        assert align(found).at_time(0.5) == Aligned((0.5,), "a", 2.0)
        assert align(found).at_time(1.0) == Aligned((1.0,), "a", 2.0)
        assert align(found, columns=[]).at_time(1.5) == Aligned((), "b", 2.0)
        assert align(found, "hold").at_time(1.5) == Aligned((1.0,), "a", 2.0)
        assert align(found, max_gap=1.0).at_time(0.5) is None
        assert align(found).at_time(NAN) is None

    def test_at_time_without_times_is_refused(self) -> None:
        with pytest.raises(ValueError, match="use at_row"):
            align(telemetry(None, v=[1])).at_time(0.0)

    def test_at_time_takes_microseconds_to_run(self) -> None:
        times = np.arange(100_000) / 100
        drive = telemetry(times.tolist(), v=times.tolist(), a=times.tolist())
        alignment = align(drive, angle_columns=["a"])
        began = time.process_time()
        for tick in range(2000):
            alignment.at_time(tick / 3)
        # 5 us on an idle machine; looking at all rows would take milliseconds.
        assert (time.process_time() - began) / 2000 < 2e-4


class TestAtRow:
    def test_at_row_returns_complete_rows(self) -> None:
        found = telemetry(None, ("x", "y", None), v=[1, NAN, 3], a=[-90, 0, 0])
        rows = align(found, angle_columns=["a"])
        assert rows.at_row(0) == Aligned((1.0, 270.0), "x", 0.0)
        assert [rows.at_row(row) for row in (-1, 1, 2, 3)] == [None] * 4
        assert align(found, columns=[]).at_row(1) == Aligned((), "y", 0.0)


class TestCombine:
    ROWS = ((350.0, 1.0), (20.0, 2.0), (20.0, 9.0), (350.0, 0.0))

    def test_by_hand(self) -> None:
        angles = [True, False]
        assert combine(self.ROWS, "last", angles) == (350.0, 0.0)
        assert combine(self.ROWS, "center", angles) == (20.0, 9.0)
        assert combine(self.ROWS[:3], "center", angles) == (20.0, 2.0)
        assert combine(self.ROWS, "mean", angles) == pytest.approx((5.0, 3.0))
        assert combine(self.ROWS, "mean", [False, False]) == pytest.approx((185.0, 3.0))
        assert combine([[]], "mean", []) == ()

    def test_combine_angles_that_cancel_out(self) -> None:
        assert combine([[0], [120], [240]], "mean", [True]) == (120.0,)
        assert combine([[90], [-90]], "mean", [True]) == (270.0,)

    @given(
        center=st.floats(-1000, 1000),
        offsets=st.lists(st.floats(0.0, 60.0), min_size=1, max_size=9),
    )
    def test_combine_mean_angle_lies_between_angles(self, center, offsets) -> None:
        rows = [[center + sign * offset] for offset in offsets for sign in (1, -1)]
        (mean,) = combine(rows, "mean", [True])
        assert 0 <= mean < 360
        assert degrees_apart(mean, center) < 1e-6

    @given(values=st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=9))
    def test_combine_mean_equals_numpy(self, values) -> None:
        (mean,) = combine([[value] for value in values], "mean", [False])
        assert mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-9 * max(map(abs, values)))


class TestConcatenate:
    def test_concatenate_shifts_times_and_drops_overlap(self) -> None:
        first = telemetry([0, 1, 2], ("a", "b", "c"), v=[0, 1, 2])
        second = telemetry([0, 1, 2], ("x", "y", None), v=[10, 11, NAN])
        joined = concatenate([(first, 5.0), (second, 6.0)])
        # The second file begins at 6 s: what the first says from then on is of the time after its end.
        assert joined.times.tolist() == [5.0, 6.0, 7.0, 8.0]
        np.testing.assert_array_equal(joined.columns["v"], [0, 10, 11, NAN])
        assert joined.classes == ("a", "x", "y", None)
        assert (joined.merged_rows, joined.dates) == (2, False)

    def test_concatenate_cuts_piece_where_next_begins(self) -> None:
        pieces = [(telemetry([0, 1, 2, 3, 9], v=[piece] * 5), 2.0 * piece) for piece in range(3)]
        joined = concatenate(pieces)
        assert joined.times.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 13]
        assert joined.columns["v"].tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 2]
        assert joined.merged_rows == 6

    def test_concatenate_shifts_one_piece(self) -> None:
        joined = concatenate([(telemetry([0, 1], v=[1, 2]), -0.25)])
        assert joined.times.tolist() == [-0.25, 0.75]
        assert joined.classes == ()

    @given(
        pieces=st.lists(
            st.tuples(st.sets(st.integers(0, 9), min_size=1), st.integers(-5, 15)), min_size=1
        )
    )
    def test_concatenate_times_rise(self, pieces) -> None:
        kept, dropped = [], 0
        for number, (ticks, shift) in enumerate(pieces):
            for tick in sorted(ticks):
                kept.append((tick + shift, number))
            # Whatever comes before takes back what it said of this file's time.
            begins = min(ticks) + shift
            before = [row for row in kept if row[1] < number and row[0] >= begins]
            kept = [row for row in kept if row not in before]
            dropped += len(before)
        parts = [
            (telemetry(sorted(ticks), v=[number] * len(ticks)), shift)
            for number, (ticks, shift) in enumerate(pieces)
        ]
        joined = concatenate(parts)
        assert list(zip(joined.times, joined.columns["v"], strict=True)) == kept
        assert joined.times.tolist() == sorted(set(joined.times.tolist()))
        assert joined.merged_rows == dropped

    def test_concatenate_keeps_merged_counts(self) -> None:
        merged = dataclasses.replace(telemetry([0, 1], v=[1, 2]), merged_rows=3)
        # 3 each, and the second file's row at 1 s.
        assert concatenate([(merged, 0.0), (merged, 1.0)]).merged_rows == 7
        by_row = dataclasses.replace(telemetry(None, v=[1, 2]), merged_rows=3)
        assert concatenate_rows([(by_row, 2), (by_row, 1)]).merged_rows == 6

    def test_concatenate_refuses_dates_with_numbers(self) -> None:
        numbers = telemetry([0], v=[1])
        dates = Telemetry(numbers.times, True, numbers.columns)
        assert concatenate([(dates, 0.0)]).dates
        with pytest.raises(TelemetryError, match="dates in some and numbers in others"):
            concatenate([(numbers, 0.0), (dates, 0.0)])
        with pytest.raises(ValueError, match="rows that belong to frames"):
            concatenate([(telemetry(None, v=[1]), 0.0)])

    def test_concatenate_rows_fits_frames(self) -> None:
        short = telemetry(None, ("a", "b"), v=[1, 2])
        long = telemetry(None, ("x", "y", "z"), v=[7, 8, 9])
        joined = concatenate_rows([(short, 4), (long, 2), (short, 0), (short, 2)])
        assert joined.times is None
        np.testing.assert_array_equal(joined.columns["v"], [1, 2, NAN, NAN, 7, 8, 1, 2])
        assert joined.classes == ("a", "b", None, None, "x", "y", "a", "b")
        assert concatenate_rows([(telemetry(None, v=[1]), 1)]).classes == ()
        with pytest.raises(ValueError, match="rows belong to frames, got times"):
            concatenate_rows([(telemetry([0], v=[1]), 1)])
