"""A model's predictions for a split beside the truth, and where each sequence comes from.

Predictions, labels and origins of a whole split are held; its frames are not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from trainer.dataset import shard_paths
from trainer.elements import parse_record
from trainer.reader import Labels, located_errors, read_labels, read_sequences
from trainer.storage import record_reader

Array = npt.NDArray[Any]

_TEXTS = (keys.EXAMPLE_ID, keys.MEDIA_ID, keys.GROUP_ID)


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Where the N sequences of T frames of a split come from, in stored order.

    Attributes:
        ids: unique, of the source and the start.
        sources: the footage each is from.
        groups: what does not straddle splits: a person, a drive.
        timestamps: ``[N, T]`` int64, of each frame in its source, in microseconds.
        valid_frames: ``[N]`` int64; frames from this index on are padding.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    groups: tuple[str, ...]
    timestamps: Array
    valid_frames: Array


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model answered to a split.

    Attributes:
        labels: the truth.
        values: ``[N, classes or targets]``, or ``[N, T, ...]`` with labels by frame, float64; whatever is
            not finite is NaN.
        origins: of the sequences.
    """

    labels: Labels
    values: Array
    origins: Origins

    @property
    def truth(self) -> Array:
        """The labels that count, ``[M, ...]``."""
        return self.labels.values[self.labels.valid]

    @property
    def answers(self) -> Array:
        """What was answered to them, ``[M, classes or targets]``."""
        return self.values[self.labels.valid]

    def by_label(self, of_sequences: Array) -> Array:
        """``of_sequences`` ``[N]``, such as their groups, for each label that counts: ``[M]``."""
        counts = self.labels.valid.reshape(len(of_sequences), -1).sum(axis=1)
        return np.repeat(of_sequences, counts)

    def times(self) -> Array:
        """When each label that counts is, ``[M]`` microseconds: at its frame, or its sequence's last."""
        times = self.origins.timestamps
        if self.labels.valid.ndim == 2:
            return times[self.labels.valid]
        last = np.clip(self.origins.valid_frames - 1, 0, times.shape[1] - 1)
        return times[np.arange(len(times)), last]


def numbered(names: Sequence[str]) -> tuple[list[str], Array]:
    """The distinct ones in order, and the place of each of ``names`` among them, ``[N]`` int64."""
    distinct = sorted(set(names))
    places = {name: place for place, name in enumerate(distinct)}
    return distinct, np.array([places[name] for name in names], np.int64)


def predict_split(
    model: keras.Model, directory: str | os.PathLike[str], split: str, *, batch_size: int
) -> Predictions:
    """Predicts a split.

    Args:
        model: takes `read_sequences`'s features.
        directory: of the dataset.
        split: which of its splits.
        batch_size: sequences predicted at a time; changes nothing but speed and memory.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: when the split cannot be read.
    """
    with located_errors(directory, split):
        labels, origins = read_labels(directory, split), read_origins(directory, split)
        values = model.predict(read_sequences(directory, split, batch_size=batch_size), verbose=0)
    values = np.asarray(values, np.float64)
    return Predictions(
        labels=labels, values=np.where(np.isfinite(values), values, np.nan), origins=origins
    )


def read_origins(directory: str | os.PathLike[str], split: str) -> Origins:
    """The origins of a split, without its frames; raises what `read_sequences` raises."""
    info = DatasetInfo.load(directory)

    def to_origin(serialized: tf.Tensor) -> Any:
        parsed = parse_record(serialized, info, frames=False)
        names = tf.stack([parsed[key] for key in _TEXTS])
        return names, parsed[keys.IMAGE_TIMESTAMP], parsed[keys.VALID_FRAMES]

    dataset = (
        record_reader(directory)(shard_paths(directory, info, split))
        .map(tf.autograph.experimental.do_not_convert(to_origin), tf.data.AUTOTUNE)
        .batch(1024)
    )
    texts: list[list[str]] = []
    known: dict[bytes, str] = {}  # one string for the many sequences of a source
    times, valid = [], []
    for names, batch_times, batch_valid in dataset.as_numpy_iterator():
        texts += [[known.setdefault(name, _to_text(name)) for name in row] for row in names]
        times.append(batch_times)
        valid.append(batch_valid)
    ids, sources, groups = zip(*texts, strict=True)
    return Origins(
        ids=ids,
        sources=sources,
        groups=groups,
        timestamps=np.concatenate(times),
        valid_frames=np.concatenate(valid),
    )


def _to_text(data: bytes) -> str:
    # Names of files need not be UTF-8, and must go into JSON and HTML that is.
    return data.decode("utf-8", "backslashreplace")
