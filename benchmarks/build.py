"""Measures the speed of builds against bare decoding, the ffmpeg program and other generators.

    python benchmarks/build.py                           all that needs no outside code: half an hour
    python benchmarks/build.py --part 0.1                the same on a tenth of the footage
    python benchmarks/build.py --only end_to_end overlap
    python benchmarks/build.py --footage drive.mp4       with your own files instead of generated clips
    python benchmarks/build.py --only peers --dmvr PATH --video2tfrecord PATH
                                                         generators in checkouts of google-deepmind/dmvr and
                                                         ferreirafabio/video2tfrecord

The compared sides take turns, so that other load on the machine affects all of them. Ratios are medians of
rounds. The CPU time of all processes is printed beside the wall clock, because it says more on a busy
machine. It is read from /proc: Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2

from building import commands, peers, stages, throughput
from building.bench import Bench, Finding, Outside
from building.measuring import describe_machine
from building.sides import BareProcesses, find_ffmpeg

MEASUREMENTS = {
    "end_to_end": throughput.end_to_end,
    "stages": stages.stages,
    "skipping": throughput.skipping,
    "overlap": throughput.overlap,
    "short_clips": throughput.short_clips,
    "long_video": throughput.long_video,
    "frame_folders": throughput.frame_folders,
    "one_clip": commands.one_clip,
    "memory": commands.memory,
    "listing": commands.listing,
    "planning": commands.planning,
    "cost_curve": commands.cost_curve,
    "peers": peers.compare_peers,
}


def main(argv: list[str] | None = None) -> int:
    flags = _parse(argv)
    print("command:", shlex.join(["python", *sys.argv]))
    print(describe_machine())
    print(_versions())
    with (
        tempfile.TemporaryDirectory(prefix="reelbeam-benchmark-", dir=flags.work) as folder,
        BareProcesses(flags.workers) as bare,
    ):
        _remove_on_signal(folder)
        bench = Bench(
            folder=Path(folder),
            bare=bare,
            repeats=flags.repeats,
            part=flags.part,
            workers=flags.workers,
            footage=tuple(flags.footage),
            outside=Outside(flags.dmvr, flags.video2tfrecord, flags.peer_python),
        )
        throughput.warm_up(bench)
        for name in flags.only or MEASUREMENTS:
            print(f"\n{name}: {MEASUREMENTS[name].__doc__.splitlines()[0]}", flush=True)
            began = time.perf_counter()
            MEASUREMENTS[name](bench)
            print(f"  ({time.perf_counter() - began:.0f} s)", flush=True)
    _summarize(bench.findings)
    return int(flags.check and any(finding.met is False for finding in bench.findings))


def _remove_on_signal(folder: str) -> None:
    """Removes the folder and ends the process on a signal, because Beam would swallow an exception."""

    def end(number: int, _: object) -> None:
        for process in multiprocessing.active_children():
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS)
    )
    parser.add_argument(
        "--footage",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="videos to use instead of generated clips",
    )
    parser.add_argument("--repeats", type=int, default=3, help="number of rounds")
    parser.add_argument(
        "--part", type=float, default=1.0, help="fraction of the usual amount of footage"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="workers of builds, and bare processes"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for temporary footage and datasets"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with status 1 if a target is missed"
    )
    parser.add_argument("--dmvr", type=Path, metavar="PATH", help="checkout of DMVR")
    parser.add_argument(
        "--video2tfrecord", type=Path, metavar="PATH", help="checkout of video2tfrecord"
    )
    parser.add_argument(
        "--peer_python", default=sys.executable, help="Python with the packages that they import"
    )
    return parser.parse_args(argv)


def _versions() -> str:
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    ffmpeg = find_ffmpeg()
    line = (
        subprocess.run([ffmpeg, "-version"], capture_output=True, text=True).stdout
        if ffmpeg
        else ""
    )
    return (
        f"Python {platform.python_version()}, PyAV {av.__version__} (libavcodec {codec}), "
        f"OpenCV {cv2.__version__}; {' '.join(line.split()[:3]) or 'no ffmpeg program'}"
    )


def _summarize(findings: list[Finding]) -> None:
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    verdicts = {True: "met", False: "not met", None: ""}
    for finding in findings:
        print(f"| {finding.name} | {finding.value} | {finding.target} | {verdicts[finding.met]} |")


if __name__ == "__main__":
    sys.exit(main())
