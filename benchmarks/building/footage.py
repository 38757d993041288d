"""Generates clips with x264; cuts and repeats them without encoding again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

RATE = 25
GROUP = 25
"""Frames from one keyframe to the next, similar to those of dash-cams."""

# Copies are hard links. Usual file systems allow at least this number of links per file.
_MAX_LINKS = 30_000


class Kind(NamedTuple):
    """Size and coding of a clip.

    Attributes:
        height, width: size in pixels.
        bit_rate: bits/s.
        b_frames: maximum number of consecutive B-frames.
    """

    height: int
    width: int
    bit_rate: int
    b_frames: int = 0

    def __str__(self) -> str:
        b_frames = f", {self.b_frames} B-frames" if self.b_frames else ""
        return f"{self.width}x{self.height}, {self.bit_rate / 1e6:g} Mbit/s{b_frames}"


def make_clip(path: Path, kind: Kind, seconds: float = 10.0) -> Path:
    """Writes an H.264 clip like that of a moving camera: a moving textured scene with sensor noise.

    Its bit rate is ``kind.bit_rate``, so that decoding costs as much as for footage of that rate.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width = kind.height, kind.width
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = kind.bit_rate
        stream.gop_size = GROUP
        stream.options = {"preset": "fast", "bf": str(kind.b_frames)}
        for pixels in _pictures(kind, max(2, round(seconds * RATE))):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


def _pictures(kind: Kind, count: int) -> Iterator[np.ndarray]:
    """Yields pictures ``[height, width, 3]``, uint8."""
    random = np.random.default_rng(0)
    height, width = kind.height, kind.width
    scene = np.full((height + 128, width + 512, 3), 110, np.float32)
    for cells, strength in ((8, 60), (48, 30), (200, 15)):
        noise = random.normal(0, strength, (cells, cells * 2, 3)).astype(np.float32)
        scene += cv2.resize(noise, scene.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    noises = random.normal(0, 4, (8, height, width, 1)).astype(np.float32)
    for number in range(count):
        left, top = number * 2 % 512, round(32 + 24 * np.sin(number / 10))
        view = scene[top : top + height, left : left + width]
        moved = np.roll(noises[number % 8], int(random.integers(width)), axis=1)
        yield np.clip(view + moved, 0, 255).astype(np.uint8)


def repeat(clip: Path, target: Path, times: int) -> Path:
    """Writes a video that repeats ``clip``, by copying its packets."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        shown = [(packet.pts, packet.dts) for packet in packets]
        step = max(1, round(1 / (_rate(stream) * stream.time_base)))
        length = max(pts for pts, _ in shown) - min(pts for pts, _ in shown) + step
        for number in range(times):
            for packet, (pts, dts) in zip(packets, shown, strict=True):
                packet.stream = copy
                packet.time_base = stream.time_base
                packet.pts, packet.dts = pts + number * length, dts + number * length
                output.mux(packet)
    return target


def cut(clip: Path, target: Path, seconds: float) -> Path:
    """Writes the first ``seconds`` of ``clip``, by copying its packets."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        frames = round(seconds * _rate(stream))
        for number, packet in enumerate(source.demux(stream)):
            if number == frames or not packet.size:
                break
            packet.stream = copy
            output.mux(packet)
    return target


def spread(clip: Path, folder: Path, count: int) -> list[Path]:
    """Returns ``count`` paths of a clip in a class folder; they are hard links of few files."""
    own = folder / "clips"
    own.mkdir(parents=True)
    paths = [own / f"{number:06d}{clip.suffix}" for number in range(count)]
    for number, path in enumerate(paths):
        if number % _MAX_LINKS == 0:
            path.write_bytes(clip.read_bytes())
        else:
            os.link(paths[number - number % _MAX_LINKS], path)
    return paths


def describe(path: Path) -> str:
    """Returns size, codec and rate of a video as text."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        return (
            f"{codec.width}x{codec.height} {codec.name}, {float(_rate(stream)):g} frames/s, "
            f"{(container.bit_rate or 0) / 1e6:.1f} Mbit/s, "
            f"{'with' if codec.has_b_frames else 'no'} B-frames"
        )


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def count_seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        return count_frames(path) / float(_rate(container.streams.video[0]))


def _rate(stream: av.VideoStream) -> Fraction:
    return stream.average_rate or Fraction(RATE)
