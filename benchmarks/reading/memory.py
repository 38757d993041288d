"""Measures the peak memory of reading a dataset and one of ten times the size."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from reading.datasets import repeated_dataset
from tfrecords_schema.info import DatasetInfo
from trainer.data.buffers import reading_bytes
from trainer.data.reader import read_sequences
from trainer.data.shuffling import plan_shuffle

PROGRAM = "import sys; from reading.memory import print_peak; print_peak(*sys.argv[1:])"


def compare_memory(
    data: Path, folder: Path, split: str, *, batch_size: int, max_batches: int = -1
) -> dict[str, Any]:
    """Compares the peak memory of two processes: one reads a dataset, the other ten times as much."""
    info, found = DatasetInfo.load(data), {}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for times in (1, 10):
        read = folder / f"times{times}"
        contents = repeated_dataset(data, info, read, times).splits[split]
        words = map(str, (read, split, batch_size, max_batches))
        command = [sys.executable, "-c", PROGRAM, *words]
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        base, peak = map(int, run.stdout.split()[-2:])
        held = reading_bytes(info.spec, contents, plan_shuffle(contents), batch_size=batch_size)
        found[f"times{times}"] = {"bytes": contents.num_bytes, "peak": peak - base, "bound": held}
        print(
            f"{contents.num_bytes / 2**20:8.0f} MiB of records: {(peak - base) / 2**20:6.0f} MiB at peak, "
            f"beyond TensorFlow's {base / 2**20:.0f}; buffers are limited to {held / 2**20:.0f} MiB",
            flush=True,
        )
    return found


def print_peak(data: str, split: str, batch_size: str, max_batches: str) -> None:
    """Prints the peak resident bytes of this process before and after reading."""
    for _ in tf.data.Dataset.range(1).map(lambda number: number + 1):
        pass
    before = peak_bytes()
    dataset = read_sequences(data, split, batch_size=int(batch_size), shuffle=True, seed=0)
    for _ in dataset.take(int(max_batches)):
        pass
    print(before, peak_bytes())


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
