"""Breaks a model's predictions down by class, source and range, for the report and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import LabelSpec
from trainer.evaluation.baseline import baseline_answers
from trainer.evaluation.breakdown import (
    ClassRow,
    RangeRow,
    SourceRow,
    class_rows,
    confusion_matrix,
    range_rows,
    sequence_losses,
    source_rows,
    worst_sequences,
)
from trainer.evaluation.metrics import NO_CLASS, decide
from trainer.evaluation.predictions import Predictions

Array = npt.NDArray[Any]

_WORST_SEQUENCES = 12
_WORST_BY_SOURCE = 3
# Sources in metrics.json, the worst first: a split may have a hundred thousand.
_MAX_SOURCES = 1000


@dataclass(frozen=True, kw_only=True)
class WorstSequence:
    """A sequence that was predicted badly.

    Attributes:
        place: index in stored order.
        id, source, group: from its record.
        start, end: of its frames that are not padding, in seconds of the source.
        loss: see `trainer.evaluation.breakdown.sequence_losses`.
        true, predicted: the name of a class; a list of names in a multi-label task or by frame; in a
            regression a dict from target to value, or to a list of values by frame. None stands for a class
            of predictions that are not finite.
    """

    place: int
    id: str
    source: str
    group: str
    start: float
    end: float
    loss: float
    true: Any
    predicted: Any


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The errors of a model on a split, broken down.

    Attributes:
        sequences: number of sequences.
        bad_predictions, bad_labels: numbers of labels whose predictions, or which themselves, are not finite.
        classes: the model's and the baseline's row of each class, in label order; empty for a regression.
        confusion: ``[classes, classes + 1]``, see `confusion_matrix`; None unless a classification.
        sources: the worst first.
        ranges: by target; empty without targets.
        worst: the worst sequence first.
    """

    sequences: int
    bad_predictions: int
    bad_labels: int
    classes: tuple[tuple[ClassRow, ClassRow], ...]
    confusion: Array | None
    sources: tuple[SourceRow, ...]
    ranges: dict[str, tuple[RangeRow, ...]]
    worst: tuple[WorstSequence, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON types; classes by name, without average precisions where there are none."""
        fields: dict[str, Any] = {
            "sequences": self.sequences,
            "not_numbers": {"predictions": self.bad_predictions, "labels": self.bad_labels},
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


def _fields(row: Any, *, leave_out: tuple[str, ...]) -> dict[str, Any]:
    """Returns the fields of a dataclass; average precision only if there is one."""
    return {
        name: value
        for name, value in vars(row).items()
        if name not in leave_out and (name != "average_precision" or value is not None)
    }


def analyse(predictions: Predictions, trained_on: DatasetInfo) -> Analysis:
    """Breaks ``predictions`` down; ``trained_on`` provides the baseline and the scale of errors."""
    label, truth, answers = trained_on.spec.label, predictions.truth, predictions.answers
    guesses = baseline_answers(trained_on, len(truth))
    rows = (class_rows(label, truth, values) for values in (answers, guesses))
    is_classification = label.task == "classification"
    return Analysis(
        sequences=len(predictions.values),
        bad_predictions=_count_not_finite(answers),
        bad_labels=_count_not_finite(truth),
        classes=tuple(zip(*rows, strict=True)),
        confusion=confusion_matrix(label.num_classes, truth, answers)
        if is_classification
        else None,
        sources=tuple(source_rows(label, predictions, guesses)),
        ranges={
            target: tuple(range_rows(truth[:, i], answers[:, i], float(guesses[0, i])))
            for i, target in enumerate(label.target_names)
        },
        worst=_worst(predictions, trained_on),
    )


def _worst(predictions: Predictions, trained_on: DatasetInfo) -> tuple[WorstSequence, ...]:
    label, labels = trained_on.spec.label, predictions.labels
    scales = np.array([target.std for target in trained_on.splits["train"].targets])
    losses = sequence_losses(label, predictions, scales)
    found = []
    for place in worst_sequences(
        losses, predictions.sources, count=_WORST_SEQUENCES, by_source=_WORST_BY_SOURCE
    ):
        times = predictions.timestamps[place][: max(1, predictions.valid_frames[place])] / 1e6
        own = labels.valid[place] if label.per_frame else ...
        found.append(
            WorstSequence(
                place=place,
                id=predictions.ids[place],
                source=predictions.sources[place],
                group=predictions.groups[place],
                start=float(times[0]),
                end=float(times[-1]),
                loss=float(losses[place]),
                true=_in_words(label, labels.values[place][own]),
                predicted=_in_words(label, decide(label, predictions.values[place][own])),
            )
        )
    return tuple(found)


def _in_words(label: LabelSpec, answers: Array) -> Any:
    """Returns the labels of one sequence, or a model's answers for them, as `WorstSequence` holds them."""
    if label.task == "regression":
        return {target: answers[..., i].tolist() for i, target in enumerate(label.target_names)}
    if label.task == "multilabel":
        names = [label.class_names[c] for c in np.flatnonzero(answers)]
        return None if NO_CLASS in answers else names
    names = [label.class_names[c] if c != NO_CLASS else None for c in np.atleast_1d(answers)]
    return names if label.per_frame else names[0]


def _count_not_finite(values: Array) -> int:
    """Returns how many of ``[M, ...]`` hold a value that is not finite."""
    return int(np.count_nonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)))
