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
    label_errors,
    range_rows,
    sequence_losses,
    source_rows,
    worst_sequences,
)
from trainer.evaluation.metrics import chosen_classes, present_classes
from trainer.evaluation.predictions import Predictions, index_names
from trainer.evaluation.score import null_if_not_finite

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
            regression a dict from target to value, or to a list of values by frame. None stands for values
            that are not finite.
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
        classes, baseline_classes: by class, in label order; empty for a regression.
        confusion: ``[classes, classes + 1]``, see `confusion_matrix`; None unless a classification.
        sources: the worst first.
        ranges: by target; empty without targets.
        worst: the worst sequence first.
    """

    sequences: int
    bad_predictions: int
    bad_labels: int
    classes: tuple[ClassRow, ...]
    baseline_classes: tuple[ClassRow, ...]
    confusion: Array | None
    sources: tuple[SourceRow, ...]
    ranges: dict[str, tuple[RangeRow, ...]]
    worst: tuple[WorstSequence, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON types, with null for values that are not finite."""
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
                for row, baseline in zip(self.classes, self.baseline_classes, strict=True)
            }
        if self.confusion is not None:
            names = [row.name for row in self.classes]
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
        return null_if_not_finite(fields)


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
    origins = predictions.origins
    sources, places = index_names(origins.sources)
    groups = dict(zip(origins.sources, origins.groups, strict=True))
    is_classification = label.task == "classification"
    return Analysis(
        sequences=len(predictions.values),
        bad_predictions=_count_not_finite(answers),
        bad_labels=_count_not_finite(truth) if truth.dtype.kind == "f" else 0,
        classes=tuple(class_rows(label, truth, answers)),
        baseline_classes=tuple(class_rows(label, truth, guesses)),
        confusion=confusion_matrix(label.num_classes, truth, answers)
        if is_classification
        else None,
        sources=tuple(
            source_rows(
                sources,
                [groups[source] for source in sources],
                predictions.by_label(places),
                label_errors(label, truth, answers),
                label_errors(label, truth, guesses),
                higher_is_better=label.num_classes > 0,
            )
        ),
        ranges={
            target: tuple(range_rows(truth[:, i], answers[:, i], float(guesses[0, i])))
            for i, target in enumerate(label.target_names)
        },
        worst=_worst(predictions, trained_on),
    )


def _worst(predictions: Predictions, trained_on: DatasetInfo) -> tuple[WorstSequence, ...]:
    label, labels, origins = trained_on.spec.label, predictions.labels, predictions.origins
    scales = np.array([target.std for target in trained_on.splits["train"].targets])
    losses = sequence_losses(label, labels.values, predictions.values, labels.valid, scales)
    found = []
    for place in worst_sequences(
        losses, origins.sources, count=_WORST_SEQUENCES, by_source=_WORST_BY_SOURCE
    ):
        times = origins.timestamps[place][: max(1, origins.valid_frames[place])] / 1e6
        truth, values = labels.values[place], predictions.values[place]
        if label.per_frame:
            truth, values = truth[labels.valid[place]], values[labels.valid[place]]
        found.append(
            WorstSequence(
                place=place,
                id=origins.ids[place],
                source=origins.sources[place],
                group=origins.groups[place],
                start=float(times[0]),
                end=float(times[-1]),
                loss=float(losses[place]),
                true=_truth_in_words(label, truth),
                predicted=_answer_in_words(label, values),
            )
        )
    return tuple(found)


def _truth_in_words(label: LabelSpec, truth: Array) -> Any:
    """Returns ``truth`` of one sequence as `WorstSequence` holds it."""
    if label.task == "regression":
        return _targets_by_name(label, truth)
    if label.task == "multilabel":
        return [label.class_names[c] for c in np.flatnonzero(truth > 0.5)]
    return [label.class_names[c] for c in truth] if label.per_frame else label.class_names[truth]


def _answer_in_words(label: LabelSpec, values: Array) -> Any:
    """Returns a model's ``values`` for one sequence as `WorstSequence` holds them."""
    if label.task == "regression":
        return _targets_by_name(label, values)
    if label.task == "multilabel":
        present = present_classes(values)
        if present.min() < 0:
            return None
        return [label.class_names[c] for c in np.flatnonzero(present == 1)]
    chosen = np.atleast_1d(chosen_classes(values))
    names = [label.class_names[c] if c >= 0 else None for c in chosen]
    return names if label.per_frame else names[0]


def _targets_by_name(label: LabelSpec, values: Array) -> dict[str, Any]:
    names = enumerate(label.target_names)
    return null_if_not_finite({target: values[..., i].tolist() for i, target in names})


def _count_not_finite(values: Array) -> int:
    """Returns how many of ``[M, ...]`` hold a value that is not finite."""
    return int(np.count_nonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)))
