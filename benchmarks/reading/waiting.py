"""How much of a training step is waiting for input."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer import Shuffle, read_sequences

# Without the first steps, for which the graph is made and the buffers are filled.
FIRST_STEPS = 10


def waiting_for_input(
    model: keras.Model, data: Path, *, batch_size: int, steps: int = 40
) -> dict[str, Any]:
    """Seconds of a compiled model's step on what is read, and on one batch that is there already.

    Returns:
        ``read`` and ``at_hand``, medians; the ``share`` that is waiting; and the ``device`` on which batches
        wait.
    """
    read = read_sequences(
        data, "train", batch_size=batch_size, shuffle=Shuffle(first_epoch=0), seed=0
    )
    first = next(iter(read))
    at_hand = tf.data.Dataset.from_tensors(first).repeat()
    seconds = {}
    for which, dataset in (("at_hand", at_hand), ("read", read)):
        ends: list[float] = []
        end_of_step = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, ends=ends: ends.append(time.perf_counter())
        )
        model.fit(dataset, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[end_of_step])
        seconds[which] = float(np.median(np.diff(ends[FIRST_STEPS - 1 :])))
    share = max(0.0, 1 - seconds["at_hand"] / seconds["read"])
    return {**seconds, "share": share, "device": first[1].backing_device}
