"""One shard: its bytes, its report, what it keeps and what it leaves behind when it fails."""

import dataclasses
import errno
import hashlib
import itertools
import json
import os
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from pipelines.build.output import OutputFolder
from pipelines.build.shard import ShardBuilder, ShardReport, library_versions, sum_counts
from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.protocol import SegmentCounts, SegmentResult
from pipelines.options.dataset import DatasetOptions, ImageOptions, LabelOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import Segment, Shard, SideFile, Source
from tests.pipelines.conftest import Recorder
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.examples import decode_record
from tfrecords_schema.moments import Moments
from tfrecords_schema.records import read_file
from tfrecords_schema.spec import LabelSpec, SequenceSpec

CLASSES = ("jump", "run", "wave")
OPTIONS = DatasetOptions(
    name="actions",
    sampling=SamplingOptions(num_frames=5, frame_rate=Fraction(10), stride=2),
    image=ImageOptions(size=(24, 32)),
)
LABEL = LabelSpec(task="multilabel", class_names=CLASSES)

# Runs the real decoder, but for sources whose name says what else to do after two records.
TROUBLED = """
import os, signal, sys, time
from pipelines.decoding import child, segments

def build(request, send, on_progress):
    sent = 0
    name = os.path.basename(request.segment.source.path)

    def count(record):
        nonlocal sent
        send(record)
        sent += 1
        if sent == 2 and name.startswith("crash"):
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGSEGV)
        if sent == 2 and name.startswith("hang"):
            time.sleep(60)

    return segments.build_segment(request, count, on_progress)

child.build_segment = build
child.main()
"""


