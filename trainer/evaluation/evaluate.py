"""Evaluates a model on a split: metrics beside the baseline's, and an analysis of its errors."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from tfrecords_schema.info import DatasetInfo
from trainer.config.dataset import check_compatible, default_split, shard_paths
from trainer.config.reading import WHOLE, Reading, ReadingConfig
from trainer.config.run_folder import open_run, reading_of
from trainer.data.corrupt import SkippedRecords
from trainer.evaluation.analysis import Analysis, analyse
from trainer.evaluation.bootstrap import FEW_GROUPS, LEVEL, MIN_GROUPS, RESAMPLES, SEED
from trainer.evaluation.filmstrips import Filmstrip, read_filmstrips
from trainer.evaluation.predictions import Predictions, predict_split
from trainer.evaluation.score import Score, explain_no_intervals, score
from trainer.models.export import load_model

_SEEN = {
    "train": "the model was trained on this split",
    "validation": "the best epoch was chosen by this split",
}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """A `Score` with the predictions and the analysis behind it.

    Attributes:
        info: the dataset that was evaluated on.
        trained_on: the dataset whose train split gives the baseline.
        predictions: for every sequence.
        analysis: of their errors.
        strips: frames and signals of the worst sequences, by index; none if records were skipped.
        skipped: number of corrupt records that were skipped.
    """

    info: DatasetInfo
    trained_on: DatasetInfo
    predictions: Predictions
    analysis: Analysis
    strips: dict[int, Filmstrip]
    skipped: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns `Score.to_json` with the analysis, without frames and predictions."""
        return {
            **super().to_json(),
            "warnings": self.warnings(),
            "skipped": self.skipped,
            **self.analysis.to_json(),
        }

    def warnings(self) -> list[str]:
        """Returns reasons to distrust the metrics."""
        found = []
        # Descriptions of shards hold checksums, so equal ones hold equal records.
        if self.split in _SEEN and self.info.splits == self.trained_on.splits:
            found.append(f"{_SEEN[self.split]}: expect worse of new footage")
        bad = {"predictions": self.analysis.bad_predictions, "labels": self.analysis.bad_labels}
        for what, count in bad.items():
            if count:
                found.append(
                    f"{count:,} of {self.labels:,} {what} are not finite numbers: they are never right, and "
                    "errors computed from them are not finite either"
                )
        if self.skipped:
            found.append(f"{self.skipped:,} corrupt records were skipped: metrics.json lists them")
        if self.groups < MIN_GROUPS:
            found.append(explain_no_intervals(self.groups))
        elif self.groups < FEW_GROUPS:
            found.append(
                f"intervals over only {self.groups} groups are too narrow: trust them from {FEW_GROUPS} "
                "groups on"
            )
        return found


def evaluate_model(
    model: keras.Model,
    directory: str | os.PathLike[str],
    split: str,
    *,
    trained_on: DatasetInfo,
    batch_size: int,
    reading: Reading = WHOLE,
    skipped: SkippedRecords | None = None,
) -> Evaluation:
    """Scores ``model`` on a split of the dataset in ``directory``, whose spec is that of ``trained_on``.

    Reads the split batch by batch, then the frames of the worst sequences. Corrupt records are skipped and
    counted in ``skipped``; None stops at the first.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: if the split cannot be read.
    """
    info = DatasetInfo.load(directory)
    predictions = predict_split(
        model, directory, split, batch_size=batch_size, reading=reading, skipped=skipped
    )
    num_skipped = 0
    if skipped is not None:
        own = set(shard_paths(directory, info, split))
        num_skipped = sum(file in own for file, _ in skipped.places)
    analysis = analyse(predictions, trained_on)
    return Evaluation(
        **vars(score(split, predictions, trained_on)),
        info=info,
        trained_on=trained_on,
        predictions=predictions,
        analysis=analysis,
        # After skipping, indices of predictions are not those of stored records.
        strips={}
        if num_skipped
        else read_filmstrips(directory, split, [worst.place for worst in analysis.worst]),
        skipped=num_skipped,
    )


def evaluate_run(
    run: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    split: str | None = None,
    batch_size: int = 16,
    reading: ReadingConfig | None = None,
) -> Evaluation:
    """Scores the model of a run folder on a dataset made to the same spec.

    Args:
        run: folder of a training.
        directory: of the dataset.
        split: by default the first of ``test``, ``validation`` and ``train`` that has records.
        batch_size: clips predicted at a time.
        reading: replaces the reading options of the run.

    Raises:
        TrainerError: if ``run`` is no run folder, or its model has another spec; names each difference.
        DatasetInfoError, DatasetError, CorruptRecordError: if the split cannot be read.
    """
    folder, trained_on = open_run(run)
    info = DatasetInfo.load(directory)
    check_compatible(run, trained_on, info)
    reading = reading or reading_of(folder)
    return evaluate_model(
        load_model(folder.model),
        directory,
        split or default_split(info),
        trained_on=trained_on,
        batch_size=batch_size,
        # By the training set, which says which frame a label belongs to.
        reading=reading.evaluation(trained_on),
        skipped=SkippedRecords() if reading.ignore_errors else None,
    )


def scores_to_json(scores: Sequence[Score]) -> dict[str, Any]:
    """Returns `Score.to_json` by split, null where values are not finite, and the method of the intervals."""
    method = {
        "method": "percentile bootstrap over groups",
        "level": LEVEL,
        "resamples": RESAMPLES,
        "seed": SEED,
    }
    splits = {score.split: _null_if_not_finite(score.to_json()) for score in scores}
    return {"intervals": method, "splits": splits}


def _null_if_not_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _null_if_not_finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_null_if_not_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
