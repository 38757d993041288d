"""Computes a model's errors by class, source and range of the target, and finds its worst sequences.

Each value has the baseline's beside it, and is NaN if it is computed from a prediction that is not finite.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.report.charts import round_step
from tfrecords_schema.spec import LabelSpec
from trainer.evaluation.metrics import (
    MIN_PROBABILITY,
    NO_CLASS,
    THRESHOLD,
    Thresholds,
    chosen_classes,
    cross_entropies,
    decide,
    ranking_areas,
)
from trainer.evaluation.predictions import Predictions

Array = npt.NDArray[Any]

# Approximate number of ranges of a target.
_RANGES = 8
_WORST_SEQUENCES = 12
_WORST_BY_SOURCE = 3
_BEST_SEQUENCES = 4


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """Precision and recall of one class; NaN if there is nothing to divide by.

    Attributes:
        name: of the class.
        support: number of its labels.
        precision: share of its answers that are right.
        recall: share of its labels that are found.
        average_precision, auc: areas under precision over recall and under the ROC curve; see
            `trainer.evaluation.metrics.ranking_areas`.
    """

    name: str
    support: int
    precision: float
    recall: float
    average_precision: float = math.nan
    auc: float = math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if a class with labels is never answered."""
        if not self.support:
            return math.nan
        if not self.recall:
            return 0.0
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def class_rows(
    label: LabelSpec, truth: Array, predictions: Array, thresholds: Thresholds = THRESHOLD
) -> list[ClassRow]:
    """Returns a row per class, in label order; takes the same as `trainer.evaluation.metrics.measure`."""
    multilabel, answers, rows = (
        label.task == "multilabel",
        decide(label, predictions, thresholds),
        [],
    )
    together, once = np.zeros(len(truth), np.int64), np.ones((1, 1))
    for place, name in enumerate(label.class_names):
        true, answered = truth == place, answers == place
        if multilabel:
            true, answered = truth[:, place] == 1, answers[:, place] == 1
        both, support, said = (
            int(np.count_nonzero(held)) for held in (true & answered, true, answered)
        )
        areas = [math.nan, math.nan]
        if support:
            with np.errstate(invalid="ignore"):  # a class of all labels has no ROC curve
                found = ranking_areas(true, predictions[:, place], together, once)
            areas = [float(area[0]) for area in found]
        rows.append(
            ClassRow(
                name=name,
                support=support,
                precision=both / said if said else math.nan,
                recall=both / support if support else math.nan,
                average_precision=areas[0],
                auc=areas[1],
            )
        )
    return rows


def confusion_matrix(classes: int, truth: Array, predictions: Array) -> Array:
    """Returns ``[classes, classes + 1]`` int64: counts by true class (row) and predicted class (column).

    The last column counts predictions that are not finite.
    """
    answers = chosen_classes(predictions)
    columns = np.where(answers == NO_CLASS, classes, answers)
    counts = np.bincount(truth * (classes + 1) + columns, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def label_errors(
    label: LabelSpec, truth: Array, predictions: Array, thresholds: Thresholds = THRESHOLD
) -> dict[str, Array]:
    """Returns by name, ``[M]`` float64 each, values whose mean over some labels is a metric of them.

    They are ``accuracy`` (``binary_accuracy`` in a multi-label task), or for each target its ``mae`` and its
    ``bias``, the mean of prediction minus truth.
    """
    if label.task == "regression":
        errors = predictions - truth
        return {
            f"{target}_{name}": values
            for i, target in enumerate(label.target_names)
            for name, values in (("mae", np.abs(errors[:, i])), ("bias", errors[:, i]))
        }
    right = decide(label, predictions, thresholds) == truth
    if label.task == "multilabel":
        return {"binary_accuracy": right.mean(axis=1)}
    return {"accuracy": right.astype(np.float64)}


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """Metrics of one source.

    Attributes:
        source: its name.
        group: its group.
        labels: number of its labels.
        model, baseline: means of `label_errors` by name.
    """

    source: str
    group: str
    labels: int
    model: dict[str, float]
    baseline: dict[str, float]


def source_rows(label: LabelSpec, predictions: Predictions, guesses: Array) -> list[SourceRow]:
    """Returns a row per source that has labels, sorted by the first metric, the worst first.

    NaN is worse than any value. ``guesses`` are the baseline's answers, like ``predictions.answers``.
    """
    sources, places = np.unique(np.array(predictions.sources, object), return_inverse=True)
    groups = dict(zip(predictions.sources, predictions.groups, strict=True))
    places = predictions.by_label(places)
    counts = np.bincount(places, minlength=len(sources))

    def means(answers: Array, thresholds: Thresholds = THRESHOLD) -> dict[str, Array]:
        errors = label_errors(label, predictions.truth, answers, thresholds)
        sums = {name: np.bincount(places, v, len(sources)) for name, v in errors.items()}
        return {name: values / np.maximum(counts, 1) for name, values in sums.items()}

    model, baseline = means(predictions.answers, predictions.thresholds), means(guesses)
    key = next(iter(model.values())) * (-1 if label.task == "regression" else 1)
    order = np.argsort(np.where(np.isfinite(key), key, -np.inf), kind="stable")
    return [
        SourceRow(
            source=sources[i],
            group=groups[sources[i]],
            labels=int(counts[i]),
            model={name: float(values[i]) for name, values in model.items()},
            baseline={name: float(values[i]) for name, values in baseline.items()},
        )
        for i in order
        if counts[i]
    ]


@dataclass(frozen=True, kw_only=True)
class RangeRow:
    """Errors for true targets in ``[low, high)``, in the target's unit; the last range includes ``high``."""

    low: float
    high: float
    labels: int
    mae: float
    bias: float
    baseline_mae: float


def range_rows(truth: Array, predictions: Array, baseline: float) -> list[RangeRow]:
    """Returns a row for each range of one target, ``[M]`` each, that has labels.

    Ranges are equally wide and end at round numbers, except for the first and last, which extend to the
    extremes of ``truth``.
    """
    finite = np.isfinite(truth)
    truth, errors = truth[finite].astype(np.float64), (predictions - truth)[finite]
    if not len(truth):
        return []
    edges = range_edges(truth)
    places = np.clip(np.searchsorted(edges, truth, side="right") - 1, 0, len(edges) - 2)
    rows = []
    for place in np.unique(places):
        held = places == place
        rows.append(
            RangeRow(
                low=float(edges[place]),
                high=float(edges[place + 1]),
                labels=int(np.count_nonzero(held)),
                mae=float(np.abs(errors[held]).mean()),
                bias=float(errors[held].mean()),
                baseline_mae=float(np.abs(baseline - truth[held]).mean()),
            )
        )
    return rows


def range_edges(values: Array) -> Array:
    """Returns at least two edges of ranges, from the minimum of ``values`` to their maximum."""
    # Quantiles, since a few outliers must not leave one range for all other values.
    low, high = np.quantile(values, (0.01, 0.99))
    lowest, highest = float(values.min()), float(values.max())
    if not low < high:
        return np.array([lowest, highest])
    step = round_step((high - low) / _RANGES)
    inner = step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)
    return np.concatenate([[lowest], inner[(inner > lowest) & (inner < highest)], [highest]])


