"""Runs the commands on loads that the tests do not have, and prints time and peak memory of each.

    python benchmarks/load.py [--part 1.0] [--only clips,manifest,telemetry,validate] [--repeats 1]

`clips` builds 20,000 clips. `manifest` plans 300,000 rows in 10,000 groups and 100 classes, stratified.
`telemetry` builds a drive with 5 million rows of CSV. `validate` checks 100,000 records, ``--repeats`` times.
The limit to compare with is the promise: a gigabyte per process, whatever the load.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from building.footage import Kind, make_clip, spread
from building.measuring import describe_machine, run_command
from tfrecords_schema import ImageSpec, LabelSpec, SequenceSpec, write_fake_dataset

CLIPS, ROWS, GROUPS, FILES, TELEMETRY_ROWS, RECORDS = (
    20_000,
    300_000,
    10_000,
    1_000,
    5_000_000,
    100_000,
)
LIMIT = 2**30  # bytes of a process
BUILD = ("--num_frames", 2, "--size", "24x32")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", type=float, default=1.0, help="fraction of each load")
    parser.add_argument("--only", default=",".join(LOADS), help="loads, separated by commas")
    parser.add_argument("--repeats", type=int, default=1, help="validations in a row")
    flags = parser.parse_args()
    print("command:", shlex.join([Path(sys.executable).name, *sys.argv]))
    print(describe_machine())
    exceeded = False
    for name in flags.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            for what, command in LOADS[name](Path(folder), flags):
                exceeded |= measure(f"{name}: {what}", command) > LIMIT
    return int(exceeded)


def measure(name: str, command: list[object]) -> int:
    """Runs a command of `pipelines` and prints what it took; returns the peak of its largest process."""
    # A check may fail: the pictures of generated records are not of the stated mean.
    accepted = (0, 1) if command[0] == "validate" else (0,)
    words = [sys.executable, "-m", "pipelines", *map(str, command)]
    run = run_command(words, sampled=True, accepted=accepted)
    driver, child = run.driver.resident, run.child.resident
    print(
        f"  {name:<52} {run.spent.wall:6.0f} s ({run.spent.cpu:6.0f} s of CPU), peak "
        f"{driver / 2**20:5.0f} MiB, largest child {child / 2**20:5.0f} MiB",
        flush=True,
    )
    return max(driver, child)


def clips(folder: Path, flags: argparse.Namespace) -> list[tuple[str, list[object]]]:
    clip = make_clip(folder / "clip.mp4", Kind(48, 64, 50_000, b_frames=0), seconds=0.4)
    count = round(CLIPS * flags.part)
    spread(clip, folder / "input", count)
    command = ["videos", "--input", folder / "input", "--output", folder / "dataset", *BUILD]
    return [(f"building {count:,} clips", command)]


def manifest(folder: Path, flags: argparse.Namespace) -> list[tuple[str, list[object]]]:
    clip = make_clip(folder / "clip.mp4", Kind(48, 64, 50_000, b_frames=0), seconds=4.0)
    files = spread(clip, folder / "input", FILES)
    rows, groups = round(ROWS * flags.part), round(GROUPS * flags.part)
    with (folder / "input/clips.csv").open("w", encoding="utf-8") as file:
        file.write("path,label,start,end,group\n")
        for row in range(rows):
            path = files[row % FILES].relative_to(folder / "input")
            start = row // FILES % 300 / 100
            group = row % groups
            file.write(f"{path},class{group % 100},{start},{start + 1},g{group}\n")
    command = [
        "videos",
        "--input",
        folder / "input/clips.csv",
        "--output",
        folder / "dataset",
        *BUILD,
    ]
    return [(f"planning {rows:,} rows in {groups:,} groups", [*command, "--stratify", "--dry_run"])]


def telemetry(folder: Path, flags: argparse.Namespace) -> list[tuple[str, list[object]]]:
    rows = round(TELEMETRY_ROWS * flags.part)
    (folder / "input").mkdir()
    make_clip(folder / "input/drive.mp4", Kind(48, 64, 50_000, b_frames=0), seconds=10.0)
    with (folder / "input/drive.csv").open("w", encoding="utf-8") as file:
        file.write("t,speed\n")
        file.writelines(f"{row / 1000:.3f},{row % 977 / 50:.2f}\n" for row in range(rows))
    command = ["dashcam", "--input", folder / "input", "--output", folder / "dataset", *BUILD]
    command += ["--telemetry", "{stem}.csv", "--time_column", "t", "--label_columns", "speed"]
    return [(f"building a drive with {rows:,} rows", command)]


def validate(folder: Path, flags: argparse.Namespace) -> list[tuple[str, list[object]]]:
    spec = SequenceSpec(
        num_frames=2,
        frame_rate=10.0,
        image=ImageSpec(height=24, width=32),
        label=LabelSpec(task="classification", class_names=tuple("abcdefgh")),
    )
    count = round(RECORDS * flags.part)
    counts = {"train": count * 8 // 10, "validation": count // 10, "test": count // 10}
    write_fake_dataset(folder / "dataset", spec, counts, shards=20)
    command = ["validate", "--tfrecords", folder / "dataset"]
    return [(f"{count:,} records", command)] * flags.repeats


Load = Callable[[Path, argparse.Namespace], list[tuple[str, list[object]]]]
LOADS: dict[str, Load] = {
    "clips": clips,
    "manifest": manifest,
    "telemetry": telemetry,
    "validate": validate,
}

if __name__ == "__main__":
    sys.exit(main())
