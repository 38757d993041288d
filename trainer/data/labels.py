"""All labels of a split, without its frames."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from trainer.config.clips import Clips, read_spec
from trainer.config.dataset import DatasetError, shard_paths
from trainer.data.buffers import threads, untuned
from trainer.data.clips import take_clip
from trainer.data.corrupt import SkippedRecords, sound_records
from trainer.data.elements import labels_of, parse_record, weights_of
from trainer.data.remote_records import record_reader
from trainer.data.shuffling import as_written


@dataclass(frozen=True, kw_only=True)
class Labels:
    """All labels of a split, in stored order.

    Attributes:
        values: ``[N, ...]``, shaped as `read_sequences` shapes them.
        valid: bool, ``[N]``, or ``[N, T]`` with labels by frame: which of them count.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


def read_labels(
    directory: str | os.PathLike[str],
    split: str,
    *,
    clips: Clips | None = None,
    ignore_errors: SkippedRecords | None = None,
) -> Labels:
    """The labels of a split without decoding its frames; raises what `read_sequences` raises.

    Args:
        directory: a dataset folder.
        split: one of its splits.
        clips: the part of each sequence whose labels by frame are wanted; one clip, not a random one.
        ignore_errors: counts what is damaged, which is left out; None stops at it.
    """
    info = DatasetInfo.load(directory)
    spec = read_spec(info.spec, clips)
    if spec.label.task == "none":
        raise DatasetError(f"{directory} has no labels: build it with labels")

    def to_labels(serialized: tf.Tensor) -> Any:
        parsed = parse_record(serialized, info, frames=False)
        if clips is not None:
            parsed = take_clip(parsed, info.spec, clips)
        labels = labels_of(parsed, spec)
        return labels, weights_of(parsed, labels, spec)

    paths = shard_paths(directory, info, split)
    if ignore_errors is None:
        records = record_reader(directory)(paths)
    else:
        skipped = ignore_errors
        sound = tf.data.Dataset.from_tensor_slices(paths).flat_map(
            as_written(lambda path: sound_records(path, skipped))
        )
        records = sound.map(lambda record: record["record"])
    read = untuned(records.map(as_written(to_labels), num_parallel_calls=threads()))
    if ignore_errors is not None:
        read = read.ignore_errors()
    batches = list(read.batch(1024).as_numpy_iterator())
    if not batches:
        raise DatasetError(f"no record of the split {split!r} in {directory} can be read")
    return Labels(
        values=np.concatenate([values for values, _ in batches]),
        valid=np.concatenate([weights for _, weights in batches]) > 0,
    )
