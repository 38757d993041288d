"""Measures the speed of the trainer's reader against decoding alone and against other readers.

    python benchmarks/reader.py                    a generated dataset
    python benchmarks/reader.py --tfrecords DIR    your own: time by stage, and whether training waits
    python benchmarks/reader.py --dmvr PATH        also DMVR's, in a checkout of google-deepmind/dmvr
    python benchmarks/reader.py --model_garden     also Model Garden's, if `tf-models-official` is installed
    python benchmarks/reader.py --memory           peak memory, for a dataset and for ten times as much

The upper limit is decoding the JPEGs alone, on all cores: nothing is read, parsed, stacked or batched.
Readers take turns, so that other load on the machine affects all of them. Ratios are medians of rounds.
They count from the first batch on, whose time is printed too. CPU time says more than the clock on a busy
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import tensorflow as tf

from reading.datasets import generate_dataset, repeated_dataset
from reading.memory import compare_memory
from reading.mixing import measure_mixing
from reading.peers import (
    ByIndex,
    Read,
    decoding_alone,
    dmvr_reader,
    model_garden_reader,
    plain_loop,
)
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.parse import parse_sequence
from trainer import Augmentation, Outputs, read_sequences
from trainer.config.dataset import shard_paths

ALL_CHANGES = Augmentation(
    crop=0.6,
    flip=0.5,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.05,
    jitter=1,
    reverse=0.3,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tfrecords", type=Path, metavar="DIR", help="dataset to profile")
    parser.add_argument("--split", default="train", help="split to read (default: train)")
    parser.add_argument(
        "--batch_size", type=int, default=8, help="sequences per batch (default: 8)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: 5)")
    parser.add_argument("--records", type=int, default=64, help="records of the generated dataset")
    parser.add_argument(
        "--times", type=int, default=8, help="number of times that a round reads its records"
    )
    parser.add_argument("--num_frames", type=int, default=16, help="frames per record")
    parser.add_argument("--size", type=int, default=224, help="height and width of its frames")
    parser.add_argument("--dmvr", type=Path, metavar="PATH", help="checkout of DMVR")
    parser.add_argument("--model_garden", action="store_true", help="compare with Model Garden")
    parser.add_argument(
        "--memory", action="store_true", help="measure peak memory instead of speed"
    )
    parser.add_argument("--max_batches", type=int, default=-1, help="batches to read for --memory")
    parser.add_argument("--backbone", default="small", help="backbone of the trained model")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file of the results")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        results = run(options, Path(folder))
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs the requested measurements; generated datasets go to ``folder``."""
    results: dict[str, Any] = {
        "cpus": len(os.sched_getaffinity(0)),
        "tensorflow": tf.__version__,
    }
    data, split, batch_size = options.tfrecords, options.split, options.batch_size
    if data is None:
        data = generate_dataset(
            folder / "generated",
            count=options.records,
            num_frames=options.num_frames,
            size=options.size,
        )
    if options.memory:
        results["memory"] = compare_memory(
            data, folder, split, batch_size=batch_size, max_batches=options.max_batches
        )
        return results
    if options.tfrecords is None:
        # Long enough for start-up to matter little.
        repeated_dataset(data, DatasetInfo.load(data), folder / "times", options.times)
        data = folder / "times"
    results["speed"] = compare_readers(data, options)
    results["mixing"] = measure_mixing(data, split, batch_size)
    if options.tfrecords is not None:
        results["stages"] = profile_stages(data, options)
        results["training"] = profile_training(data, options)
    return results


