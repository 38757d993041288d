"""What a model is worth on a split: its metrics beside the baseline's, and where it errs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from tfrecords_schema.info import DatasetInfo
from trainer.analysis import Analysis, analyse
from trainer.bootstrap import FEW_GROUPS, LEAST_GROUPS, LEVEL, RESAMPLES, SEED
from trainer.dataset import check_compatible, default_split
from trainer.export import load_model
from trainer.filmstrips import Filmstrip, read_filmstrips
from trainer.predictions import Predictions, predict_split
from trainer.run_folder import open_run
from trainer.score import Score, few_groups, score

_SEEN = {
    "train": "the model was trained on this split",
    "validation": "the best epoch was chosen by this split",
}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """A `Score`, and what explains it.

    Attributes:
        info: the dataset that was evaluated on.
        trained_on: the dataset whose train split gives the baseline.
        predictions: for every sequence.
        analysis: where they are wrong.
        strips: the frames and signals of the worst sequences, by their place.
    """

    info: DatasetInfo
    trained_on: DatasetInfo
    predictions: Predictions
    analysis: Analysis
    strips: dict[int, Filmstrip]

    def to_json(self) -> dict[str, Any]:
        """`Score.to_json`, with the analysis; without frames and predictions."""
        return {**super().to_json(), "warnings": self.warnings(), **self.analysis.to_json()}

    def warnings(self) -> list[str]:
        """What a reader must know before believing the figures."""
        found = []
        # The shards carry checksums: equal ones hold the very same records.
        if self.split in _SEEN and self.info.splits == self.trained_on.splits:
            found.append(f"{_SEEN[self.split]}: expect worse of new footage")
        for count, what in (
            (self.analysis.bad_predictions, "predictions"),
            (self.analysis.bad_labels, "labels"),
        ):
            if count:
                found.append(
                    f"{count:,} of {self.labels:,} {what} are not numbers: they are never right, and "
                    "an error that needs one is not a number either"
                )
        if self.groups < LEAST_GROUPS:
            found.append(few_groups(self.groups))
        elif self.groups < FEW_GROUPS:
            found.append(
                f"intervals over only {self.groups} groups are on the narrow side: believe them from "
                f"{FEW_GROUPS} groups on"
            )
        return found


def evaluate_model(
    model: keras.Model,
    directory: str | os.PathLike[str],
    split: str,
    *,
    trained_on: DatasetInfo,
    batch_size: int,
) -> Evaluation:
    """Scores ``model`` on a split of the dataset in ``directory``.

    The split is read three times: its labels and origins, its frames a batch at a time, and the frames of
    the worst sequences.

    Args:
        model: takes `read_sequences`'s features.
        directory: of a dataset whose spec is that of ``trained_on``.
        split: which of its splits.
        trained_on: the dataset whose train split gives the baseline.
        batch_size: sequences predicted at a time; changes nothing but speed and memory.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: when the split cannot be read.
    """
    predictions = predict_split(model, directory, split, batch_size=batch_size)
    scored = score(
        split,
        predictions.labels,
        predictions.values,
        trained_on,
        groups=predictions.origins.groups,
    )
    analysis = analyse(predictions, trained_on)
    return Evaluation(
        split=scored.split,
        labels=scored.labels,
        metrics=scored.metrics,
        groups=scored.groups,
        info=DatasetInfo.load(directory),
        trained_on=trained_on,
        predictions=predictions,
        analysis=analysis,
        strips=read_filmstrips(directory, split, [worst.place for worst in analysis.worst]),
    )


def evaluate_run(
    run: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    split: str | None = None,
    batch_size: int = 16,
) -> Evaluation:
    """Scores the model of a run folder on a dataset made to the same spec.

    Args:
        run: a folder that training left.
        directory: of the dataset.
        split: by default the first of ``test``, ``validation`` and ``train`` that has records.
        batch_size: sequences predicted at a time.

    Raises:
        TrainerError: when ``run`` is no run folder, or its model was made to another spec: naming each
            difference.
        DatasetInfoError, DatasetError, CorruptRecordError: when the split cannot be read.
    """
    folder, trained_on = open_run(run)
    info = DatasetInfo.load(directory)
    check_compatible(run, trained_on, info)
    return evaluate_model(
        load_model(folder.model),
        directory,
        split or default_split(info),
        trained_on=trained_on,
        batch_size=batch_size,
    )


def scores_to_json(scores: Sequence[Score]) -> dict[str, Any]:
    """By split, what `Score.to_json` gives, and how the intervals were made."""
    return {
        "intervals": {
            "method": "percentile bootstrap over groups",
            "level": LEVEL,
            "resamples": RESAMPLES,
            "seed": SEED,
        },
        "splits": {score.split: score.to_json() for score in scores},
    }
