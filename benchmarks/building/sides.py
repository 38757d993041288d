"""The sides of comparisons: our build, the same work in bare processes, and the ffmpeg program."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2

from pipelines import cli
from pipelines.decoding.conversion import to_scaled
from pipelines.images import frames
from pipelines.images.yuv import YuvPixels
from pipelines.options.dataset import ImageOptions

SIZE = "180x320"
OPTIONS = ImageOptions(size=(180, 320))


def build(*arguments: object, output: Path, workers: int = 2) -> None:
    """Runs a whole build in this process, which has imported ``pipelines``: without start-up.

    Args:
        arguments: verb and flags, except the ones below.
        output: folder of the dataset.
        workers: workers of the local runner.

    Raises:
        RuntimeError: if the build fails.
    """
    argv = [*map(str, arguments), "--output", str(output), "--workers", str(workers)]
    with tempfile.TemporaryFile("w+") as said:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = cli.main(argv)
        if status:
            said.seek(0)
            raise RuntimeError(f"pipelines {' '.join(argv)}\n{said.read()[-2000:]}")


def decode(path: Path) -> Iterator[av.VideoFrame]:
    """Yields every frame of a video, decoded by one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        yield from container.decode(stream)


def decode_only(paths: Sequence[Path]) -> int:
    """Decodes every frame and returns their number."""
    return sum(1 for path in paths for _ in decode(path))


def decode_scale_encode(paths: Sequence[Path], target: Path, quality: int) -> int:
    """Every frame to a JPEG in ``target``, by the functions that builds use, and nothing else."""
    count, options = 0, replace(OPTIONS, jpeg_quality=quality)
    with target.open("wb") as file:
        for path in paths:
            for frame in decode(path):
                file.write(frames.encode(scale(frame), options))
                count += 1
    return count


def scale(frame: av.VideoFrame) -> frames.Pixels | YuvPixels:
    """Converts a decoded frame to the pixels that are stored."""
    return to_scaled(frame, OPTIONS, Fraction(1))


class BareProcesses:
    """Processes that decode without Beam. They are started before anything is timed."""

    def __init__(self, workers: int):
        self.workers = workers
        self._pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=cv2.setNumThreads,
            initargs=(1,),
        )

    def __enter__(self) -> BareProcesses:
        # While one process sleeps, the next task starts another one.
        list(self._pool.map(_wait_a_moment, range(self.workers)))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def decode_only(self, paths: Sequence[Path]) -> int:
        return sum(self._pool.map(decode_only, self._deal(paths)))

    def decode_scale_encode(
        self, paths: Sequence[Path], folder: Path, quality: int = OPTIONS.jpeg_quality
    ) -> int:
        targets = [folder / f"bare{place}.mjpeg" for place in range(self.workers)]
        qualities = [quality] * self.workers
        return sum(self._pool.map(decode_scale_encode, self._deal(paths), targets, qualities))

    def _deal(self, paths: Sequence[Path]) -> list[Sequence[Path]]:
        return [paths[place :: self.workers] for place in range(self.workers)]


def _wait_a_moment(_: int) -> None:
    threading.Event().wait(1.0)


def find_ffmpeg() -> str | None:
    """Returns the path of the ffmpeg program, or None."""
    return shutil.which("ffmpeg")


def run_ffmpeg(program: str, paths: Sequence[Path], folder: Path) -> None:
    """Encodes every frame to JPEG, with one single-threaded process per path."""
    running = []
    for place, path in enumerate(paths):
        target = folder / f"ffmpeg{place}.mjpeg"
        running.append(subprocess.Popen([*ffmpeg_command(program, path), str(target)]))
    if sum(process.wait() for process in running):
        raise RuntimeError("ffmpeg failed")


def ffmpeg_command(program: str, path: Path) -> list[str]:
    """Returns the command without its target: scaled by area as ours, full-range BT.601, best quality."""
    height, width = OPTIONS.size
    scaled = f"scale={width}:{height}:flags=area:out_color_matrix=bt601:out_range=pc"
    return [
        *(program, "-v", "error", "-y", "-threads", "1", "-filter_threads", "1", "-i", str(path)),
        *("-an", "-vf", scaled, "-pix_fmt", "yuvj420p", "-threads", "1"),
        *("-q:v", "2", "-f", "mjpeg"),
    ]