@pytest.fixture(scope="module")
def clips(write_video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for name, frames in {"a": 50, "b": 75, "c": 30}.items():
        write_video(folder / f"{name}.mp4", frames=frames, b_frames=2)
    return folder


@pytest.fixture(scope="module")
def decoder():
    decoder = DecoderProcess(timeout=20)
    yield decoder
    decoder.close()


@pytest.fixture
def output(tmp_path):
    folder = OutputFolder(str(tmp_path / "out"))
    with folder.locked():
        folder.begin(OPTIONS.to_json(), {}, [])
        yield folder


def make_source(path, *labels, **fields):
    status = os.stat(path)
    return Source(
        id=path.name,
        path=str(path),
        data_path=f"videos/{path.name}",
        group=path.stem,
        labels=labels,
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        **fields,
    )


def make_shard(*sources, index=0):
    segments = tuple(Segment(source=source) for source in sources)
    return Shard(split="train", index=index, count=3, segments=segments)


def make_builder(output, options=OPTIONS, label=LABEL, versions=None):
    spec = SequenceSpec(
        num_frames=options.sampling.num_frames,
        frame_rate=float(options.sampling.frame_rate),
        image=options.image.spec,
        label=label,
        signals=options.telemetry.signals if options.telemetry else (),
    )
    return ShardBuilder(
        output=output, spec=spec, options=options, versions=versions or library_versions()
    )


def three(clips):
    return [
        make_source(clips / "a.mp4", "jump"),
        make_source(clips / "b.mp4", "jump", "wave"),
        make_source(clips / "c.mp4", "wave"),
    ]


def partials(output):
    return list(Path(output.path).rglob("*.partial"))


class TestBuild:
    def test_the_same_bytes_twice(self, clips, decoder, output):
        builder, sources = make_builder(output), three(clips)
        reports = []
        for index in range(2):
            reports.append(builder.build(make_shard(*sources, index=index), decoder, Recorder()))
        first, second = (Path(output.path) / report.file for report in reports)
        assert first.name == "train-00000-of-00003.tfrecord"
        assert first.read_bytes() == second.read_bytes()
        assert reports[0].sha256 == reports[1].sha256
        assert not partials(output)

    def test_segments_of_one_source_are_the_source(self, clips, decoder, output):
        source = make_source(clips / "b.mp4", "run")
        parts = (
            Segment(source=source, end_slot=10),
            Segment(source=source, first_slot=10, end_slot=15),
            Segment(source=source, first_slot=15),
        )
        builder, whole = make_builder(output), make_shard(source)
        cut = dataclasses.replace(whole, index=1, segments=parts)
        reports = [builder.build(shard, decoder, Recorder()) for shard in (whole, cut)]
        assert reports[0].sha256 == reports[1].sha256
        assert reports[0].records == reports[1].records == 13

    def test_the_report_tells_what_is_in_the_file(self, clips, decoder, output):
        builder, recorder = make_builder(output), Recorder()
        report = builder.build(make_shard(*three(clips)), decoder, recorder)
        path = Path(output.path) / report.file
        records = [decode_record(stored.data, builder.spec) for stored in read_file(path)]
        assert report.records == recorder.total == len(records) == 8 + 13 + 4
        assert report.bytes == path.stat().st_size
        assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        labels = Counter(index for record in records for index in record.label_indices)
        assert (
            report.segments.label_counts
            == tuple(labels[index] for index in range(3))
            == (21, 0, 17)
        )
        assert [record.media_id for record in records] == (
            ["a.mp4"] * 8 + ["b.mp4"] * 13 + ["c.mp4"] * 4
        )
        assert report.failures == ()
        assert report.segments.sequences == len(records)
        assert report.segments.pixel_count == len(records) * 5 * 24 * 32
        assert (report.split, report.fingerprint) == (
            "train",
            builder.fingerprint(make_shard(*three(clips))),
        )
        stored = json.loads(json.dumps(to_json(report)))
        assert from_json(ShardReport, stored) == report

    def test_moments_of_regression_targets(self, clips, decoder, output):
        label = LabelSpec(
            task="regression", target_names=("speed", "turn"), target_units=("m/s", "rad/s")
        )
        sources = [
            make_source(clips / "a.mp4", values=(2.0, -1.0)),
            make_source(clips / "c.mp4", values=(5.0, 0.5)),
        ]
        builder = make_builder(output, label=label)
        report = builder.build(make_shard(*sources), decoder, Recorder())
        values = [
            decode_record(stored.data, builder.spec).label_values
            for stored in read_file(Path(output.path) / report.file)
        ]
        assert len(values) == 12
        for target in range(2):
            own = [value[target] for value in values]
            mean = sum(own) / len(own)
            moments = report.segments.targets[target]
            assert moments.mean == pytest.approx(mean)
            assert moments.deviations == pytest.approx(sum((v - mean) ** 2 for v in own))
            assert (moments.min, moments.max) == (min(own), max(own))
        assert report.segments.label_counts == ()
        assert from_json(ShardReport, json.loads(json.dumps(to_json(report)))) == report

    def test_counts_and_moments_of_telemetry(self, clips, decoder, output, tmp_path):
        """25 frames/s, sampled at 10: with a row every 0.2 s, every other frame is between two."""
        rows = "".join(f"{t / 5},{t * t},{-t}\n" for t in range(6))  # the last row is at 1 s
        (tmp_path / "a.csv").write_text("t,speed,yaw\n" + rows)
        options = dataclasses.replace(
            OPTIONS,
            label=LabelOptions(label_columns=("speed",), label_at="each"),
            telemetry=TelemetryOptions(
                telemetry="{stem}.csv",
                time_column="t",
                signal_columns=("yaw", "speed"),
                interpolate="hold",
            ),
        )
        builder = make_builder(
            output,
            options,
            label=LabelSpec(task="regression", target_names=("speed",), per_frame=True),
        )
        status = os.stat(tmp_path / "a.csv")
        track = SideFile(
            path=str(tmp_path / "a.csv"),
            data_path="a.csv",
            bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )
        source = make_source(clips / "a.mp4", telemetry=track)
        report = builder.build(make_shard(source), decoder, Recorder())
        records = [
            decode_record(stored.data, builder.spec)
            for stored in read_file(Path(output.path) / report.file)
        ]
        # The last row holds for half an interval, to 1.1 s: of the slots 0 to 19, 12 and later are without.
        slots = {0: range(5), 2: range(2, 7), 4: range(4, 9), 6: range(6, 11)}
        assert [record.id for record in records] == [f"a.mp4@{slot * 100_000}" for slot in slots]
        steps = [slot // 2 for window in slots.values() for slot in window]
        speeds = [float(step * step) for step in steps]
        assert [value for record in records for (value,) in record.frame_label_values] == speeds
        assert report.segments.targets == (report.segments.signals[1],)
        for moments, values in zip(
            report.segments.signals, ([-float(step) for step in steps], speeds), strict=True
        ):
            assert moments.count == 20
            assert moments.mean == pytest.approx(sum(values) / 20)
            assert (moments.min, moments.max) == (min(values), max(values))
        # Frames lie at multiples of 0.04 s: those of the slots 0, 2, ... at rows, the others 0.2 s apart.
        assert report.segments.telemetry_frames == (12, 0, 8, 0, 0)
        assert report.segments.frames_without_telemetry == 8
        # A row that changes is another shard.
        changed = dataclasses.replace(
            source, telemetry=dataclasses.replace(track, mtime_ns=track.mtime_ns + 1)
        )
        assert builder.fingerprint(make_shard(changed)) != report.fingerprint
        moved = dataclasses.replace(source, telemetry=dataclasses.replace(track, path="/there.csv"))
        assert builder.fingerprint(make_shard(moved)) == report.fingerprint

    def test_a_shard_without_a_record_is_a_file_all_the_same(
        self, write_video, decoder, output, tmp_path
    ):
        short = make_source(write_video(tmp_path / "short.mp4", frames=3), "run")
        report = make_builder(output).build(make_shard(short), decoder, Recorder())
        assert (report.records, report.bytes, report.failures) == (0, 0, ())
        assert (Path(output.path) / report.file).read_bytes() == b""
        assert report.segments.short_clips == 1


class TestFailingSources:
    @pytest.fixture
    def troubled(self):
        decoder = DecoderProcess(timeout=6, program=(sys.executable, "-c", TROUBLED))
        yield decoder
        decoder.close()

    @pytest.mark.parametrize(
        ("trouble", "place"),
        [
            *itertools.product(("text", "crash"), (0, 1, 3)),
            pytest.param("hang", 1, marks=pytest.mark.slow),
        ],
    )
    def test_leave_the_shard_as_if_they_were_not_there(
        self, trouble, place, write_video, clips, troubled, output, tmp_path
    ):
        bad_path = tmp_path / f"{trouble}.mp4"
        if trouble == "text":
            bad_path.write_text("words")
        else:
            write_video(bad_path, frames=60)
        good = three(clips)
        sources = [*good[:place], make_source(bad_path, "run"), *good[place:]]
        builder, recorder = make_builder(output), Recorder()
        report = builder.build(make_shard(*sources), troubled, recorder)
        without = builder.build(make_shard(*good, index=1), troubled, Recorder())

        same = dataclasses.replace(
            report, file=without.file, fingerprint=without.fingerprint, failures=()
        )
        assert same == without
        path = Path(output.path) / report.file
        assert path.read_bytes() == (Path(output.path) / without.file).read_bytes()
        assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert recorder.total == report.records == 25
        (failure,) = report.failures
        assert recorder.failures == [(failure.source, failure.truncated)]
        stage, reason = {
            "text": ("open", "Invalid data found when processing input"),
            "crash": ("process", "the decoder was killed by SIGSEGV"),
            "hang": ("process", "the decoder made no progress for 6 s"),
        }[trouble]
        assert (failure.source, failure.stage, failure.reason) == (bad_path.name, stage, reason)
        assert not failure.truncated
        assert from_json(ShardReport, json.loads(json.dumps(to_json(report)))) == report

    def test_truncated_ones_keep_what_they_have(self, write_video, decoder, output, tmp_path):
        path = write_video(
            tmp_path / "cut.mp4", frames=150, container_options={"movflags": "faststart"}
        )
        stored = path.read_bytes()
        path.write_bytes(stored[: len(stored) * 6 // 10])
        recorder = Recorder()
        report = make_builder(output).build(make_shard(make_source(path, "run")), decoder, recorder)
        assert report.records == recorder.total == report.segments.label_counts[1] > 5
        (failure,) = report.failures
        assert recorder.failures == [(failure.source, failure.truncated)]
        assert (failure.truncated, failure.stage, failure.source) == (True, "decode", "cut.mp4")
        assert 1 < failure.seconds < 5

    def test_when_all_fail_the_shard_is_empty(self, decoder, output, tmp_path):
        (tmp_path / "a.mp4").write_text("words")
        recorder = Recorder()
        report = make_builder(output).build(
            make_shard(make_source(tmp_path / "a.mp4", "run")), decoder, recorder
        )
        assert (report.records, report.bytes, len(report.failures), recorder.total) == (0, 0, 1, 0)
        assert report.segments.label_counts == ()


class Untouchable:
    """In place of a decoder where none must be asked."""

    def build(self, request, on_record):
        raise AssertionError("the shard was to be kept, and is built")


class TestKeeping:
    def test_a_complete_shard_is_kept(self, clips, decoder, output, tmp_path):
        (tmp_path / "bad.mp4").write_text("words")
        shard = make_shard(*three(clips), make_source(tmp_path / "bad.mp4", "run"))
        builder = make_builder(output)
        report = builder.build(shard, decoder, Recorder())
        path = Path(output.path) / report.file
        before = path.stat()
        recorder = Recorder()
        assert builder.build(shard, Untouchable(), recorder) == report
        after = path.stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        # Its progress and its failures are told again.
        assert recorder.total == report.records
        assert recorder.failures == [(f.source, f.truncated) for f in report.failures]

    def test_where_the_sources_lie_does_not_matter(self, clips, decoder, output, tmp_path):
        shard = make_shard(*three(clips))
        builder = make_builder(output)
        report = builder.build(shard, decoder, Recorder())
        moved = [
            dataclasses.replace(s, source=dataclasses.replace(s.source, path="/elsewhere/x.mp4"))
            for s in shard.segments
        ]
        again = dataclasses.replace(shard, segments=tuple(moved))
        assert builder.build(again, Untouchable(), Recorder()) == report

    @pytest.mark.parametrize(
        "change", ["mtime", "size", "label", "span", "option", "version", "order", "segment"]
    )
    def test_a_change_of_what_decides_its_bytes_rebuilds_it(self, change, clips, decoder, output):
        sources = three(clips)
        shard, builder = make_shard(*sources), make_builder(output)
        report = builder.build(shard, decoder, Recorder())
        before = (Path(output.path) / report.file).stat()
        first = sources[0]
        changes = {
            "mtime": {"mtime_ns": first.mtime_ns + 1},
            "size": {"bytes": first.bytes + 1},
            "label": {"labels": ("run",)},
            "span": {"start": 0.5},
        }
        if change in changes:
            shard = make_shard(dataclasses.replace(first, **changes[change]), *sources[1:])
        elif change == "option":
            image = dataclasses.replace(OPTIONS.image, jpeg_quality=94)
            builder = make_builder(output, dataclasses.replace(OPTIONS, image=image))
        elif change == "version":
            builder = make_builder(output, versions={**library_versions(), "av": "0.0"})
        elif change == "order":
            shard = make_shard(*sources[::-1])
        else:
            segments = (dataclasses.replace(shard.segments[0], end_slot=4), *shard.segments[1:])
            shard = dataclasses.replace(shard, segments=segments)
        rebuilt = builder.build(shard, decoder, Recorder())
        assert rebuilt.fingerprint != report.fingerprint
        assert (Path(output.path) / report.file).stat().st_ino != before.st_ino
        assert not partials(output)

    @pytest.mark.parametrize("damage", ["gone", "short", "report gone", "report garbage"])
    def test_a_shard_that_is_not_whole_is_rebuilt(self, damage, clips, decoder, output):
        shard, builder = make_shard(*three(clips)), make_builder(output)
        report = builder.build(shard, decoder, Recorder())
        path = Path(output.path) / report.file
        whole = path.read_bytes()
        (report_path,) = Path(output.path).rglob("reports/*.json")
        if damage == "gone":
            path.unlink()
        elif damage == "short":
            path.write_bytes(whole[:-1])
        elif damage == "report gone":
            report_path.unlink()
        else:
            report_path.write_text('{"fingerprint": ')
        assert builder.build(shard, decoder, Recorder()) == report
        assert path.read_bytes() == whole


class TestWriteErrors:
    def test_leave_nothing_under_the_shards_name(self, clips, decoder, output, monkeypatch):
        shard, builder = make_shard(*three(clips)), make_builder(output)
        written = 0

        def full(record):
            nonlocal written
            written += 1
            if written > 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            return (record,)

        monkeypatch.setattr("pipelines.build.shard.frame_parts", full)
        with pytest.raises(OSError, match="No space left") as error:
            builder.build(shard, decoder, Recorder())
        assert error.value.errno == errno.ENOSPC
        assert not (Path(output.path) / shard.file).exists()
        assert not partials(output)
        assert not list(Path(output.path).rglob("reports/*"))
        # The same decoder and the same folder serve the next attempt.
        monkeypatch.undo()
        report = builder.build(shard, decoder, Recorder())
        assert report.records == 25

    def test_keep_the_older_shard_but_not_as_this_one(self, clips, decoder, output, monkeypatch):
        """A rebuild that fails must not leave the old bytes looking like the new build's."""
        sources = three(clips)
        builder = make_builder(output)
        builder.build(make_shard(*sources), decoder, Recorder())
        changed = make_shard(*sources[:2])

        def full(record):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("pipelines.build.shard.frame_parts", full)
        with pytest.raises(OSError, match="No space left"):
            builder.build(changed, decoder, Recorder())
        assert output.kept_report(changed.file, builder.fingerprint(changed)) is None
        monkeypatch.undo()
        assert builder.build(changed, decoder, Recorder()).records == 21

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_of_the_system_are_seen(self, clips, decoder, output, monkeypatch):
        """Buffered bytes that cannot be written when the file is closed are an error as well."""
        source = make_source(clips / "c.mp4", "run")
        plain_open = Path.open

        def to_full(path, *args, **kwargs):
            full = path.name.endswith(".partial")
            return open("/dev/full", "wb") if full else plain_open(path, *args, **kwargs)

        monkeypatch.setattr(Path, "open", to_full)
        with pytest.raises(OSError, match="No space left"):
            make_builder(output).build(make_shard(source), decoder, Recorder())
        assert not (Path(output.path) / "train-00000-of-00003.tfrecord").exists()


class TestAddResults:
    def test_adds_what_can_be_added(self):
        first = SegmentResult(
            sequences=1,
            frames=2,
            repeated_frames=3,
            padded_frames=4,
            short_clips=1,
            breaks=5,
            unordered_frames=6,
            pixel_count=7,
            pixel_sum=(1, 2, 3),
            pixel_square_sum=(4, 5, 6),
            label_counts=(3, 0),
            targets=(Moments.of([1.0, 3.0]),),
            signals=(Moments.of([2.0]),),
            telemetry_frames=(5, 0),
            frames_without_telemetry=2,
            truncated="cut",
            last_seconds=9.0,
        )
        total = sum_counts([first, SegmentResult(), first])
        assert total == dataclasses.replace(
            SegmentCounts(
                **{
                    field.name: getattr(first, field.name) * 2
                    for field in dataclasses.fields(SegmentCounts)
                    if isinstance(getattr(first, field.name), int)
                }
            ),
            pixel_sum=(2, 4, 6),
            pixel_square_sum=(8, 10, 12),
            label_counts=(6, 0),
            targets=(Moments.of([1.0, 3.0, 1.0, 3.0]),),
            signals=(Moments.of([2.0, 2.0]),),
            telemetry_frames=(10, 0),
        )

    def test_what_a_segment_has_none_of_adds_nothing(self):
        """Neither telemetry nor signals, where no sequence came about."""
        measured = SegmentCounts(signals=(Moments.of([2.0]),), telemetry_frames=(1, 0, 2))
        assert sum_counts([SegmentCounts(), measured, SegmentCounts()]) == measured
        more = SegmentCounts(signals=(Moments.of([4.0]),), telemetry_frames=(0, 5, 0))
        assert sum_counts(iter([measured, more])) == SegmentCounts(
            signals=(Moments(count=2, mean=3.0, deviations=2.0, min=2.0, max=4.0),),
            telemetry_frames=(1, 5, 2),
        )

    def test_of_nothing_is_nothing(self):
        assert sum_counts([]) == SegmentCounts()
