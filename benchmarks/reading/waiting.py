"""Measures the share of a training step that is spent waiting for input."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer import Shuffle, read_sequences

# Skipped: the graph is built and buffers are filled during the first steps.
FIRST_STEPS = 10


def waiting_for_input(
    model: keras.Model, data: Path, *, batch_size: int, steps: int = 40
) -> dict[str, Any]:
    """Measures a compiled model's steps on batches that are read and on one batch in memory.

    Returns:
        ``read`` and ``in_memory``: median seconds per step; ``share``: the fraction spent waiting;
        ``device``: where batches wait.
    """
    read = read_sequences(
        data, "train", batch_size=batch_size, shuffle=Shuffle(first_epoch=0), seed=0
    )
    first = next(iter(read))
    in_memory = tf.data.Dataset.from_tensors(first).repeat()
    seconds = {}
    for which, dataset in (("in_memory", in_memory), ("read", read)):
        ends: list[float] = []
        end_of_step = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, ends=ends: ends.append(time.perf_counter())
        )
        model.fit(dataset, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[end_of_step])
        seconds[which] = float(np.median(np.diff(ends[FIRST_STEPS - 1 :])))
    share = max(0.0, 1 - seconds["in_memory"] / seconds["read"])
    return {**seconds, "share": share, "device": first[1].backing_device}
