"""Finds the JPEG quality at which our files are as good as those of the ffmpeg program."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from building.sides import OPTIONS, decode, ffmpeg_command, scale
from pipelines.images import frames

_FRAMES = 25
_START = b"\xff\xd8\xff"
_QUALITIES = range(80, 100)


class Quality(NamedTuple):
    """Averages over JPEG files: PSNR of luma against the encoded pixels in dB, and bytes per file."""

    psnr: float
    bytes: float

    def __str__(self) -> str:
        return f"{self.psnr:.1f} dB and {self.bytes / 1000:.1f} kB per frame"


class Match(NamedTuple):
    """The ``--jpeg_quality`` with the PSNR nearest to ffmpeg's, and the quality of both sides' files.

    ``color_difference`` is the difference of the sides' mean RGB, in levels. A wrong matrix or range shows
    in it.
    """

    jpeg_quality: int
    ours: Quality
    theirs: Quality
    color_difference: float


def match_quality(ffmpeg: str, clip: Path) -> Match:
    """Compares each side's JPEG files of the first frames of ``clip`` with the pixels that it encoded."""
    taken = zip(range(_FRAMES), decode(clip), strict=False)
    pixels = [scale(frame) for _, frame in taken]
    lumas = [frames.to_gray(frame)[:, :, 0] for frame in pixels]
    files = list(_ffmpeg_files(ffmpeg, clip))
    theirs = _quality(files, list(_ffmpeg_lumas(ffmpeg, clip)))
    candidates = {}
    for quality in _QUALITIES:
        options = replace(OPTIONS, jpeg_quality=quality)
        candidates[quality] = _quality([frames.encode(frame, options) for frame in pixels], lumas)
    best = min(candidates, key=lambda quality: abs(candidates[quality].psnr - theirs.psnr))
    options = replace(OPTIONS, jpeg_quality=best)
    ours = [frames.encode(frame, options) for frame in pixels]
    difference = float(np.abs(_mean_color(ours) - _mean_color(files)).max())
    return Match(best, candidates[best], theirs, difference)


def _quality(files: Sequence[bytes], lumas: Sequence[np.ndarray]) -> Quality:
    return Quality(
        statistics.mean(
            cv2.PSNR(_decode(data, cv2.IMREAD_GRAYSCALE), luma)
            for data, luma in zip(files, lumas, strict=True)
        ),
        statistics.mean(map(len, files)),
    )


def _mean_color(files: Sequence[bytes]) -> np.ndarray:
    return np.mean([_decode(data, cv2.IMREAD_COLOR) for data in files], axis=(0, 1, 2))


def _decode(data: bytes, mode: int) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), mode)


def _ffmpeg_lumas(ffmpeg: str, clip: Path) -> Iterator[np.ndarray]:
    """Yields the luma planes that ffmpeg encodes."""
    height, width = OPTIONS.size
    size = height * width
    data = _output(ffmpeg, clip, "rawvideo")
    for start in range(0, len(data), size * 3 // 2):
        plane = np.frombuffer(data, np.uint8, size, start)
        yield plane.reshape(OPTIONS.size)


def _ffmpeg_files(ffmpeg: str, clip: Path) -> Iterator[bytes]:
    for rest in _output(ffmpeg, clip, "mjpeg").split(_START)[1:]:
        yield _START + rest


def _output(ffmpeg: str, clip: Path, kind: str) -> bytes:
    command = [*ffmpeg_command(ffmpeg, clip)[:-1], kind, "-frames:v", str(_FRAMES), "pipe:1"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
