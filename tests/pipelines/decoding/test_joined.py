"""A drive in several files against the same drive in one: frames, entries, damage, sequences."""

from __future__ import annotations

import dataclasses
import shutil
from fractions import Fraction
from itertools import accumulate

import pytest

from pipelines.decoding.joined import JoinedVideos
from pipelines.decoding.protocol import (
    BuildRequest,
    DecodingFailure,
    IndexRequest,
    request_from_json,
    request_to_json,
)
from pipelines.decoding.segments import build_segment, find_boundaries, find_extent
from pipelines.decoding.video import open_video
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Part, Segment, Source
from pipelines.plan.drive_files import place_parts
from pipelines.plan.shards import cut_segments, time_boundaries
from tfrecords_schema.examples import decode_record
from tfrecords_schema.spec import LabelSpec, SequenceSpec

LENGTHS = (40, 25, 31)
FRAMES = sum(LENGTHS)
STARTS = (0, *accumulate(LENGTHS))[:3]
IMAGE = ImageOptions(size=(24, 32), jpeg_quality=90)
MS40 = Fraction(1, 25)

# How the files of a drive were written: each one's times begin at 0, or run on.
KINDS = {
    "anew.mp4": {},
    "b_frames.mp4": {"b_frames": 3, "options": {"x264-params": "b-adapt=0:open-gop=1"}},
    "on.mp4": {"run_on": True, "b_frames": 2},
    "on.mkv": {"run_on": True, "codec": "mpeg4", "b_frames": 2},
    "anew.mkv": {"codec": "mpeg4"},
    "anew.avi": {"codec": "mpeg4"},
    "stream.ts": {"b_frames": 2},
}
CUTTABLE = [kind for kind in KINDS if kind.endswith(("mp4", "mkv"))]


@pytest.fixture(scope="module")
def write_drive(write_video, barcode, tmp_path_factory):
    """Paths of the three files of a drive, whose frames are numbered through."""
    made = {}

    def write(kind):
        if kind in made:
            return made[kind]
        folder = tmp_path_factory.mktemp("drive")
        settings = dict(KINDS[kind])
        run_on = settings.pop("run_on", False)
        paths = []
        for number, (start, frames) in enumerate(zip(STARTS, LENGTHS, strict=True)):
            times = range(40 * start, 40 * (start + frames), 40) if run_on else None
            path = folder / f"d_{number}{kind[kind.index('.') :]}"
            paths.append(
                write_video(
                    path,
                    frames=frames,
                    times=times,
                    picture=lambda index, start=start: barcode(start + index),
                    **settings,
                )
            )
        made[kind] = paths
        return paths

    return write


def place(paths) -> Source:
    """The source that `probe_sources` would make; its files are next to each other."""
    parts = tuple(
        Part(path=str(path), data_path=path.name, order=str(number), extent=find_extent(str(path)))
        for number, path in enumerate(paths)
    )
    drive = Source(
        id="d", path=str(paths[0]), data_path=paths[0].name, group="d", labels=("b",), parts=parts
    )
    (source,), failures = place_parts(drive, by_time=True, by_clock=False)
    assert failures == []
    return source


def joined(source: Source, on_progress=lambda: None) -> JoinedVideos:
    return JoinedVideos(source.parts, on_progress)


@pytest.fixture
def read(read_barcode):
    """(frame number, rank, after break, seconds) of each frame, and the footage afterwards."""

    def read(source, **where):
        footage = joined(source)
        frames = [
            (
                read_barcode(frame.picture.to_rgb()),
                frame.rank,
                frame.after_break,
                frame.pts * footage.time_base,
            )
            for frame in footage.frames(**where)
        ]
        return frames, footage

    return read


def expected(numbers, first_seconds=Fraction(0), ranks_from=0):
    return [(k, k - ranks_from, False, first_seconds + k * MS40) for k in numbers]


