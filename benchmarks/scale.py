"""Measures the planning of a million sources, and simulates a build on a thousand workers.

    python benchmarks/scale.py plan [--sources 1000000] [--seconds 600] [--gigabytes 10]
    python benchmarks/scale.py list [--sources 1000000] [--case folders|lists|manifest]
    python benchmarks/scale.py simulate [--workers 1000] [--hours 20000]

`plan` generates the descriptors of sources and probes. It measures the time and the memory of the driver's
work before workers start: cutting, dealing to shards, fingerprints, the plan's lines. `list` does the same
for real, empty files in a thousand classes and ten thousand groups, from listing them on: with split folders
and groups found by an expression, with split lists, or with a stratified manifest. `simulate` deals the
shards of a build to workers, some of which are slow or lost, and compares sizes of segments and shards.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import os
import platform
import random
import resource
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from pipelines.build.finish import Totals
from pipelines.build.output import OutputFolder
from pipelines.build.shard import ShardBuilder
from pipelines.options.dataset import (
    DatasetOptions,
    ImageOptions,
    LabelOptions,
    SamplingOptions,
    ShardOptions,
    SplitOptions,
)
from pipelines.plan.descriptors import Probe, Segment, Source
from pipelines.plan.shards import cut_segments, plan_shards, time_boundaries
from pipelines.sources.videos import list_videos
from tfrecords_schema.codec import to_json
from tfrecords_schema.spec import SequenceSpec

RATE = Fraction(10)
SAMPLING = SamplingOptions(num_frames=16, frame_rate=RATE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    plan = verbs.add_parser("plan", help="measure planning")
    plan.add_argument("--sources", type=int, default=1_000_000, help="number of sources")
    plan.add_argument("--seconds", type=float, default=600.0, help="length of a source")
    plan.add_argument("--gigabytes", type=float, default=10.0, help="size of a source")
    plan.set_defaults(run=measure_planning)
    listing = verbs.add_parser("list", help="measure listing and planning")
    listing.add_argument("--sources", type=int, default=1_000_000, help="number of sources")
    listing.add_argument("--case", choices=CASES, default="folders", help="form of the input")
    listing.set_defaults(run=measure_listing)
    simulate = verbs.add_parser("simulate", help="simulate builds")
    simulate.add_argument("--workers", type=int, default=1000, help="number of workers")
    simulate.add_argument("--hours", type=float, default=20_000.0, help="hours of footage")
    simulate.add_argument("--seeds", type=int, default=5, help="number of runs")
    simulate.set_defaults(run=compare_cuts)
    flags = parser.parse_args()
    print("command:", shlex.join([Path(sys.executable).name, *sys.argv]))
    print(f"on {os.cpu_count()} CPUs; Python {platform.python_version()}")
    flags.run(flags)
    return 0


class Timer:
    """Prints the time of each step and the peak memory of the process."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter(), time.process_time()

    def step(self, name: str) -> None:
        self._print(name, self._last)
        self._last = time.perf_counter(), time.process_time()

    def total(self, name: str) -> None:
        self._print(name, self._began)

    @staticmethod
    def _print(name: str, since: tuple[float, float]) -> None:
        wall, cpu = time.perf_counter() - since[0], time.process_time() - since[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"  {name:<42} {wall:6.1f} s ({cpu:5.1f} s of CPU), peak {peak:6.0f} MiB")


def measure_planning(flags: argparse.Namespace) -> None:
    petabytes = flags.sources * flags.gigabytes / 1e6
    hours = flags.sources * flags.seconds / 3600
    print(f"{flags.sources:,} sources, {petabytes:,.1f} PB, {hours:,.0f} hours")
    timer = Timer()
    options = DatasetOptions(name="fleet", sampling=SAMPLING)
    sources = [make_source(number, flags.gigabytes) for number in range(flags.sources)]
    # Lengths differ by up to a second, like the files of a camera.
    probes = {
        source.path: Probe(duration=flags.seconds - i % 1000 / 1000, frame_rate=30, cuttable=True)
        for i, source in enumerate(sources)
    }
    timer.step("descriptors (listing and probing make them)")
    records = plan_all(timer, sources, probes, options)
    print(f"  about {records / 1e12:,.1f} TB of records")


