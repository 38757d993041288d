"""Damaged frames in the middle of a file are dropped, or reported if the decoder only writes a message."""

import av
import numpy as np
import pytest

from pipelines.decoding.video import open_video


def packets(path):
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def spoil(path, index, *, how=lambda data: bytes(len(data)), head=0, most=10**9):
    """Replaces what a packet holds, but for its first ``head`` bytes, at ``most`` so many."""
    position, size = packets(path)[index]
    size = min(size, head + most)
    stored = bytearray(path.read_bytes())
    at = slice(position + head, position + size)
    stored[at] = how(stored[at])
    path.write_bytes(stored)
    return path


def read(path):
    """Frames by presentation time, and what is said of damage."""
    with open_video(str(path)) as video:
        frames = {frame.pts: frame.picture.to_rgb() for frame in video.frames()}
        return frames, video.damage, video.truncated


# Matroska has a header before each packet.
HEAD = {".webm": 12, ".mkv": 12}

LEFT_OUT = {
    "a.mp4": {},
    "b.mp4": {"b_frames": 2},
    "a.mkv": {},
    "mpeg4.avi": {"codec": "mpeg4"},
    "msmpeg4.avi": {"codec": "msmpeg4"},
    "hevc.mp4": {"codec": "libx265"},
    "vp9.webm": {"codec": "libvpx-vp9"},
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_blank_packet_is_reported_and_other_frames_are_unchanged(name, write_video, tmp_path):
    path = write_video(tmp_path / name, **LEFT_OUT[name])
    whole, damage, _ = read(path)
    assert damage is None
    frames, damage, truncated = read(spoil(path, 14, head=HEAD.get(path.suffix, 0), most=100))
    assert "damaged" in damage.reason
    assert truncated is None
    assert 10 < len(frames) < len(whole)
    assert damage.pts in frames
    for pts, pixels in frames.items():
        assert np.array_equal(pixels, whole[pts])


@pytest.mark.parametrize("name", ["a.mp4", "mpeg4.avi", "a.mkv"])
def test_damage_in_first_packet_is_reported(name, write_video, tmp_path):
    path = write_video(tmp_path / name, **LEFT_OUT[name])
    whole = read(path)[0]
    frames, damage, _ = read(spoil(path, 0, head=HEAD.get(path.suffix, 0)))
    assert damage.pts is None
    assert len(frames) == len(whole) - 12
    assert all(np.array_equal(pixels, whole[pts]) for pts, pixels in frames.items())


def test_raw_stream_times_continue_after_lost_frames(write_video, tmp_path):
    """Frames without times follow each other, and those that were left out count."""
    path = write_video(tmp_path / "a.h264")
    whole = read(path)[0]
    stored = bytearray(path.read_bytes())
    place = stored.index(b"\0\0\1", len(stored) // 3) + 20
    stored[place : place + 30] = b"\xa5" * 30
    path.write_bytes(stored)
    frames, damage, _ = read(path)
    assert "left out" in damage.reason
    assert 10 < len(frames) < len(whole)
    assert all(np.array_equal(pixels, whole[pts]) for pts, pixels in frames.items())


def test_overlapping_readings_are_independent(write_video, tmp_path):
    """Frames are told apart by marks that they get from their packets."""
    path = write_video(tmp_path / "b.mp4", b_frames=2)
    whole = read(path)[0]
    spoil(path, 14)
    with open_video(str(path)) as one, open_video(str(path)) as other:
        for frame, same in zip(one.frames(), other.frames(), strict=True):
            assert np.array_equal(frame.picture.to_rgb(), whole[frame.pts])
            assert np.array_equal(same.picture.to_rgb(), whole[same.pts])
            del frame, same


def flip(data):
    data = bytearray(data)
    data[len(data) // 8] ^= 1
    return bytes(data)


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_lost_transport_stream_packets_are_reported(codec, write_video, tmp_path):
    """The remaining packets are undamaged, but their frames were predicted from lost ones."""
    path = write_video(tmp_path / "a.ts", codec=codec, b_frames=2, size=(96, 128))
    whole, damage, _ = read(path)
    assert damage is None
    position, _ = packets(path)[14]
    stored = path.read_bytes()
    path.write_bytes(stored[:position] + stored[position + 3 * 188 :])
    frames, damage, _ = read(path)
    assert "left out" in damage.reason
    assert 6 < len(frames) < len(whole)
    assert all(np.array_equal(pixels, whole[pts]) for pts, pixels in frames.items())


def test_decoder_messages_are_reported(write_video, tmp_path):
    """FFV1 gives frames whose checksums do not match like any others."""
    options = {"level": "3", "slicecrc": "1", "slices": "4"}
    path = write_video(tmp_path / "a.mkv", codec="ffv1", gop=1, options=options)
    whole, damage, _ = read(path)
    assert damage is None
    times = sorted(whole)
    frames, damage, _ = read(spoil(path, 14, how=flip, head=200))
    assert "frames may be wrong" in damage.reason
    assert damage.pts == times[13]
    assert [pts for pts in times if not np.array_equal(frames[pts], whole[pts])] == [times[14]]


def test_damage_reason_contains_no_path(write_video, tmp_path):
    path = spoil(write_video(tmp_path / "a.mp4"), 14)
    assert str(tmp_path) not in read(path)[1].reason
