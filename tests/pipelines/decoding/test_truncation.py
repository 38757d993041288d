"""Files cut at any byte: those whose structure says how they end are called cut, and whole ones never."""

import av
import pytest

from pipelines.decoding.truncation import find_missing_end
from pipelines.decoding.video import open_video

WHOLE = {
    "a.avi": {"codec": "mpeg4", "frames": 120},
    "a.gif": {"codec": "gif", "frames": 8},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx-vp9"},
    "a.ts": {"codec": "mpeg2video"},
    "a.m2ts": {"codec": "mpeg2video", "container_options": {"mpegts_m2ts_mode": "1"}},
    "a.mpg": {"codec": "mpeg1video"},
    "a.vob": {"codec": "mpeg2video"},
    "a.flv": {"codec": "flv"},
    "a.ivf": {"codec": "libvpx-vp9"},
    "a.wmv": {"codec": "wmv2"},
}
# Cut exactly between two of their parts, these look whole.
BLIND = {"a.ts": 0.02, "a.m2ts": 0.02, "a.mpg": 0.02, "a.vob": 0.02, "a.flv": 0.02, "a.ivf": 0.02}
BLIND["a.wmv"] = 0.02


def read(path):
    """Returns the number of frames and the reason for truncation."""
    with open_video(str(path)) as video:
        return sum(1 for _ in video.frames()), video.truncated


@pytest.fixture(params=WHOLE)
def whole(request, write_video, tmp_path):
    return write_video(tmp_path / request.param, **WHOLE[request.param])


def format_name(path):
    with av.open(str(path)) as container:
        return container.format.name


def test_complete_file_is_not_truncated(whole):
    frames, truncated = read(whole)
    assert (frames, truncated) == (WHOLE[whole.name].get("frames", 30), None)


def test_file_truncated_anywhere_is_detected(whole):
    stored, name = whole.read_bytes(), format_name(whole)
    cuts = range(len(stored) // 2, len(stored) - 16, len(stored) // 400 | 1)
    unnoticed = 0
    for cut in cuts:
        whole.write_bytes(stored[:cut])
        unnoticed += find_missing_end(str(whole), name) is None
    assert unnoticed <= BLIND.get(whole.name, 0) * len(cuts)


def test_reading_truncated_file_reports_it(whole):
    stored = whole.read_bytes()
    whole.write_bytes(stored[: len(stored) * 7 // 10 + 1])
    frames, truncated = read(whole)
    assert 0 < frames <= WHOLE[whole.name].get("frames", 30)
    assert "the file" in truncated


@pytest.mark.parametrize("name", ["a.gif", "a.ts", "a.ivf", "a.mpg"])
def test_frames_of_truncated_file_equal_those_of_complete_file(name, write_video, tmp_path):
    """The rest of the last frame is not used."""
    path = write_video(tmp_path / name, **WHOLE[name])
    with open_video(str(path)) as video:
        whole = {frame.pts: frame.picture.to_rgb().tobytes() for frame in video.frames()}
    stored = path.read_bytes()
    for part in range(40, 100, 3):
        path.write_bytes(stored[: len(stored) * part // 100])
        with open_video(str(path)) as video:
            cut = {frame.pts: frame.picture.to_rgb().tobytes() for frame in video.frames()}
        assert cut.items() <= whole.items()


@pytest.mark.parametrize("name", ["a.wmv", "a.mp4", "a.wtv"])
def test_joined_files_of_which_the_first_is_read_are_reported(name, write_video, tmp_path):
    codecs = {"a.wmv": "wmv2", "a.mp4": "libx264", "a.wtv": "mpeg2video"}
    path = write_video(tmp_path / name, codec=codecs[name])
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() * 2)
    frames, truncated = read(path)
    assert frames in (29, 30)
    assert truncated.startswith("another film follows")
    assert truncated.endswith(f" {size}")


def test_fragments_with_a_description_each_are_one_film(write_video, tmp_path):
    fragmented = {"container_options": {"movflags": "frag_keyframe+empty_moov"}}
    path = write_video(tmp_path / "a.mp4", **fragmented)
    path.write_bytes(path.read_bytes() * 2)
    assert "another film" not in (read(path)[1] or "")


@pytest.mark.parametrize(("name", "tail"), [("a.ts", bytes(100)), ("a.gif", b"made with love")])
def test_trailing_data_is_not_truncation(name, tail, write_video, tmp_path):
    path = write_video(tmp_path / name, **WHOLE[name])
    path.write_bytes(path.read_bytes() + tail)
    assert read(path)[1] is None


def test_avi_without_length_is_not_truncated(write_video, tmp_path):
    """Its lengths are zero, so that nothing is known."""
    path = write_video(tmp_path / "a.avi", codec="mpeg4")
    stored = bytearray(path.read_bytes())
    stored[4:8] = bytes(4)
    path.write_bytes(stored)
    assert find_missing_end(str(path), "avi") is None


@pytest.mark.parametrize("content", [b"", b"RIFF", b"\0" * 1000, bytes(range(256)) * 8])
@pytest.mark.parametrize(
    "name",
    [
        "avi",
        "gif",
        "mpegts",
        "mpeg",
        "flv",
        "ivf",
        "matroska,webm",
        "asf",
        "wtv",
        "mov,mp4,m4a,3gp,3g2,mj2",
        "h264",
    ],
)
def test_find_missing_end_accepts_any_bytes(name, content, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(content)
    reason = find_missing_end(str(path), name)
    assert reason is None or reason.startswith("the file ")
