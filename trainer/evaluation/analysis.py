"""All that is told of a model's predictions beyond its metrics, gathered: for the report, and as JSON."""

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
from trainer.evaluation.metrics import chosen_classes, decided
from trainer.evaluation.predictions import Predictions, numbered
from trainer.evaluation.score import finite

Array = npt.NDArray[Any]

_WORST = 12
_WORST_BY_SOURCE = 3
# Sources in metrics.json, the worst first: a split may have a hundred thousand.
_MOST_SOURCES = 1000


@dataclass(frozen=True, kw_only=True)
class WorstSequence:
    """A sequence that was predicted badly.

    Attributes:
        place: in stored order, from 0.
        id, source, group: as its record says.
        start, end: of its frames that are not padding, in seconds of the source.
        loss: see `trainer.evaluation.breakdown.sequence_losses`.
        true, predicted: the name of a class, or a list of names (of a multi-label task, or by frame); of a
            regression a dict from target to value, or to a list of them by frame. None is not a number.
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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "id": self.id,
            "source": self.source,
            "group": self.group,
            "start": self.start,
            "end": self.end,
            "loss": finite(self.loss),
            "true": self.true,
            "predicted": self.predicted,
        }


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Where a model errs on a split.

    Attributes:
        sequences: how many there are.
        bad_predictions, bad_labels: how many of the labels that count were predicted as, or are, no
            numbers.
        classes, baseline_classes: by class, in label order; empty for a regression.
        confusion: ``[classes, classes + 1]``, see `confusion_matrix`; None for other tasks than
            classification.
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
        """Plain JSON types; what is not a number is null."""
        fields: dict[str, Any] = {
            "sequences": self.sequences,
            "not_numbers": {"predictions": self.bad_predictions, "labels": self.bad_labels},
        }
        if self.classes:
            pairs = zip(self.classes, self.baseline_classes, strict=True)
            fields["classes"] = {row.name: _class_to_json(row, other) for row, other in pairs}
        if self.confusion is not None:
            fields["confusion"] = _confusion_to_json([c.name for c in self.classes], self.confusion)
        if self.ranges:
            fields["ranges"] = {
                target: [_range_to_json(row) for row in rows]
                for target, rows in self.ranges.items()
            }
        fields["num_sources"] = len(self.sources)
        fields["sources"] = [_source_to_json(row) for row in self.sources[:_MOST_SOURCES]]
        fields["worst"] = [sequence.to_json() for sequence in self.worst]
        return fields


def analyse(predictions: Predictions, trained_on: DatasetInfo) -> Analysis:
    """Breaks ``predictions`` down; ``trained_on`` gives the baseline and the scale of errors."""
    label, truth, answers = trained_on.spec.label, predictions.truth, predictions.answers
    guesses = baseline_answers(trained_on, len(truth))
    has_classes = label.num_classes > 0
    origins = predictions.origins
    sources, places = numbered(origins.sources)
    groups = dict(zip(origins.sources, origins.groups, strict=True))
    return Analysis(
        sequences=len(predictions.values),
        bad_predictions=_count_bad(answers),
        bad_labels=_count_bad(truth) if truth.dtype.kind == "f" else 0,
        classes=tuple(class_rows(label, truth, answers)),
        baseline_classes=tuple(class_rows(label, truth, guesses)),
        confusion=(
            confusion_matrix(label.num_classes, truth, answers)
            if label.task == "classification"
            else None
        ),
        sources=tuple(
            source_rows(
                sources,
                [groups[source] for source in sources],
                predictions.by_label(places),
                label_errors(label, truth, answers),
                label_errors(label, truth, guesses),
                higher_is_better=has_classes,
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
    places = worst_sequences(losses, origins.sources, count=_WORST, by_source=_WORST_BY_SOURCE)
    found = []
    for place in places:
        times = origins.timestamps[place][: max(1, origins.valid_frames[place])] / 1e6
        rows = labels.valid[place] if label.per_frame else slice(None)
        truth, values = labels.values[place], predictions.values[place]
        found.append(
            WorstSequence(
                place=place,
                id=origins.ids[place],
                source=origins.sources[place],
                group=origins.groups[place],
                start=float(times[0]),
                end=float(times[-1]),
                loss=float(losses[place]),
                true=_truth_to_json(label, truth[rows] if label.per_frame else truth),
                predicted=_answer_to_json(label, values[rows] if label.per_frame else values),
            )
        )
    return tuple(found)


def _truth_to_json(label: LabelSpec, truth: Array) -> Any:
    """``truth`` of one sequence as `WorstSequence` holds it."""
    if label.task == "regression":
        return _targets_to_json(label, truth)
    if label.task == "multilabel":
        return [label.class_names[c] for c in np.flatnonzero(truth > 0.5)]
    return [label.class_names[c] for c in truth] if label.per_frame else label.class_names[truth]


def _answer_to_json(label: LabelSpec, values: Array) -> Any:
    """A model's ``values`` for one sequence as `WorstSequence` holds them."""
    if label.task == "regression":
        return _targets_to_json(label, values)
    if label.task == "multilabel":
        said = decided(values)
        return (
            [label.class_names[c] for c in np.flatnonzero(said == 1)] if said.min() >= 0 else None
        )
    names = [
        label.class_names[c] if c >= 0 else None for c in np.atleast_1d(chosen_classes(values))
    ]
    return names if label.per_frame else names[0]


def _targets_to_json(label: LabelSpec, values: Array) -> dict[str, Any]:
    return {
        target: [finite(float(v)) for v in values[..., i]]
        if label.per_frame
        else finite(float(values[i]))
        for i, target in enumerate(label.target_names)
    }


def _class_to_json(row: ClassRow, baseline: ClassRow) -> dict[str, Any]:
    fields = {
        "support": row.support,
        "precision": finite(row.precision),
        "recall": finite(row.recall),
        "f1": finite(row.f1),
        "baseline": {"precision": finite(baseline.precision), "recall": finite(baseline.recall)},
    }
    if row.average_precision is not None:
        fields["average_precision"] = finite(row.average_precision)
    return fields


def _confusion_to_json(names: list[str], counts: Array) -> dict[str, Any]:
    """By true class, how often each class was answered; what never was is left out."""
    return {
        name: {names[c]: int(row[c]) for c in np.flatnonzero(row[:-1])}
        for name, row in zip(names, counts, strict=True)
    }


def _range_to_json(row: RangeRow) -> dict[str, Any]:
    return {
        "from": row.low,
        "to": row.high,
        "labels": row.labels,
        "mae": finite(row.mae),
        "bias": finite(row.bias),
        "baseline_mae": finite(row.baseline_mae),
    }


def _source_to_json(row: SourceRow) -> dict[str, Any]:
    return {
        "source": row.source,
        "group": row.group,
        "labels": row.labels,
        **{
            name: {"model": finite(value), "baseline": finite(row.baseline[name])}
            for name, value in row.model.items()
        },
    }


def _count_bad(values: Array) -> int:
    """How many of ``[M, ...]`` hold something that is not finite."""
    return int(np.count_nonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1)))
