"""Measures the CPU time of each stage of a build."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from building.bench import Bench
from building.measuring import timed
from building.sides import OPTIONS, decode, scale
from building.throughput import building, videos
from pipelines.images import frames
from pipelines.images.pixel_sums import PixelSums


def stages(bench: Bench) -> None:
    """CPU time per frame by stage: the functions that builds call, in turn, in one thread."""
    for clip in bench.clips("720p", "540p"):
        sources, total = bench.videos(clip, 80 * bench.part, 8)
        rounds = [dict(_time_stages(clip)) for _ in range(bench.repeats)]
        spent = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        work = building(bench, videos(sources, "--shards", 8))
        builds = []
        for _ in range(bench.repeats):
            bench.clear()
            builds.append(timed(work).cpu / total)
        whole = statistics.median(builds)
        spent["records, checksums, files, processes, Beam"] = whole - sum(spent.values())
        for name, seconds in spent.items():
            print(f"  {name:<44} {1000 * seconds:7.2f} ms  {seconds / whole:5.0%}")
        bench.find(f"{clip.stem}: a frame of a build", f"{1000 * whole:.2f} ms of CPU")


def _time_stages(clip: Path) -> Iterator[tuple[str, float]]:
    """Yields stages with CPU seconds per frame."""
    count = decoding = scaling = summing = encoding = 0.0
    images = decode(clip)
    while True:
        image, seconds = _timed(lambda: next(images, None))
        if image is None:
            break
        decoding += seconds
        pixels, seconds = _timed(partial(scale, image))
        scaling += seconds
        summing += _timed(partial(PixelSums.of, pixels))[1]
        encoding += _timed(partial(frames.encode, pixels, OPTIONS))[1]
        count += 1
    yield "decode", decoding / count
    yield "scale", scaling / count
    yield "sums of pixels, for statistics", summing / count
    yield "encode as JPEG", encoding / count


def _timed(work: Callable[[], object]) -> tuple[object, float]:
    began = time.thread_time()
    result = work()
    return result, time.thread_time() - began