def sequence_losses(label: LabelSpec, predictions: Predictions, scales: Array) -> Array:
    """Returns the loss of each of N sequences, ``[N]`` float64: the mean over its labels that are valid.

    Classes have their cross-entropy; targets their absolute error in ``scales``, the standard deviations of
    the train split. The loss is infinite if a prediction is not finite, and NaN if no label is valid.
    """
    truth, answers, valid = predictions.truth, predictions.answers, predictions.labels.valid
    if label.task == "regression":
        losses = (np.abs(answers - truth) / np.where(scales > 0, scales, 1)).mean(axis=1)
    elif label.task == "multilabel":
        likelihood = np.where(truth == 1, answers, 1 - answers)
        losses = -np.log(np.maximum(likelihood, MIN_PROBABILITY)).mean(axis=1)
    else:
        losses = cross_entropies(truth, answers)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    where = np.nonzero(valid)[0]
    with np.errstate(invalid="ignore"):
        return np.bincount(where, losses, len(valid)) / np.bincount(where, minlength=len(valid))


def worst_sequences(
    losses: Array, sources: Sequence[str], *, count: int, by_source: int
) -> list[int]:
    """Returns the indices of the ``count`` sequences with the highest losses, the worst first.

    No more than ``by_source`` of one source are taken, since its sequences err alike. If that leaves too few,
    others follow them.
    """
    order = [i for i in np.argsort(-losses, kind="stable").tolist() if not math.isnan(losses[i])]
    seen: Counter[str] = Counter()
    is_surplus = {}
    for place in order:
        seen[sources[place]] += 1
        is_surplus[place] = seen[sources[place]] > by_source
    return sorted(order, key=is_surplus.__getitem__)[:count]


@dataclass(frozen=True, kw_only=True)
class RankedSequence:
    """A sequence among the worst or the best predicted ones.

    Attributes:
        place: index in stored order.
        id, source, group: from its record.
        start, end: of its frames that are not padding, in seconds of the source.
        loss: see `sequence_losses`.
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


def ranked_rows(
    predictions: Predictions, trained_on: DatasetInfo, *, best: bool = False
) -> list[RankedSequence]:
    """Returns the worst sequences, the worst first, or the best ones; ``trained_on`` gives the scale."""
    label, labels = trained_on.spec.label, predictions.labels
    scales = np.array([target.std for target in trained_on.splits["train"].targets])
    losses = sequence_losses(label, predictions, scales)
    found = []
    count, by_source = (_BEST_SEQUENCES, 1) if best else (_WORST_SEQUENCES, _WORST_BY_SOURCE)
    ranks = -losses if best else losses
    for place in worst_sequences(ranks, predictions.sources, count=count, by_source=by_source):
        times = predictions.timestamps[place][: max(1, predictions.valid_frames[place])] / 1e6
        own = labels.valid[place] if label.per_frame else ...
        found.append(
            RankedSequence(
                place=place,
                id=predictions.ids[place],
                source=predictions.sources[place],
                group=predictions.groups[place],
                start=float(times[0]),
                end=float(times[-1]),
                loss=float(losses[place]),
                true=_in_words(label, labels.values[place][own]),
                predicted=_in_words(
                    label, decide(label, predictions.values[place][own], predictions.thresholds)
                ),
            )
        )
    return found


def _in_words(label: LabelSpec, answers: Array) -> Any:
    """Returns the labels of one sequence, or a model's answers for them, as `RankedSequence` holds them."""
    if label.task == "regression":
        return {target: answers[..., i].tolist() for i, target in enumerate(label.target_names)}
    if label.task == "multilabel":
        names = [label.class_names[c] for c in np.flatnonzero(answers)]
        return None if NO_CLASS in answers else names
    names = [label.class_names[c] if c != NO_CLASS else None for c in np.atleast_1d(answers)]
    return names if label.per_frame else names[0]
