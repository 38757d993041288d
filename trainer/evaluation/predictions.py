"""Predicts a split, and keeps predictions, labels and origins of its sequences, but not their frames."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from trainer.config.dataset import DatasetError, Datasets, load_dataset
from trainer.config.reading import WHOLE, Reading
from trainer.data.corrupt import SkippedRecords, located_errors
from trainer.data.labels import Labels
from trainer.data.parsed_records import METADATA, VALID_FRAMES
from trainer.data.read_options import Loading, Outputs
from trainer.data.reader import read_sequences
from trainer.evaluation.metrics import THRESHOLD, Thresholds, add_offsets
from trainer.models.keras_settings import own_settings

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions for the N sequences of T frames of a split, with labels and origins, in stored order.

    Attributes:
        labels: the truth; targets with their offsets, as in ``values``.
        values: predictions, ``[N, classes or targets]``, or ``[N, T, ...]`` with labels by frame, float64;
            values that are not finite are NaN.
        ids: unique, of source and start.
        sources: the source of each.
        groups: the group of each, such as a person or a drive.
        timestamps: ``[N, T]`` int64, of each frame in its source, in microseconds.
        valid_frames: ``[N]`` int64; frames from this index on are padding.
        thresholds: of a multi-label task, see `trainer.evaluation.metrics.decide`.
    """

    labels: Labels
    values: Array
    ids: tuple[str, ...]
    sources: tuple[str, ...]
    groups: tuple[str, ...]
    timestamps: Array
    valid_frames: Array
    thresholds: Thresholds = THRESHOLD

    @property
    def truth(self) -> Array:
        """Valid labels, ``[M, ...]``."""
        return self.labels.values[self.labels.valid]

    @property
    def answers(self) -> Array:
        """Predictions for the valid labels, ``[M, classes or targets]``."""
        return self.values[self.labels.valid]

    def by_label(self, of_sequences: Array) -> Array:
        """Repeats values of sequences, ``[N]``, for each of their valid labels: ``[M]``."""
        counts = self.labels.valid.reshape(len(of_sequences), -1).sum(axis=1)
        return np.repeat(of_sequences, counts)

    def times(self) -> Array:
        """Returns the time of each valid label, ``[M]`` microseconds: its frame's, or its sequence's last."""
        if self.labels.valid.ndim == 2:
            return self.timestamps[self.labels.valid]
        last = np.clip(self.valid_frames - 1, 0, self.timestamps.shape[1] - 1)
        return self.timestamps[np.arange(len(last)), last]


@own_settings()
def predict_split(
    model: keras.Model,
    directory: Datasets,
    split: str,
    *,
    batch_size: int,
    reading: Reading = WHOLE,
    skipped: SkippedRecords | None = None,
    thresholds: Sequence[float] = (),
) -> Predictions:
    """Predicts a split in one pass; predictions for several clips of a sequence are averaged.

    Corrupt records are skipped and counted in ``skipped``; None stops at the first.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: if the split cannot be read.
    """
    dataset = read_sequences(
        directory,
        split,
        batch_size=batch_size,
        clips=reading.clips,
        outputs=Outputs(image_size=reading.image_size, metadata=True, sample_weights=True),
        loading=Loading(ignore_errors=skipped or False),
    )
    batches, values = [], []
    with located_errors(directory, split):
        for features, labels, weights in dataset:
            batch = {name: features.pop(name).numpy() for name in METADATA}
            batch |= {"frames": features[VALID_FRAMES].numpy(), "labels": labels.numpy()}
            batches.append(batch | {"weights": weights.numpy()})
            values.append(np.asarray(model.predict_on_batch(features), np.float64))
    if not batches:
        raise DatasetError(
            f"no record of the split {split!r} in {directory} can be read: repair or rebuild the dataset"
        )
    # Clips of a sequence follow each other. Its labels and metadata are those of the last.
    last = slice(reading.count - 1, None, reading.count)
    of = {name: np.concatenate([batch[name] for batch in batches])[last] for name in batches[0]}
    answers = np.concatenate(values)
    answers = np.where(np.isfinite(answers), answers, np.nan)
    answers = answers.reshape(-1, reading.count, *answers.shape[1:]).mean(axis=1)
    label = load_dataset(directory).spec.label
    # One string for the many sequences of a source. Names may not be UTF-8, while JSON and HTML are.
    to_text = functools.cache(lambda name: name.decode("utf-8", "backslashreplace"))
    return Predictions(
        labels=Labels(values=add_offsets(label, of["labels"]), valid=of["weights"] > 0),
        values=add_offsets(label, answers),
        ids=tuple(map(to_text, of["id"])),
        sources=tuple(map(to_text, of["source"])),
        groups=tuple(map(to_text, of["group"])),
        timestamps=of["timestamps"],
        valid_frames=of["frames"],
        thresholds=np.array(thresholds) if len(thresholds) else THRESHOLD,
    )
