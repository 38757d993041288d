"""Unused frames are skipped without any effect on the others."""

import functools
import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.decoding import segments
from pipelines.decoding.decoder import PictureDecoder
from pipelines.decoding.packets import PacketReader
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.decoding.references import find_idr_test, find_nonreference_test
from pipelines.decoding.segments import build_segment
from pipelines.decoding.video import open_video
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from tfrecords_schema.spec import LabelSpec, SequenceSpec

PYRAMID = {"x264-params": "b-adapt=0:b-pyramid=2:ref=4"}
OPEN = {"x264-params": "b-adapt=0:b-pyramid=2:ref=4:open-gop=1"}
X265 = "log-level=none:scenecut=0:bframes=3:b-adapt=0:keyint=12:min-keyint=12"
CLIPS = {
    "plain.mp4": {"b_frames": 3},
    "pyramid.mp4": {"b_frames": 3, "options": PYRAMID},
    "open.mp4": {"b_frames": 3, "options": OPEN},
    "open.mkv": {"b_frames": 3, "options": OPEN},
    "refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=12"}},
    "fields.mp4": {"b_frames": 3, "options": {"x264-params": "interlaced=1"}},
    "mpeg4.mp4": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4.mkv": {"codec": "mpeg4", "b_frames": 2},
    "mpeg2.mkv": {"codec": "mpeg2video", "b_frames": 2},
    "hevc_open.mp4": {"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=1"}},
    "hevc_closed.mkv": {"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=0"}},
    "hevc_layers.mp4": {
        "codec": "libx265",
        "options": {"x265-params": f"{X265}:temporal-layers=3"},
    },
    "vp8.webm": {
        "codec": "libvpx",
        "options": {
            "auto-alt-ref": "1",
            "lag-in-frames": "16",
            "deadline": "good",
            "cpu-used": "5",
        },
    },
    "vp9.webm": {"codec": "libvpx-vp9"},
    "intra.mp4": {"codec": "mjpeg"},
    "uneven.mp4": {"times": [0, 10, 50, 55, 100, 300, *range(400, 2600, 83)], "b_frames": 2},
    "early.mp4": {"b_frames": 3, "times": range(-200, 1800, 40)},
    "sparse.mp4": {"times": [0, 40, 80, 61_000, 61_040, 200_000, 200_040], "b_frames": 2},
}
SKIPPING = {  # what the decoder tells references of
    *("plain.mp4", "pyramid.mp4", "open.mp4", "open.mkv", "refresh.mp4", "uneven.mp4", "early.mp4"),
    *("sparse.mp4", "mpeg4.mp4", "mpeg4.mkv", "hevc_open.mp4", "hevc_closed.mkv"),
}
SAMPLINGS = {
    "one in five": {"frame_rate": Fraction(5), "num_frames": 3},
    "few": {"frame_rate": Fraction(1, 2), "num_frames": 2},
    "a rate of its own": {"frame_rate": Fraction(13, 3), "num_frames": 2, "stride": 3},
    "windows apart": {"frame_rate": Fraction(25), "num_frames": 2, "stride": 40},
    "uniform": {"sampling": "uniform", "num_frames": 2},
    "uniform by time": {"sampling": "uniform", "num_frames": 3, "frame_rate": Fraction(3)},
    "last": {"sampling": "last", "num_frames": 2},
}


@pytest.fixture(scope="module")
def clip(write_video, tmp_path_factory):
    """Name to path; each clip is made once a module."""
    folder = tmp_path_factory.mktemp("clips")
    return functools.cache(lambda name: write_video(folder / name, **{"frames": 60, **CLIPS[name]}))


def read(path, wanted=None):
    """Frames as they come, and what the reading had to say."""
    with open_video(str(path)) as video:
        if wanted is not None:
            video.skip_unused(wanted)
        frames = [((f.pts, f.rank, f.after_break), f) for f in video.frames()]
        return frames, (video.breaks, video.unordered, video.damage, video.truncated)


def decoded(frames):
    return {f.pts for _, f in frames if not callable(f.picture._decoded)}


def pixels(frame):
    return frame.picture.image.to_ndarray().tobytes()


def build(path, sampling, start=None, end=None):
    image = ImageOptions(size=(24, 32))
    source = Source(
        id="a",
        path=str(path),
        data_path="a",
        group="a",
        labels=("a",),
        start=start,
        end=end,
    )
    rate = sampling.frame_rate
    request = BuildRequest(
        segment=Segment(source=source),
        spec=SequenceSpec(
            num_frames=sampling.num_frames,
            frame_rate=None if rate is None else float(rate),
            image=image.spec,
            label=LabelSpec(task="classification", class_names=("a",)),
        ),
        dataset_name="test",
        sampling=sampling,
        image=image,
        label_indices=(0,),
    )
    records = []
    return records, build_segment(request, records.append, lambda: None)


