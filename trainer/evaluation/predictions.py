"""Predicts a split, and keeps predictions, labels and origins of its sequences, but not their frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from trainer.config.dataset import DatasetError
from trainer.config.reading import WHOLE, Reading
from trainer.data.corrupt import SkippedRecords
from trainer.data.parsed_records import METADATA, VALID_FRAMES
from trainer.data.reader import Labels, Loading, Outputs, located_errors, read_sequences
from trainer.models.keras_settings import own_settings

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Origins of the N sequences of T frames of a split, in stored order.

    Attributes:
        ids: unique, of source and start.
        sources: the source of each.
        groups: the group of each, such as a person or a drive.
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
    """Predictions for a split, with its labels.

    Attributes:
        labels: the truth.
        values: predictions, ``[N, classes or targets]``, or ``[N, T, ...]`` with labels by frame, float64;
            values that are not finite are NaN.
        origins: of the sequences.
    """

    labels: Labels
    values: Array
    origins: Origins

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
        times = self.origins.timestamps
        if self.labels.valid.ndim == 2:
            return times[self.labels.valid]
        last = np.clip(self.origins.valid_frames - 1, 0, times.shape[1] - 1)
        return times[np.arange(len(times)), last]


def index_names(names: Sequence[str]) -> tuple[list[str], Array]:
    """Returns the distinct names, sorted, and the index of each of ``names`` among them, ``[N]`` int64."""
    distinct = sorted(set(names))
    places = {name: place for place, name in enumerate(distinct)}
    return distinct, np.array([places[name] for name in names], np.int64)


@own_settings()
def predict_split(
    model: keras.Model,
    directory: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int,
    reading: Reading = WHOLE,
    skipped: SkippedRecords | None = None,
) -> Predictions:
    """Predicts a split in one pass.

    Args:
        model: takes `read_sequences`'s features.
        directory: of the dataset.
        split: which of its splits.
        batch_size: clips predicted at a time; affects only speed and memory.
        reading: clips and frame size that the model takes. Predictions for several clips of a sequence are
            averaged.
        skipped: counts corrupt records, which are skipped; None stops at the first.

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
    values, rows = [], []
    with located_errors(directory, split):
        for features, labels, weights in dataset:
            metadata = {name: features.pop(name).numpy() for name in METADATA}
            rows.append(
                (metadata, features[VALID_FRAMES].numpy(), labels.numpy(), weights.numpy() > 0)
            )
            values.append(np.asarray(model.predict_on_batch(features), np.float64))
    if not rows:
        raise DatasetError(
            f"no record of the split {split!r} in {directory} can be read: repair or rebuild the dataset"
        )
    answers = np.concatenate(values)
    answers = np.where(np.isfinite(answers), answers, np.nan)
    # Clips of a sequence follow each other. Its labels and metadata are those of the last.
    answers = answers.reshape(-1, reading.count, *answers.shape[1:]).mean(axis=1)
    metadata, valid_frames, labels, valid = (
        _join_batches(part, reading.count) for part in zip(*rows, strict=True)
    )
    known: dict[bytes, str] = {}  # one string for the many sequences of a source

    def texts(name: str) -> tuple[str, ...]:
        return tuple(known.setdefault(text, _to_text(text)) for text in metadata[name])

    return Predictions(
        labels=Labels(values=labels, valid=valid),
        values=answers,
        origins=Origins(
            ids=texts("id"),
            sources=texts("source"),
            groups=texts("group"),
            timestamps=metadata["timestamps"],
            valid_frames=valid_frames,
        ),
    )


def _join_batches(parts: Sequence[Any], clips: int) -> Any:
    """Concatenates arrays of batches, or dicts of them, keeping the last of each sequence's clips."""
    if isinstance(parts[0], dict):
        return {name: _join_batches([part[name] for part in parts], clips) for name in parts[0]}
    return np.concatenate(parts)[clips - 1 :: clips]


def _to_text(data: bytes) -> str:
    # File names may not be UTF-8, while JSON and HTML are.
    return data.decode("utf-8", "backslashreplace")
