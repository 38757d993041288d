"""Evaluates a model on a split: metrics beside the baseline's, and a breakdown of its errors."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo
from trainer.config.dataset import (
    Datasets,
    check_compatible,
    default_split,
    load_dataset,
    shard_paths,
)
from trainer.config.reading import WHOLE, Reading, ReadingConfig
from trainer.config.run_folder import open_run, reading_of
from trainer.data.corrupt import SkippedRecords
from trainer.evaluation.baseline import baseline_answers
from trainer.evaluation.bootstrap import FEW_GROUPS, LEVEL, MIN_GROUPS, RESAMPLES, SEED
from trainer.evaluation.breakdown import (
    ClassRow,
    RangeRow,
    RankedSequence,
    SourceRow,
    class_rows,
    confusion_matrix,
    range_rows,
    ranked_rows,
    source_rows,
)
from trainer.evaluation.grad_cam import grad_cam_of
from trainer.evaluation.predictions import Predictions, predict_split
from trainer.evaluation.score import Score, explain_no_intervals, score
from trainer.evaluation.sequence_strips import Filmstrip, read_filmstrips
from trainer.models.export import load_calibrated

_SEEN = {
    "train": "the model was trained on this split",
    "validation": "training may have chosen by this split",
}


# Sources in metrics.json, the worst first: a split may have a hundred thousand.
_MAX_SOURCES = 1000


@dataclass(frozen=True, kw_only=True)
class Evaluation(Score):
    """A `Score` with the predictions behind it, and a breakdown of their errors.

    Attributes:
        info: the dataset that was evaluated on.
        trained_on: the dataset whose train split gives the baseline.
        predictions: for every sequence.
        classes: the model's and the baseline's row of each class, in label order; empty for a regression.
        confusion: ``[classes, classes + 1]``, see `confusion_matrix`; None unless a classification.
        sources: the worst first.
        ranges: by target; empty without targets.
        worst, best: the worst sequence first, and the best one.
        strips: frames and signals of these sequences, by index; none if records were skipped.
        skipped: number of corrupt records that were skipped.
    """

    info: DatasetInfo
    trained_on: DatasetInfo
    predictions: Predictions
    classes: list[tuple[ClassRow, ClassRow]]
    confusion: npt.NDArray[np.int64] | None
    sources: list[SourceRow]
    ranges: dict[str, list[RangeRow]]
    worst: list[RankedSequence]
    best: list[RankedSequence]
    strips: dict[int, Filmstrip]
    skipped: int

    @property
    def not_finite(self) -> int:
        """Number of predictions that are not finite; the reader refuses such labels."""
        answers = self.predictions.answers
        return int(np.count_nonzero(~np.isfinite(answers).reshape(len(answers), -1).all(axis=1)))

    def to_json(self) -> dict[str, Any]:
        """Returns `Score.to_json` with the breakdown, without frames and predictions."""
        fields = {
            **super().to_json(),
            "warnings": self.warnings(),
            "skipped": self.skipped,
            "sequences": len(self.predictions.values),
            "not_finite": self.not_finite,
        }
        if self.classes:
            fields["classes"] = {
                row.name: {
                    **_fields(row, leave_out=("name",)),
                    "f1": row.f1,
                    "baseline": {"precision": baseline.precision, "recall": baseline.recall},
                }
                for row, baseline in self.classes
            }
        if self.confusion is not None:
            names = [row.name for row, _ in self.classes]
            fields["confusion"] = {  # classes that were never answered are left out
                name: {names[c]: int(counts[c]) for c in np.flatnonzero(counts[:-1])}
                for name, counts in zip(names, self.confusion, strict=True)
            }
        if self.ranges:
            fields["ranges"] = {
                target: [
                    {"from": row.low, "to": row.high, **_fields(row, leave_out=("low", "high"))}
                    for row in rows
                ]
                for target, rows in self.ranges.items()
            }
        fields["num_sources"] = len(self.sources)
        fields["sources"] = [
            _fields(row, leave_out=("model", "baseline"))
            | {name: {"model": v, "baseline": row.baseline[name]} for name, v in row.model.items()}
            for row in self.sources[:_MAX_SOURCES]
        ]
        fields["worst"] = [_fields(sequence, leave_out=("place",)) for sequence in self.worst]
        return fields

    def warnings(self) -> list[str]:
        """Returns reasons to distrust the metrics."""
        found = []
        # Descriptions of shards hold checksums, so equal ones hold equal records.
        if self.split in _SEEN and self.info.splits == self.trained_on.splits:
            found.append(f"{_SEEN[self.split]}: expect worse of new footage")
        if count := self.not_finite:
            found.append(
                f"{count:,} of {self.labels:,} predictions are not finite numbers: they are never right, and "
                "errors computed from them are not finite either"
            )
        if self.skipped:
            found.append(f"{self.skipped:,} corrupt records were skipped: metrics.json lists them")
        if self.groups < MIN_GROUPS:
            found.append(explain_no_intervals(self.groups))
        elif self.groups < FEW_GROUPS:
            found.append(
                f"intervals over only {self.groups} groups are rough: trust them from {FEW_GROUPS} groups on"
            )
        return found


def evaluate_model(
    model: keras.Model,
    directory: Datasets,
    split: str,
    *,
    trained_on: DatasetInfo,
    batch_size: int,
    reading: Reading = WHOLE,
    skipped: SkippedRecords | None = None,
    thresholds: Sequence[float] = (),
) -> Evaluation:
    """Scores ``model`` on a split of the dataset in ``directory``, whose spec is that of ``trained_on``.

    Reads the split batch by batch, then the frames of the worst sequences. ``reading`` says which frames of
    a record the model sees. Corrupt records are skipped and counted in ``skipped``; None stops at the first.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: if the split cannot be read.
    """
    info = load_dataset(directory)
    predictions = predict_split(
        *(model, directory, split),
        batch_size=batch_size,
        reading=reading,
        skipped=skipped,
        thresholds=thresholds,
    )
    num_skipped = 0
    if skipped is not None:
        own = set(shard_paths(directory, info, split))
        num_skipped = sum(file in own for file, _ in skipped.places)
    label, truth, answers = trained_on.spec.label, predictions.truth, predictions.answers
    guesses = baseline_answers(trained_on, len(truth))
    rows = (
        class_rows(label, truth, answers, predictions.thresholds),
        class_rows(label, truth, guesses),
    )
    is_classification = label.task == "classification"
    worst, best = (ranked_rows(predictions, trained_on, best=best) for best in (False, True))
    shown = [sequence.place for sequence in (*worst, *best)]
    return Evaluation(
        **vars(score(split, predictions, trained_on)),
        info=info,
        trained_on=trained_on,
        predictions=predictions,
        classes=list(zip(*rows, strict=True)),
        confusion=confusion_matrix(label.num_classes, truth, answers)
        if is_classification
        else None,
        sources=source_rows(label, predictions, guesses),
        ranges={
            target: range_rows(truth[:, i], answers[:, i], float(guesses[0, i]))
            for i, target in enumerate(label.target_names)
        },
        worst=worst,
        best=best,
        # After skipping, indices of predictions are not those of stored records.
        strips={}
        if num_skipped
        else read_filmstrips(
            *(directory, split, shown),
            grad_cam=grad_cam_of(model, reading.seen(info).spec),
            reading=reading,
        ),
        skipped=num_skipped,
    )


def evaluate_run(
    run: str | os.PathLike[str],
    directory: Datasets,
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
    info = load_dataset(directory)
    check_compatible(run, trained_on, info)
    reading = reading or reading_of(folder)
    model, calibration = load_calibrated(folder)
    return evaluate_model(
        model,
        directory,
        split or default_split(info),
        trained_on=trained_on,
        batch_size=batch_size,
        # By the training set, which says which frame a label belongs to.
        reading=reading.evaluation(trained_on),
        skipped=SkippedRecords() if reading.ignore_errors else None,
        thresholds=calibration.thresholds,
    )


def scores_to_json(scores: Sequence[Score]) -> dict[str, Any]:
    """Returns `Score.to_json` by split, null where values are not finite, and the method of the intervals."""
    method = {
        "method": "percentile bootstrap over groups, expanded for few; Wilson where all groups agree",
        "level": LEVEL,
        "resamples": RESAMPLES,
        "seed": SEED,
    }
    splits = {score.split: _null_if_not_finite(score.to_json()) for score in scores}
    return {"intervals": method, "splits": splits}


def _fields(row: Any, *, leave_out: tuple[str, ...]) -> dict[str, Any]:
    """Returns the fields of a dataclass."""
    return {name: value for name, value in vars(row).items() if name not in leave_out}


def _null_if_not_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _null_if_not_finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_null_if_not_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