class TestReading:
    @pytest.mark.parametrize("name", CLIPS)
    def test_used_frames_and_times_match_full_reading(self, name, clip):
        whole, said = read(clip(name))
        times = [f.pts for _, f in whole]
        pictures = {f.pts: pixels(f) for _, f in whole}
        passed = set()
        for count, first in itertools.product((1, 2, 5), (0, 3, 19)):
            used = set(times[first :: len(times) // count])
            frames, told = read(clip(name), lambda pts, until, used=used: pts in used)
            assert ([place for place, _ in frames], told) == ([place for place, _ in whole], said)
            here = decoded(frames)
            assert here >= used
            assert all(pixels(f) == pictures[f.pts] for _, f in frames if f.pts in here)
            passed |= set(times) - here
        # Otherwise the test would hold of a reader that decodes everything.
        assert bool(passed) == (name != "vp8.webm")

    @pytest.mark.parametrize("name", sorted(SKIPPING - {"refresh.mp4", "sparse.mp4"}))
    def test_only_references_are_decoded_within_a_group(self, name, clip):
        whole, _ = read(clip(name))
        times = [f.pts for _, f in whole]
        used = set(times[::5])
        frames, _ = read(clip(name), lambda pts, until: pts in used)
        assert used < decoded(frames) < set(times)
        assert len(decoded(frames)) < 0.8 * len(times)

    @pytest.mark.parametrize("name", ["open.mp4", "hevc_open.mp4", "vp9.webm", "intra.mp4"])
    def test_skipped_picture_is_decoded_on_demand(self, name, clip):
        whole, _ = read(clip(name))
        frames, _ = read(clip(name), lambda pts, until: pts == 0)
        assert len(decoded(frames)) < len(frames) / 2
        for (_, expected), (_, frame) in zip(whole[::7], frames[::7], strict=True):
            assert pixels(frame) == pixels(expected)

    def test_skipped_picture_that_does_not_decode_fails(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4", b_frames=3, options=PYRAMID, frames=60)
        frames, _ = read(path, lambda pts, until: pts == 0)
        with av.open(str(path)) as container:
            packet = list(container.demux(video=0))[36]
            begin, end = packet.pos, packet.pos + packet.size
        stored = bytearray(path.read_bytes())
        stored[begin:end] = bytes(end - begin)
        path.write_bytes(stored)
        with pytest.raises(DecodingFailure, match="does not decode"):
            _ = frames[36][1].picture.image

    @pytest.mark.parametrize("name", CLIPS)
    def test_nonreference_test_matches_decoder(self, name, clip):
        with av.open(str(clip(name))) as container:
            codec = container.streams.video[0].codec_context
            unreferenced = find_nonreference_test(codec)
            assert (unreferenced is not None) == (name in SKIPPING)
            if unreferenced is None:
                return
            codec.thread_count = 1
            told = [
                unreferenced(bytes(p))
                for p in container.demux(video=0)
                if p.size and not p.is_discard
            ]
        with av.open(str(clip(name))) as container:
            container.streams.video[0].codec_context.skip_frame = "NONREF"
            assert len(list(container.decode(video=0))) == told.count(False)

    @pytest.mark.parametrize(
        ("name", "anew"),
        [("plain.mp4", 5), ("open.mp4", 1), ("hevc_closed.mkv", 5), ("hevc_open.mp4", 1)],
    )
    def test_open_group_needs_the_group_before(self, name, anew, clip):
        with av.open(str(clip(name))) as container:
            begins_anew = find_idr_test(container.streams.video[0].codec_context)
            packets = [p for p in container.demux(video=0) if p.size]
            assert sum(begins_anew(bytes(p)) for p in packets) == anew
        frames, _ = read(clip(name), lambda pts, until: pts in (0, packets[50].pts))
        # The first frames come before the decoder has given any, and are decoded in any case.
        ranks = [rank for (_, rank, _), f in frames if f.pts in decoded(frames) and rank >= 24]
        assert min(ranks) == (48 if anew > 1 else 36)

    @pytest.mark.parametrize(
        "name",
        [
            "demo.mp4",
            pytest.param("demo.webm", marks=pytest.mark.slow),
            pytest.param("phone_vfr.mp4", marks=pytest.mark.slow),
        ],
    )
    def test_used_frames_of_real_clips_match_full_reading(self, name, data):
        whole, said = read(data / name)
        times = [f.pts for _, f in whole]
        used = set(times[:: max(9, len(times) // 6)])
        frames, told = read(data / name, lambda pts, until: pts in used)
        assert ([place for place, _ in frames], told) == ([place for place, _ in whole], said)
        pictures = dict(zip(times, (f for _, f in whole), strict=True))
        assert all(pixels(f) == pixels(pictures[f.pts]) for _, f in frames if f.pts in used)
        assert used <= decoded(frames) < set(times)


class TestDamage:
    def test_damage_in_skipped_frame_is_not_noticed(self, write_video, tmp_path):
        path = write_video(tmp_path / "a.mp4", b_frames=3, options=PYRAMID, frames=60)
        whole, _ = read(path)
        self._spoil(path, 3)  # a frame that no other is predicted from
        frames, (breaks, _, damage, _) = read(path, lambda pts, until: pts == 0)
        assert ([place for place, _ in frames], breaks, damage) == (
            [place for place, _ in whole],
            *(0, None),
        )
        assert read(path)[1][0] == 1

    @pytest.mark.parametrize("header", [0, 4])
    def test_damage_in_reference_is_a_break_until_next_keyframe(
        self, header, write_video, tmp_path
    ):
        path = write_video(tmp_path / "a.mp4", b_frames=3, options=PYRAMID, frames=60)
        whole, _ = read(path)
        times = [f.pts for _, f in whole]
        used = set(times[::5])
        self._spoil(path, 17, header)
        frames, (breaks, _, damage, _) = read(path, lambda pts, until: pts in used)
        assert breaks == 1
        assert "left out" in damage.reason
        (after,) = (f for _, f in frames if f.after_break)
        assert times.index(after.pts) == after.rank == 24
        kept = [f.pts for _, f in frames]
        assert kept == [pts for pts in times if pts < times[len(kept) - 36] or pts >= after.pts]
        pictures = {f.pts: pixels(f) for _, f in whole}
        assert all(pixels(f) == pictures[f.pts] for _, f in frames if f.pts in used)

    def test_lost_packets_between_skipped_frames_are_a_break(
        self, write_video, tmp_path, monkeypatch
    ):
        path = write_video(tmp_path / "a.mkv", b_frames=3, options=PYRAMID, frames=60)
        times = [f.pts for _, f in read(path)[0]]
        packets = PacketReader.__iter__

        def lossy(reader):
            return (p for p in packets(reader) if p.pts not in times[20:30])

        monkeypatch.setattr(PacketReader, "__iter__", lossy)
        monkeypatch.setattr(PictureDecoder, "decode", self._lose(times[30]))
        frames, (breaks, _, damage, _) = read(path, lambda pts, until: pts in (0, times[30]))
        assert breaks == 1
        assert "left out" in damage.reason
        assert [f.pts for _, f in frames if f.after_break] == [times[31]]

    @staticmethod
    def _lose(pts):
        """Returns a `decode` that yields no frame for the packet of this time, without any message."""
        decode = PictureDecoder.decode

        def decode_others(decoder, index, packet, need):
            return iter(()) if packet.pts == pts else decode(decoder, index, packet, need)

        return decode_others

    @staticmethod
    def _spoil(path, place, header=0):
        with av.open(str(path)) as container:
            packet = list(container.demux(video=0))[place]
        stored = bytearray(path.read_bytes())
        stored[packet.pos + header : packet.pos + packet.size] = bytes(packet.size - header)
        path.write_bytes(stored)


class TestRecords:
    @pytest.mark.parametrize("sampling", SAMPLINGS)
    @pytest.mark.parametrize("name", CLIPS)
    def test_records_match_full_decoding(self, name, sampling, clip, monkeypatch):
        options = SamplingOptions(**{"short_clips": "pad", **SAMPLINGS[sampling]})
        records, result = build(clip(name), options)
        monkeypatch.setattr(segments, "find_used_frames", lambda *_, **__: None)
        assert build(clip(name), options) == (records, result)
        assert records or name == "sparse.mp4"

    @given(
        name=st.sampled_from(["open.mp4", "hevc_open.mp4", "uneven.mp4", "mpeg4.mkv"]),
        rate=st.fractions(Fraction(1, 3), 40, max_denominator=7) | st.none(),
        span=st.tuples(st.sampled_from([None, 0.3, 1.21]), st.sampled_from([None, 1.9, 2.3])),
        count=st.integers(1, 4),
        stride=st.integers(1, 30),
        sampling=st.sampled_from(["windows", "uniform", "last"]),
    )
    @settings(max_examples=25, deadline=None)
    def test_records_match_full_decoding_for_any_sampling(
        self, clip, name, rate, span, count, stride, sampling
    ):
        fields = {"stride": stride} if sampling == "windows" else {}
        options = SamplingOptions(num_frames=count, frame_rate=rate, sampling=sampling, **fields)
        with pytest.MonkeyPatch.context() as patch:
            found = build(clip(name), options, *span)
            patch.setattr(segments, "find_used_frames", lambda *_, **__: None)
            assert build(clip(name), options, *span) == found


def test_clips_have_distinct_pictures(clip):
    """Otherwise comparing them would show nothing."""
    whole, _ = read(clip("open.mp4"))
    assert len({pixels(f) for _, f in whole}) == len(whole)
    assert np.ptp(whole[0][1].picture.image.to_ndarray()) > 100