def compare_readers(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures the sequences per second of each reader, and of decoding alone."""
    info, read = DatasetInfo.load(data), {"batch_size": options.batch_size}
    paths, count = shard_paths(data, info, options.split), info.splits[options.split].num_records
    readers: dict[str, Read] = {
        "ours, in order": lambda: read_sequences(data, options.split, **read),
        "ours, shuffled": lambda: read_sequences(data, options.split, shuffle=True, seed=0, **read),
        "ours, float": lambda: read_sequences(
            data,
            options.split,
            shuffle=True,
            seed=0,
            outputs=Outputs(image_dtype="float32"),
            **read,
        ),
        "open_dataset": lambda: ByIndex(data, options.split, options.batch_size),
        "a plain loop": lambda: plain_loop(paths, info.spec, options.batch_size),
    }
    # Targets and signals cannot be reversed, nor mirrored unless the dataset says how.
    if not info.spec.value_names:
        readers["ours, augmented"] = lambda: read_sequences(
            data, options.split, shuffle=True, seed=0, augment=ALL_CHANGES, **read
        )
    if options.dmvr is not None:
        readers["DMVR"] = dmvr_reader(options.dmvr, paths, info.spec, options.batch_size)
    if options.model_garden:
        readers["Model Garden"] = model_garden_reader(paths, info.spec, options.batch_size)
    bounds = decoding_alone(paths, info.spec)
    found: dict[str, list[Measured]] = {name: [] for name in (*bounds, *readers)}
    datasets, first = {}, {}
    for name, reader in readers.items():
        begun = time.perf_counter()
        datasets[name] = reader()
        next(iter(datasets[name]))
        first[name] = time.perf_counter() - begun
    # Datasets are built once and iterated several times, like the epochs of a training.
    for number in range(options.rounds + 1):
        for name, decode in bounds.items():
            found[name].append(measure(lambda decode=decode: decode() or (), count))
        for name, dataset in datasets.items():
            found[name].append(measure(lambda dataset=dataset: dataset, count, options.batch_size))
        if not number:  # the first warms up
            found = {name: [] for name in found}
    for name, rounds in found.items():
        beside = [other for other in (*bounds, "DMVR") if other in found and other != name]
        ratios = [f"{other} {compare(rounds, found[other])}" for other in beside]
        begins = f"; first batch after {first[name]:.2f} s" if name in first else ""
        print(f"{describe(name, rounds)}{begins}; of {', of '.join(ratios)}", flush=True)
    speeds = {name: [one._asdict() for one in rounds] for name, rounds in found.items()}
    return {"rounds": speeds, "first_batch": first}


class Measured(NamedTuple):
    """The speed in one round.

    Attributes:
        rate: sequences/s.
        cpu_ms: CPU milliseconds per sequence.
    """

    rate: float
    cpu_ms: float


def measure(start: Callable[[], Iterable[Any]], count: int, batch_size: int = 0) -> Measured:
    """Reads ``count`` sequences and returns the speed after the first batch, if there are several."""
    clock, cpu = time.perf_counter(), time.process_time()
    for place, _ in enumerate(start()):
        if not place and count > batch_size:
            clock, cpu, count = time.perf_counter(), time.process_time(), count - batch_size
    seconds, cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
    return Measured(count / seconds, cpu_seconds / count * 1e3)


def describe(name: str, rounds: Sequence[Measured]) -> str:
    rate, cpu_ms = np.median(np.array(rounds), axis=0)
    return f"{name:<20} {rate:7.1f} sequences/s, {cpu_ms:6.2f} CPU ms per sequence"


def compare(rounds: Sequence[Measured], others: Sequence[Measured]) -> str:
    """Returns the ratio of two speeds as text."""
    mine, theirs = np.array(rounds), np.array(others)
    clock, cpu = np.median(mine[:, 0] / theirs[:, 0]), np.median(theirs[:, 1] / mine[:, 1])
    return f"{clock:.2f} by the clock and {cpu:.2f} by CPU time"


def profile_stages(data: Path, options: argparse.Namespace) -> dict[str, float]:
    """Returns the CPU milliseconds per sequence that each stage adds."""
    info = DatasetInfo.load(data)
    paths, count = shard_paths(data, info, options.split), info.splits[options.split].num_records
    records = tf.data.TFRecordDataset(paths)

    def parsed(frames: bool) -> tf.data.Dataset:
        return records.map(
            lambda record: parse_sequence(record, info.spec, frames=frames),
            len(os.sched_getaffinity(0)),
        )

    stages: dict[str, Read] = {
        "reading": lambda: records.batch(64),
        "parsing": lambda: parsed(True).batch(64),
        "decoding and batching": lambda: read_sequences(
            data, options.split, batch_size=options.batch_size
        ),
    }
    seconds = {
        name: min(measure(stage, count).cpu_ms for _ in range(3)) for name, stage in stages.items()
    }
    before, found = 0.0, {}
    for name, total in seconds.items():
        found[name] = max(total - before, 0.0)
        before = total
        print(f"{name:<22} {found[name]:7.2f} CPU ms per sequence", flush=True)
    return found


def profile_training(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures the share of a training step that is spent waiting for input."""
    from reading.waiting import waiting_for_input
    from trainer.config.training import ModelConfig
    from trainer.models.losses import make_loss
    from trainer.models.network import build_model

    info = DatasetInfo.load(data)
    if info.spec.label.task == "none":
        return {}
    weights = None if options.backbone == "small" else "none"
    model = build_model(info, ModelConfig(backbone=options.backbone, weights=weights))
    model.compile("adam", make_loss(info.spec.label, info.splits["train"], class_weights=False))
    found = waiting_for_input(model, data, batch_size=options.batch_size, steps=25)
    bound = (
        "input: read smaller frames, cache decoded ones, or use more CPUs"
        if found["share"] > 0.1
        else "compute"
    )
    print(
        f"a step with backbone {options.backbone}: {found['read']:.3f} s, {found['share']:.0%} of it "
        f"waiting for input; training is limited by {bound}"
    )
    return found


if __name__ == "__main__":
    main()
