"""Rows from the answers of a source, against an obvious computation over all of them at once."""

import csv
import io
import itertools
import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.prediction.columns import filled, make_columns
from pipelines.prediction.formats import RowFormat, suffix_of
from pipelines.prediction.lines import ModelOutput
from pipelines.prediction.rows import FrameTimes, Row, RowOptions, Window, make_rows
from tfrecords_schema.spec import LabelSpec

SPEED = LabelSpec(task="regression", target_names=("speed", "turn"), target_units=("m/s", "1/s"))
CLASSES = LabelSpec(task="classification", class_names=("run", "walk"))
SEVERAL = LabelSpec(task="multilabel", class_names=("a", "b"))


def windows_over(times, length, stride, values):
    """Windows of ``length`` frames, as a build cuts them from footage without a frame rate."""
    return [
        Window(start=times[i], end=times[i + length - 1], values=values(i))
        for i in range(0, len(times) - length + 1, stride)
    ]


def nearest(time, windows):
    return min(windows, key=lambda w: max(w.start - time, time - w.end, 0))


class TestFrames:
    @given(
        st.lists(st.integers(1, 90), min_size=6, max_size=40),
        st.integers(1, 5),
        st.integers(1, 6),
        st.sampled_from(["mean", "last"]),
        st.integers(1, 3),
    )
    def test_each_frame_has_the_windows_that_cover_it(self, gaps, length, stride, join, segments):
        times = np.cumsum(gaps).tolist()
        windows = windows_over(times, length, stride, lambda i: (float(i), 0.0))
        bounds = [len(times) * n // segments for n in range(segments + 1)]
        events = []
        for begin, end in pairwise(bounds):
            stop = times[end] if end < len(times) else math.inf
            events.append(FrameTimes(tuple(times[begin:end])))
            events += [w for w in windows if times[begin] <= w.start < stop]
        options = RowOptions(per="frame", output=ModelOutput(label=SPEED), join=join)
        rows = list(make_rows("a", events, options))
        assert [row.place for row in rows] == [
            {"source": "a", "frame": i, "time": time} for i, time in enumerate(times)
        ]
        for row, time in zip(rows, times, strict=True):
            covering = [w.values[0] for w in windows if w.start <= time <= w.end]
            if not covering:
                distance = min(max(w.start - time, time - w.end) for w in windows)
                at_distance = [
                    w.values[0] for w in windows if max(w.start - time, time - w.end) == distance
                ]
                assert row.values[0] in at_distance
            elif join == "last":
                assert row.values[0] == covering[0]
            else:
                assert row.values[0] == pytest.approx(sum(covering) / len(covering))

    def test_the_last_frame_of_a_window_is_held_until_the_next_slot(self):
        windows = [Window(start=s, end=s + 0.1, values=(s, 0.0)) for s in (0.0, 0.2)]
        events = [FrameTimes((0.0, 0.05, 0.1, 0.19, 0.2, 0.39)), *windows]
        options = RowOptions(per="frame", output=ModelOutput(label=SPEED), hold=0.0999)
        assert [row.values[0] for row in make_rows("a", events, options)] == [0, 0, 0, 0, 0.2, 0.2]

    def test_angles_are_averaged_on_the_circle(self):
        windows = [Window(start=0, end=1, values=(v, v)) for v in (350.0, 10.0)]
        for per in ("frame", "source"):
            options = RowOptions(per=per, output=ModelOutput(label=SPEED), is_angle=(True, False))
            (row,) = make_rows("a", [FrameTimes((0.5,)), *windows], options)
            turn, plain = row.values
            assert min(turn, 360 - turn) == pytest.approx(0, abs=1e-9)
            assert plain == 180

    @given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 200))
    def test_smoothing_is_the_mean_over_a_span_of_time(self, gaps, width):
        times = np.cumsum(gaps).tolist()
        windows = [Window(start=t, end=t, values=(float(t % 7), 0.0)) for t in times]
        options = RowOptions(per="frame", output=ModelOutput(label=SPEED), smooth=float(width))
        rows = list(make_rows("a", [FrameTimes(tuple(times)), *windows], options))
        for row, time in zip(rows, times, strict=True):
            near = [t % 7 for t in times if abs(t - time) <= width / 2]
            assert row.values[0] == pytest.approx(sum(near) / len(near))

    def test_answers_by_frame_are_taken_at_their_times(self):
        label = LabelSpec(task="regression", target_names=("v",), per_frame=True)
        windows = [
            Window(start=0, end=1, times=(0.0, 1.0), values=(1.0, 2.0)),
            Window(start=1, end=2, times=(1.0, 2.0), values=(4.0, 8.0)),
        ]
        events = [FrameTimes((0.0, 1.0, 2.0)), *windows]
        rows = make_rows("a", events, RowOptions(per="frame", output=ModelOutput(label=label)))
        assert [row.values for row in rows] == [(1.0,), (3.0,), (8.0,)]
        (row,) = make_rows("a", events, RowOptions(per="source", output=ModelOutput(label=label)))
        assert row.values == (15 / 4,)
        assert row.place == {"source": "a", "sequences": 2}


