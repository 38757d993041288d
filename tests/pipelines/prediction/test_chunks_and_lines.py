"""The parts of `pipelines predict` that need no model: chunks, lines and captions."""

import json
import math
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.build.shard import segment_truncation
from pipelines.decoding.protocol import Caption, SegmentResult
from pipelines.plan.descriptors import Segment, Source, SourceFailure
from pipelines.prediction.captions import make_captions
from pipelines.prediction.chunks import CHUNK_SECONDS, MIN_CHUNKS, Chunk, plan_chunks
from pipelines.prediction.formats import RowFormat
from pipelines.prediction.lines import ModelOutput, json_line
from pipelines.prediction.publish import ChunkReport, write_chunk
from pipelines.prediction.rows import FrameTimes, Row, RowOptions, Window, make_rows
from pipelines.prediction.sequences import Answer, Item
from pipelines.prediction.work import WorkFolder
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.running import scratch
from tfrecords_schema.spec import LabelSpec


def make_segment(name, first_slot=0, seconds=10.0, start=None):
    source_id = name if start is None else f"{name}#t={start:g}"
    source = Source(
        id=source_id, path=f"/x/{name}", data_path=name, group=name, start=start, end=None
    )
    return Segment(source=source, first_slot=first_slot, seconds=seconds)


class TestChunks:
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abcde"), st.integers(0, 5), st.floats(0, 5000, allow_nan=False)
            ),
            unique_by=lambda item: item[:2],
            max_size=30,
        ),
        st.randoms(),
    )
    def test_every_segment_is_in_one_chunk_in_order_however_they_were_listed(self, items, random):
        segments = [make_segment(*item) for item in items]
        shuffled = random.sample(segments, len(segments))
        chunks = plan_chunks(shuffled)
        assert chunks == plan_chunks(segments)
        dealt = [segment for chunk in chunks for segment in chunk.segments]
        assert dealt == sorted(segments, key=lambda s: (s.source.id, s.first_slot))
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
        assert all(chunk.segments for chunk in chunks)

    def test_spans_of_one_file_are_in_order_of_time_and_not_of_text(self):
        segments = [make_segment("a.mp4", start=20.0), make_segment("a.mp4", start=5.0)]
        (chunk,) = plan_chunks(segments[1:])
        assert chunk.segments == (segments[1],)
        ordered = [s.source.start for c in plan_chunks(segments) for s in c.segments]
        assert ordered == [5.0, 20.0]

    def test_a_few_clips_are_shared_by_many_workers(self):
        segments = [make_segment(f"{i:03d}", seconds=3.0) for i in range(100)]
        assert len(plan_chunks(segments)) == MIN_CHUNKS

    def test_chunks_of_many_clips_are_of_the_planned_length(self):
        segments = [make_segment(f"{i:05d}", seconds=3.0) for i in range(20_000)]
        chunks = plan_chunks(segments)
        assert len(chunks) == 20_000 * 3 / CHUNK_SECONDS
        assert {len(chunk.segments) for chunk in chunks} == {200}

    def test_json_and_back(self):
        (chunk,) = plan_chunks([make_segment("ä\udcff.mp4")])
        assert from_json(type(chunk), json.loads(json.dumps(to_json(chunk)))) == chunk


def line(label, values, *, times=(), thresholds=()):
    window = Window(start=1.0, end=1.75, times=times, values=tuple(values))
    output = ModelOutput(label=label, thresholds=thresholds)
    (row,) = make_rows("a.mp4", [window], RowOptions(per="sequence", output=output))
    return json.loads(json.dumps(json_line(row, output)))