class TestReading:
    @pytest.mark.parametrize("kind", KINDS)
    def test_frames_of_all_files_are_consecutive(self, kind, write_drive, read) -> None:
        source = place(write_drive(kind))
        frames, footage = read(source)
        with open_video(source.path) as first:
            begin = first.first_pts() * first.time_base
        assert [frame[:3] for frame in frames] == [frame[:3] for frame in expected(range(FRAMES))]
        for number, _, _, seconds in frames:
            # WebM's and MPEG's ticks round.
            assert abs(seconds - begin - number * MS40) <= 2 * footage.tolerance
        assert (footage.breaks, footage.unordered, footage.truncated) == (0, 0, None)
        assert footage.cuttable == (kind in CUTTABLE)
        assert footage.declared_seconds == pytest.approx(FRAMES / 25, abs=0.01)
        assert joined(source).first_pts() * footage.time_base == begin

    @pytest.mark.parametrize("kind", CUTTABLE)
    def test_packet_times_match_frames(self, kind, write_drive, read) -> None:
        source = place(write_drive(kind))
        frames, _ = read(source)
        footage = joined(source)
        times, keys = footage.packet_times()
        assert [int(time) * footage.time_base for time in times] == [frame[3] for frame in frames]
        # Every file begins with one; the others are 12 frames apart at most.
        assert {*STARTS} <= {place for place, key in enumerate(keys) if key}
        assert 8 <= keys.sum() < FRAMES / 4

    @pytest.mark.parametrize("kind", ["b_frames.mp4", "on.mkv"])
    def test_frames_start_anywhere(self, kind, write_drive, read) -> None:
        source = place(write_drive(kind))
        whole, footage = read(source)
        times, keys = joined(source).packet_times()
        for wanted in [0, 13, 39, 40, 41, 65, FRAMES - 1]:
            entered, _ = read(source, near=int(times[wanted]))
            numbers = [frame[0] for frame in entered]
            first = numbers[0]
            assert numbers == list(range(first, FRAMES)), "frames are missing"
            assert max(start for start in STARTS if start <= wanted) <= first <= wanted
            assert [frame[3] for frame in entered] == [frame[3] for frame in whole[first:]]
            ranks = [frame[1] for frame in entered]
            assert ranks == list(range(ranks[0], ranks[0] + len(ranks)))
        for key in [place for place, is_key in enumerate(keys) if is_key]:
            entered, _ = read(source, near=int(times[key]), exactly=True)
            assert [frame[:2] for frame in entered] == [
                (number, number - key) for number in range(key, FRAMES)
            ]
        before, _ = read(source, near=int(times[0]) - 10**6)
        assert before == whole
        assert footage.breaks == 0

    def test_files_with_different_time_bases_share_one(self, write_video, barcode, tmp_path, read):
        """MPEG-4 in ticks of 1/12800 s, Matroska in ms, 30 and 25 frames/s."""
        first = write_video(tmp_path / "0.mp4", frames=20)
        second = write_video(
            tmp_path / "1.mkv", frames=15, rate=30, picture=lambda i: barcode(20 + i)
        )
        third = write_video(tmp_path / "2.mp4", frames=5, picture=lambda i: barcode(35 + i))
        source = place([first, second, third])
        frames, footage = read(source)
        assert [frame[0] for frame in frames] == list(range(40))
        steps = [
            *(k * MS40 for k in range(20)),
            *(Fraction(4, 5) + Fraction(k, 30) for k in range(15)),
        ]
        steps += [Fraction(13, 10) + k * MS40 for k in range(5)]
        begin = frames[0][3]
        for (_, _, after_break, seconds), step in zip(frames, steps, strict=True):
            assert abs(seconds - begin - step) <= Fraction(1, 1000)
            assert not after_break
        assert footage.tolerance == Fraction(1, 1000)

    def test_single_file_equals_the_video(self, write_drive, read) -> None:
        path = write_drive("b_frames.mp4")[0]
        source = place([path])
        frames, footage = read(source)
        with open_video(str(path)) as video:
            alone = [(frame.pts, frame.rank) for frame in video.frames()]
            assert footage.time_base == video.time_base
        assert [(seconds / footage.time_base, rank) for _, rank, _, seconds in frames] == alone

    def test_progress_is_reported_for_each_file(self, write_drive) -> None:
        source, calls = place(write_drive("anew.mp4")), []
        for _ in joined(source, lambda: calls.append(1)).frames():
            pass
        assert len(calls) >= FRAMES
        seen = len(calls)
        joined(source, lambda: calls.append(1)).packet_times()
        assert len(calls) - seen >= FRAMES


