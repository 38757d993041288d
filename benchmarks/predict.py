"""Compares `pipelines predict` on long footage with decoding alone plus the model's own time.

The limit is the sum of two sides: bare processes that decode every frame with PyAV, one thread each and one
video per process; and the exported model on as many sequences, which are decoded and in memory, in batches
of the same size. Our side is the command in a process that has imported Beam and TensorFlow before. It
decodes, scales and encodes frames as the training set's build did, predicts, and writes the rows. The sides
take turns, and ratios are medians of the rounds' ratios. Last, peak memory of the driver and of its largest
decoder is compared for whole commands on footage of --seconds and of a quarter of it.

    python benchmarks/predict.py [--footage FILE] [--model RUN] [--seconds 120] [--repeats 3] [--max_ratio X]

Without --footage, a clip of 720p with camera-like noise is made; without --model, the trainer's default
network is trained for one epoch on it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import av
import numpy as np

from building.bench import KINDS
from building.footage import count_frames, count_seconds, describe, make_clip, repeat, spread
from building.measuring import describe_machine, interleave, ratio, run_command, show
from building.sides import BareProcesses
from pipelines import cli
from pipelines.prediction.export_info import Export, open_export

_LONGER = 4  # times the length, for the comparison of memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--footage", type=Path, metavar="FILE", help="video to repeat")
    parser.add_argument("--model", type=Path, metavar="RUN", help="run of the trainer")
    parser.add_argument("--seconds", type=float, default=120, help="seconds of footage in all")
    parser.add_argument("--repeats", type=int, default=3, help="number of rounds")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch_size", type=int, default=16, help="sequences per batch")
    parser.add_argument("--max_ratio", type=float, help="exit with status 1 above this ratio")
    flags = parser.parse_args()
    print("command:", shlex.join([Path(sys.executable).name, *sys.argv]))
    print(f"on {describe_machine()}; Python {platform.python_version()}, PyAV {av.__version__}")
    print(f"TensorFlow {version('tensorflow')}; {flags.workers} workers", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="reelbeam-benchmark-") as folder,
        BareProcesses(flags.workers) as bare,
    ):
        value = compare(Path(folder), bare, flags)
        compare_memory(Path(folder), flags)
    return int(flags.max_ratio is not None and value > flags.max_ratio)


def compare(folder: Path, bare: BareProcesses, flags: argparse.Namespace) -> float:
    """Returns the median ratio of our time to that of decoding and the model."""
    clip = flags.footage or make_clip(folder / "clip.mp4", KINDS["720p"])
    flags.footage = clip
    flags.model = flags.model or train(clip, folder)
    times = max(1, round(flags.seconds / flags.workers / count_seconds(clip)))
    videos = spread(repeat(clip, folder / f"long{clip.suffix}", times), folder, flags.workers)
    frames = len(videos) * count_frames(videos[0])
    export = open_export(str(flags.model))
    output = folder / "predictions.csv"
    command = partial(run_predict, flags, videos[0].parent, output)
    command()
    with output.open(newline="") as file:
        sequences = sum(1 for _ in csv.DictReader(file))
    print(f"{describe(clip)}; {len(videos)} videos, {frames:,} frames, {sequences:,} sequences")
    sides = {
        "decode": partial(bare.decode_only, videos),
        "model": model_alone(export, sequences, flags.batch_size),
        "predict": command,
    }
    sides["model"]()
    spent = interleave(sides, flags.repeats)
    show(spent, frames, "frames")
    limit = [
        type(a)(a.wall + b.wall, a.cpu + b.cpu)
        for a, b in zip(spent["decode"], spent["model"], strict=True)
    ]
    value = ratio(spent["predict"], limit)
    print(
        f"  predict / (decode + model): {value:.2f} of the time, "
        f"{ratio(spent['predict'], limit, 'cpu'):.2f} of the CPU time (target: at most 1.1)"
    )
    return value


def compare_memory(folder: Path, flags: argparse.Namespace) -> None:
    """Prints peak memory for footage of two lengths."""
    peaks = []
    for number, seconds in enumerate((flags.seconds / _LONGER, flags.seconds)):
        count = max(1, round(seconds / count_seconds(flags.footage)))
        video = repeat(flags.footage, folder / f"memory{number}.mp4", count)
        argv = [sys.executable, "-m", "pipelines", *words(flags, video, folder / "memory.csv")]
        run = run_command([*argv, "--every_frame"], sampled=True)
        peaks.append((run.driver.resident, run.child.resident))
        driver, child = (f"{peak / 1e6:.0f} MB" for peak in peaks[-1])
        print(f"  {count_seconds(video):.0f} s, --every_frame: driver {driver}, decoder {child}")
    growth = [long / short for short, long in zip(*peaks, strict=True)]
    print(f"  {_LONGER} times the length: driver {growth[0]:.2f}, decoder {growth[1]:.2f} of it")


def train(clip: Path, folder: Path) -> Path:
    """Trains the default network for one epoch on a clip, and returns the run."""
    drives = folder / "drives"
    drives.mkdir()
    for number in range(5):
        (drives / f"{number}.mp4").hardlink_to(clip)
        rows = [f"{place / 25},{place + number}" for place in range(count_frames(clip))]
        (drives / f"{number}.csv").write_text("\n".join(["t,speed", *rows]) + "\n")
    python, data, run = sys.executable, folder / "data", folder / "run"
    build = ["dashcam", "--input", drives, "--output", data, "--telemetry", "{stem}.csv"]
    build += ["--time_column", "t", "--label_columns", "speed", "--num_frames", 8]
    run_command([python, "-m", "pipelines", *build, "--size", "90x160"])
    run_command([python, "-m", "trainer", "--tfrecords", data, "--output", run, "--epochs", 1])
    return run


def words(flags: argparse.Namespace, footage: Path, output: Path) -> list[str]:
    """Returns the words of the command after ``pipelines``."""
    named = ["predict", "--model", flags.model, "--input", footage, "--output", output]
    named += ["--workers", flags.workers, "--batch_size", flags.batch_size]
    return list(map(str, named))


def run_predict(flags: argparse.Namespace, footage: Path, output: Path) -> None:
    """Predicts the videos in a folder in this process."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = cli.main(words(flags, footage, output))
    if status:
        raise RuntimeError(said.getvalue()[-2000:])


