"""All labels of a split, without its frames."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from trainer.dataset import DatasetError, shard_paths
from trainer.elements import labels_of, parse_record, weights_of
from trainer.shuffling import as_written
from trainer.storage import record_reader


@dataclass(frozen=True, kw_only=True)
class Labels:
    """All labels of a split, in stored order.

    Attributes:
        values: ``[N, ...]``, shaped as `read_sequences` shapes them.
        valid: bool, ``[N]``, or ``[N, T]`` with labels by frame: which of them count.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


def read_labels(directory: str | os.PathLike[str], split: str) -> Labels:
    """The labels of a split without decoding its frames; raises what `read_sequences` raises."""
    info = DatasetInfo.load(directory)
    spec = info.spec
    if spec.label.task == "none":
        raise DatasetError(f"{directory} has no labels: build it with labels")

    def to_labels(serialized: tf.Tensor) -> Any:
        parsed = parse_record(serialized, info, frames=False)
        labels = labels_of(parsed, spec)
        return labels, weights_of(parsed, labels, spec)

    dataset = (
        record_reader(directory)(shard_paths(directory, info, split))
        .map(as_written(to_labels), num_parallel_calls=tf.data.AUTOTUNE)
        .batch(1024)
    )
    batches = list(dataset.as_numpy_iterator())
    return Labels(
        values=np.concatenate([values for values, _ in batches]),
        valid=np.concatenate([weights for _, weights in batches]) > 0,
    )
