"""Rows of telemetry as footage: their times, against steps counted one by one."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.decoding.footage import Frame
from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.telemetry_rows import TelemetryRows
from pipelines.labels.rows import Telemetry

NTSC = Fraction(30000, 1001)


def telemetry(times: list[float] | None, rows: int = 0) -> Telemetry:
    count = rows if times is None else len(times)
    return Telemetry(
        times=None if times is None else np.array(times, np.float64),
        dates=False,
        columns={"v": np.arange(count, dtype=np.float64)},
    )


def footage(
    times: list[float] | None, rate: Fraction | int | None = None, rows: int = 0, **fields: float
) -> TelemetryRows:
    return TelemetryRows(telemetry(times, rows), None if rate is None else Fraction(rate), **fields)


def microseconds(rows: TelemetryRows) -> list[int]:
    return [frame.pts for frame in rows.frames()]


class TestTimes:
    def test_frames_are_rows(self) -> None:
        rows = footage([-0.5, 0.0, 0.25, 7.000001])
        assert microseconds(rows) == [-500_000, 0, 250_000, 7_000_001]
        assert rows.first_pts() == rows.origin_pts() == rows.begins_at == -500_000
        assert rows.declared_seconds == 7.500001
        assert (rows.time_base, rows.tolerance) == (Fraction(1, 10**6), Fraction(1, 10**6))

    def test_frames_are_steps_of_rate_from_first_to_last_row(self) -> None:
        assert microseconds(footage([2.0, 2.1, 3.0], 4)) == [
            2_000_000,
            2_250_000,
            2_500_000,
            2_750_000,
            3_000_000,
        ]
        assert microseconds(footage([2.0, 2.999], 4))[-1] == 2_750_000
        # Written times are rounded: what lacks half a microsecond is there.
        assert microseconds(footage([2.0, 2.9999995], 4))[-1] == 3_000_000
        assert microseconds(footage([5.0], 4)) == [5_000_000]
        assert footage([5.0], 4).declared_seconds == 0.0

    def test_rows_without_times_are_steps_of_rate(self) -> None:
        assert microseconds(footage(None, NTSC, rows=4)) == [0, 33_367, 66_733, 100_100]
        assert footage(None, 20, rows=5).declared_seconds == 0.2
        assert microseconds(footage(None, 20, rows=1)) == [0]

    def test_steps_do_not_drift_over_an_hour(self) -> None:
        rows = footage(None, NTSC, rows=108_001)
        # 108,000 frames at 30000/1001 a second last 3603.6 s.
        assert rows.declared_seconds == 3603.6

    @given(
        first=st.integers(-(10**9), 2 * 10**15),
        steps=st.integers(0, 200),
        more=st.integers(0, 999),
        rate=st.sampled_from([Fraction(1), Fraction(10), NTSC, Fraction(240), Fraction(1, 3)]),
    )
    def test_steps_match_counting(self, first, steps, more, rate) -> None:
        """Times since 1970, too: their floats have a microsecond."""
        begin = first / 10**6
        end = begin + float(steps / rate) + more / 1000 / float(rate)
        expected = 1
        while Fraction(expected) / rate <= Fraction(end) - Fraction(begin) + Fraction(1, 10**6):
            expected += 1
        rows = footage([begin, end], rate) if end > begin else footage([begin], rate)
        times = microseconds(rows)
        assert abs(len(times) - expected) <= (more in (0, 999))
        assert times == [round(begin * 1e6) + round(k / rate * 10**6) for k in range(len(times))]

    @pytest.mark.parametrize(
        ("times", "rows"), [([0.0, 4e-7], "1 and 2"), ([0.0, 1.0, 1.0000004], "2 and 3")]
    )
    def test_rows_closer_than_a_microsecond_fail(self, times, rows) -> None:
        with pytest.raises(DecodingFailure) as failure:
            footage(times)
        assert failure.value.stage == "telemetry"
        assert failure.value.reason == (
            f"rows {rows} are less than a microsecond apart, the finest time that records hold: "
            "remove one of them"
        )
        # Steps of a rate do not care.
        assert len(microseconds(footage(times, 1))) == 1 + math.floor(times[-1])
        assert microseconds(footage([0.0, 1e-6])) == [0, 1]

    def test_rows_without_times_need_a_rate(self) -> None:
        with pytest.raises(ValueError, match="rows without times need a frame rate"):
            footage(None, rows=3)


class TestEntering:
    ROWS = (0.0, 1.0, 3.0, 6.0)

    @pytest.mark.parametrize(
        ("near", "first"),
        [(-5, 0), (0, 0), (999_999, 0), (1_000_000, 1), (5_999_999, 2), (6_000_000, 3), (9**9, 3)],
    )
    @pytest.mark.parametrize("exactly", [False, True])
    def test_frames_start_at_any_row(self, near, first, exactly) -> None:
        rows = footage([*self.ROWS])
        times = [round(seconds * 1e6) for seconds in self.ROWS]
        assert list(rows.frames(near=near, exactly=exactly)) == [
            Frame(pts, rank) for rank, pts in enumerate(times[first:])
        ]

    def test_rows_beyond_max_gap_are_a_break(self) -> None:
        rows = footage([*self.ROWS], max_gap=2.0)
        frames = list(rows.frames())
        assert [frame.after_break for frame in frames] == [False, False, False, True]
        assert [frame.rank for frame in frames] == [0, 1, 2, 4]  # a place is left empty
        assert rows.breaks == 1
        # What reading begins with follows nothing.
        rows = footage([*self.ROWS], max_gap=2.0)
        assert [frame.after_break for frame in rows.frames(near=6_000_000)] == [False]
        assert rows.breaks == 0

    def test_steps_of_rate_do_not_break(self) -> None:
        """Gaps between rows are handled when the value at a step is measured."""
        rows = footage([*self.ROWS], 2, max_gap=0.1)
        assert not any(frame.after_break for frame in rows.frames())
        assert rows.breaks == 0

    def test_packet_times_are_rows(self) -> None:
        rows = footage([*self.ROWS])
        times, enterable = rows.packet_times()
        assert times.tolist() == microseconds(rows)
        assert times.dtype == np.int64
        assert enterable.tolist() == [True] * 4

    def test_rows_are_complete_and_have_no_pictures(self) -> None:
        rows = footage([*self.ROWS])
        (frame, *_) = rows.frames()
        assert (rows.cuttable, rows.breaks, rows.unordered, rows.truncated) == (True, 0, 0, None)
        assert frame.picture is None
