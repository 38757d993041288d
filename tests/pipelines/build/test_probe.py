"""Footage looked at before it is planned: which headers and packets are read, and what they decide."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from pipelines.build.probe import Survey, in_parallel, probe_sources, survey_footage
from pipelines.decoding.client import DecoderPool, DecoderProcess
from pipelines.decoding.protocol import DecodingFailure
from pipelines.errors import UserError
from pipelines.options.dataset import (
    DatasetOptions,
    RunOptions,
    SamplingOptions,
    ShardOptions,
    SplitOptions,
)
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import Listing, Part, Probe, SideFile, Source, SourceFailure
from tfrecords_schema.spec import LabelSpec

BY_TIME = SplitOptions(split_by="time", splits=(("train", 0.75), ("test", 0.25)))
TRACK = SideFile(path="/in/track.csv", data_path="track.csv")


@pytest.fixture(scope="module")
def pool():
    pool = DecoderPool(1, timeout=20)
    yield pool
    pool.close()


@pytest.fixture
def asked(monkeypatch):
    """What decoders are asked, by kind and file name."""
    counts: Counter[tuple[str, str]] = Counter()
    for kind in ("probe", "extent"):
        ask = getattr(DecoderProcess, kind)

        def count(self, path, options, ask=ask, kind=kind):
            counts[kind, Path(path).name] += 1
            return ask(self, path, options)

        monkeypatch.setattr(DecoderProcess, kind, count)
    return counts


@pytest.fixture(scope="module")
def clips(write_video, tmp_path_factory):
    """Files of 2 s, which say that they were begun at 22:13:20, 22:13:22 and 22:13:54; and no video."""
    folder = tmp_path_factory.mktemp("clips")
    for number, second in ((1, 20), (2, 22), (4, 54)):
        plain = write_video(folder / f"plain_{number}.mp4", frames=50)
        with av.open(str(plain)) as source, av.open(str(folder / f"d_{number}.mp4"), "w") as output:
            output.metadata["creation_time"] = f"2023-11-14T22:13:{second}Z"
            stream = output.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
    (folder / "bad.mp4").write_text("words")
    (folder / "empty.mp4").write_bytes(b"")
    return folder


BEGUN = 1_700_000_000.0  # 22:13:20


def video(path: Path, **fields: Any) -> Source:
    return Source(id=path.name, path=str(path), data_path=path.name, group=path.name, **fields)


def drive(folder: Path, *names: str, shared: bool = False) -> Source:
    parts = tuple(
        Part(
            path=str(folder / name),
            data_path=name,
            bytes=(folder / name).stat().st_size,
            order=name[2:3],
            telemetry=None if shared else TRACK,
        )
        for name in names
    )
    first = parts[0]
    return Source(
        id="d",
        path=first.path,
        data_path=first.data_path,
        group=first.data_path,
        parts=parts,
        telemetry=TRACK if shared else None,
    )


def survey(
    pool: DecoderPool,
    *sources: Source,
    split: SplitOptions | None = None,
    num_frames: int = 4,
    frame_rate: float | None = None,
    **telemetry: Any,
) -> Survey:
    options = DatasetOptions(
        name="a",
        sampling=SamplingOptions(
            num_frames=num_frames, frame_rate=None if frame_rate is None else Fraction(frame_rate)
        ),
        split=split or SplitOptions(),
        telemetry=TelemetryOptions(**{"telemetry": "x.csv", "time_column": "t", **telemetry}),
    )
    return probe_sources(sources, options, pool, 2)


class TestVideos:
    def test_each_header_is_read_once(self, pool, clips, asked) -> None:
        path = clips / "d_1.mp4"
        spans = [video(path), video(path, start=1.0), video(clips / "d_2.mp4")]
        found = survey(pool, *spans)
        assert found.sources == tuple(spans)
        assert found.failures == ()
        probe = Probe(duration=2.0, frame_rate=25.0, cuttable=True, created=BEGUN)
        assert found.probes == {
            str(path): probe,
            str(clips / "d_2.mp4"): dataclasses.replace(probe, created=BEGUN + 2),
        }
        assert asked == {("probe", "d_1.mp4"): 1, ("probe", "d_2.mp4"): 1}

    def test_what_is_no_video_is_a_failure(self, pool, clips) -> None:
        found = survey(pool, *(video(clips / name) for name in ("bad.mp4", "d_1.mp4", "empty.mp4")))
        assert [source.id for source in found.sources] == ["d_1.mp4"]
        assert list(found.probes) == [str(clips / "d_1.mp4")]
        reason = "Invalid data found when processing input"
        assert found.failures == (
            SourceFailure(source="bad.mp4", stage="open", reason=reason),
            SourceFailure(source="empty.mp4", stage="open", reason=reason),
        )

    def test_the_clock_of_a_video_is_asked_for_only_where_it_counts(self, pool, clips) -> None:
        source = video(clips / "d_1.mp4", telemetry=TRACK)
        (by_file,) = survey(pool, source).sources
        (by_clock,) = survey(pool, source, time_origin="clock").sources
        assert (by_file.clock_start, by_clock.clock_start) == (None, BEGUN)
        (unknown,) = survey(pool, video(clips / "plain_1.mp4"), time_origin="clock").sources
        assert unknown.clock_start is None


class TestKnownAlready:
    """What listing found out needs no decoder."""

    @pytest.mark.parametrize(
        ("fields", "frame_rate", "probe"),
        [
            (
                {"kind": "telemetry", "seconds": 2.5, "frames": 10},
                None,
                Probe(duration=2.5, frame_rate=4.0, cuttable=False),
            ),
            # A single row lasts no time.
            (
                {"kind": "telemetry", "seconds": 0.0, "frames": 1},
                10,
                Probe(duration=0.0, frame_rate=10.0, cuttable=False),
            ),
            (
                {"kind": "telemetry", "seconds": 0.0, "frames": 1},
                None,
                Probe(duration=0.0, frame_rate=1.0, cuttable=False),
            ),
            (
                {"kind": "frames", "seconds": 2.0},
                20,
                Probe(duration=2.0, frame_rate=20.0, cuttable=True),
            ),
        ],
    )
    def test_it_is_not_looked_at(self, pool, asked, fields, frame_rate, probe) -> None:
        source = video(Path("/in/nowhere"), **fields)
        found = survey(pool, source, frame_rate=frame_rate)
        assert found == Survey(sources=(source,), probes={"/in/nowhere": probe}, failures=())
        assert not asked


class TestJoined:
    def test_packets_are_read_and_headers_are_not_asked_again(self, pool, clips, asked) -> None:
        found = survey(pool, drive(clips, "d_1.mp4", "d_2.mp4"))
        (source,) = found.sources
        assert (source.id, source.clock_start) == ("d", BEGUN)
        assert [Fraction(*part.shift) for part in source.parts] == [0, 2]
        assert [part.extent.frames for part in source.parts] == [50, 50]
        assert found.probes == {
            source.path: Probe(duration=4.0, frame_rate=25.0, cuttable=True, created=None)
        }
        assert asked == {("extent", "d_1.mp4"): 1, ("extent", "d_2.mp4"): 1}

    def test_a_drive_of_one_file(self, pool, clips) -> None:
        found = survey(pool, drive(clips, "d_1.mp4", shared=True))
        (source,) = found.sources
        assert (source.id, source.telemetry, len(source.parts)) == ("d", TRACK, 1)
        assert found.probes[source.path].duration == 2.0

    def test_a_gap_by_the_clock_makes_two_sources(self, pool, clips) -> None:
        found = survey(pool, drive(clips, "d_1.mp4", "d_2.mp4", "d_4.mp4", shared=True))
        assert [source.id for source in found.sources] == ["d#from=1", "d#from=4"]
        # 30 s are missing after 4: the third file begins 34 s after the first.
        assert [source.telemetry_start for source in found.sources] == [0.0, 34.0]
        assert [probe.duration for probe in found.probes.values()] == [4.0, 2.0]
        assert {source.group for source in found.sources} == {"d"}

    @pytest.mark.parametrize("bad", ["bad.mp4", "empty.mp4"])
    def test_a_file_that_is_no_video_is_a_failure_and_a_gap(self, pool, clips, bad) -> None:
        found = survey(pool, drive(clips, "d_1.mp4", bad, "d_2.mp4"))
        assert [[part.data_path for part in source.parts] for source in found.sources] == [
            ["d_1.mp4"],
            ["d_2.mp4"],
        ]
        (failure,) = found.failures
        assert (failure.source, failure.stage) == (bad, "open")
        none_left = survey(pool, drive(clips, bad))
        assert (none_left.sources, none_left.probes) == ((), {})
        assert [failure.source for failure in none_left.failures] == [bad]

    @pytest.mark.parametrize(
        ("template", "options", "usable"),
        [
            ("track.csv", {}, 0),
            ("track.csv", {"time_column": None}, 0),
            ("track.csv", {"time_origin": "clock"}, 1),
            ("track.GPX", {"time_origin": "clock", "time_column": None}, 1),
        ],
    )
    def test_behind_an_unknown_gap_shared_telemetry_needs_the_clock(
        self, pool, clips, template, options, usable
    ) -> None:
        source = drive(clips, "bad.mp4", "d_1.mp4", shared=True)
        track = SideFile(path=f"/in/{template}", data_path=template)
        source = dataclasses.replace(source, telemetry=track)
        found = survey(pool, source, telemetry=template, **options)
        assert len(found.sources) == usable
        assert len(found.failures) == 2 - usable
        if not usable:
            lost = found.failures[1]
            assert (lost.source, lost.stage) == ("d#from=1", "telemetry")
            assert lost.reason.startswith(
                f"a file is missing before d_1.mp4, so its position in {template} is unknown"
            )


class TestSplitByTime:
    def test_every_source_is_cut_into_a_block_a_split(self, pool, clips) -> None:
        found = survey(pool, video(clips / "d_1.mp4"), split=BY_TIME)
        # A sequence of 4 frames at 25 frames/s is left out; of the other 1.84 s, 3/4 and 1/4.
        assert [(source.split, source.start, source.end) for source in found.sources] == [
            ("train", None, 1.38),
            ("test", 1.54, None),
        ]
        assert len(found.probes) == 1

    def test_the_guard_is_a_sequence_of_the_rate_that_is_sampled(self, pool, clips) -> None:
        found = survey(pool, video(clips / "d_1.mp4"), split=BY_TIME, num_frames=4, frame_rate=10)
        assert [(source.start, source.end) for source in found.sources] == [
            (None, 1.2),
            (1.6, None),
        ]

    def test_joined_drives_are_cut_as_one(self, pool, clips) -> None:
        source = drive(clips, "d_1.mp4", "d_2.mp4")
        found = survey(pool, source, split=BY_TIME, num_frames=10, frame_rate=10)
        assert [(own.id, own.start, own.end) for own in found.sources] == [
            ("d#t=0,2.25", None, 2.25),
            ("d#t=3.25", 3.25, None),
        ]
        assert [len(own.parts) for own in found.sources] == [2, 2]

    def test_the_runs_of_a_drive_are_cut_as_one(self, pool, clips) -> None:
        """4 s and 2 s with a gap between them: of 5.6 s without the guard, 3/4 and 1/4."""
        source = drive(clips, "d_1.mp4", "d_2.mp4", "d_4.mp4")
        found = survey(pool, source, split=BY_TIME, num_frames=4, frame_rate=10)
        assert [(own.id, own.start, own.end, own.group) for own in found.sources] == [
            ("d#from=1#t=0", None, None, "d#train"),
            ("d#from=4#t=0,0.2", None, 0.2, "d#train"),
            ("d#from=4#t=0.6", 0.6, None, "d#test"),
        ]
        # A sequence of 2 s, the gap or not, is between the splits.
        found = survey(pool, source, split=BY_TIME, num_frames=4, frame_rate=2)
        assert [(own.id, own.split) for own in found.sources] == [
            ("d#from=1#t=0,3", "train"),
            ("d#from=4#t=1", "test"),
        ]

    def test_a_span_is_cut_within_itself(self, pool, clips) -> None:
        source = video(clips / "d_1.mp4", start=0.5, end=1.5)
        found = survey(pool, source, split=BY_TIME, num_frames=2, frame_rate=10)
        assert [(own.start, own.end) for own in found.sources] == [(0.5, 1.1), (1.3, 1.5)]
        # To the end of the file, where it names none; it may name more than there is.
        for end in (None, 9.0):
            source = video(clips / "d_1.mp4", start=1.0, end=end)
            found = survey(pool, source, split=BY_TIME, num_frames=2, frame_rate=10)
            assert [(own.start, own.end) for own in found.sources] == [(1.0, 1.6), (1.8, end)]

    def test_a_split_that_was_named_is_not_cut_into_others(self, pool, clips) -> None:
        source = video(clips / "d_1.mp4", split="test")
        with pytest.raises(UserError) as error:
            survey(pool, source, split=BY_TIME)
        assert str(error.value) == (
            "--split_by time cannot divide 'd_1.mp4', which a list, column or folder of splits puts into "
            "test. Leave out --split_by time, or the split that is given"
        )
        assert survey(pool, source).sources == (source,)

    def test_a_source_that_is_too_short_is_a_failure(self, pool, clips, write_video) -> None:
        two = write_video(clips / "two.mp4", frames=2)
        found = survey(pool, video(two), video(clips / "d_1.mp4"), split=BY_TIME, num_frames=2)
        assert {source.data_path for source in found.sources} == {"d_1.mp4"}
        assert found.failures == (
            SourceFailure(
                source="two.mp4",
                stage="list",
                reason="too short to be cut into blocks by --split_by time",
            ),
        )


class TestSurveyFootage:
    def test_a_source_whose_packets_are_unreadable_counts_once(self, clips, monkeypatch) -> None:
        good, bad = video(clips / "d_1.mp4"), video(clips / "d_2.mp4")
        index = DecoderProcess.index

        def damaged(self, request):
            if request.source == bad:
                raise DecodingFailure("open", "damaged")
            return index(self, request)

        monkeypatch.setattr(DecoderProcess, "index", damaged)
        options = DatasetOptions(
            name="a",
            sampling=SamplingOptions(num_frames=4),
            shard=ShardOptions(segment_length=0.5),
        )
        listing = Listing(name="a", sources=(good, bad), label=LabelSpec())
        found = survey_footage(listing, options, RunOptions(workers=1))
        assert found.sources == (good,)
        assert found.failures == (SourceFailure(source="d_2.mp4", stage="open", reason="damaged"),)
        assert found.num_sources == 2
        assert {segment.source for segment in found.segments} == {good}


class TestInParallel:
    def test_results_are_in_order_and_work_is_done_at_once(self) -> None:
        together = threading.Barrier(3, timeout=10)

        def work(item: int) -> int:
            together.wait()
            return item * item

        assert in_parallel(work, [5, 4, 3], 3, "Working") == [25, 16, 9]
        assert in_parallel(work, [], 3, "Working") == []

    def test_an_error_is_raised(self) -> None:
        with pytest.raises(ZeroDivisionError):
            in_parallel(lambda item: 1 // item, [1, 0], 1, "Working")


class TestEarlyStop:
    """Nothing but text files: each fails when it is probed."""

    @pytest.fixture
    def sources(self, tmp_path):
        def make(count, empty=()):
            made = []
            for number in range(count):
                path = tmp_path / f"{number:03d}.mp4"
                path.write_bytes(b"" if number in empty else b"no video" * 100)
                name = path.name
                made.append(
                    Source(id=name, path=str(path), data_path=name, group=name, labels=("a",))
                )
            return made

        return make

    def survey(self, pool, sources, rate):
        return probe_sources(sources, DatasetOptions(name="test"), pool, 1, max_failure_rate=rate)

    def test_the_rest_is_not_tried(self, pool, sources, asked):
        with pytest.raises(UserError) as error:
            self.survey(pool, sources(60), 0.05)
        text = str(error.value)
        assert "the first 20 of 60 files all failed with the same error" in text
        assert "open: Invalid data found when processing input" in text
        assert "019.mp4" in text
        assert sum(asked.values()) < 40

    @pytest.mark.parametrize(
        ("count", "empty", "rate"),
        [(60, (), 1.0), (60, (), 0.99), (20, (), 0.0), (60, (7,), 0.05)],
        ids=["all may fail", "most may fail", "nothing is left to try", "two reasons"],
    )
    def test_all_are_tried(self, pool, sources, count, empty, rate, monkeypatch):
        probe = DecoderProcess.probe

        def probe_twice(self, path, options):
            try:
                return probe(self, path, options)
            except DecodingFailure as failure:
                if Path(path).stat().st_size:
                    raise
                raise DecodingFailure("open", "empty") from failure

        monkeypatch.setattr(DecoderProcess, "probe", probe_twice)
        assert len(self.survey(pool, sources(count, empty), rate).failures) == count

    def test_as_many_are_tried_as_may_fail(self, pool, sources):
        with pytest.raises(UserError, match="the first 31 of 60 files"):
            self.survey(pool, sources(60), 0.5)
