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

from trainer.config.dataset import DatasetError
from trainer.config.reading import WHOLE, Reading
from trainer.data.corrupt import SkippedRecords
from trainer.data.parsed_records import METADATA, VALID_FRAMES
from trainer.data.reader import Labels, Loading, Outputs, located_errors, read_sequences
from trainer.models.keras_settings import own_settings

Array = npt.NDArray[Any]


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
    """Predicts a split, in one pass.

    Args:
        model: takes `read_sequences`'s features.
        directory: of the dataset.
        split: which of its splits.
        batch_size: clips predicted at a time; changes nothing but speed and memory.
        reading: what the model takes of each sequence. What it answers to several clips of a sequence is
            averaged.
        skipped: counts what is damaged, which is left out; None stops at it.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: when the split cannot be read.
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
            told = {name: features.pop(name).numpy() for name in METADATA}
            rows.append((told, features[VALID_FRAMES].numpy(), labels.numpy(), weights.numpy() > 0))
            values.append(np.asarray(model.predict_on_batch(features), np.float64))
    if not rows:
        raise DatasetError(f"no record of the split {split!r} in {directory} can be read")
    answers = np.concatenate(values)
    answers = np.where(np.isfinite(answers), answers, np.nan)
    # A sequence's clips come one after the other; where and when it is, the last of them says.
    answers = answers.reshape(-1, reading.count, *answers.shape[1:]).mean(axis=1)
    told, valid_frames, labels, valid = (
        _joined(part, reading.count) for part in zip(*rows, strict=True)
    )
    known: dict[bytes, str] = {}  # one string for the many sequences of a source

    def texts(name: str) -> tuple[str, ...]:
        return tuple(known.setdefault(text, _to_text(text)) for text in told[name])

    return Predictions(
        labels=Labels(values=labels, valid=valid),
        values=answers,
        origins=Origins(
            ids=texts("id"),
            sources=texts("source"),
            groups=texts("group"),
            timestamps=told["timestamps"],
            valid_frames=valid_frames,
        ),
    )


def _joined(parts: Sequence[Any], clips: int) -> Any:
    """Arrays of batches, or dicts of them, one after the other; of each sequence's clips the last."""
    if isinstance(parts[0], dict):
        return {name: _joined([part[name] for part in parts], clips) for name in parts[0]}
    return np.concatenate(parts)[clips - 1 :: clips]


def _to_text(data: bytes) -> str:
    # Names of files need not be UTF-8, and must go into JSON and HTML that is.
    return data.decode("utf-8", "backslashreplace")