def damage(paths, tmp_path, number, spoil):
    """The drive with one of its files spoilt after it was surveyed."""
    copies = [tmp_path / path.name for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        shutil.copy(path, copy)
    source = place(copies)
    copies[number].write_bytes(spoil(copies[number].read_bytes()))
    return source


class TestDamage:
    @pytest.fixture
    def fast(self, write_video, barcode, tmp_path):
        """Files that can be read from the front although their end is missing."""
        return [
            write_video(
                tmp_path / f"d_{number}.mp4",
                frames=30,
                gop=10,
                container_options={"movflags": "faststart"},
                picture=lambda index, number=number: barcode(30 * number + index),
            )
            for number in range(3)
        ]

    def test_truncated_file_is_a_break(self, fast, tmp_path_factory, read) -> None:
        def spoil(stored):
            return stored[: len(stored) * 6 // 10]

        source = damage(fast, tmp_path_factory.mktemp("cut"), 1, spoil)
        frames, footage = read(source)
        numbers = [frame[0] for frame in frames]
        last = max(number for number in numbers if number < 60)
        assert 33 < last < 59
        assert numbers == [*range(last + 1), *range(60, 90)]
        assert [frame[0] for frame in frames if frame[2]] == [60]
        assert footage.breaks == 1
        assert footage.truncated.startswith("d_1.mp4: ")
        assert [frame[3] - frames[0][3] for frame in frames] == [n * MS40 for n in numbers]

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_break_starts_after_the_damage(self, fast, tmp_path_factory, read, number) -> None:
        """Files after the next one go on where it ended; after the last one nothing comes."""
        folder = tmp_path_factory.mktemp("cut")
        source = damage(fast, folder, number, lambda stored: stored[: len(stored) * 6 // 10])
        frames, footage = read(source)
        follows = [] if number == 2 else [30 * (number + 1)]
        assert [frame[0] for frame in frames if frame[2]] == follows
        assert footage.breaks == len(follows)
        assert footage.truncated.startswith(f"d_{number}.mp4: ")

    def test_undecodable_first_frames_are_a_break(self, fast, tmp_path_factory, read) -> None:
        with open_video(str(fast[1])) as video:
            packet = next(iter(video._packets))
            place, size = packet.pos, packet.size

        def spoil(stored):
            return stored[:place] + bytes(size) + stored[place + size :]

        frames, footage = read(damage(fast, tmp_path_factory.mktemp("bad"), 1, spoil))
        numbers = [frame[0] for frame in frames]
        assert numbers == [*range(30), *range(40, 90)]  # the next keyframe
        assert [frame[0] for frame in frames if frame[2]] == [40]
        assert [frame[1] for frame in frames] == numbers
        assert (footage.breaks, footage.truncated) == (1, None)

    def test_undecodable_last_frame_keeps_its_rank(
        self, write_video, barcode, tmp_path, tmp_path_factory, read
    ) -> None:
        """Slots by rank then agree with the packets."""
        paths = [
            write_video(
                tmp_path / f"d_{number}.mp4",
                frames=20,
                codec="mpeg4",
                picture=lambda index, number=number: barcode(20 * number + index),
            )
            for number in range(2)
        ]
        with open_video(str(paths[0])) as video:
            *_, last = ((packet.pos, packet.size) for packet in video._packets if packet.size)

        def spoil(stored):
            return stored[: last[0]] + bytes(last[1]) + stored[sum(last) :]

        frames, footage = read(damage(paths, tmp_path_factory.mktemp("bad"), 0, spoil))
        numbers = [frame[0] for frame in frames]
        assert numbers == [*range(19), *range(20, 40)]
        assert [frame[1] for frame in frames] == numbers
        assert footage.truncated is None

    def test_missing_file_fails(self, fast, tmp_path_factory, read) -> None:
        source = damage(fast, tmp_path_factory.mktemp("text"), 2, lambda _: b"words")
        with pytest.raises(DecodingFailure, match=r"^open: Invalid data"):
            read(source)

    def test_frames_that_overlap_slightly_are_dropped(self, write_video, tmp_path, read):
        """The second file's times run on, but its first frame is not later than the first file's last."""
        first = write_video(tmp_path / "0.mp4", times=range(0, 400, 40))
        second = write_video(tmp_path / "1.mp4", times=[361, 400, 440, 480])
        source = place([first, second])
        source = dataclasses.replace(
            source,
            parts=(source.parts[0], dataclasses.replace(source.parts[1], shift=(-1, 1000))),
        )
        frames, footage = read(source)
        assert [seconds * 1000 for *_, seconds in frames] == [*range(0, 400, 40), 399, 439, 479]
        assert footage.unordered == 1
        # Nothing is missing, and no frame is counted twice.
        assert ([frame for frame in frames if frame[2]], footage.breaks) == ([], 0)
        assert [rank for _, rank, *_ in frames] == list(range(13))

    @pytest.mark.parametrize("repeated", [1, 5])
    def test_file_may_repeat_end_of_previous_file(
        self, write_video, barcode, tmp_path, read, repeated
    ) -> None:
        begin = 20 - repeated
        paths = [
            write_video(tmp_path / "0.mkv", times=range(0, 800, 40)),
            write_video(
                tmp_path / "1.mkv",
                times=range(40 * begin, 1600, 40),
                picture=lambda index: barcode(begin + index),
            ),
        ]
        source = place(paths)
        frames, footage = read(source)
        assert frames == expected(range(40))
        assert (footage.breaks, footage.unordered) == (0, repeated)
        times, _ = joined(source).packet_times()
        assert times.tolist() == [seconds / footage.time_base for *_, seconds in frames]
        # Entered in the second file, it is the second's.
        entry = next(frame for frame in joined(source).frames(near=int(times[30])))
        assert entry.pts <= times[30]

    @pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
    def test_avi_files_are_joined_without_breaks(
        self, write_video, barcode, tmp_path, read, codec
    ) -> None:
        """With B-frames, the times of their packets are not those of their frames."""
        paths = [
            write_video(
                tmp_path / f"{number}.avi",
                frames=20,
                codec=codec,
                b_frames=2,
                picture=lambda index, number=number: barcode(20 * number + index),
            )
            for number in range(3)
        ]
        frames, footage = read(place(paths))
        assert [number for number, *_ in frames] == list(range(60))
        assert ([frame for frame in frames if frame[2]], footage.breaks) == ([], 0)

    def test_origin_is_first_packet_even_if_undecodable(self, fast, tmp_path_factory, read) -> None:
        with open_video(str(fast[0])) as video:
            packet = next(iter(video._packets))
            first, size = packet.pos, packet.size

        def spoil(stored):
            return stored[:first] + bytes(size) + stored[first + size :]

        whole = joined(place(fast))
        source = damage(fast, tmp_path_factory.mktemp("bad"), 0, spoil)
        assert joined(source).origin_pts() == whole.origin_pts() == whole.first_pts()
        assert joined(source).first_pts() > whole.first_pts()


def make_request(segment, sampling) -> BuildRequest:
    return BuildRequest(
        segment=segment,
        spec=SequenceSpec(
            num_frames=sampling.num_frames,
            frame_rate=None if sampling.frame_rate is None else float(sampling.frame_rate),
            image=IMAGE.spec,
            label=LabelSpec(task="classification", class_names=("a", "b")),
        ),
        dataset_name="test",
        sampling=sampling,
        image=IMAGE,
        label_indices=(1,),
    )


def build(segments, sampling):
    """Records of the segments, each asked for as over the pipe."""
    records = []
    for segment in segments:
        request = request_from_json(request_to_json(make_request(segment, sampling)))
        stored = []
        result = build_segment(request, stored.append, lambda: None)
        assert result.truncated is None
        records += [decode_record(record, request.spec) for record in stored]
    return records


SAMPLINGS = {
    "every frame": {"stride": 5},
    "below": {"frame_rate": Fraction(10), "stride": 3},
    "above": {"frame_rate": Fraction(60), "stride": 9},
    "uniform": {"sampling": "uniform"},
    "last": {"sampling": "last", "frame_rate": Fraction(5)},
}


@pytest.fixture(scope="module")
def one(write_video, tmp_path_factory):
    """The same drive in one file."""
    return write_video(tmp_path_factory.mktemp("one") / "d.mp4", frames=FRAMES)


class TestSequences:
    @pytest.mark.parametrize("sampling", SAMPLINGS)
    @pytest.mark.parametrize("kind", ["anew.mp4", "on.mp4", "anew.avi"])
    def test_sequences_equal_those_of_one_file(
        self, kind, sampling, one, write_drive, read_barcode, decode_image
    ) -> None:
        options = SamplingOptions(num_frames=8, **SAMPLINGS[sampling])

        def contents(source):
            return [
                (
                    list(record.timestamps),
                    [read_barcode(decode_image(data)) for data in record.frames],
                )
                for record in build([Segment(source=source)], options)
            ]

        whole = Source(id="d", path=str(one), data_path=one.name, group="d", labels=("b",))
        found = contents(place(write_drive(kind)))
        assert found == contents(whole)
        seams = [n for _, n in found for cut in STARTS[1:] if n[0] < cut <= n[-1]]
        assert seams, "no sequence runs over a cut"

    @pytest.mark.parametrize("kind", ["b_frames.mp4", "on.mp4", "on.mkv"])
    @pytest.mark.parametrize("rate", [None, Fraction(10)])
    def test_segments_equal_whole_drive(self, kind, rate, write_drive) -> None:
        source = place(write_drive(kind))
        options = SamplingOptions(num_frames=8, stride=3, frame_rate=rate)
        if rate is None:
            boundaries = find_boundaries(IndexRequest(source=source, segment_length=0.9))
            assert all(b.anchor_slot <= b.slot for b in boundaries)
        else:
            boundaries = time_boundaries(FRAMES / 25, options, 0.9)
        assert len(boundaries) >= 3
        segments = cut_segments(source, FRAMES / 25, boundaries)
        assert build(segments, options) == build([Segment(source=source)], options)

    @pytest.mark.parametrize("gops", [(5, 5), (4, 50)])
    @pytest.mark.parametrize("rate", [None, Fraction(10)])
    def test_segments_of_overlapping_files_equal_whole_drive(
        self, write_video, barcode, tmp_path, read_barcode, decode_image, rate, gops
    ) -> None:
        first = write_video(tmp_path / "0.mkv", gop=gops[0], times=range(0, 800, 40))
        second = write_video(
            tmp_path / "1.mkv",
            gop=gops[1],
            times=range(520, 1600, 40),
            picture=lambda index: barcode(13 + index),
        )
        source = place([first, second])
        options = SamplingOptions(num_frames=4, stride=3, frame_rate=rate)

        def contents(segments):
            return [
                (list(r.timestamps), [read_barcode(decode_image(data)) for data in r.frames])
                for r in build(segments, options)
            ]

        if rate is None:
            boundaries = find_boundaries(IndexRequest(source=source, segment_length=0.2))
        else:
            boundaries = time_boundaries(1.6, options, 0.3)
        segments = cut_segments(source, 1.6, boundaries)
        assert len(segments) >= 4
        # Which file's picture of a repeated frame is taken depends on where reading began.
        assert contents(segments) == contents([Segment(source=source)])

    def test_span_of_a_drive(self, write_drive, read_barcode, decode_image) -> None:
        source = dataclasses.replace(place(write_drive("anew.mp4")), start=1.52, end=1.84)
        options = SamplingOptions(num_frames=8)
        (record,) = build([Segment(source=source)], options)
        numbers = [read_barcode(decode_image(data)) for data in record.frames]
        assert numbers == list(range(38, 46))
