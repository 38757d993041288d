"""Compares other generators of records with ours, on the same files."""

from __future__ import annotations

import csv
import importlib.util
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from building.bench import Bench
from building.footage import count_seconds, describe
from building.measuring import Spent, interleave, run_command, show
from building.sides import find_ffmpeg
from building.throughput import OURS, building, videos

_HERE = Path(__file__).parent
_DMVR_SHORT_SIDE = 256
_DMVR_RATE = 10


class Peer(NamedTuple):
    """Another generator.

    Attributes:
        name: its name.
        command: returns its command line for videos; without videos, it only starts.
        flags: flags that make our build do the same.
    """

    name: str
    command: Callable[[Sequence[Path]], list[object]]
    flags: tuple[object, ...] = ()


def compare_peers(bench: Bench) -> None:
    """A loop as in tutorials, and the generators of DMVR and video2tfrecord if their checkouts are given."""
    for clip in bench.clips("720p", "540p"):
        sources, total = bench.videos(clip, 40 * bench.part, 4)
        for peer in _peers(bench, clip):
            _compare(bench, peer, sources, total, clip.stem)


def _compare(bench: Bench, peer: Peer, sources: list[Path], total: int, name: str) -> None:
    def prepare() -> None:
        bench.clear()
        _output(bench).mkdir(exist_ok=True)

    start = statistics.median(
        run_command(peer.command([])).spent.wall for _ in range(bench.repeats)
    )
    start_cpu = statistics.median(
        run_command(peer.command([])).spent.cpu for _ in range(bench.repeats)
    )
    ours = building(bench, (*videos(sources, "--shards", 4), *peer.flags))
    sides = {OURS: ours, peer.name: partial(run_command, peer.command(sources))}
    spent = interleave(sides, bench.repeats, prepare)
    spent[peer.name] = [Spent(s.wall - start, s.cpu - start_cpu) for s in spent[peer.name]]
    print(
        f"  {' '.join(map(str, peer.flags)) or 'every frame'}; {peer.name} starts in {start:.1f} s, "
        "which is subtracted"
    )
    show(spent, total, "frames")
    bench.find_speed(f"{name}: build / {peer.name}", spent[peer.name], spent[OURS])


def _peers(bench: Bench, clip: Path) -> list[Peer]:
    peers, outside = [], bench.outside
    if importlib.util.find_spec("tensorflow") is None:
        print("  TensorFlow is not installed: the tutorial loop is skipped")
    else:
        peers.append(Peer("OpenCV and tf.io in a loop", partial(_tutorial, bench)))
    if outside.dmvr is None:
        print("  --dmvr PATH was not given: its generator is skipped")
    elif find_ffmpeg() is None:
        print("  DMVR's generator needs the ffmpeg program, which was not found: it is skipped")
    else:
        flags = ("--frame_rate", _DMVR_RATE, "--size", _dmvr_size(clip))
        peers.append(Peer("DMVR", partial(_dmvr, bench, outside.dmvr), flags))
    if outside.video2tfrecord is None:
        print("  --video2tfrecord PATH was not given: its generator is skipped")
    else:
        peers.append(
            Peer("video2tfrecord", partial(_video2tfrecord, bench, outside.video2tfrecord))
        )
    return peers


def _output(bench: Bench) -> Path:
    folder = bench.folder / "peer"
    folder.mkdir(exist_ok=True)
    return folder


def _tutorial(bench: Bench, sources: Sequence[Path]) -> list[object]:
    output = _output(bench) / "tutorial.tfrecord"
    return [sys.executable, _HERE / "tutorial.py", output, *sources]


def _dmvr(bench: Bench, checkout: Path, sources: Sequence[Path]) -> list[object]:
    table = bench.folder / "dmvr.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video_path", "start", "end", "label"])
        rows.writerows([path, 0.0, count_seconds(path), path.parent.name] for path in sources)
    return [
        bench.outside.python,
        checkout / "examples" / "generate_from_file.py",
        f"--csv_path={table}",
        f"--output_path={_output(bench)}",
        "--num_shards=4",
    ]


def _dmvr_size(clip: Path) -> str:
    """Returns the size that DMVR uses: 256 pixels on the shorter side."""
    width, height = describe(clip).split()[0].split("x")
    scale = _DMVR_SHORT_SIDE / min(int(width), int(height))
    return f"{round(int(height) * scale)}x{round(int(width) * scale)}"


def _video2tfrecord(bench: Bench, checkout: Path, sources: Sequence[Path]) -> list[object]:
    command = [bench.outside.python, _HERE / "run_video2tfrecord.py", checkout, _output(bench)]
    return [*command, sources[0].parent] if sources else command
