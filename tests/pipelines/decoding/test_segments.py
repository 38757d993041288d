"""Segments to records, against a slow oracle: a table of what is on screen at each slot."""

import dataclasses
import functools
import itertools
import math
from fractions import Fraction

import av
import numpy as np
import pytest

from pipelines.decoding.protocol import (
    BuildRequest,
    DecodingFailure,
    IndexRequest,
    request_from_json,
    request_to_json,
)
from pipelines.decoding.segments import build_segment, find_boundaries, probe_file
from pipelines.images import frames as frame_functions
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.plan.shards import clip_seconds, cut_segments, time_boundaries
from tfrecords_schema.examples import decode_record
from tfrecords_schema.spec import LabelSpec, SequenceSpec

IMAGE = ImageOptions(size=(24, 32), jpeg_quality=90)
X264_OPEN = {"x264-params": "b-adapt=0:b-pyramid=2:ref=4:open-gop=1"}
UNEVEN = [0, 10, 50, 55, 100, 300, 333, *range(400, 1500, 83), *range(1500, 4000, 41)]

CLIPS = {
    "steady.mp4": {"frames": 100},
    "b_frames.mp4": {"frames": 100, "b_frames": 3},
    "open.mp4": {"frames": 100, "b_frames": 3, "options": X264_OPEN},
    "ntsc.mp4": {"frames": 100, "rate": Fraction(30000, 1001), "b_frames": 2},
    "rounded.webm": {"frames": 100, "codec": "libvpx-vp9", "rate": Fraction(30000, 1001)},
    "uneven.mp4": {"times": UNEVEN, "b_frames": 2},
    "uneven.mkv": {"times": UNEVEN, "codec": "mpeg4", "b_frames": 2},
    "late.mp4": {"times": range(5003, 9000, 40), "b_frames": 2},
}
SAMPLINGS = {
    "every frame": {},
    "every frame, overlapping": {"stride": 3},
    "every frame, with gaps": {"stride": 11, "num_frames": 5},
    "below": {"frame_rate": Fraction(10)},
    "below, overlapping": {"frame_rate": Fraction(7), "stride": 1},
    "equal": {"frame_rate": Fraction(25), "stride": 4},
    "ntsc": {"frame_rate": Fraction(30000, 1001), "stride": 5},
    "above": {"frame_rate": Fraction(60), "stride": 7},
    "with gaps": {"frame_rate": Fraction(12), "stride": 13},
}


def sampling_options(num_frames=8, **fields):
    return SamplingOptions(num_frames=num_frames, **fields)


def make_source(path, start=None, end=None):
    return Source(
        id=path.name,
        path=str(path),
        data_path=f"class/{path.name}",
        group="group",
        labels=("b",),
        start=start,
        end=end,
    )


def make_request(segment, sampling, image=IMAGE):
    return BuildRequest(
        segment=segment,
        spec=SequenceSpec(
            num_frames=sampling.num_frames,
            frame_rate=None if sampling.frame_rate is None else float(sampling.frame_rate),
            image=image.spec,
            label=LabelSpec(task="classification", class_names=("a", "b")),
        ),
        dataset_name="test",
        sampling=sampling,
        image=image,
        label_indices=(1,),
    )


def build(segment, sampling, image=IMAGE):
    """Serialized records and the result of one segment, asked for as over the pipe."""
    request = request_from_json(request_to_json(make_request(segment, sampling, image)))
    records = []
    return records, build_segment(request, records.append, lambda: None)


def build_whole(path, sampling, *, image=IMAGE, start=None, end=None):
    """Records as Python values, and the result, of a clip in one piece."""
    segment = Segment(source=make_source(path, start, end))
    records, result = build(segment, sampling, image)
    spec = make_request(segment, sampling, image).spec
    return [decode_record(record, spec) for record in records], result