def plan_all(
    timer: Timer, sources: Sequence[Source], probes: dict[str, Probe], options: DatasetOptions
) -> int:
    """Times the planning of sources; returns the expected bytes of their records."""
    segments = [s for own in sources for s in cut(own, probes[own.path].duration, options)]
    timer.step(f"cut into {len(segments):,} segments")
    shards, estimates = plan_shards(segments, probes, options)
    timer.step(f"dealt to {len(shards):,} shards")
    builder = ShardBuilder(
        output=OutputFolder("dataset"),
        spec=SequenceSpec(num_frames=16, frame_rate=float(RATE), image=options.image.spec),
        options=options,
        versions={},
    )
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(builder.fingerprint(shard).encode())
    timer.step("fingerprints")
    totals = Totals(
        sources=len(sources),
        split_sources={},
        split_groups={},
        tasks=len(shards),
        failures=(),
        max_failure_rate=0.05,
        fingerprint=digest.hexdigest(),
    )
    written = sum(len(json.dumps(to_json(item))) + 1 for item in (totals, *shards))
    timer.step(f"the plan's lines, {written / 1e6:,.0f} MB")
    timer.total("all")
    return sum(estimate.bytes for estimate in estimates.values())


CASES = ("folders", "lists", "manifest")


def measure_listing(flags: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        location, split = write_input(folder, flags.case, flags.sources)
        options = DatasetOptions(name="fleet", sampling=SAMPLING, split=split)
        print(f"{flags.sources:,} sources, {flags.case}")
        timer = Timer()
        listing = list_videos(location, split=split, label=LabelOptions(), sampling=SAMPLING)
        timer.step("listed and divided into splits")
        probe = Probe(duration=20.0, frame_rate=30, cuttable=True)
        # Empty files have no seconds that their size allows.
        sources = [replace(source, bytes=10**6) for source in listing.sources]
        del listing
        plan_all(timer, sources, dict.fromkeys((s.path for s in sources), probe), options)


def write_input(folder: Path, case: str, count: int) -> tuple[str, SplitOptions]:
    """Writes empty videos and what names their splits; returns the input and the options."""
    root, paths = folder / "input", []
    for number in range(count):
        group, clip = divmod(number, max(1, count // 10_000))
        top = f"{'test' if group % 5 == 0 else 'train'}/" if case == "folders" else ""
        paths.append(f"{top}class{group % 1000:03d}/v_g{group:05d}_c{clip:03d}.mp4")
    for parent in sorted({path.rpartition("/")[0] for path in paths}):
        (root / parent).mkdir(parents=True)
    for path in paths:
        os.close(os.open(root / path, os.O_CREAT | os.O_WRONLY))
    if case == "manifest":
        with (root / "clips.csv").open("w", encoding="utf-8") as file:
            file.write("path,label,group\n")
            for path in paths:
                label, _, clip = path.partition("/")
                file.write(f"{path},{label},{clip[:8]}\n")
        return str(root / "clips.csv"), SplitOptions(stratify=True)
    if case == "folders":
        return str(root), SplitOptions(group_by=r"_(g\d+)_")
    lists = []
    for name, rest in (("test", range(1)), ("train", range(1, 5))):
        # As published before the files were converted.
        lines = (f"{p[:-4]}.avi 1\n" for p in paths if int(p.rpartition("_g")[2][:5]) % 5 in rest)
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
        lists.append(f"{name}={folder / name}.txt")
    return str(root), SplitOptions(split_lists=tuple(lists), group_by=r"_(g\d+)_")


def make_source(number: int, gigabytes: float) -> Source:
    drive = f"drive-{number // 20:06d}"
    data_path = f"{drive}/{number % 20:02d}.mp4"
    return Source(
        id=data_path,
        path=f"s3://footage/fleet/{data_path}",
        data_path=data_path,
        group=drive,
        bytes=int(gigabytes * 1e9),
        mtime_ns=1_767_225_600_000_000_000 + number,
    )


def cut(source: Source, seconds: float, options: DatasetOptions) -> list[Segment]:
    length = options.shard.segment_length
    if seconds <= length:
        return cut_segments(source, seconds, [])
    return cut_segments(source, seconds, time_boundaries(seconds, options.sampling, length))


class Cluster(NamedTuple):
    """The speeds and failures of workers; `docs/benchmarks.md` explains them.

    Attributes:
        workers: number of decoders that run at once.
        speed: seconds of footage that a decoder reads per second.
        spread: standard deviation of the logarithm of a source's speed: codecs and sizes differ.
        slow, slowness: fraction of workers that are slow, and the factor by which they are slower.
        losses: losses per worker and hour; the next free worker starts the lost shard again.
        overhead: seconds per shard to open, close and rename it, and to deal it out.
        open_seconds: seconds per segment to open its source and seek.
    """

    workers: int
    speed: float = 4.0
    spread: float = 0.4
    slow: float = 0.03
    slowness: float = 4.0
    losses: float = 0.02
    overhead: float = 2.0
    open_seconds: float = 1.5


class Outcome(NamedTuple):
    """The result of a simulated build: its hours, the share of time at work, the share of repeated work."""

    hours: float
    efficiency: float
    repeated: float


def compare_cuts(flags: argparse.Namespace) -> None:
    cluster = Cluster(workers=flags.workers)
    lengths = list(draw_lengths(flags.hours * 3600, random.Random(0)))
    ideal = sum(lengths) / cluster.speed / cluster.workers / 3600
    print(
        f"{len(lengths):,} sources, {sum(lengths) / 3600:,.0f} hours, the longest "
        f"{max(lengths) / 3600:.1f} h; {cluster}; at full speed without losses {ideal:.2f} h"
    )
    print("  segment  shard size   segments    shards  s/shard    hours (worst)  at work  repeated")
    for segment_length in (60.0, 300.0, 600.0, 1800.0, 7200.0):
        for mebibytes in (32, 128, 512, 2048):
            show(lengths, segment_length, mebibytes, cluster, flags.seeds)


def draw_lengths(total: float, rng: random.Random) -> Iterator[float]:
    """Yields the lengths of drives in seconds: mostly minutes, sometimes hours."""
    while total > 0:
        length = min(rng.lognormvariate(6.5, 1.1), 8 * 3600.0)
        yield length
        total -= length


def show(
    lengths: list[float], segment_length: float, mebibytes: int, cluster: Cluster, seeds: int
) -> None:
    options = DatasetOptions(
        name="fleet",
        sampling=SAMPLING,
        image=ImageOptions(),
        shard=ShardOptions(segment_length=segment_length, shard_size=mebibytes * 2**20),
    )
    shards = plan_real(lengths, options)
    outcomes = [build(shards, cluster, random.Random(seed)) for seed in range(seeds)]
    hours = [outcome.hours for outcome in outcomes]
    seconds = sum(sum(shard) for shard in shards) / len(shards) / cluster.speed
    print(
        f"  {segment_length:5.0f} s {mebibytes:7d} MiB {sum(map(len, shards)):10,d} {len(shards):9,d} "
        f"{seconds:8.0f} {statistics.mean(hours):8.2f} ({max(hours):.2f}) "
        f"{statistics.mean(outcome.efficiency for outcome in outcomes):8.0%} "
        f"{statistics.mean(outcome.repeated for outcome in outcomes):9.2%}"
    )


def plan_real(lengths: list[float], options: DatasetOptions) -> list[list[float]]:
    """Returns the seconds of footage of each segment of each shard, by the planner of builds."""
    sources = [make_source(number, 1.0) for number in range(len(lengths))]
    probes = {
        source.path: Probe(duration=seconds, frame_rate=30, cuttable=True)
        for source, seconds in zip(sources, lengths, strict=True)
    }
    segments = [s for own in sources for s in cut(own, probes[own.path].duration, options)]
    shards, _ = plan_shards(segments, probes, options)
    return [[segment.seconds for segment in shard.segments] for shard in shards]


def build(shards: list[list[float]], cluster: Cluster, rng: random.Random) -> Outcome:
    """Deals shards to workers as they become free, and repeats the shards of lost workers."""
    slowness = [
        cluster.slowness if rng.random() < cluster.slow else 1.0 for _ in range(cluster.workers)
    ]
    free = [(0.0, worker) for worker in range(cluster.workers)]
    waiting = [
        cluster.overhead
        + sum(
            cluster.open_seconds + s / cluster.speed * rng.lognormvariate(0.0, cluster.spread)
            for s in shard
        )
        for shard in shards
    ]
    rng.shuffle(waiting)
    at_work = repeated = end = 0.0
    while waiting:
        now, worker = heapq.heappop(free)
        work = waiting.pop()
        seconds = work * slowness[worker]
        lost_after = rng.expovariate(cluster.losses / 3600)
        if lost_after < seconds:
            # Another machine replaces it; the next free worker gets the shard.
            waiting.append(work)
            repeated += lost_after
            seconds = lost_after
            slowness[worker] = 1.0
        at_work += seconds
        end = max(end, now + seconds)
        heapq.heappush(free, (now + seconds, worker))
    return Outcome(end / 3600, at_work / (end * cluster.workers), repeated / at_work)


if __name__ == "__main__":
    sys.exit(main())
