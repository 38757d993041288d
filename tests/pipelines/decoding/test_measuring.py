"""Measured values of frames: time origins, rows, several files, and errors."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from pipelines.decoding.footage import Frame
from pipelines.decoding.measuring import (
    Measurements,
    clip_telemetry,
    is_measured,
    measured_columns,
)
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.labels.alignment import Aligned
from pipelines.options.dataset import ImageOptions, LabelOptions, SamplingOptions
from pipelines.options.telemetry import AnnotationOptions, TelemetryOptions
from pipelines.plan.descriptors import Extent, Part, Segment, SideFile, Source
from tfrecords_schema.spec import LabelSpec, SequenceSpec

EPOCH = 1_700_000_000.0  # 2023-11-14T22:13:20Z


class Footage:
    """Frames of 0.1 s from ``first`` ticks of 10 ms on."""

    time_base = Fraction(1, 100)

    def __init__(self, frames: int = 50, first: int = 0, *, cuttable: bool = True):
        self.pts = [first + 10 * k for k in range(frames)]
        self.cuttable = cuttable
        self.declared_seconds = frames / 10

    def origin_pts(self):
        return self.pts[0]

    def packet_times(self):
        assert self.cuttable, "a file whose packets tell nothing was asked"
        return np.array(self.pts, np.int64), np.ones(len(self.pts), bool)


SERIAL = itertools.count()


@pytest.fixture
def side_file(tmp_path):
    """Writes a file with a unique name, because the last file read is cached."""

    def write(text: str, suffix: str = ".csv") -> SideFile:
        path = tmp_path / f"t{next(SERIAL)}{suffix}"
        path.write_text(text)
        return SideFile(path=str(path), data_path=f"in/{path.name}")

    return write


def make_request(source: Source, **options: Any) -> BuildRequest:
    telemetry = {"telemetry": "x", "time_column": "t", **options}
    label = LabelOptions(
        label_columns=telemetry.pop("label_columns", ("v",)),
        class_column=telemetry.pop("class_column", None),
    )
    annotation = telemetry.pop("annotation", None)
    class_names = telemetry.pop("class_names", ())
    spec = LabelSpec(
        task="classification" if class_names else "regression" if label.label_columns else "none",
        target_names=label.label_columns,
        class_names=class_names,
    )
    found = None if annotation else TelemetryOptions(**telemetry)
    return BuildRequest(
        segment=Segment(source=source),
        spec=SequenceSpec(
            num_frames=4,
            image=ImageOptions().spec,
            label=spec,
            signals=found.signals if found else (),
        ),
        dataset_name="test",
        sampling=SamplingOptions(num_frames=4),
        image=ImageOptions(),
        label=label,
        annotation=annotation,
        telemetry=found,
    )


def make_source(telemetry: SideFile | None = None, **fields: Any) -> Source:
    return Source(
        id="a.mp4",
        path="/in/a.mp4",
        data_path="a.mp4",
        group="a.mp4",
        telemetry=telemetry,
        **fields,
    )


def measure(request: BuildRequest, footage: Any) -> Measurements:
    return Measurements(request, footage, footage)


def values(measurements: Measurements, footage: Any, wanted: Any = None) -> list[float | None]:
    """Returns the first column at each frame, None without a value; each frame covers one slot."""
    frames = [Frame(pts, rank) for rank, pts in enumerate(footage.pts)]
    frames = frames if wanted is None else [frames[k] for k in wanted]
    covering = [frame._replace(slots=range(k, k + 1)) for k, frame in enumerate(frames)]
    found = {item.slots.start: item for item in measurements.measure(covering)}
    assert all(item.pts == frames[slot].pts for slot, item in found.items())
    return [found[k].measured.values[0] if k in found else None for k in range(len(frames))]


RAMP = "t,v\n" + "".join(f"{t},{10 * t}\n" for t in range(6))  # ten times the seconds


class TestByTime:
    def test_times_start_at_first_packet_even_if_undecodable(self, side_file) -> None:
        footage, packets = (
            Footage(first=30),
            Footage(first=10),
        )  # what begins at 0.1 s does not decode
        measurements = Measurements(make_request(make_source(side_file(RAMP))), footage, packets)
        assert values(measurements, footage, [0, 10]) == pytest.approx([2.0, 12.0])

    @pytest.mark.parametrize("cuttable", [True, False])
    @pytest.mark.parametrize("first", [0, 730, -40])
    def test_times_start_at_first_frame(self, side_file, first, cuttable) -> None:
        footage = Footage(first=first, cuttable=cuttable)
        measurements = measure(make_request(make_source(side_file(RAMP))), footage)
        assert measurements.by_time
        assert values(measurements, footage) == pytest.approx([float(k) for k in range(50)])
        assert measurements.mismatch(7) is None

    @pytest.mark.parametrize(
        ("options", "fields", "text", "at_one_second"),
        [
            ({}, {}, RAMP, 10.0),
            ({"time_offset": 0.25}, {}, RAMP, 7.5),
            ({"time_offset": -0.25}, {}, RAMP, 12.5),
            ({}, {"telemetry_start": 2.0}, RAMP, 30.0),
            ({"time_unit": "ms"}, {}, "t,v\n0,0\n2000,8\n", 4.0),
            # Dates count from the telemetry's first.
            ({}, {}, "t,v\n2023-11-14T22:13:20Z,0\n2023-11-14T22:13:22Z,8\n", 4.0),
            ({}, {"telemetry_start": 0.5}, "t,v\n2023-11-14T22:13:20Z,0\n2023-11-14T22:13:22Z,8\n", 6.0),
            # Or by the clock: the frame at 1 s was taken at 22:13:21.
            (
                {"time_origin": "clock"},
                {"clock_start": EPOCH},
                "t,v\n2023-11-14T22:13:19Z,0\n2023-11-14T22:13:21Z,8\n",
                8.0,
            ),
            (
                {"time_origin": "clock", "time_offset": 1.0},
                {"clock_start": EPOCH},
                "t,v\n2023-11-14T22:13:19Z,0\n2023-11-14T22:13:21Z,8\n",
                4.0,
            ),
            (
                {"time_origin": "clock", "time_unit": "ms"},
                {"clock_start": EPOCH},
                f"t,v\n{EPOCH * 1000:.0f},0\n{EPOCH * 1000 + 2000:.0f},8\n",
                4.0,
            ),
            # telemetry_start is of the scale that the file's first frame begins; the clock has its own.
            (
                {"time_origin": "clock"},
                {"clock_start": EPOCH, "telemetry_start": 9.0},
                "t,v\n2023-11-14T22:13:20Z,0\n2023-11-14T22:13:22Z,8\n",
                4.0,
            ),
        ],
    )  # fmt: skip
    def test_time_origins(self, side_file, options, fields, text, at_one_second) -> None:
        request = make_request(make_source(side_file(text), **fields), **options)
        footage = Footage(first=500)
        assert values(measure(request, footage), footage, [10]) == [pytest.approx(at_one_second)]

    def test_gpx_always_has_dates(self, side_file) -> None:
        points = "".join(
            f'<trkpt lat="{t / 1000}" lon="0"><time>2023-11-14T22:13:2{t}Z</time></trkpt>'
            for t in range(5)
        )
        track = side_file(f'<gpx version="1.1"><trk><trkseg>{points}</trkseg></trk></gpx>', ".gpx")
        request = make_request(
            make_source(track), time_column=None, label_columns=("lat",), max_gap=2.0
        )
        footage = Footage()
        measurements = measure(request, footage)
        assert measurements.by_time
        assert values(measurements, footage, [0, 15, 40]) == pytest.approx([0.0, 0.0015, 0.004])

    def test_frames_in_gaps_and_outside_rows_are_dropped(self, side_file) -> None:
        text = "t,v\n0.5,1\n1.5,2\n3.7,3\n4.2,4\n"
        footage = Footage()
        measurements = measure(make_request(make_source(side_file(text))), footage)
        measured = [value is not None for value in values(measurements, footage)]
        # Half of the median row interval of 1 s before the first row and after the last; 2.2 s are a gap.
        assert [k for k, found in enumerate(measured) if found] == [
            *range(0, 16),
            *range(37, 48),
        ]
        assert measurements.frames_without == 50 - 16 - 11

    def test_segments_count_their_own_frames_and_stop_reading(self, side_file) -> None:
        """Whatever the cuts, each frame without telemetry is counted once."""
        source = make_source(side_file("t,v\n0,0\n1,1\n"))
        covering = [Frame(10 * k, k, slots=range(k, k + 1)) for k in range(50)]
        counts, read = [], []
        for first, end in ((0, 12), (12, 14), (14, 30), (30, None)):
            request = make_request(source)
            segment = Segment(source=source, first_slot=first, end_slot=end)
            measurements = measure(dataclasses.replace(request, segment=segment), Footage())
            reader = iter(covering)
            list(measurements.measure(reader))
            counts.append(measurements.frames_without)
            read.append(50 - len(list(reader)))
        # Rows of 1 s reach half a second on; a sequence that begins in a segment reaches 4 frames on.
        assert counts == [0, 0, 14, 20]
        assert read == [17, 19, 35, 50]

    def test_frame_without_slots_is_skipped(self, side_file) -> None:
        measurements = measure(make_request(make_source(side_file(RAMP))), Footage())
        hidden = [Frame(10**9, 0, slots=range(3, 3))]
        assert list(measurements.measure(hidden)) == []
        assert measurements.frames_without == 0

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("t,v\n5000,1\n9000,2\n", "its rows span 5000 to 9000 s, the footage 0 to 5 s"),
            ("t,v\n-9,1\n-2,2\n", "its rows span -9 to -2 s, the footage 0 to 5 s"),
        ],
    )  # fmt: skip
    def test_rows_that_do_not_overlap_footage_fail(self, side_file, text, shown) -> None:
        request = make_request(make_source(side_file(text)))
        with pytest.raises(DecodingFailure) as failure:
            measure(request, Footage())
        assert failure.value.stage == "telemetry"
        assert failure.value.reason == (
            f"it does not overlap the footage: {shown}. Check --time_unit, --time_offset and --time_origin. "
            f"If both begin together, use --time_offset {-int(text.split()[1].split(',')[0])}"
        )

    def test_rows_that_overlap_little_fail_with_both_ranges(self, side_file) -> None:
        source = make_source(side_file("t,v\n4.75,1\n9.75,2\n"))
        with pytest.raises(DecodingFailure) as failure:
            measure(make_request(source), Footage())
        for part in ("for 0.250 s", "--min_overlap 0.1 of the 5.000 s", "4.75 to 9.75 s", "-4.75"):
            assert part in failure.value.reason
        assert measure(make_request(source, min_overlap=0.05), Footage()).by_time

    def test_dates_count_from_a_first_row_that_was_dropped(self, side_file) -> None:
        rows = "".join(f"2024-05-31T09:30:0{i}Z,{i if i else 'x'}\n" for i in range(6))
        telemetry = clip_telemetry(make_request(make_source(side_file("t,v\n" + rows)))).telemetry
        assert telemetry.times is not None
        assert telemetry.times.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]

    def test_epochs_are_refused_or_count_from_the_first_row(self, side_file) -> None:
        source = make_source(side_file("t,v\n1700000000,1\n1700000004,5\n"))
        with pytest.raises(
            DecodingFailure, match="2023-11-14 22:13:20 UTC: use --time_origin first_row"
        ):
            measure(make_request(source), Footage())
        for changes in ({"time_origin": "first_row"}, {"time_offset": -1.7e9}):
            telemetry = clip_telemetry(make_request(source, **changes)).telemetry
            assert telemetry.times is not None
            assert telemetry.times.tolist() == [0.0, 4.0]

    def test_clock_origin_without_creation_time_fails(self, side_file) -> None:
        request = make_request(make_source(side_file(RAMP)), time_origin="clock")
        with pytest.raises(DecodingFailure) as failure:
            measure(request, Footage())
        assert (failure.value.stage, failure.value.reason) == (
            "telemetry",
            "a.mp4: --time_origin clock needs the recording time, but the video's header has no "
            "creation_time. Use --time_origin file with --time_offset.",
        )


class TestByRow:
    ROWS = "v\n" + "".join(f"{k}\n" for k in range(50))

    @pytest.mark.parametrize("cuttable", [True, False])
    @pytest.mark.parametrize("first", [0, 730])
    def test_row_i_belongs_to_frame_i(self, side_file, cuttable, first) -> None:
        footage = Footage(first=first, cuttable=cuttable)
        request = make_request(make_source(side_file(self.ROWS)), time_column=None)
        measurements = measure(request, footage)
        assert not measurements.by_time
        assert values(measurements, footage) == [float(k) for k in range(50)]
        assert measurements.mismatch(50) is None

    def test_rows_do_not_depend_on_start_of_reading(self, side_file) -> None:
        """Ranks count from there; times do not."""
        footage = Footage(first=730)
        measurements = measure(
            make_request(make_source(side_file(self.ROWS)), time_column=None), footage
        )
        (found,) = measurements.measure([Frame(footage.pts[30], rank=2, slots=range(5, 6))])
        assert found.measured.values == (30.0,)

    def test_rows_of_drive_start_at_its_first_file(self, side_file) -> None:
        footage = Footage(10)
        source = make_source(side_file(self.ROWS), telemetry_row=20)
        measurements = measure(make_request(source, time_column=None), footage)
        assert values(measurements, footage) == [float(k) for k in range(20, 30)]

    @pytest.mark.parametrize("cuttable", [True, False])
    @pytest.mark.parametrize(("frames", "measured"), [(49, 49), (53, 50)])
    def test_row_mismatch_is_reported(self, side_file, cuttable, frames, measured) -> None:
        footage = Footage(frames, cuttable=cuttable)
        request = make_request(make_source(side_file(self.ROWS)), time_column=None)
        measurements = measure(request, footage)
        found = values(measurements, footage)
        assert sum(value is not None for value in found) == measured
        assert measurements.frames_without == frames - measured
        # Packets are counted where they tell; else the frames that came.
        assert measurements.mismatch(frames if not cuttable else 3) == (
            f"the telemetry has 50 rows for {frames} frames: row i was used for frame i"
        )

    @pytest.mark.parametrize(
        ("first_row", "frames", "told"),
        [(0, 10, False), (20, 29, False), (20, 30, False), (20, 31, True), (48, 10, True)],
    )
    def test_shared_rows_may_be_more_but_not_fewer(
        self, side_file, first_row, frames, told
    ) -> None:
        source = make_source(side_file(self.ROWS), telemetry_shared=True, telemetry_row=first_row)
        measurements = measure(make_request(source, time_column=None), Footage(frames))
        assert measurements.mismatch(frames) == (
            f"the telemetry has {50 - first_row} rows for {frames} frames: row i was used for frame i"
            if told
            else None
        )

    def test_complete_drive_has_as_many_rows_as_frames(self, side_file) -> None:
        part = Part(path="/in/a.mp4", data_path="a.mp4")
        for parts in ((part,), (part, part)):
            source = make_source(side_file(self.ROWS), parts=parts)
            measurements = measure(make_request(source, time_column=None), Footage(10))
            assert "50 rows for 10 frames" in measurements.mismatch(10)
            measurements = measure(make_request(source, time_column=None), Footage(50))
            assert measurements.mismatch(50) is None

    def test_row_without_value_is_dropped(self, side_file) -> None:
        footage = Footage(3)
        request = make_request(make_source(side_file("v,w\n1,1\n,2\n3,3\n")), time_column=None)
        assert values(measure(request, footage), footage) == [1.0, None, 3.0]


def extent(frames: int, first: int = 0) -> Extent:
    return Extent(
        time_base=(1, 100),
        first_pts=first,
        seconds=(frames, 10),
        frames=frames,
        cuttable=True,
        tolerance=(1, 100),
    )


class TestSeveralFiles:
    """A drive of 2 s and 3 s, each file with telemetry of its own."""

    def drive(self, *files: SideFile, **fields: Any) -> Source:
        parts = tuple(
            Part(
                path=f"/in/{k}.mp4",
                data_path=f"{k}.mp4",
                telemetry=file,
                extent=extent(frames),
                shift=(2 * k, 1),
            )
            for k, (file, frames) in enumerate(zip(files, (20, 30), strict=True))
        )
        return make_source(parts=parts, **fields)

    def test_times_of_each_file_start_at_its_first_frame(self, side_file) -> None:
        source = self.drive(side_file("t,v\n0,0\n1.9,19\n2,20\n"), side_file("t,v\n0,100\n3,130\n"))
        footage = Footage()
        measurements = measure(make_request(source, max_gap=4.0), footage)
        assert values(measurements, footage, [0, 5, 19]) == pytest.approx([0.0, 5.0, 19.0])
        # At the seam both have a row at 2 s; that of the file that begins there stays.
        assert values(measurements, footage, [20])[0] == 100.0
        assert values(measurements, footage, [49])[0] == pytest.approx(129.0)

    def test_dates_of_each_file_start_at_its_first_date(self, side_file) -> None:
        texts = [
            f"t,v\n2023-11-14T22:1{minute}:20Z,{v}\n2023-11-14T22:1{minute}:21.5Z,{v + 15}\n"
            for minute, v in ((3, 0), (7, 100))
        ]
        footage = Footage()
        measurements = measure(make_request(self.drive(*map(side_file, texts))), footage)
        assert values(measurements, footage, [0, 10, 20, 30]) == pytest.approx([0, 10, 100, 110])

    def test_long_log_does_not_affect_next_file(self, side_file) -> None:
        long = side_file("t,v\n" + "".join(f"{k / 10},1\n" for k in range(35)))
        own = side_file("t,v\n" + "".join(f"{k / 10},2\n" for k in range(30)))
        footage = Footage()
        measurements = measure(make_request(self.drive(long, own)), footage)
        assert values(measurements, footage) == [1.0] * 20 + [2.0] * 30

    def test_files_are_placed_by_their_times(self, side_file) -> None:
        """Ten files with 0.09 s lost at each seam, which no gap shows."""
        parts = [
            Part(
                path=f"/in/{k}.mp4",
                data_path=f"{k}.mp4",
                telemetry=side_file(f"t,v\n0,{100 * k}\n0.9,{100 * k + 9}\n"),
                extent=extent(10, 109 * k),
            )
            for k in range(10)
        ]
        found = clip_telemetry(make_request(make_source(parts=tuple(parts)))).telemetry
        assert found.times.tolist() == pytest.approx(
            [1.09 * k + seconds for k in range(10) for seconds in (0, 0.9)]
        )

    def test_files_are_placed_by_clock(self, side_file) -> None:
        texts = [f"t,v\n{EPOCH + s},{s}\n{EPOCH + s + 2},{s + 2}\n" for s in (0, 2.5)]
        source = self.drive(*map(side_file, texts), clock_start=EPOCH + 0.5)
        footage = Footage()
        measurements = measure(make_request(source, time_origin="clock"), footage)
        assert values(measurements, footage, [0, 10, 30]) == pytest.approx([0.5, 1.5, 3.5])

    def test_rows_of_each_file_belong_to_its_frames(self, side_file) -> None:
        short = side_file("v\n" + "".join(f"{k}\n" for k in range(18)))
        long = side_file("v\n" + "".join(f"{100 + k}\n" for k in range(33)))
        footage = Footage()
        measurements = measure(make_request(self.drive(short, long), time_column=None), footage)
        assert values(measurements, footage) == [
            *map(float, range(18)),
            None,
            None,
            *map(float, range(100, 130)),
        ]
        assert measurements.mismatch(50) == (
            f"{short.data_path} has 18 rows for 20 frames: row i was used for frame i"
        )

    @pytest.mark.parametrize(
        ("counts", "told"),
        [((20, 30), None), ((20, 31), (1, 31, 30)), ((22, 28), (0, 22, 20))],
    )
    def test_row_mismatch_is_checked_per_file(self, side_file, counts, told) -> None:
        files = [side_file("v\n" + "1\n" * count) for count in counts]
        request = make_request(self.drive(*files), time_column=None)
        found = measure(request, Footage()).mismatch(50)
        if told is None:
            assert found is None
            return
        file, rows, frames = told
        assert found == (
            f"{files[file].data_path} has {rows} rows for {frames} frames: row i was used for frame i"
        )

    def test_mixed_dates_and_numbers_fail(self, side_file) -> None:
        source = self.drive(
            side_file("t,v\n0,0\n2,20\n"), side_file("t,v\n2023-11-14T22:13:20Z,0\n")
        )
        with pytest.raises(DecodingFailure, match="got dates in some and numbers in others"):
            measure(make_request(source), Footage())

    def test_part_without_telemetry_or_extent_raises_value_error(self, side_file) -> None:
        parts = self.drive(side_file(RAMP), side_file(RAMP)).parts
        for lacking in (
            Part(path="/in/x.mp4", data_path="x.mp4", telemetry=parts[0].telemetry),
            Part(path="/in/x.mp4", data_path="x.mp4", extent=extent(3)),
        ):
            with pytest.raises(
                ValueError, match=r"^x\.mp4: expected telemetry and a measured extent, got "
            ):
                clip_telemetry(make_request(make_source(parts=(parts[0], lacking))))


class TestTelemetryAlone:
    def test_telemetry_alone_keeps_its_times(self, side_file) -> None:
        footage = Footage(first=530)  # its first row
        source = make_source(
            side_file("t,v\n5.3,53\n10.3,103\n"), kind="telemetry", telemetry_start=0.0
        )
        request = make_request(source, max_gap=9.0)
        assert values(measure(request, footage), footage, [0, 10]) == pytest.approx([53.0, 63.0])
        assert clip_telemetry(request).telemetry.times.tolist() == [5.3, 10.3]

    def test_time_offset_shifts_telemetry_alone(self, side_file) -> None:
        source = make_source(side_file("t,v\n5.3,53\n10.3,103\n"), kind="telemetry")
        request = make_request(source, time_offset=-0.3, time_origin="clock")
        assert clip_telemetry(request).telemetry.times.tolist() == [5.0, 10.0]


class TestAnnotations:
    @staticmethod
    def request(file: SideFile, **fields: Any) -> BuildRequest:
        return make_request(
            make_source(file, kind="frames"),
            annotation=AnnotationOptions(annotation="a.json", label="[*].v"),
            **fields,
        )

    def test_annotation_by_frame_becomes_rows(self, side_file) -> None:
        file = side_file(json.dumps([{"v": [k, -k]} for k in range(5)]), ".json")
        footage = Footage(5)
        measurements = measure(self.request(file, label_columns=("x", "y")), footage)
        assert values(measurements, footage) == [0.0, 1.0, 2.0, 3.0, 4.0]
        frame = Frame(footage.pts[3], 3, slots=range(1))
        (found,) = measurements.measure([frame])
        assert found.measured == Aligned((3.0, -3.0), None, 0.0)
        assert not measurements.by_time

    def test_annotation_with_one_number_per_frame(self, side_file) -> None:
        file = side_file(json.dumps([{"v": k} for k in range(5)]), ".json")
        footage = Footage(5)
        measurements = measure(self.request(file, label_columns=("x",)), footage)
        assert values(measurements, footage) == [0.0, 1.0, 2.0, 3.0, 4.0]

    def test_annotation_with_classes_by_frame(self, side_file) -> None:
        file = side_file(json.dumps([{"v": name} for name in "abb"]), ".json")
        request = self.request(file, label_columns=(), class_names=("a", "b"))
        measurements = measure(request, Footage(3))
        covering = [Frame(10 * k, k, slots=range(k, k + 1)) for k in range(3)]
        found = [item.measured.class_name for item in measurements.measure(covering)]
        assert found == ["a", "b", "b"]

    @pytest.mark.parametrize("text", ["[1", '[{"w": 1}]'])
    def test_unreadable_annotation_fails(self, side_file, text) -> None:
        file = side_file(text, ".json")
        with pytest.raises(DecodingFailure) as failure:
            measure(self.request(file), Footage())
        assert failure.value.stage == "telemetry"
        assert failure.value.reason.startswith(f"{file.data_path}: expected ")


class TestReading:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("t,v\n0,fast\n", "line 2, column 'v': expected a number"),
            ("t,w\n0,1\n", "expected a column 'v', got 't', 'w'"),
            ("", "in/"),
        ],
    )
    def test_unreadable_telemetry_fails(self, side_file, text, reason) -> None:
        file = side_file(text)
        with pytest.raises(DecodingFailure) as failure:
            clip_telemetry(make_request(make_source(file)))
        assert failure.value.stage == "telemetry"
        assert reason in failure.value.reason
        assert file.data_path in failure.value.reason

    def test_missing_file_fails_without_showing_path(self, tmp_path) -> None:
        file = SideFile(path=str(tmp_path / "secret.csv"), data_path="secret.csv")
        with pytest.raises(DecodingFailure) as failure:
            clip_telemetry(make_request(make_source(file)))
        assert failure.value.reason == "a.mp4: No such file or directory"

    def test_measured_columns_are_targets_then_signals_without_duplicates(self, side_file) -> None:
        file = side_file("t,v,a,b\n0,1,2,3\n1,4,5,6\n")
        request = make_request(make_source(file), signal_columns=("b", "v"))
        assert measured_columns(request) == ("v", "b")
        footage = Footage(1)
        (found,) = measure(request, footage).measure([Frame(0, 0, slots=range(1))])
        assert found.measured.values == (1.0, 3.0)
        assert measured_columns(make_request(make_source(file), label_columns=())) == ()

    def test_clip_telemetry_reads_classes_and_columns(self, side_file) -> None:
        file = side_file("t,state,a\n0,go,1\n0.5,stop,2\n")
        request = make_request(
            make_source(file),
            label_columns=(),
            class_column="state",
            class_names=("go", "stop"),
            signal_columns=("a",),
        )
        found = clip_telemetry(request).telemetry
        assert found.classes == ("go", "stop")
        assert found.columns["a"].tolist() == [1.0, 2.0]

    def test_is_measured(self, side_file) -> None:
        file = side_file(RAMP)
        part = Part(path="/in/a.mp4", data_path="a.mp4")
        own = Part(path="/in/a.mp4", data_path="a.mp4", telemetry=file)
        for source, expected in [
            (make_source(), False),
            (make_source(file), True),
            (make_source(parts=(part, part)), False),
            (make_source(parts=(part, own)), True),
            (make_source(file, parts=(part,)), True),
        ]:
            assert is_measured(make_request(source)) is expected

    def test_clip_telemetry_reads_changed_file_again(self, side_file, tmp_path) -> None:
        file = side_file("t,v\n0,1\n")
        request = make_request(make_source(file))
        assert clip_telemetry(request).telemetry.columns["v"].tolist() == [1.0]
        assert clip_telemetry(request) is clip_telemetry(request)
        (tmp_path / file.path).write_text("t,v\n0,2\n")
        newer = SideFile(path=file.path, data_path=file.data_path, mtime_ns=1)
        again = make_request(make_source(newer))
        assert clip_telemetry(again).telemetry.columns["v"].tolist() == [2.0]

    def test_empty_value_is_nan(self, side_file) -> None:
        found = clip_telemetry(make_request(make_source(side_file("t,v\n0,1\n1,\n")))).telemetry
        assert math.isnan(found.columns["v"][1])