def cut(source, sampling, segment_length):
    """The segments a build would make."""
    seconds = clip_seconds(source, probe_file(source.path).duration)
    if sampling.frame_rate is not None:
        boundaries = time_boundaries(seconds, sampling, segment_length)
    else:
        boundaries = find_boundaries(
            IndexRequest(
                source=source,
                segment_length=segment_length,
            )
        )
    return cut_segments(source, seconds, boundaries)


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Frames of a clip in seconds after the file's first, and what a build must make of them."""

    times: list[Fraction]
    pts: list[Fraction]
    tick: Fraction

    @classmethod
    def of(cls, path):
        with av.open(str(path)) as container:
            base = container.streams.video[0].time_base
            pts = [image.pts * base for image in container.decode(video=0)]
        return cls([time - pts[0] for time in pts], pts, base)

    def slots(self, sampling, start, end):
        """Slot to frame."""
        begin = Fraction(str(start or 0))
        finish = None if end is None else Fraction(str(end))
        # Ticks of up to 2 ms are roundings of the true times.
        slack = self.tick if self.tick <= Fraction(2, 1000) else 0
        if sampling.frame_rate is None:
            return [
                frame
                for frame, time in enumerate(self.times)
                if (start is None or time >= begin - slack)
                and (finish is None or time < finish - slack)
            ]
        table = []
        while True:
            time = begin + len(table) / sampling.frame_rate
            on_screen = max(f for f, shown in enumerate(self.times) if shown <= time + slack)
            last = on_screen == len(self.times) - 1
            if (finish is not None and time >= finish) or (
                last and time > self.times[on_screen] + slack
            ):
                return table
            table.append(on_screen)

    def windows(self, sampling, start=None, end=None):
        """The frames of each sequence, and how many are real."""
        slots, count = self.slots(sampling, start, end), sampling.num_frames
        if len(slots) < count:
            if not slots or sampling.short_clips == "drop":
                return []
            if sampling.short_clips == "pad":
                return [(slots + [slots[-1]] * (count - len(slots)), len(slots))]
            return [(list(itertools.islice(itertools.cycle(slots), count)), count)]
        if sampling.sampling == "uniform":
            parts = (Fraction(2 * part + 1, 2 * count) * len(slots) for part in range(count))
            return [([slots[math.floor(middle)] for middle in parts], count)]
        step = sampling.window_stride
        return [
            (slots[first : first + count], count)
            for first in range(0, len(slots) - count + 1, step)
        ]

    def timestamps(self, window):
        return [round(self.pts[frame] * 1_000_000) for frame in window]


@pytest.fixture(scope="module")
def clip(write_video, tmp_path_factory):
    """Name to path; each clip is made once a module."""
    folder = tmp_path_factory.mktemp("clips")
    return functools.cache(lambda name: write_video(folder / name, **CLIPS[name]))


@pytest.fixture
def check(read_barcode, decode_image):
    """Checks a build of a clip in one piece against the oracle."""

    def check(path, sampling, **span):
        oracle = Oracle.of(path)
        records, result = build_whole(path, sampling, **span)
        expected = oracle.windows(sampling, **span)
        assert [list(record.timestamps) for record in records] == [
            oracle.timestamps(window) for window, _ in expected
        ]
        assert [record.valid_frames for record in records] == [valid for _, valid in expected]
        codes = {}
        for record in records:
            for data in record.frames:
                if data not in codes:
                    codes[data] = read_barcode(decode_image(data))
        assert [[codes[data] for data in record.frames] for record in records] == [
            window for window, _ in expected
        ]
        shown = [window[:valid] for window, valid in expected]
        assert result.sequences == len(records)
        assert result.padded_frames == sum(sampling.num_frames - valid for _, valid in expected)
        assert result.repeated_frames == sum(
            a == b for window in shown for a, b in itertools.pairwise(window)
        )
        slots = oracle.slots(sampling, span.get("start"), span.get("end"))
        assert result.short_clips == (len(slots) < sampling.num_frames)
        assert (result.breaks, result.unordered_frames, result.truncated) == (0, 0, None)
        assert len({record.id for record in records}) == len(records)
        return records, result

    return check