def model_alone(export: Export, sequences: int, batch_size: int) -> partial[None]:
    """Returns a call of the model on ``sequences`` sequences of noise, which are in memory."""
    import tensorflow as tf  # here, because the bare processes import this module

    loaded = tf.saved_model.load(export.path)
    spec = export.reading.seen(export.spec)
    rng = np.random.default_rng(0)
    shape = (batch_size, *spec.image_shape)
    inputs: dict[str, Any] = {
        "image": tf.constant(rng.integers(0, 256, shape, np.uint8)),
        "valid_frames": tf.fill([batch_size], tf.constant(spec.num_frames, tf.int64)),
    }
    for signal in spec.signals:
        inputs[signal.name] = tf.zeros((batch_size, spec.num_frames, signal.size))
    sizes = [batch_size] * (sequences // batch_size) + [sequences % batch_size or batch_size]
    _, taken = loaded.signatures["serving_default"].structured_input_signature
    inputs = {name: value for name, value in inputs.items() if name in taken}
    return partial(_run_model, loaded, inputs, sizes)


def _run_model(loaded: Any, inputs: dict[str, Any], sizes: Sequence[int]) -> None:
    signature = loaded.signatures["serving_default"]
    for size in sizes:
        for output in signature(**{name: value[:size] for name, value in inputs.items()}).values():
            output.numpy()


if __name__ == "__main__":
    sys.exit(main())
