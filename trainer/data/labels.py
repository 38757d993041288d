"""Reads all labels of a split, without its frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema.machine import usable_cpus
from trainer.config.clips import Clips
from trainer.config.dataset import DatasetError, Datasets, load_dataset
from trainer.data.buffers import without_autotune
from trainer.data.corrupt import SkippedRecords, skip_undecodable
from trainer.data.elements import ElementBuilder
from trainer.data.read_options import Outputs
from trainer.data.shuffling import do_not_convert
from trainer.data.stored_records import StoredRecords


@dataclass(frozen=True, kw_only=True)
class Labels:
    """All labels of a split, in stored order.

    Attributes:
        values: ``[N, ...]``, in the shape that `read_sequences` documents.
        valid: bool, ``[N]``, or ``[N, T]`` with labels by frame: False for padding.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


def read_labels(
    directory: Datasets,
    split: str,
    *,
    clips: Clips | None = None,
    ignore_errors: SkippedRecords | None = None,
) -> Labels:
    """Reads the labels of a split without decoding its frames.

    Args:
        directory: a dataset folder, or several.
        split: one of its splits.
        clips: the part of each sequence to take labels by frame from: one clip, not a random one.
        ignore_errors: counts corrupt records, which are skipped; None stops at the first.

    Raises:
        DatasetInfoError, DatasetError: see `read_sequences`; and if the dataset has no labels.
    """
    info = load_dataset(directory)
    if info.spec.label.task == "none":
        raise DatasetError(f"{directory} has no labels: build it with labels")
    elements = ElementBuilder(info=info, clips=clips, outputs=Outputs(sample_weights=True))
    stored = StoredRecords(directory, info, split, ignore_errors)

    def to_labels(record: Any) -> Any:
        return elements.build(stored.parse(record, frames=False), None, 0)[1:]

    records = tf.data.Dataset.zip((stored.in_order(),))
    if ignore_errors is None:
        labels = records.map(do_not_convert(to_labels), num_parallel_calls=usable_cpus())
    else:
        labels = skip_undecodable(records, to_labels, ignore_errors)
    batches = list(without_autotune(labels).batch(1024).as_numpy_iterator())
    if not batches:
        raise DatasetError(
            f"no record of the split {split!r} in {directory} can be read: repair or rebuild the dataset"
        )
    return Labels(
        values=np.concatenate([values for values, _ in batches]),
        valid=np.concatenate([weights for _, weights in batches]) > 0,
    )
