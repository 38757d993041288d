"""Measurements of whole commands: start-up, memory, listing, planning, the cost curve."""

from __future__ import annotations

import shutil
import statistics
import sys
from functools import partial
from pathlib import Path

from building.bench import Bench
from building.footage import count_frames, describe
from building.measuring import Run, run_command, show, timed
from building.throughput import videos
from pipelines.options.dataset import LabelOptions, SplitOptions
from pipelines.sources.videos import list_videos

SCALE = Path(__file__).parents[1] / "scale.py"
_MAX_MEMORY = 500e6


def whole_command(bench: Bench, *arguments: object, sampled: bool = False) -> Run:
    """Runs ``python -m pipelines`` into an empty folder."""
    bench.clear()
    argv = [sys.executable, "-m", "pipelines", *arguments, "--output", bench.output]
    return run_command([*map(str, argv), "--workers", str(bench.workers)], sampled=sampled)


def one_clip(bench: Bench) -> None:
    """One clip of 10 s with start-up, compared with the import of Beam."""
    clip = bench.clip("240p")
    sources = bench.short_videos(clip, 10.0, 1)
    print(f"{describe(clip)}; {count_frames(sources[0])} frames")
    ours, beam = "pipelines videos, whole command", "python -c 'import apache_beam'"
    sides = {
        ours: partial(whole_command, bench, *videos(sources)),
        beam: partial(run_command, [sys.executable, "-c", "import apache_beam"]),
    }
    spent = bench.measure(sides, repeats=2 * bench.repeats + 1)
    rounds = list(zip(*spent.values(), strict=True))
    more = statistics.median(a.wall - b.wall for a, b in rounds)
    cpu = statistics.median(a.cpu - b.cpu for a, b in rounds)
    bench.find(
        "one clip of 10 s, whole command - import of Beam",
        f"{more:.2f} s more, {cpu:.2f} s of CPU",
        "at most 2 s more",
        more <= 2,
    )


def memory(bench: Bench) -> None:
    """Peak memory of driver and decoder at 720p, with ten times the clips, and with ten times the length."""
    clip = bench.clip("720p")
    few = bench.sources(clip, 40 * bench.part, 4)
    many = bench.sources(clip, 400 * bench.part, 40)
    long = bench.sources(clip, 400 * bench.part, 4)
    print(describe(clip))
    runs = {}
    for name, sources in (
        ("4 clips", few),
        ("40 clips", many),
        ("4 clips, 10 times as long", long),
    ):
        run = runs[name] = whole_command(bench, *videos(sources, "--shards", 4), sampled=True)
        print(
            f"  {name:<26} {len(sources) * count_frames(sources[0]):7,d} frames: driver with "
            f"{bench.workers} workers {_mega(run.driver)}, largest decoder {_mega(run.child)}"
        )
    base, *others = runs.values()
    for role in ("driver", "child"):
        peaks = [getattr(run, role).resident for run in others]
        growth = max(peaks) / getattr(base, role).resident
        peak = max(peaks)
        bench.find(
            f"peak memory, {'driver' if role == 'driver' else 'decoder'}, of ten times the data",
            f"{growth:.2f} times, {peak / 1e6:.0f} MB",
            "at most 1.1 times, below 500 MB",
            growth <= 1.1 and peak < _MAX_MEMORY,
        )


def _mega(peak: tuple[int, int]) -> str:
    resident, share = peak
    return f"{resident / 1e6:.0f} MB resident ({share / 1e6:.0f} MB proportionally)"


def listing(bench: Bench) -> None:
    """Listing of a class folder of many real files, without opening them."""
    count = bench.count(100_000, minimum=100)
    sources = bench.short_videos(bench.clip("240p"), 1.0, count)
    folder = str(sources[0].parents[1])
    list_all = partial(list_videos, folder, split=SplitOptions(), label=LabelOptions())
    spent = [timed(list_all) for _ in range(bench.repeats)]
    show({f"list {count:,} files": spent}, count, "files")
    median = statistics.median(each.wall for each in spent)
    bench.find(
        f"listing {count:,} files", f"{median:.2f} s, {1e6 * median / count:.0f} us per file"
    )
    shutil.rmtree(folder)


def planning(bench: Bench) -> None:
    """Planning of a million generated sources; `scale.py` prints the steps."""
    count = bench.count(1_000_000, minimum=1000)
    run = run_command([sys.executable, SCALE, "plan", "--sources", str(count)], sampled=True)
    peak = run.driver.resident
    bench.find(
        f"planning {count:,} sources",
        f"{run.spent.wall:.1f} s ({run.spent.cpu:.1f} s of CPU), {peak / 1e6:.0f} MB",
        "under 60 s and 1 GB for a million",
        run.spent.wall < 60 and peak < 1e9,
    )


def cost_curve(bench: Bench) -> None:
    """Seconds per minute of footage for datasets of several sizes: whole commands, once each."""
    clip = bench.clip("240p")
    print(f"{describe(clip)}; clips of 10 s, every frame, whole commands")
    print("  clips   minutes  seconds  CPU s   s per min   CPU s per min")
    max_count = bench.count(1000)
    for count in [count for count in (1, 10, 100, 1000) if count <= max_count]:
        sources = bench.short_videos(clip, 10.0, count)
        minutes = count * count_frames(sources[0]) / 25 / 60
        spent = whole_command(bench, *videos(sources)).spent
        print(
            f"  {count:5d} {minutes:9.1f} {spent.wall:8.1f} {spent.cpu:6.1f} "
            f"{spent.wall / minutes:12.2f} {spent.cpu / minutes:15.2f}"
        )
        bench.find(f"{count} clips of 10 s", f"{spent.wall / minutes:.2f} s per minute of footage")