class TestAgainstOracle:
    @pytest.mark.parametrize("sampling", SAMPLINGS)
    @pytest.mark.parametrize("name", CLIPS)
    def test_windows_match_oracle(self, name, sampling, clip, check):
        records, _ = check(clip(name), sampling_options(**SAMPLINGS[sampling]))
        assert records

    @pytest.mark.parametrize("rate", [None, Fraction(10), Fraction(60)])
    @pytest.mark.parametrize("name", [*CLIPS])
    def test_uniform_matches_oracle(self, name, rate, clip, check):
        records, _ = check(clip(name), sampling_options(frame_rate=rate, sampling="uniform"))
        assert len(records) == 1

    @pytest.mark.parametrize("mode", ["windows", "uniform"])
    @pytest.mark.parametrize("policy", ["drop", "pad", "loop"])
    @pytest.mark.parametrize("rate", [None, Fraction(5), Fraction(100)])
    def test_short_clips_match_oracle(self, rate, policy, mode, write_video, check, tmp_path):
        path = write_video(tmp_path / "short.mp4", frames=6, b_frames=2)
        sampling = sampling_options(
            num_frames=32, frame_rate=rate, short_clips=policy, sampling=mode
        )
        records, result = check(path, sampling)
        assert len(records) == (policy != "drop")
        assert result.short_clips == 1
        assert (result.padded_frames > 0) == (policy == "pad")

    @pytest.mark.parametrize("policy", ["drop", "pad"])
    def test_clip_of_one_frame_matches_oracle(self, policy, write_video, check, tmp_path):
        path = write_video(tmp_path / "one.mp4", frames=1)
        for rate in (None, Fraction(25)):
            records, _ = check(path, sampling_options(frame_rate=rate, short_clips=policy))
            assert [record.valid_frames for record in records] == [1] * (policy == "pad")

    @pytest.mark.parametrize(
        ("start", "end"),
        [(None, 1.7), (0.4, None), (0.5, 2.5), (1.003, 1.9), (0.04, 0.04), (2.0, 90.0), (3.2, 3.3)],
    )
    @pytest.mark.parametrize("name", ["open.mp4", "uneven.mkv", "late.mp4", "rounded.webm"])
    def test_spans_match_oracle(self, name, start, end, clip, check, monkeypatch):
        # An end beyond the file is reported as truncation, of which other tests tell.
        monkeypatch.setattr("pipelines.decoding.segments._find_truncation", lambda *_: None)
        for fields in ({}, {"frame_rate": Fraction(10), "stride": 3}, {"sampling": "uniform"}):
            sampling = sampling_options(num_frames=4, short_clips="pad", **fields)
            check(clip(name), sampling, start=start, end=end)

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("a.avi", {"codec": "mpeg4", "b_frames": 2}),
            ("a.ts", {"b_frames": 2}),
            ("a.gif", {"codec": "gif", "rate": 20}),
            ("a.mpg", {"codec": "mpeg2video"}),
        ],
    )
    def test_uncuttable_containers_match_oracle(
        self, name, arguments, write_video, read_barcode, decode_image, tmp_path
    ):
        path = write_video(tmp_path / name, frames=50, **arguments)
        every, _ = build_whole(path, sampling_options(num_frames=5))
        assert [
            [read_barcode(decode_image(data)) for data in record.frames] for record in every
        ] == np.arange(50).reshape(10, 5).tolist()
        uniform, _ = build_whole(path, sampling_options(num_frames=5, sampling="uniform"))
        assert [read_barcode(decode_image(data)) for data in uniform[0].frames] == list(
            range(5, 50, 10)
        )
        span = {"start": 0.5, "end": 1.0}
        rate = arguments.get("rate", 25)
        inside, _ = build_whole(path, sampling_options(num_frames=1), **span)
        first, last = math.ceil(rate * 0.5), math.ceil(rate * 1.0)
        assert [read_barcode(decode_image(record.frames[0])) for record in inside] == list(
            range(first, last)
        )
        assert not find_boundaries(IndexRequest(source=make_source(path), segment_length=0.1))


def segmented(source, sampling, segment_length):
    """Records of all segments in order, and how many segments there were."""
    segments = cut(source, sampling, segment_length)
    records = [build(segment, sampling)[0] for segment in segments]
    return [record for own in records for record in own], len(segments)