class TestSegments:
    def segments(self, scores, label=CLASSES, **options):
        times = tuple(map(float, range(len(scores))))
        windows = [Window(start=t, end=t, values=v) for t, v in zip(times, scores, strict=True)]
        options = RowOptions(per="segment", output=ModelOutput(label=label), **options)
        return [row.place for row in make_rows("a", [FrameTimes(times), *windows], options)]

    def test_equal_classes_are_merged(self):
        scores = [(0.9, 0.1), (0.7, 0.3), (0.2, 0.8), (0.6, 0.4)]
        one, two, three = self.segments(scores)
        assert one == {
            **{"source": "a", "start": 0.0, "end": 2.0, "first_frame": 0, "last_frame": 1},
            **{"class": "run", "score": 0.8},
        }
        assert (two["class"], two["start"], two["end"]) == ("walk", 2.0, 3.0)
        assert (three["class"], three["start"], three["end"]) == ("run", 3.0, 4.0)

    def test_short_and_unlikely_ones_are_left_out(self):
        scores = [(0.9, 0.1), (0.9, 0.1), (0.2, 0.8), (0.6, 0.4)]
        assert [s["start"] for s in self.segments(scores, min_seconds=2)] == [0.0]
        assert [s["start"] for s in self.segments(scores, min_score=0.7)] == [0.0, 2.0]

    def test_several_classes_overlap_in_order_of_their_start(self):
        scores = [(0.9, 0.1), (0.9, 0.6), (0.1, 0.6), (0.1, 0.1)]
        found = self.segments(scores, SEVERAL)
        assert [(s["class"], s["start"], s["end"], s["last_frame"]) for s in found] == [
            ("a", 0.0, 2.0, 1),
            ("b", 1.0, 3.0, 2),
        ]

    @given(
        st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4), st.integers(0, 4)), max_size=40),
        st.sampled_from([CLASSES, SEVERAL]),
        st.sampled_from([0.0, 0.5, 0.6]),
        st.sampled_from([0.0, 5.0, 12.0]),
    )
    def test_each_run_of_frames_with_a_class_is_one(self, frames, label, min_score, min_seconds):
        times = np.cumsum([gap for gap, _, _ in frames]).astype(float).tolist()
        scores = [(a / 4, b / 4) for _, a, b in frames]
        last_gap = frames[-1][0] if len(frames) > 1 else 0
        ends = [*times[1:], *(time + last_gap for time in times[-1:])]
        expected = []
        for column, name in enumerate(label.class_names):
            shown = [
                own[column] >= 0.5 if label is SEVERAL else (own[1] > own[0]) == bool(column)
                for own in scores
            ]
            for first, last in itertools.combinations_with_replacement(range(len(times)), 2):
                is_whole = not any(
                    shown[i : i + 1] == [True] for i in (first - 1, last + 1) if i >= 0
                )
                mean = np.mean([own[column] for own in scores[first : last + 1]])
                seconds = ends[last] - times[first]
                is_kept = mean >= min_score and seconds >= min_seconds
                if all(shown[first : last + 1]) and is_whole and is_kept:
                    expected.append((times[first], ends[last], first, last, name))
        windows = [Window(start=t, end=t, values=own) for t, own in zip(times, scores, strict=True)]
        options = RowOptions(
            per="segment",
            output=ModelOutput(label=label),
            min_score=min_score,
            min_seconds=min_seconds,
        )
        rows = list(make_rows("a", [FrameTimes(tuple(times)), *windows], options))
        fields = ("start", "end", "first_frame", "last_frame", "class")
        found = [tuple(row.place[name] for name in fields) for row in rows]
        assert sorted(found) == sorted(expected)
        assert [row[0] for row in found] == sorted(row[0] for row in found)


def written(name, columns, rows, per="sequence", label=SPEED):
    file = io.BytesIO()
    RowFormat.of(name, columns, per, ModelOutput(label=label)).write(rows, file)
    return file.getvalue()


ROWS = [
    Row(place={"source": "d/1.mp4", "start": 0.0, "end": 0.5}, values=(1.5, math.nan)),
    Row(place={"source": "d/2.mp4"}, reason="open: no video"),
]


