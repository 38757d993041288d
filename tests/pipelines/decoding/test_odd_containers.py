"""Containers that say little or too much: no rate, several streams, null frames, longer sound."""

from fractions import Fraction

import av
import numpy as np
import pytest

from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.decoding.segments import build_segment
from pipelines.decoding.video import open_video
from pipelines.options.dataset import FootageOptions, ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, Source
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec

CODECS = {".flv": ("flv1", "aac"), ".mpg": ("mpeg2video", "mp2"), ".wmv": ("wmv2", "wmav2")}


def write_streams(path, *frames, audio_seconds=0.0, defaults=()):
    """Writes a video stream for each of ``frames``, a number of frames or (frames, height, width)."""
    video_codec, audio_codec = CODECS.get(path.suffix, ("libx264", "aac"))
    video_codec = "vp8" if path.suffix == ".webm" else video_codec
    audio_codec = "libopus" if path.suffix == ".webm" else audio_codec
    with av.open(str(path), "w") as output:
        streams = []
        for own in frames:
            count, height, width = own if isinstance(own, tuple) else (own, 48, 64)
            stream = output.add_stream(video_codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            streams.append((stream, count))
        sound = output.add_stream(audio_codec, rate=48_000) if audio_seconds else None
        if defaults:
            for number, (stream, _) in enumerate(streams):
                stream.disposition = av.stream.Disposition(int(number in defaults))
        if sound is not None:
            sound.bit_rate = 64_000
        for stream, count in streams:
            for number in range(count):
                pixels = np.full((stream.height, stream.width, 3), number, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = number
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        if sound is not None:
            for number in range(int(audio_seconds * 50)):
                frame = av.AudioFrame(sound.codec_context.format.name, "stereo", 960)
                frame.sample_rate, frame.pts = 48_000, 960 * number
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                output.mux(sound.encode(frame))
            output.mux(sound.encode())
    return path


def opened(path, **options):
    return open_video(str(path), options=FootageOptions(**options))


class TestRates:
    @pytest.mark.parametrize(("given", "used"), [(None, 25), (Fraction(20), 20)])
    def test_a_raw_stream_without_a_rate_has_the_given_one(
        self, given, used, write_video, tmp_path
    ):
        path = write_video(tmp_path / "a.mjpeg", codec="mjpeg", frames=10, rate=50)
        with opened(path, source_rate=given) as video:
            probe = video.probe()
            times = [float(frame.pts * video.time_base) for frame in video.frames()]
        assert (probe.states_rate, probe.frame_rate) == (False, used)
        np.testing.assert_allclose(times, np.arange(10) / used, atol=2e-6)

    @pytest.mark.parametrize("name", ["a.h264", "a.mp4", "a.avi", "a.ts"])
    def test_a_stated_rate_is_not_replaced(self, name, write_video, tmp_path):
        codec = "mpeg4" if name == "a.avi" else "libx264"
        path = write_video(tmp_path / name, codec=codec, frames=10, rate=50)
        with opened(path, source_rate=Fraction(20)) as video:
            assert video.probe().states_rate
            times = [float(frame.pts * video.time_base) for frame in video.frames()]
        np.testing.assert_allclose(np.diff(times), 1 / 50, atol=2e-5)


class TestStreams:
    @pytest.mark.parametrize(
        ("streams", "defaults", "number", "chosen"),
        [
            pytest.param([(1, 96, 96), (9, 48, 64)], (), None, 1, id="a thumbnail of one frame"),
            pytest.param([(9, 16, 32), (9, 48, 64)], (1,), None, 1, id="the default one"),
            pytest.param(
                [(9, 48, 64), (9, 96, 96)], (0,), None, 0, id="the default one is smaller"
            ),
            pytest.param([(9, 16, 32), (9, 48, 64)], (0, 1), None, 1, id="the largest"),
            pytest.param([(9, 48, 64), (9, 48, 64)], (0, 1), None, 0, id="the first of equals"),
            pytest.param([(9, 48, 64), (9, 16, 32)], (0,), 1, 1, id="the number"),
        ],
    )
    def test_the_best_or_the_named_one_is_read(self, streams, defaults, number, chosen, tmp_path):
        path = write_streams(tmp_path / "a.mp4", *streams, defaults=defaults)
        with opened(path, video_stream=number) as video:
            sizes = [(f.picture.height, f.picture.width) for f in map(_image, video.frames())]
        count, *size = streams[chosen]
        assert sizes == [tuple(size)] * count

    def test_a_number_that_the_file_has_not_is_an_error(self, tmp_path):
        path = write_streams(tmp_path / "a.mp4", 5)
        with (
            pytest.raises(DecodingFailure, match="of which the file has 1"),
            opened(path, video_stream=1),
        ):
            pass


def _image(frame):
    return frame._replace(picture=frame.picture.image)


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_null_frames_of_avi_count_in_ranks(codec, b_frames, write_video, tmp_path, read_barcode):
    shown = [0, 1, 2, 5, 6, 7, 12, 13, 14]
    path = write_video(
        *(tmp_path / "a.avi",),
        codec=codec,
        times=shown,
        time_base=Fraction(1, 25),
        b_frames=b_frames if codec == "mpeg4" else 0,
    )
    with av.open(str(path)) as container:
        packets = [packet.size for packet in container.demux(video=0)]
    with opened(path) as video:
        ranks = [frame.rank for frame in video.frames()]
    if 0 in packets[:-1]:  # with B-frames, FFmpeg fills no gap
        assert ranks == shown
    assert len(ranks) == len(shown)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".flv", ".mpg", ".wmv", ".mp4", ".avi", ".ts"])
def test_sound_that_goes_on_does_not_make_a_video_incomplete(suffix, tmp_path):
    path = write_streams(tmp_path / f"a{suffix}", 30, audio_seconds=6.0)
    assert truncation_of(path) is None


def test_a_cut_file_with_sound_is_incomplete(tmp_path):
    path = write_streams(tmp_path / "a.mkv", 200, audio_seconds=8.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "lacks its last" in truncation_of(path)


def truncation_of(path):
    source = Source(id="a", path=str(path), data_path="a", group="a", labels=("a",))
    image = ImageSpec(height=8, width=8)
    label = LabelSpec(task="classification", class_names=("a",))
    request = BuildRequest(
        segment=Segment(source=source),
        spec=SequenceSpec(num_frames=4, image=image, label=label),
        dataset_name="x",
        sampling=SamplingOptions(num_frames=4),
        image=ImageOptions(size=(8, 8)),
        label_indices=(0,),
    )
    return build_segment(request, lambda record: None, lambda: None).truncated