class TestLines:
    def test_a_classification(self):
        label = LabelSpec(task="classification", class_names=("run", "walk"))
        assert line(label, (0.25, 0.75)) == {
            "source": "a.mp4",
            "start": 1.0,
            "end": 1.75,
            "class": "walk",
            "probabilities": {"run": 0.25, "walk": 0.75},
        }

    def test_several_classes_may_be_there_or_none(self):
        label = LabelSpec(task="multilabel", class_names=("a", "b", "c"))
        assert line(label, (0.5, 0.1, 0.9))["classes"] == ["a", "c"]
        assert line(label, (0.49, 0.1, 0.2))["classes"] == []
        tuned = line(label, (0.49, 0.1, 0.2), thresholds=(0.5, 0.05, 0.2))
        assert tuned["classes"] == ["b", "c"]

    def test_a_regression_has_units(self):
        label = LabelSpec(
            task="regression", target_names=("speed", "turn"), target_units=("m/s", "")
        )
        found = line(label, (12.5, -0.25))
        assert found["values"] == {"speed": 12.5, "turn": -0.25}
        assert found["units"] == {"speed": "m/s", "turn": ""}

    def test_values_have_the_digits_of_a_float32(self):
        label = LabelSpec(task="regression", target_names=("speed",))
        assert line(label, (0.100000001490116,))["values"] == {"speed": 0.1}
        assert "units" not in line(label, (1.0,))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_no_number_is_null(self, value):
        label = LabelSpec(task="regression", target_names=("speed",))
        assert line(label, (value,))["values"] == {"speed": None}
        classes = LabelSpec(task="classification", class_names=("a", "b"))
        assert line(classes, (value, value))["class"] is None
        assert line(classes, (value, 0.25))["class"] == "b"

    def test_labels_by_frame(self):
        label = LabelSpec(
            task="regression", target_names=("x", "y"), target_units=("m", "m"), per_frame=True
        )
        found = line(label, (1, 2, 3, 4), times=(1.0, 1.75))
        assert found["frames"] == [
            {"time": 1.0, "values": {"x": 1.0, "y": 2.0}},
            {"time": 1.75, "values": {"x": 3.0, "y": 4.0}},
        ]
        assert found["units"] == {"x": "m", "y": "m"}


def speed(start, end, value=1.0):
    return {"start": start, "end": end, "values": {"v": value}, "units": {"v": "m/s"}}


class TestCaptions:
    def test_sequences_one_after_the_other(self):
        lines = [speed(0.0, 0.3, 1), speed(0.4, 0.7, 2)]
        assert make_captions(lines, num_frames=4, at_end=False) == [
            Caption(start=0.0, lines=("v 1 m/s",)),
            Caption(start=0.4, lines=("v 2 m/s",)),
            Caption(start=pytest.approx(0.8), lines=()),
        ]

    def test_offsets_are_added_with_all_their_digits(self):
        names, offsets = ("t", "v"), (1.7e9, 0.0)
        label = LabelSpec(task="regression", target_names=names, target_offsets=offsets)
        answer = line(label, (12.3456789, 12.3456789))
        assert answer["values"] == {"t": 1700000012.34568, "v": 12.34568}
        (shown, _) = make_captions([answer], num_frames=4, at_end=False, offsets=offsets)
        assert shown.lines == ("t 1700000012.35", "v 12.35")

    def test_nothing_is_shown_in_a_gap(self):
        lines = [speed(0.0, 0.3, 1), speed(2.0, 2.3, 2)]
        shown = make_captions(lines, num_frames=4, at_end=False)
        starts = [(caption.start, bool(caption.lines)) for caption in shown]
        assert starts == [
            (0.0, True),
            (pytest.approx(0.4), False),
            (2.0, True),
            (pytest.approx(2.4), False),
        ]

    @pytest.mark.parametrize(("at_end", "change"), [(False, 0.5), (True, 0.7)])
    def test_of_overlapping_ones_the_nearest_is_shown(self, at_end, change):
        lines = [speed(0.0, 0.6, 1), speed(0.4, 1.0, 2)]
        shown = make_captions(lines, num_frames=7, at_end=at_end)
        # By the end, the first one would be shown beyond its own: it stays for the moment of a frame.
        assert shown[1].lines == ("v 2 m/s",)
        assert shown[1].start == pytest.approx(change)

    def test_frames_have_captions_of_their_own(self):
        frames = [
            {"time": t, "class": c, "probabilities": {c: 1.0}} for t, c in ((0, "a"), (1, "b"))
        ]
        (first, second, end) = make_captions(
            [{"start": 0.0, "end": 1.0, "frames": frames}], num_frames=2, at_end=False
        )
        assert (first.lines, second.lines, end.lines) == (("a 100%",), ("b 100%",), ())
        assert (first.start, second.start, end.start) == (0, 1, 2)

    def test_classes_are_the_likeliest_first_and_few(self):
        probabilities = {"a": 0.6, "b": 0.9, "c": 0.1, "d": 0.7, "e": 0.8}
        many = {"start": 0.0, "end": 1.0, "classes": list("abde"), "probabilities": probabilities}
        none = {**many, "classes": []}
        assert make_captions([many], num_frames=2, at_end=False)[0].lines == (
            *("b 90%", "e 80%", "d 70%"),
        )
        assert make_captions([none], num_frames=2, at_end=False)[0].lines == ("b 90%",)

    @given(
        st.lists(st.integers(0, 300), min_size=1, max_size=20, unique=True),
        st.integers(1, 40),
        st.booleans(),
    )
    def test_at_any_time_what_is_shown_is_of_a_sequence_that_is_there(self, starts, length, at_end):
        lines = [speed(s / 10, (s + length) / 10, i) for i, s in enumerate(sorted(starts))]
        shown = make_captions(lines, num_frames=length + 1, at_end=at_end)
        times = [caption.start for caption in shown]
        assert times == sorted(set(times))
        assert shown[-1].lines == ()
        for tick in range(0, 3500, 7):
            time = tick / 100
            text = [caption.lines for caption in shown if caption.start <= time][-1:]
            index = int(text[0][0].split()[1]) if text and text[0] else None
            there = [
                i for i, one in enumerate(lines) if one["start"] <= time <= one["end"] + 0.15 + 1e-9
            ]
            if index is None:
                inside = [i for i in there if time <= lines[i]["end"]]
                assert not inside
            else:
                assert index in there


