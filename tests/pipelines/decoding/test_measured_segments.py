"""Segments of footage with telemetry to records: each frame has what was measured when it was taken."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.decoding.protocol import (
    BuildRequest,
    IndexRequest,
    request_from_json,
    request_to_json,
)
from pipelines.decoding.segments import build_segment, find_boundaries, find_extent
from pipelines.decoding.video import open_video
from pipelines.options.dataset import ImageOptions, LabelOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import Part, Segment, SideFile, Source
from pipelines.plan.drive_files import place_parts
from pipelines.plan.shards import cut_segments, time_boundaries
from tfrecords_schema.examples import decode_record
from tfrecords_schema.spec import LabelSpec, SequenceSpec

IMAGE = ImageOptions(size=(48, 64))
ROWS = {"telemetry": "x.csv"}
TIMES = {"telemetry": "x.csv", "time_column": "t"}


def make_request(
    segment: Segment, sampling: SamplingOptions, telemetry: TelemetryOptions
) -> BuildRequest:
    label = LabelOptions(label_columns=("v",), label_at="each")
    return BuildRequest(
        segment=segment,
        spec=SequenceSpec(
            num_frames=sampling.num_frames,
            image=None if telemetry.no_images else IMAGE.spec,
            label=LabelSpec(task="regression", target_names=("v",), per_frame=True),
            signals=telemetry.signals,
        ),
        dataset_name="test",
        sampling=sampling,
        image=IMAGE,
        label=label,
        telemetry=telemetry,
    )


def build(source: Source | Segment, options: dict[str, Any], **sampling: Any):
    """Records of a source, or of a segment of it, and the result; asked for as over the pipe."""
    segment = source if isinstance(source, Segment) else Segment(source=source)
    wanted = SamplingOptions(**{"num_frames": 4, **sampling})
    request = make_request(segment, wanted, TelemetryOptions(**options))
    request = request_from_json(request_to_json(request))
    stored: list[bytes] = []
    result = build_segment(request, stored.append, lambda: None)
    return [decode_record(record, request.spec) for record in stored], result


def labels(records) -> list[float]:
    return [float(row[0]) for record in records for row in record.frame_label_values]


def write_rows(path: Path, count: int, seconds: float | None = None) -> SideFile:
    """The numbers from 0 on, at steps of ``seconds`` where there are times."""
    rows = (f"{k}" if seconds is None else f"{k * seconds:.6f},{k}" for k in range(count))
    path.write_text("\n".join(["v" if seconds is None else "t,v", *rows, ""]))
    return SideFile(path=str(path), data_path=path.name)


def make_source(path: Path, telemetry: SideFile | None = None, **fields: Any) -> Source:
    return Source(
        id=path.name,
        path=str(path),
        data_path=path.name,
        group=path.name,
        telemetry=telemetry,
        **fields,
    )


def spoil(path: Path, *places: int) -> Path:
    """Blanks packets of a video, by their place in the file."""
    with open_video(str(path)) as video:
        packets = [(packet.pos, packet.size) for packet in video._packets if packet.size]
    stored = bytearray(path.read_bytes())
    for position, size in (packets[place] for place in places):
        stored[position : position + size] = bytes(size)
    path.write_bytes(stored)
    return path


@pytest.fixture
def numbers(read_barcode, decode_image):
    """The bar codes of all frames."""

    def read(records) -> list[int]:
        return [read_barcode(decode_image(data)) for record in records for data in record.frames]

    return read


@pytest.fixture
def drive(tmp_path, write_video, barcode):
    """A drive of two files of 10 frames, and what its telemetry makes of it."""

    def make(*files: SideFile, shared: SideFile | None = None, by_time: bool = False, count=2):
        parts = []
        for k in range(count):
            path = write_video(
                tmp_path / f"d_{k}.mp4", frames=10, picture=lambda i, k=k: barcode(10 * k + i)
            )
            own = files[k] if files else None
            extent = find_extent(str(path))
            parts.append(
                Part(
                    path=str(path), data_path=path.name, order=str(k), telemetry=own, extent=extent
                )
            )
        whole = make_source(Path(parts[0].path), shared)
        whole = dataclasses.replace(whole, id="d", parts=tuple(parts))
        (source,), failures = place_parts(whole, by_time=by_time, by_clock=False)
        assert failures == []
        return source

    return make


class TestDamage:
    @pytest.mark.parametrize("places", [(0,), (0, 1), (0, 10)])
    @pytest.mark.parametrize(("options", "seconds"), [(TIMES, 0.04), (ROWS, None)])
    def test_labels_are_right_after_undecodable_first_frames(
        self, write_video, tmp_path, numbers, options, seconds, places
    ) -> None:
        video = spoil(write_video(tmp_path / "a.mp4", frames=40, gop=10, b_frames=2), *places)
        telemetry = write_rows(tmp_path / "a.csv", 40, seconds)
        records, result = build(make_source(video, telemetry), options)
        shown = numbers(records)
        assert shown[0] in (10, 20)
        assert labels(records) == pytest.approx(shown, abs=1e-3)
        assert result.frames_without_telemetry == 0
        assert "frames are damaged and left out" in result.truncated
        assert result.damaged_seconds == 0

    def test_labels_are_right_after_damage_in_first_file_of_drive(
        self, drive, tmp_path, numbers
    ) -> None:
        source = drive(shared=write_rows(tmp_path / "d.csv", 20, 0.04), by_time=True)
        spoil(Path(source.parts[0].path), 0)
        records, _ = build(source, TIMES)
        assert numbers(records) == list(range(10, 18))
        assert labels(records) == pytest.approx(range(10, 18), abs=1e-3)

    @pytest.mark.parametrize(("options", "seconds"), [(TIMES, 0.04), (ROWS, None)])
    def test_last_sequence_ends_at_last_frame(
        self, write_video, tmp_path, numbers, options, seconds
    ) -> None:
        video = spoil(write_video(tmp_path / "a.mp4", frames=20, codec="mpeg4"), -1)
        telemetry = write_rows(tmp_path / "a.csv", 20, seconds)
        records, result = build(make_source(video, telemetry), options, sampling="last")
        assert numbers(records) == [15, 16, 17, 18]
        assert labels(records) == pytest.approx([15, 16, 17, 18], abs=1e-3)
        assert (result.sequences, result.short_clips) == (1, 0)

    def test_matroska_file_with_late_start_is_complete(
        self, write_video, tmp_path, numbers
    ) -> None:
        times = range(5000, 9000, 100)
        video = write_video(tmp_path / "a.mkv", frames=40, rate=10, times=times)
        for options, seconds in ((TIMES, 0.1), (ROWS, None)):
            telemetry = write_rows(tmp_path / f"{len(options)}.csv", 40, seconds)
            records, result = build(make_source(video, telemetry), options)
            assert numbers(records) == list(range(40))
            assert labels(records) == pytest.approx(range(40), abs=1e-3)
            assert result.truncated is None


class TestFramesWithoutTelemetry:
    """10 s of footage, of which rows tell about the first second, and about two moments later."""

    @pytest.fixture
    def source(self, write_video, tmp_path) -> Source:
        video = write_video(tmp_path / "a.mp4", frames=100, rate=10, gop=10)
        (tmp_path / "a.csv").write_text("t,v\n0,0\n0.4,1\n0.9,1\n3,0\n4,1\n")
        telemetry = SideFile(path=str(tmp_path / "a.csv"), data_path="a.csv")
        return make_source(video, telemetry)

    @staticmethod
    def segments(source: Source, rate: Fraction | None, length: float) -> list[Segment]:
        if rate is None:
            request = IndexRequest(source=source, segment_length=length)
            boundaries = find_boundaries(request)
        else:
            sampling = SamplingOptions(num_frames=4, frame_rate=rate)
            boundaries = time_boundaries(10.0, sampling, length)
        return cut_segments(source, 10.0, boundaries)

    @pytest.mark.parametrize("rate", [None, Fraction(10), Fraction(4)])
    @pytest.mark.parametrize("length", [1.1, 1.7, 5.0])
    def test_frames_without_telemetry_are_counted_once_by_segments(
        self, source, rate, length
    ) -> None:
        whole, result = build(source, TIMES, frame_rate=rate)
        # Rows reach half their median interval of 0.75 s further; 3 to 4 s are no gap.
        assert whole
        assert 0 < result.frames_without_telemetry < 100
        segments = self.segments(source, rate, length)
        assert len(segments) > 1
        cut = [build(segment, TIMES, frame_rate=rate) for segment in segments]
        assert [record for records, _ in cut for record in records] == whole
        own = [result.frames_without_telemetry for _, result in cut]
        assert sum(own) == result.frames_without_telemetry
        assert sum(result.short_clips for _, result in cut) == 0

    def test_frames_without_telemetry_do_not_extend_reading(self, source) -> None:
        segments = self.segments(source, Fraction(10), 1.0)
        assert len(segments) == 10
        read = [build(segment, TIMES, frame_rate=Fraction(10))[1].frames for segment in segments]
        # A segment of 10 slots, what a sequence may reach beyond it, and the frames from a keyframe on.
        assert max(read) <= 10 + 4 + 10

    def test_frames_without_telemetry_do_not_make_clip_short(self, source, tmp_path) -> None:
        (tmp_path / "gap.csv").write_text("t,v\n-1,0\n50,1\n")
        telemetry = SideFile(path=str(tmp_path / "gap.csv"), data_path="gap.csv")
        source = dataclasses.replace(source, telemetry=telemetry)
        for sampling in ({}, {"frame_rate": Fraction(10)}, {"short_clips": "pad"}):
            records, result = build(source, TIMES, **sampling)
            assert (records, result.short_clips) == ([], 0)
            assert result.frames_without_telemetry == 100
        records, result = build(source, TIMES, num_frames=101)
        assert result.short_clips == 1


class TestMismatchedRows:
    @pytest.mark.parametrize(
        ("counts", "said"),
        [
            ((10, 10), None),
            ((13, 7), "0.csv has 13 rows for 10 frames: row i was used for frame i"),
            ((10, 9), "1.csv has 9 rows for 10 frames: row i was used for frame i"),
        ],
    )
    def test_mismatched_rows_of_each_file_are_reported(self, drive, tmp_path, counts, said) -> None:
        files = [write_rows(tmp_path / f"{k}.csv", count) for k, count in enumerate(counts)]
        _, result = build(drive(*files), ROWS)
        assert result.truncated == said

    @pytest.mark.parametrize(("rows", "right"), [(20, True), (17, False), (26, False)])
    def test_mismatched_rows_of_drive_are_reported(self, drive, tmp_path, rows, right) -> None:
        telemetry = write_rows(tmp_path / "d.csv", rows)
        _, result = build(drive(shared=telemetry), ROWS)
        said = f"the telemetry has {rows} rows for 20 frames: row i was used for frame i"
        assert result.truncated == (None if right else said)

    def test_mismatched_rows_of_one_file_drive_are_reported(self, drive, tmp_path) -> None:
        telemetry = write_rows(tmp_path / "d.csv", 13)
        joined = drive(shared=telemetry, count=1)
        alone = make_source(tmp_path / "d_0.mp4", telemetry)
        for source in (joined, alone):
            _, result = build(source, ROWS)
            assert result.truncated == (
                "the telemetry has 13 rows for 10 frames: row i was used for frame i"
            )


class TestTelemetryAlone:
    HOLE = (0, 0.1, 0.2, 0.3, 60, 60.1, 60.2, 60.3)

    @pytest.fixture
    def source(self, tmp_path) -> Source:
        path = tmp_path / "a.csv"
        path.write_text("t,v\n" + "".join(f"{t},{t}\n" for t in self.HOLE))
        telemetry = SideFile(path=str(path), data_path="a.csv")
        return make_source(path, telemetry, kind="telemetry", seconds=60.3, frames=8)

    def test_telemetry_sequences_do_not_span_gaps(self, source) -> None:
        options = {**TIMES, "no_images": True, "signal_columns": ("v",), "max_gap": 1.0}
        records, _ = build(source, options, stride=1, num_frames=3, frame_rate=Fraction(10))
        starts = [record.timestamps[0] for record in records]
        assert starts == [0, 100_000, 60_000_000, 60_100_000]
        assert all(np.diff(record.timestamps).tolist() == [100_000] * 2 for record in records)


class TestFoldersOfFrames:
    @pytest.mark.parametrize(
        ("options", "seconds"), [(ROWS, None), (TIMES, 0.05), (TIMES, 0.1)], ids=str
    )
    def test_folder_frames_have_their_rows(
        self, tmp_path, barcode, numbers, options, seconds
    ) -> None:
        """20 frames a second: by row; by time; and by time, between rows."""
        folder = tmp_path / "run"
        folder.mkdir()
        for k in range(12):
            cv2.imwrite(str(folder / f"{k + 1:03}.png"), barcode(k)[..., ::-1])
        telemetry = write_rows(tmp_path / "run.csv", 12, seconds)
        source = make_source(folder, telemetry, kind="frames", seconds=0.6)
        records, result = build(source, options, frame_rate=Fraction(20))
        shown = numbers(records)
        assert shown == list(range(12))
        scale = 1 if seconds in (None, 0.05) else 0.5
        assert labels(records) == pytest.approx([scale * k for k in shown], abs=1e-3)
        assert (result.frames_without_telemetry, result.truncated) == (0, None)
        if seconds is None:
            source = dataclasses.replace(source, telemetry=write_rows(tmp_path / "s.csv", 11))
            records, result = build(source, options, frame_rate=Fraction(20))
            assert result.truncated == (
                "the telemetry has 11 rows for 12 frames: row i was used for frame i"
            )
            assert numbers(records) == list(range(8))
