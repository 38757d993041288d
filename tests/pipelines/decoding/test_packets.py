"""Reading packets: restarted times, streams that appear late, frames of few bytes, raw Motion JPEG."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest

from pipelines.decoding import decoder as decoder_module
from pipelines.decoding.client import check_unchanged
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.decoding.segments import build_segment
from pipelines.decoding.video import open_video
from pipelines.options.dataset import ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Segment, SideFile, Source
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec

FRAMES = 50


def join(path, *parts):
    path.write_bytes(
        b"".join(part if isinstance(part, bytes) else part.read_bytes() for part in parts)
    )
    return path


def build(path, frame_rate=None, **fields):
    source = Source(id="a", path=str(path), data_path="a", group="a", labels=("a",), **fields)
    request = BuildRequest(
        segment=Segment(source=source),
        spec=SequenceSpec(
            num_frames=4,
            frame_rate=frame_rate,
            image=ImageSpec(height=8, width=8),
            label=LabelSpec(task="classification", class_names=("a",)),
        ),
        dataset_name="x",
        sampling=SamplingOptions(num_frames=4, frame_rate=frame_rate and Fraction(frame_rate)),
        image=ImageOptions(size=(8, 8)),
        label_indices=(0,),
    )
    return build_segment(request, lambda record: None, lambda: None)


def write(write_video, path, **options):
    codec = {".mkv": "libx264", ".mjpeg": "mjpeg"}.get(path.suffix, "mpeg2video")
    return write_video(path, frames=FRAMES, codec=codec, **options)


@pytest.mark.parametrize("suffix", [".mpg", ".vob", ".ts"])
def test_frames_after_a_restart_follow_after_a_break(suffix, write_video, tmp_path):
    one = write(write_video, tmp_path / f"a{suffix}")
    result = build(join(tmp_path / f"b{suffix}", one, one, one))
    assert result.frames >= 3 * FRAMES - 8  # a transport stream counts packets anew, and loses some
    assert result.breaks == 2
    assert result.truncated is not None
    with open_video(str(tmp_path / f"b{suffix}"), spans_restarts=True) as video:
        times = [frame.pts * video.time_base for frame in video.frames()]
    assert times == sorted(set(times))
    assert times[-1] - times[0] == pytest.approx(3 * FRAMES / 25, abs=1.5)


@pytest.mark.parametrize(
    ("suffix", "fields"),
    [
        (".mkv", {}),
        (".mpg", {"end": 99.0}),
        (".mpg", {"telemetry": SideFile(path="x", data_path="x")}),
    ],
)
def test_footage_after_a_restart_is_reported_if_its_time_is_unknown(
    suffix, fields, write_video, tmp_path, monkeypatch
):
    monkeypatch.setattr("pipelines.decoding.segments.is_measured", lambda request: False)
    one = write(write_video, tmp_path / f"a{suffix}")
    result = build(join(tmp_path / f"b{suffix}", one, one), **fields)
    assert result.frames == FRAMES
    assert result.truncated.startswith("timestamps restart after ")
    assert build(one, **fields | ({"end": 1.9} if "end" in fields else {})).truncated is None


def element(name, data):
    """Returns an EBML element; a number is its data as 8 bytes."""
    data = data if isinstance(data, bytes) else data.to_bytes(8, "big")
    return bytes.fromhex(name) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def write_laced(path, images, lace, default_duration=0):
    """Writes a Matroska file of images, 40 ms apart, with ``lace`` of them in a block."""
    track = element("D7", 1) + element("73C5", 1) + element("83", 1) + element("86", b"V_MJPEG")
    if default_duration:
        track += element("23E383", default_duration)
    height, width = 48, 64
    track += element("E0", element("B0", width) + element("BA", height))
    blocks = b""
    for first in range(0, len(images), lace):
        own = images[first : first + lace]
        sizes = (divmod(len(image), 255) for image in own[:-1])
        lacing = b"".join(b"\xff" * whole + bytes([rest]) for whole, rest in sizes)
        lacing = bytes([0x82, len(own) - 1]) + lacing if len(own) > 1 else b"\x80"
        blocks += element("A3", b"\x81" + struct.pack(">h", 40 * first) + lacing + b"".join(own))
    path.write_bytes(
        element("1A45DFA3", element("4282", b"matroska") + element("4287", 4) + element("4285", 2))
        + element(
            "18538067",
            element("1549A966", element("2AD7B1", 1_000_000))
            + element("1654AE6B", element("AE", track))
            + element("1F43B675", element("E7", 0) + blocks),
        )
    )
    return path


def test_laced_frames_without_times_are_reported(barcode, tmp_path):
    images = [cv2.imencode(".jpg", barcode(index))[1].tobytes() for index in range(30)]
    plain = write_laced(tmp_path / "plain.mkv", images, 1)
    timed = write_laced(tmp_path / "timed.mkv", images, 4, 40_000_000)
    for path in (plain, timed):
        with open_video(str(path)) as video:
            assert [frame.pts for frame in video.frames()] == list(range(0, 1200, 40))
            assert video.truncated is None
    laced = write_laced(tmp_path / "laced.mkv", images, 4)
    result = build(laced)
    assert (result.frames, result.sequences) == (1, 0)
    assert result.truncated.startswith("a frame has no time after 0 s")


def test_streams_that_appear_late_do_not_end_reading(write_video, tmp_path):
    one = write(write_video, tmp_path / "a.mpg").read_bytes().removesuffix(b"\0\0\1\xb9")
    padding = (b"\0\0\1\xbe\xff\xff" + b"\xff" * 65535) * 90  # opening reads 5 MB
    late = b"".join(
        b"\0\0\1" + bytes([code]) + b"\0\x10\x80\0\0" + bytes(13) for code in range(0xC0, 0xE0)
    )
    for _ in range(3):
        assert build(join(tmp_path / "b.mpg", one, padding, late)).frames == FRAMES


def test_unexpected_error_of_demuxing_is_a_reason(write_video, tmp_path, monkeypatch):
    path = write(write_video, tmp_path / "a.mpg")
    with open_video(str(path)) as video:

        def demux(stream):
            yield from [packet for packet in container.demux(stream) if packet.size][:20]
            raise OverflowError("Python int too large")

        container = video._packets.container
        video._packets.container = type("Container", (), {"demux": staticmethod(demux)})()
        assert len(list(video.frames())) > 10
        assert video.truncated == "OverflowError: Python int too large"


def test_raw_motion_jpeg_is_read_at_25_frames(write_video, tmp_path):
    path = write(write_video, tmp_path / "a.mjpeg", container="mjpeg")
    with open_video(str(path)) as video:
        frames = list(video.frames())
        assert len(frames) == FRAMES
        assert (frames[-1].pts - frames[0].pts) * video.time_base == Fraction(FRAMES - 1, 25)


def test_huge_frames_of_few_bytes_are_refused(write_video, tmp_path, monkeypatch):
    black = np.zeros((48, 64, 3), np.uint8)
    path = write_video(tmp_path / "a.mp4", frames=FRAMES, picture=lambda index: black)
    assert build(path).frames == FRAMES
    monkeypatch.setattr(decoder_module, "_FREE_PIXELS", 48 * 64 * 20)
    monkeypatch.setattr(decoder_module, "_MAX_PIXELS_PER_BYTE", 0)
    with pytest.raises(DecodingFailure, match="64x48 pixels") as caught:
        build(path)
    assert caught.value.stage == "limits"


@pytest.mark.parametrize(("gap", "sequences"), [(10, 1475), (59, 0)])
def test_a_frame_is_repeated_for_ten_seconds(gap, sequences, write_video, tmp_path):
    path = write_video(tmp_path / "a.mp4", times=[index * gap * 1000 for index in range(60)])
    result = build(path, 10.0)
    assert result.sequences == pytest.approx(sequences, rel=0.01)
    assert result.breaks == (0 if sequences else 59)
    assert build(path, 0.2).sequences > 0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_slow_frames_out_of_order_are_no_restart(suffix, write_video, tmp_path):
    times = [index * 9000 for index in range(30)]
    result = build(write_video(tmp_path / f"a{suffix}", times=times, b_frames=3))
    assert (result.frames, result.truncated) == (30, None)


@pytest.mark.parametrize("limit", [2 << 30, 8 << 30])
def test_child_accepts_a_lower_limit_of_memory(limit):
    code = (
        f"import resource as r; r.setrlimit(r.RLIMIT_AS, ({limit}, {limit}))\n"
        "from pipelines.runners.python_child import limit_memory\n"
        "limit_memory(4 << 30); print(r.getrlimit(r.RLIMIT_AS)[0])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == min(limit, 4 << 30)
    assert resource.getrlimit(resource.RLIMIT_AS)[0] not in (limit, 4 << 30)


def test_changed_files_fail(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    known = {"path": str(path), "bytes": 3, "mtime_ns": path.stat().st_mtime_ns}
    source = Source(id="a", data_path="a.mp4", group="a", **known)
    check_unchanged(source)
    path.write_bytes(b"three")
    with pytest.raises(
        DecodingFailure, match=r"a\.mp4 has changed since it was listed: it had 3 bytes and"
    ):
        check_unchanged(source)
    side = SideFile(**{**known, "data_path": "s.csv"})
    other = Source(id="a", path="x", data_path="x", group="a", telemetry=side)
    with pytest.raises(DecodingFailure, match=r"s\.csv has changed"):
        check_unchanged(other)
    path.unlink()
    with pytest.raises(DecodingFailure, match="No such file"):
        check_unchanged(source)


def test_times_beyond_records_are_a_failure(write_video, tmp_path, monkeypatch):
    path = write(write_video, tmp_path / "a.mkv")
    monkeypatch.setattr("pipelines.decoding.record_builder.microseconds", lambda *_: 1 << 63)
    with pytest.raises(DecodingFailure, match="a frame has the time"):
        build(path)