class TestWriteChunk:
    @pytest.mark.parametrize(
        ("damaged_seconds", "expected"),
        [(None, 9.5), (2.25, 2.25)],
        ids=["ends early", "damaged in the middle"],
    )
    def test_a_truncated_source_is_reported_where_a_build_reports_it(
        self, tmp_path, damaged_seconds, expected
    ):
        segment = make_segment("a.mp4")
        result = SegmentResult(
            sequences=1,
            truncated="a frame does not decode",
            damaged_seconds=damaged_seconds,
            last_seconds=9.5,
        )
        answer = Answer(start=0, end=1, values=(0.5,))
        items = [
            Item(chunk=0, content=answer),
            Item(chunk=0, content=result, is_last=True),
        ]
        with WorkFolder.locked(str(tmp_path / "p.jsonl")) as work:
            report = write_chunk(Chunk(index=0, segments=(segment,)), items, 2, work)
        assert report.failures == (segment_truncation(segment, result),)
        assert report.failures[0].seconds == expected


class TestWorkFolder:
    def test_a_local_output_is_not_written_by_way_of_another_disk(self, tmp_path, monkeypatch):
        scratch.remove_scratch()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        report = ChunkReport(chunk=0, sequences=1, failures=(), kept=(), empty=())
        answers = [("a", FrameTimes((0.0, 0.1))), ("a", Window(start=0.0, end=1.0, values=(0.5,)))]
        with WorkFolder.locked(str(tmp_path / "p.csv")) as work:
            work.begin("key", [], ["a"])
            work.write_part(0, answers, report)
            assert list(work.answers(1)) == answers
            assert list(work.answers_in(work.ranges()["a"])) == [own for _, own in answers]
            assert work.reports(ChunkReport) == {0: report}
            label = LabelSpec(task="regression", target_names=("v",))
            row_format = RowFormat.of("p.csv", ("v",), "sequence", ModelOutput(label=label))
            rows = [Row(place={"source": "a"}, values=(0.5,))]
            work.write_output(lambda file: row_format.write(rows, file))
            work.store_failures([SourceFailure(source="d", stage="open", reason="no video")])
            work.remove()
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "p.csv": "v\n0.5\n",
            "p.failures.jsonl": '{"source": "d", "stage": "open", "reason": "no video", "seconds": null, '
            '"truncated": false}\n',
        }
