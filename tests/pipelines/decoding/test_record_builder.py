"""Windows to records by hand: labels, signals, times, and what is counted on the way."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.decoding.clip import Clip
from pipelines.decoding.footage import Frame
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.decoding.record_builder import (
    SequenceTally,
    build_record,
    encode_frame,
)
from pipelines.images.pixel_sums import PixelSums
from pipelines.labels.alignment import Aligned
from pipelines.options.dataset import ImageOptions, LabelOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.plan.sampling import Window
from tfrecords_schema.examples import decode_record, encode_record
from tfrecords_schema.moments import Moments
from tfrecords_schema.spec import LabelSpec, SequenceSpec

IMAGE = ImageOptions(size=(4, 6))


TICK = Fraction(1, 1000)


class Footage:
    time_base = TICK
    tolerance = Fraction(0)


class Picture:
    """A picture of one color."""

    def __init__(self, red: int, stored: bytes | None = None):
        self.red = red
        self.stored = stored

    def to_scaled(self, options):
        return np.full((*options.size, 3), (self.red, 7, 9), np.uint8)

    def stored_file(self, options):
        return self.stored


def make_request(
    *,
    label: LabelSpec | None = None,
    label_at: Any = "last",
    sampling: SamplingOptions | None = None,
    image: bool = True,
    options: ImageOptions = IMAGE,
    label_indices: tuple[int, ...] = (),
    telemetry: TelemetryOptions | None = None,
    **source: Any,
) -> BuildRequest:
    sampling = sampling or SamplingOptions(num_frames=3)
    return BuildRequest(
        segment=Segment(
            source=Source(
                id="a.mp4#t=1", path="/in/a.mp4", data_path="a.mp4", group="car 7", **source
            )
        ),
        spec=SequenceSpec(
            num_frames=sampling.num_frames,
            image=options.spec if image else None,
            label=label or LabelSpec(),
            signals=telemetry.signals if telemetry else (),
        ),
        dataset_name="drives",
        sampling=sampling,
        image=options,
        label_indices=label_indices,
        label=LabelOptions(label_at=label_at),
        telemetry=telemetry,
    )


def targets(*names: str, per_frame: bool = False) -> LabelSpec:
    return LabelSpec(task="regression", target_names=names, per_frame=per_frame)


def classes(*names: str, per_frame: bool = False) -> LabelSpec:
    return LabelSpec(task="classification", class_names=names, per_frame=per_frame)


def signals(*columns: str, **options: Any) -> TelemetryOptions:
    return TelemetryOptions(telemetry="x", signal_columns=columns, **options)


def window(*frames: dict[str, Any], valid: int | None = None, first_slot: int = 0) -> Window:
    """Frames one second apart from 5 s on, with these fields."""
    made = tuple(
        Frame(
            **{
                "pts": k,
                "rank": k,
                "timestamp": (5 + k) * 1_000_000,
                "encoded": b"%d" % k,
                **fields,
            }
        )
        for k, fields in enumerate(frames)
    )
    return Window(first_slot, made, len(made) if valid is None else valid)


def maker(request: BuildRequest, first_pts: int = 5000) -> SimpleNamespace:
    clip = Clip(Footage(), first_pts, None, None)
    return SimpleNamespace(build=lambda window: build_record(window, request, clip))


def measured(*rows: tuple[float, ...]) -> list[dict[str, Any]]:
    return [{"measured": Aligned(row, None, 0.0)} for row in rows]


def called(*names: str) -> list[dict[str, Any]]:
    return [{"measured": Aligned((), name, 0.0)} for name in names]


class TestEncoding:
    def test_encode_frame_scales_encodes_and_sums(self) -> None:
        measured = Aligned((1.5, -2.0), "stop", 0.3)
        frame = Frame(2040, 3, picture=Picture(40), measured=measured)
        found = encode_frame(frame, TICK, make_request())
        assert (found.timestamp, found.measured, found.picture) == (2_040_000, measured, None)
        sums, squares = (24 * 40, 24 * 7, 24 * 9), (24 * 40**2, 24 * 7**2, 24 * 9**2)
        assert found.pixel_sums == PixelSums(24, sums, squares)
        assert not found.is_stored_file
        pixels = cv2.imdecode(np.frombuffer(found.encoded, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels.shape == (4, 6, 3)
        assert pixels[0, 0].tolist() == pytest.approx([9, 7, 40], abs=3)

    def test_encode_frame_keeps_stored_file(self) -> None:
        request = make_request(options=ImageOptions(size=(4, 6), grayscale=True))
        sampled = encode_frame(Frame(4, 0, picture=Picture(4, b"as it was")), TICK, request)
        # Sums are of its pixels all the same: of gray, 0.299 * 4 + 0.587 * 7 + 0.114 * 9.
        assert sampled.pixel_sums == PixelSums(24, (24 * 6,), (24 * 6**2,))
        unseen = Picture(4, b"as it was")
        unseen.to_scaled = None  # the others are not decoded
        found = encode_frame(Frame(0, 0, picture=unseen), TICK, request)
        assert (found.encoded, found.is_stored_file, found.pixel_sums) == (b"as it was", True, None)
        assert (sampled.encoded, sampled.is_stored_file) == (b"as it was", True)
        assert found.measured is None

    def test_encode_frame_skips_pictures_for_signals_alone(self) -> None:
        request = make_request(image=False, telemetry=signals("a"))
        frame = Frame(7, 0, measured=Aligned((2.0,), None, 0.0))
        assert encode_frame(frame, TICK, request) == frame._replace(timestamp=7000)

    def test_encode_frame_requires_a_picture(self) -> None:
        with pytest.raises(ValueError, match="the source has no pictures"):
            encode_frame(Frame(7, 0), TICK, make_request())

    @pytest.mark.parametrize(
        ("ticks", "microseconds"), [(1, 33_367), (2, 66_733), (3, 100_100), (-1, -33_367)]
    )
    def test_encode_frame_rounds_to_microseconds(self, ticks, microseconds) -> None:
        request = make_request(image=False, telemetry=signals("a"))
        found = encode_frame(Frame(ticks, 0), Fraction(1001, 30000), request)
        assert found.timestamp == microseconds

    @given(
        st.integers(-(10**12), 10**12),
        st.fractions("1/4000000", 1, max_denominator=4_000_000) | st.just(Fraction(1, 2_000_000)),
    )
    def test_encode_frame_rounds_like_fractions(self, ticks, time_base) -> None:
        request = make_request(image=False, telemetry=signals("a"))
        found = encode_frame(Frame(ticks, 0), time_base, request).timestamp
        assert found == round(ticks * time_base * 1_000_000)
        assert type(found) is int


class TestRecord:
    def test_record_describes_its_source(self) -> None:
        request = make_request(label=classes("go", "stop"), label_indices=(1,))
        record = maker(request).build(window({}, {}, {}))
        assert (record.id, record.media_id) == ("a.mp4#t=1@5000000", "a.mp4#t=1")
        assert (record.data_path, record.group_id) == ("a.mp4", "car 7")
        assert record.dataset_name == "drives"
        assert list(record.timestamps) == [5_000_000, 6_000_000, 7_000_000]
        assert (record.frame_rate, record.valid_frames) == (1.0, 3)
        assert list(record.frames) == [b"0", b"1", b"2"]
        assert (record.label_indices, record.label_strings) == ([1], ["stop"])
        assert record.signals == {}

    def test_record_ids_differ_by_slot(self) -> None:
        fast = SamplingOptions(num_frames=3, frame_rate=Fraction(4))
        request = make_request(sampling=fast)
        ids = [maker(request).build(window({}, {}, {}, first_slot=k)).id for k in range(3)]
        assert ids == ["a.mp4#t=1@5000000", "a.mp4#t=1@5250000", "a.mp4#t=1@5500000"]
        assert maker(request).build(window({}, {}, {})).frame_rate == 4.0

    @pytest.mark.parametrize("mode", ["uniform", "last"])
    def test_single_sequence_starts_at_its_first_frame(self, mode) -> None:
        sampling = SamplingOptions(num_frames=3, frame_rate=Fraction(4), sampling=mode)
        request = make_request(sampling=sampling)
        record = maker(request).build(window({}, {}, {}, first_slot=9))
        assert record.id == "a.mp4#t=1@5000000"

    @pytest.mark.parametrize(("valid", "rate"), [(3, 1.0), (2, 1.0), (1, 0.0)])
    def test_frame_rate_ignores_padding(self, valid, rate) -> None:
        frames = [{}, {}, {"timestamp": 6_000_000}] if valid == 2 else [{}, {}, {}]
        assert maker(make_request()).build(window(*frames, valid=valid)).frame_rate == rate

    def test_signals_have_names_and_frame_times(self) -> None:
        request = make_request(
            label=targets("speed"), label_at="mean", telemetry=signals("yaw", "speed")
        )
        frames = measured((1.0, 10.0), (2.0, 20.0), (6.0, 30.0))
        record = maker(request).build(window(*frames))
        # A column may be both; values come as targets, then signals.
        assert record.signals == {
            "yaw": [(10.0,), (20.0,), (30.0,)],
            "speed": [(1.0,), (2.0,), (6.0,)],
        }
        times = [5_000_000, 6_000_000, 7_000_000]
        assert record.signal_timestamps == {"yaw": times, "speed": times}
        assert record.label_values == (3.0,)

    def test_signals_alone_survive_serialization(self) -> None:
        request = make_request(image=False, telemetry=signals("yaw"))
        record = maker(request).build(window(*measured((1.0,), (2.0,), (6.0,))))
        assert list(record.frames) == []
        stored = decode_record(encode_record(record, request.spec), request.spec)
        assert [list(values) for values in stored.signals["yaw"]] == [[1.0], [2.0], [6.0]]
        assert list(stored.timestamps) == [5_000_000, 6_000_000, 7_000_000]


class TestLabels:
    ROWS = ((1.0, 350.0), (2.0, 20.0), (6.0, 20.0))

    @pytest.mark.parametrize(
        ("label_at", "valid", "expected"),
        [
            ("last", 3, (6.0, 20.0)),
            ("last", 2, (2.0, 20.0)),
            ("center", 3, (2.0, 20.0)),
            ("center", 2, (2.0, 20.0)),
            ("center", 1, (1.0, 350.0)),
            ("mean", 3, (3.0, 130.0)),
            ("mean", 2, (1.5, 185.0)),
        ],
    )
    def test_target_of_sequence(self, label_at, valid, expected) -> None:
        """Padding has no say."""
        request = make_request(label=targets("speed", "heading"), label_at=label_at)
        record = maker(request).build(window(*measured(*self.ROWS), valid=valid))
        assert tuple(record.label_values) == pytest.approx(expected)
        assert not record.frame_label_values

    def test_mean_of_angles_wraps_around(self) -> None:
        telemetry = signals(angle_columns=("heading",))
        request = make_request(
            label=targets("speed", "heading"), label_at="mean", telemetry=telemetry
        )
        record = maker(request).build(window(*measured(*self.ROWS), valid=2))
        assert tuple(record.label_values) == pytest.approx((1.5, 5.0))

    def test_targets_by_frame(self) -> None:
        request = make_request(label=targets("speed", "heading", per_frame=True), label_at="each")
        record = maker(request).build(window(*measured(*self.ROWS), valid=2))
        assert record.frame_label_values == [[1.0, 350.0], [2.0, 20.0], [6.0, 20.0]]
        assert not record.label_values

    def test_source_values_apply_to_all_sequences(self) -> None:
        request = make_request(label=targets("speed"), values=(4.0,))
        record = maker(request).build(window({}, {}, {}))
        assert (record.label_values, record.label_indices) == ((4.0,), [])

    @pytest.mark.parametrize(
        ("label_at", "valid", "expected"),
        [("last", 3, "go"), ("last", 2, "stop"), ("center", 3, "stop"), ("center", 1, "go")],
    )
    def test_class_of_sequence(self, label_at, valid, expected) -> None:
        request = make_request(label=classes("go", "stop"), label_at=label_at)
        record = maker(request).build(window(*called("go", "stop", "go"), valid=valid))
        assert record.label_strings == [expected]
        assert record.label_indices == [["go", "stop"].index(expected)]
        assert not record.frame_label_indices

    def test_class_by_frame(self) -> None:
        request = make_request(label=classes("go", "stop", per_frame=True), label_at="each")
        record = maker(request).build(window(*called("go", "stop", "stop")))
        assert record.frame_label_indices == [0, 1, 1]
        assert record.frame_label_strings == ["go", "stop", "stop"]
        assert not record.label_indices

    def test_no_labels(self) -> None:
        record = maker(make_request(telemetry=signals("a"))).build(
            window(*measured((1.0,), (2.0,), (3.0,)))
        )
        assert not record.label_indices
        assert not record.label_values


class TestTally:
    def count(self, request: BuildRequest, *windows: Window, num_classes: int = 0) -> SequenceTally:
        tally = SequenceTally(num_classes)
        for own in windows:
            tally.add(own, maker(request).build(own))
        return tally

    def test_tally_counts_pixels_repeats_and_padding(self) -> None:
        frame = Frame(0, 0, pixel_sums=PixelSums(2, (10, 1), (60, 1)))
        other = Frame(40, 1, pixel_sums=PixelSums(2, (2, 3), (2, 5)))
        request = make_request(sampling=SamplingOptions(num_frames=4))
        tally = self.count(
            request,
            Window(0, (frame, frame, other, frame), 4),
            Window(4, (other, other, other, other), 2),
        )
        assert (tally.sequences, tally.padded_frames) == (2, 2)
        assert tally.repeated_frames == 1 + 1  # one of the padded sequence is no padding
        sums, squares = (3 * 10 + 3 * 2, 3 * 1 + 3 * 3), (3 * 60 + 3 * 2, 3 * 1 + 3 * 5)
        assert tally.total_pixels(IMAGE) == PixelSums(2 * 6, sums, squares)
        assert tally.pixels.frames == 6
        assert tally.distances == [6, 0, 0, 0, 0]
        assert (tally.targets, tally.signals, tally.label_counts) == ((), (), [])

    @pytest.mark.parametrize("grayscale", [False, True])
    def test_total_pixels_decodes_one_stored_file_without_sample(self, grayscale) -> None:
        options = ImageOptions(size=(4, 6), grayscale=grayscale)
        shape = (4, 6) if grayscale else (4, 6, 3)
        data = [
            cv2.imencode(".jpg", np.full(shape, level, np.uint8))[1].tobytes()
            for level in (50, 100, 150)
        ]
        passed = tuple(Frame(0, 0, encoded=own, is_stored_file=True) for own in data)
        tally = self.count(make_request(options=options), Window(0, passed, 3))
        channels = 1 if grayscale else 3
        total = tally.total_pixels(options)
        assert total == PixelSums(72, (72 * 100,) * channels, (72 * 100**2,) * channels)
        assert tally.total_pixels(options) == total
        assert tally.pixels.frames == 1

    def test_total_pixels_decodes_stored_file_not_encoded_frame(self) -> None:
        black, white = PixelSums(24, (0,) * 3, (0,) * 3), np.full((4, 6, 3), 250, np.uint8)
        encoded = Frame(0, 0, encoded=b"black", pixel_sums=black)
        jpeg = cv2.imencode(".jpg", white)[1].tobytes()
        passed = Frame(0, 0, encoded=jpeg, is_stored_file=True)
        windows = Window(0, (encoded,) * 3, 3), Window(3, (passed, encoded, encoded), 3)
        tally = self.count(make_request(), *windows)
        assert tally.total_pixels(IMAGE) == PixelSums(6 * 24, (6000,) * 3, (6000 * 250,) * 3)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"no picture", "it is a truncated JPEG file: it has no end marker"),
            (b"\xff\xd8\xff\xd9", "it is a damaged JPEG file"),
        ],
    )
    def test_total_pixels_fails_for_damaged_stored_file(self, data, reason) -> None:
        frame = Frame(0, 0, encoded=data, is_stored_file=True)
        tally = self.count(make_request(), Window(0, (frame,) * 3, 3))
        with pytest.raises(DecodingFailure, match=f"a frame does not decode: {reason}"):
            tally.total_pixels(IMAGE)

    def test_tally_moments_ignore_padding(self) -> None:
        rows = [measured((1.0,), (2.0,), (6.0,)), measured((8.0,), (3.0,), (3.0,))]
        telemetry = signals("v")
        by_record = make_request(label=targets("v"), telemetry=telemetry)
        windows = [window(*rows[0]), window(*rows[1], valid=2)]
        tally = self.count(by_record, *windows)
        assert tally.targets == (Moments.of([6.0, 3.0]),)
        frames = Moments.of([1.0, 2.0, 6.0, 8.0, 3.0])
        assert tally.signals == (Moments.of([1.0, 2.0, 6.0]) + Moments.of([8.0, 3.0]),)
        assert (tally.signals[0].count, tally.signals[0].mean) == (5, frames.mean)
        by_frame = make_request(
            label=targets("v", per_frame=True), label_at="each", telemetry=telemetry
        )
        tally = self.count(by_frame, *windows)
        assert tally.targets == tally.signals

    def test_tally_classes_ignore_padding(self) -> None:
        windows = [
            window(*called("go", "stop", "stop")),
            window(*called("stop", "go", "go"), valid=1),
        ]
        by_record = make_request(label=classes("crash", "go", "stop"))
        assert self.count(by_record, *windows, num_classes=3).label_counts == [0, 0, 2]
        by_frame = make_request(
            label=classes("crash", "go", "stop", per_frame=True), label_at="each"
        )
        assert self.count(by_frame, *windows, num_classes=3).label_counts == [0, 1, 3]

    def test_tally_distances_ignore_padding(self) -> None:
        frames = [{"measured": Aligned((), None, distance)} for distance in (0.0, 0.6, 1.0)]
        tally = self.count(make_request(), window(*frames), window(*frames[::-1], valid=2))
        assert tally.distances == [1, 0, 0, 4, 0]

    def test_tally_distances_by_class(self) -> None:
        def class_of(distance: float) -> int:
            frames = [{"measured": Aligned((), None, distance)}]
            return self.count(make_request(), window(*frames)).distances.index(1)

        assert [class_of(d) for d in (0.0, 1e-3, 0.1, 0.11, 0.5, 0.6, 1.0, 1.01)] == [
            0, 1, 1, 2, 2, 3, 3, 4,
        ]  # fmt: skip
        assert self.count(make_request(), window({})).distances == [1, 0, 0, 0, 0]

    def test_tally_of_signals_alone_has_no_pixels(self) -> None:
        request = make_request(image=False, telemetry=signals("a", "b"))
        tally = self.count(request, window(*measured((1.0, 5.0), (2.0, 5.0), (3.0, 5.0))))
        assert tally.total_pixels(IMAGE) == PixelSums()
        assert tally.signals == (Moments.of([1.0, 2.0, 3.0]), Moments.of([5.0, 5.0, 5.0]))
