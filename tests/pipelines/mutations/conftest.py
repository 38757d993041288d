"""Small clips of many codecs and containers, made from real footage, to be damaged.

``pytest tests/pipelines/mutations -s --mutations 3000 --mutation_seed 7`` tries that many, and prints what
became of them.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import av
import pytest

SIZE = (144, 176)
FRAMES = 48
# Encoder and options of those that are not real streams as they came.
ENCODED = {
    "hevc.mp4": ("libx265", {"b_frames": 2}),
    "mpeg4.avi": ("mpeg4", {}),
    "mpeg4_b.mp4": ("mpeg4", {"b_frames": 2}),
    "mpeg2.ts": ("mpeg2video", {"b_frames": 2}),
    "mpeg1.mpg": ("mpeg1video", {"b_frames": 2}),
    "mjpeg.avi": ("mjpeg", {}),
    "vp8.webm": ("libvpx", {}),
    "av1.mp4": ("libsvtav1", {"options": {"preset": "12"}}),
    "wmv2.wmv": ("wmv2", {"container": "asf"}),
    "ffv1.mkv": ("ffv1", {"options": {"level": "3", "slicecrc": "1"}}),
    "h264.h264": ("libx264", {"b_frames": 2}),
    "flv1.flv": ("flv", {}),
}
COPIED = {
    "h264.mp4": "demo.mp4",
    "h264.ts": "demo.mp4",
    "h264.mkv": "demo.mp4",
    "vp9.webm": "demo.webm",
}


def pytest_addoption(parser):
    parser.addoption("--mutations", type=int, metavar="N", help="damage so many clips")
    parser.addoption("--mutation_seed", type=int, metavar="SEED", help="decides how")


@pytest.fixture(scope="session")
def clips(data, write_video, tmp_path_factory):
    """Paths of the whole clips."""
    folder = tmp_path_factory.mktemp("clips")
    with av.open(str(data / "demo.mp4")) as source:
        pictures = [
            image.to_ndarray(format="rgb24")
            for image in itertools.islice(source.decode(video=0), FRAMES)
        ]
    for name, (codec, arguments) in ENCODED.items():
        write_video(
            folder / name,
            codec=codec,
            frames=FRAMES,
            size=SIZE,
            picture=pictures.__getitem__,
            **arguments,
        )
    for name, original in COPIED.items():
        _copy_packets(data / original, folder / name)
    shutil.copy(data / "demo.gif", folder / "gif.gif")
    return sorted(folder.iterdir())


def _copy_packets(source: Path, target: Path) -> None:
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in itertools.islice(reader.demux(video=0), FRAMES):
            packet.stream = stream
            writer.mux(packet)