class TestSegments:
    @pytest.mark.parametrize("sampling", SAMPLINGS)
    @pytest.mark.parametrize("name", CLIPS)
    def test_records_do_not_depend_on_segment_length(self, name, sampling, clip):
        source, sampling = make_source(clip(name)), sampling_options(**SAMPLINGS[sampling])
        whole, _ = build(Segment(source=source), sampling)
        assert whole
        for length in (0.15, 0.9):
            records, segments = segmented(source, sampling, length)
            assert segments > 1
            assert records == whole

    @pytest.mark.parametrize("span", [(0.3, None), (None, 2.2), (0.513, 2.9)])
    @pytest.mark.parametrize("name", ["open.mp4", "uneven.mp4", "rounded.webm"])
    def test_records_of_spans_do_not_depend_on_segment_length(self, name, span, clip):
        source = make_source(clip(name), *span)
        for fields in ({"stride": 3}, {"frame_rate": Fraction(12), "stride": 5}):
            sampling = sampling_options(num_frames=6, **fields)
            whole, _ = build(Segment(source=source), sampling)
            assert whole
            for length in (0.33, 1.0):
                records, segments = segmented(source, sampling, length)
                assert segments > 1
                assert records == whole

    @pytest.mark.parametrize(
        ("name", "codec"), [("a.mp4", "libx264"), ("b.mp4", "mpeg4"), ("a.webm", "libvpx-vp9")]
    )
    @pytest.mark.parametrize("damaged", [24, 30])
    def test_records_of_damaged_footage_do_not_depend_on_segment_length(
        self, name, codec, damaged, write_video, tmp_path
    ):
        path = write_video(tmp_path / name, codec=codec, frames=80)
        with av.open(str(path)) as container:
            packet = list(container.demux(video=0))[damaged]
            header = 12 if name.endswith("webm") else 0
            begin, end = packet.pos + header, packet.pos + packet.size
        stored = bytearray(path.read_bytes())
        stored[begin:end] = bytes(end - begin)
        path.write_bytes(stored)
        for fields in ({"stride": 3}, {"frame_rate": Fraction(20), "stride": 3}):
            sampling = sampling_options(num_frames=4, **fields)
            whole, result = build(Segment(source=make_source(path)), sampling)
            assert result.breaks == 1
            for length in (0.2, 0.5, 1.1):
                assert segmented(make_source(path), sampling, length)[0] == whole

    def test_short_clip_is_padded_once(self, write_video, tmp_path):
        path = write_video(tmp_path / "short.mp4", frames=20)
        for fields in ({}, {"frame_rate": Fraction(25)}):
            sampling = sampling_options(num_frames=32, short_clips="pad", **fields)
            results = [
                build(segment, sampling) for segment in cut(make_source(path), sampling, 0.2)
            ]
            assert len(results) > 1
            assert [len(records) for records, _ in results] == [1] + [0] * (len(results) - 1)
            assert sum(result.short_clips for _, result in results) == 1

    @pytest.mark.parametrize(
        ("name", "rate"),
        [
            ("demo.mp4", None),
            ("demo.mp4", Fraction(6)),
            ("demo.webm", None),
            ("demo.webm", Fraction(30)),
            ("phone_vfr.mp4", Fraction(25)),
        ],
    )
    def test_records_of_real_clips_do_not_depend_on_segment_length(self, name, rate, data):
        span = (None, None) if name.startswith("phone") else (3.7, 18.2)
        source = make_source(data / name, *span)
        sampling = sampling_options(num_frames=4, stride=3, frame_rate=rate)
        whole, _ = build(Segment(source=source), sampling)
        assert whole
        records, segments = segmented(source, sampling, 0.5 if name.startswith("phone") else 4.1)
        assert segments > 2
        assert records == whole

    def test_segment_decodes_only_its_part(self, write_video, tmp_path):
        path = write_video(tmp_path / "long.mp4", frames=250, b_frames=2)
        for fields in ({}, {"frame_rate": Fraction(25)}):
            sampling = sampling_options(**fields)
            for segment in cut(make_source(path), sampling, 1.0)[:-1]:
                _, result = build(segment, sampling)
                # 25 frames, a window that begins at the end, and up to a group before.
                assert result.frames <= 25 + 8 + 12 + 2

    def test_truncated_file_yields_its_readable_segments(self, write_video, tmp_path):
        path = write_video(
            tmp_path / "cut.mp4", frames=200, container_options={"movflags": "faststart"}
        )
        stored = path.read_bytes()
        path.write_bytes(stored[: len(stored) * 6 // 10])
        sampling = sampling_options(frame_rate=Fraction(25))
        whole, result = build(Segment(source=make_source(path)), sampling)
        assert 50 < result.sequences * 8 < 150
        parts = []
        for segment in cut(make_source(path), sampling, 1.0):
            parts += build(segment, sampling)[0]
        assert parts == whole


class TestTruncation:
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("a.mp4", {"b_frames": 2, "container_options": {"movflags": "faststart"}}),
            ("a.mkv", {"b_frames": 2}),
            ("a.webm", {"codec": "libvpx-vp9"}),
            ("a.avi", {"codec": "mpeg4"}),
        ],
    )
    def test_truncated_file_keeps_records_before_the_cut(
        self, name, arguments, write_video, tmp_path
    ):
        path = write_video(tmp_path / name, frames=255, **arguments)
        whole, result = build(Segment(source=make_source(path)), sampling_options())
        assert (result.truncated, len(whole)) == (None, 31)
        stored = path.read_bytes()
        path.write_bytes(stored[: len(stored) * 6 // 10])
        kept, result = build(Segment(source=make_source(path)), sampling_options())
        assert 8 < len(kept) < 25
        assert kept[:-1] == whole[: len(kept) - 1]
        assert result.truncated
        assert len(kept) * 8 / 25 - 0.05 < result.last_seconds < (len(kept) + 1) * 8 / 25

    def test_segments_after_the_cut_report_truncation(self, write_video, tmp_path):
        path = write_video(
            tmp_path / "a.mkv",
            frames=200,
            b_frames=2,
            container_options={"cluster_time_limit": "500"},
        )
        stored = path.read_bytes()
        path.write_bytes(stored[: len(stored) * 6 // 10])
        sampling = sampling_options(frame_rate=Fraction(25))
        results = [build(s, sampling)[1] for s in cut(make_source(path), sampling, 1.0)]
        assert len(results) == 8
        reported = [result.truncated is not None for result in results]
        assert reported == sorted(reported)
        assert reported[0] < reported[-1]

    def test_span_beyond_the_end_is_reported(self, clip):
        source = make_source(clip("steady.mp4"), 1.0, 20.0)
        _, result = build(Segment(source=source), sampling_options())
        assert result.truncated == "frames end after 3.96 s, but 20.00 s were declared"


class TestRecords:
    def test_record_fields(self, clip):
        path = clip("late.mp4")
        records, _ = build_whole(path, sampling_options(num_frames=4))
        first, second = records[:2]
        assert first.timestamps == [5_003_000, 5_043_000, 5_083_000, 5_123_000]
        assert (first.id, second.id) == ("late.mp4@5003000", "late.mp4@5163000")
        assert (first.dataset_name, first.data_path) == ("test", "class/late.mp4")
        assert (first.media_id, first.group_id) == ("late.mp4", "group")
        assert (list(first.label_indices), list(first.label_strings)) == ([1], ["b"])
        assert (first.start_timestamp, first.valid_frames) == (5_003_000, 4)

    def test_record_ids_differ_for_sequences_that_start_with_one_frame(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4", times=[1000, 1500, 2000])
        sampling = sampling_options(num_frames=2, stride=1, frame_rate=Fraction(6))
        records, _ = build_whole(path, sampling)
        assert [record.timestamps[0] for record in records] == [1_000_000] * 3 + [1_500_000] * 3
        assert [record.id for record in records] == [
            f"a.mp4@{time}" for time in (1000000, 1166667, 1333333, 1500000, 1666667, 1833333)
        ]

    def test_frame_rate_is_sampled_or_measured_rate(self, clip):
        records, _ = build_whole(clip("steady.mp4"), sampling_options(frame_rate=Fraction(10)))
        assert {record.frame_rate for record in records} == {10.0}
        records, _ = build_whole(clip("steady.mp4"), sampling_options())
        assert [record.frame_rate for record in records] == [pytest.approx(25)] * len(records)
        records, _ = build_whole(clip("uneven.mp4"), sampling_options(num_frames=5))
        assert records[0].frame_rate == pytest.approx(40)  # 0 to 100 ms

    def test_records_are_deterministic(self, clip):
        segment = Segment(source=make_source(clip("b_frames.mp4")))
        sampling = sampling_options(frame_rate=Fraction(10))
        assert build(segment, sampling) == build(segment, sampling)

    @pytest.mark.parametrize("grayscale", [False, True])
    def test_pixel_sums(self, grayscale, clip, decode_image):
        image = ImageOptions(size=(20, 30), image_format="png", grayscale=grayscale)
        sampling = sampling_options(num_frames=200, short_clips="pad")
        (record,), result = build_whole(clip("steady.mp4"), sampling, image=image)
        pixels = np.stack([decode_image(data) for data in record.frames[: record.valid_frames]])
        assert pixels.shape == (100, 20, 30, 1 if grayscale else 3)
        assert result.pixel_count == 100 * 20 * 30
        assert result.pixel_sum == tuple(pixels.sum((0, 1, 2), dtype=np.int64))
        assert result.pixel_square_sum == tuple((pixels.astype(np.int64) ** 2).sum((0, 1, 2)))

    def test_pixel_sums_describe_encoded_pixels(self, clip):
        path = clip("steady.mp4")
        sampling = sampling_options(stride=2)
        jpeg, png = (
            build_whole(path, sampling, image=dataclasses.replace(IMAGE, image_format=kind))[1]
            for kind in ("jpeg", "png")
        )
        # A JPEG is made of YUV, of which the sums look at a quarter of the pixels.
        sums = {"pixel_sum": (), "pixel_square_sum": ()}
        assert dataclasses.replace(jpeg, **sums) == dataclasses.replace(png, **sums)
        means, exact = (np.array(r.pixel_sum) / r.pixel_count for r in (jpeg, png))
        np.testing.assert_allclose(means, exact, atol=1)
        squares, exact = (np.array(r.pixel_square_sum) / r.pixel_count for r in (jpeg, png))
        np.testing.assert_allclose(np.sqrt(squares), np.sqrt(exact), atol=1.5)

    def test_frame_is_encoded_once(self, clip, monkeypatch):
        calls = []
        encode = frame_functions.encode
        monkeypatch.setattr(
            frame_functions, "encode", lambda *args: calls.append(1) or encode(*args)
        )
        _, result = build_whole(clip("steady.mp4"), sampling_options(stride=1))
        assert (result.sequences, len(calls)) == (93, 100)

    def test_rotation_and_pixel_aspect_are_applied(self, write_video, decode_image, tmp_path):
        def left_is_white(index):
            pixels = np.zeros((48, 64, 3), np.uint8)
            pixels[:, :32] = 255
            return pixels

        path = write_video(
            tmp_path / "a.mp4",
            frames=4,
            rotation=90,
            sample_aspect=Fraction(3, 4),
            picture=left_is_white,
        )
        # Stored 64x48 of pixels 3:4, so shown 48x48; turned counter-clockwise, left comes to lie below.
        image = ImageOptions(size=(32, 64), resize="letterbox")
        records, _ = build_whole(path, sampling_options(num_frames=4), image=image)
        pixels = decode_image(records[0].frames[0]).mean(axis=2)
        assert (pixels[20:, 20:44] > 200).all()
        assert (pixels[:12] < 50).all()
        assert (pixels[:, :12] < 50).all()
        assert (pixels[:, 52:] < 50).all()


class TestProgress:
    """A long file must not look like a hanging decoder."""

    @pytest.mark.parametrize("sampling", ["windows", "uniform"])
    @pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.mp4", "libx264")])
    def test_build_reports_progress_for_each_pass(
        self, name, codec, sampling, write_video, tmp_path
    ):
        path = write_video(tmp_path / name, codec=codec)
        calls = []
        request = make_request(
            Segment(source=make_source(path)), sampling_options(sampling=sampling)
        )
        build_segment(request, lambda record: None, lambda: calls.append(1))
        assert len(calls) >= 30 * (2 if sampling == "uniform" else 1) - 3

    def test_build_reports_progress_for_undecodable_packets(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4", frames=60, gop=60)
        with av.open(str(path)) as container:
            packet = list(container.demux(video=0))[5]
            begin, end = packet.pos, packet.pos + packet.size
        stored = bytearray(path.read_bytes())
        stored[begin:end] = bytes(end - begin)
        path.write_bytes(stored)
        calls = []
        request = make_request(Segment(source=make_source(path)), sampling_options())
        result = build_segment(request, lambda record: None, lambda: calls.append(1))
        assert result.frames == 5
        assert len(calls) >= 60

    def test_index_reports_progress(self, clip):
        calls = []
        request = IndexRequest(source=make_source(clip("steady.mp4")), segment_length=1.0)
        find_boundaries(request, lambda: calls.append(1))
        assert len(calls) >= 100


class TestFailures:
    def test_file_that_is_not_a_video_fails(self, tmp_path):
        path = tmp_path / "text.mp4"
        path.write_text("words")
        with pytest.raises(DecodingFailure) as failure:
            build(Segment(source=make_source(path)), sampling_options())
        assert failure.value.stage == "open"

    @pytest.mark.parametrize("sampling", ["windows", "uniform"])
    def test_video_without_frames_fails(self, sampling, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4")
        with av.open(str(path)) as container:
            spans = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
        stored = bytearray(path.read_bytes())
        for position, size in spans:
            stored[position : position + size] = bytes(size)
        path.write_bytes(stored)
        with pytest.raises(DecodingFailure, match="no frame could be decoded") as failure:
            build(Segment(source=make_source(path)), sampling_options(sampling=sampling))
        assert failure.value.stage == "decode"