class TestFormats:
    def test_a_table_has_all_fields(self):
        lines = list(csv.reader(io.StringIO(written("p.csv", (), ROWS).decode())))
        assert lines == [
            ["source", "start", "end", "speed", "turn", "reason"],
            ["d/1.mp4", "0.0", "0.5", "1.5", "", ""],
            ["d/2.mp4", "", "", "", "", "open: no video"],
        ]

    def test_columns_are_named_and_made_of_templates(self):
        columns = ("id={stem}", "speed", "text={source} at {start:.2f}")
        assert written("p.CSV", columns, ROWS).decode().splitlines() == [
            "id,speed,text",
            "1,1.5,d/1.mp4 at 0.00",
            "2,,",
        ]

    def test_probabilities_of_classes(self):
        rows = [Row(place={"source": "a", "sequences": 2}, values=(0.25, 0.75))]
        columns = ("class", "p={p:walk}")
        assert written("p.csv", columns, rows, "source", CLASSES) == b"class,p\nwalk,0.75\n"
        (line,) = map(json.loads, written("p.jsonl", columns, rows, "source", CLASSES).splitlines())
        assert line == {"class": "walk", "p": 0.75}

    @pytest.mark.parametrize("name", ["a,b", "x, y", "a=b", "50% [ü]: c", "{", "a}b", "x!r", "0"])
    def test_classes_of_any_name(self, name):
        label = LabelSpec(task="classification", class_names=(name, "z"))
        rows = [Row(place={"source": "a"}, values=(0.75, 0.25))]
        words = ("id={source}", f"p:{name}")
        assert written("p.csv", words, rows, "source", label).endswith(b"\na,0.75\n")
        if not set(name) & {"{", "}"}:
            assert (
                written("p.csv", (f"p={{p:{name}}}!,id={{source}}",), rows, "source", label)
                == b"p,id\n0.75!,a\n"
            )

    def test_targets_named_like_other_fields(self):
        label = LabelSpec(task="regression", target_names=("time", "reason"))
        rows = [Row(place={"source": "a", "frame": 3, "time": 0.5}, values=(7.0, 8.0))]
        assert written("p.csv", (), rows, "frame", label).decode().splitlines() == [
            "source,frame,time,predicted_time,predicted_reason,reason",
            "a,3,0.5,7.0,8.0,",
        ]
        single = LabelSpec(task="regression", target_names=("time",))
        (row,) = rows
        assert written("p.txt", (), [replace(row, values=(7.0,))], "frame", single) == b"7.0\n"

    def test_parquet_has_types(self):
        table = pyarrow.parquet.read_table(io.BytesIO(written("p.parquet", (), ROWS)))
        assert table.to_pydict() == {
            **{"source": ["d/1.mp4", "d/2.mp4"], "start": [0.0, None], "end": [0.5, None]},
            **{"speed": [1.5, None], "turn": [None, None], "reason": [None, "open: no video"]},
        }

    def test_plain_values(self):
        assert written("p.txt", ("speed",), ROWS) == b"1.5\n\n"
        label = LabelSpec(task="regression", target_names=("v",))
        rows = [Row(place={"source": "a", "frame": i, "time": i}, values=(i,)) for i in range(3)]
        assert written("p.txt", (), rows, "frame", label) == b"0.0\n1.0\n2.0\n"
        with pytest.raises(UsageError, match=r"one value a line.*speed, turn"):
            written("p.txt", (), ROWS)

    def test_missing_values_are_filled(self):
        rows = [filled(row, (0.0, 0.25)) for row in ROWS]
        assert written("p.csv", ("source", "speed", "turn"), rows).decode().splitlines()[1:] == [
            "d/1.mp4,1.5,0.25",
            "d/2.mp4,0.0,0.25",
        ]
        assert rows[1].reason

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (("sped",), "no field is called 'sped', did you mean speed"),
            (("a={source",), "NAME={FIELD}"),
            (("a={class}",), "no field is called 'class'"),
            (("speed", "speed={turn}"), "distinct names"),
            (("id={source:.2f}",), "Unknown format code"),
            (("v={speed:d}",), "Unknown format code"),
            (("v={speed!r}",), "cannot be converted"),
        ],
    )
    def test_columns_that_are_not_there(self, columns, message):
        with pytest.raises(UsageError, match=message):
            make_columns(columns, "sequence", SPEED)

    def test_unknown_suffixes_and_tables_of_whole_sequences(self):
        with pytest.raises(
            UsageError, match=r"must end in .jsonl, .csv, .parquet, .txt, got p.xls"
        ):
            suffix_of("p.xls")
        label = LabelSpec(task="regression", target_names=("v",), per_frame=True)
        with pytest.raises(UsageError, match="Give --every_frame"):
            RowFormat.of("p.csv", (), "sequence", ModelOutput(label=label))
