"""Where a model errs: by class, by source, by range of the target, and the worst sequences. NumPy only.

Each figure stands beside the baseline's, and is not a number where a prediction it needs is not one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.spec import LabelSpec
from trainer.evaluation.metrics import (
    LEAST_PROBABILITY,
    NO_CLASS,
    average_precision,
    chosen_classes,
    cross_entropies,
    decided,
)

Array = npt.NDArray[Any]

# Ranges of a target, about.
_RANGES = 8


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """How well one class is told. A share of nothing is NaN.

    Attributes:
        name: of the class.
        support: labels that are of it.
        precision: the share of the answers with it that are right.
        recall: the share of its labels that are found.
        average_precision: of a multi-label task; otherwise None.
    """

    name: str
    support: int
    precision: float
    recall: float
    average_precision: float | None = None

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 when a class with labels is never answered."""
        if not self.support:
            return math.nan
        if not self.recall:
            return 0.0
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def class_rows(label: LabelSpec, truth: Array, predictions: Array) -> list[ClassRow]:
    """A row a class, in label order, of what `trainer.evaluation.metrics.measure` takes."""
    multilabel = label.task == "multilabel"
    answers = decided(predictions) if multilabel else chosen_classes(predictions)
    rows = []
    for place, name in enumerate(label.class_names):
        true = truth[:, place] > 0.5 if multilabel else truth == place
        said = answers[:, place] == 1 if multilabel else answers == place
        both = int(np.count_nonzero(true & said))
        area = (
            (average_precision(true, predictions[:, place]) if true.any() else math.nan)
            if multilabel
            else None
        )
        rows.append(
            ClassRow(
                name=name,
                support=int(np.count_nonzero(true)),
                precision=_share(both, int(np.count_nonzero(said))),
                recall=_share(both, int(np.count_nonzero(true))),
                average_precision=area,
            )
        )
    return rows


def confusion_matrix(classes: int, truth: Array, predictions: Array) -> Array:
    """``[classes, classes + 1]`` int64: how often each class (row) was answered with each (column).

    The last column counts predictions that are not numbers.
    """
    answers = chosen_classes(predictions)
    columns = np.where(answers == NO_CLASS, classes, answers)
    counts = np.bincount(truth * (classes + 1) + columns, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def label_errors(label: LabelSpec, truth: Array, predictions: Array) -> dict[str, Array]:
    """What a mean over some of the labels tells of them, by name, ``[M]`` float64 each.

    ``accuracy`` (``binary_accuracy`` for a multi-label task), or for each target its ``mae`` and its
    ``bias``, the mean of prediction minus truth.
    """
    if label.task == "regression":
        errors = predictions - truth
        return {
            f"{target}_{name}": values
            for i, target in enumerate(label.target_names)
            for name, values in (("mae", np.abs(errors[:, i])), ("bias", errors[:, i]))
        }
    if label.task == "multilabel":
        right = decided(predictions) == (truth > 0.5)
        return {"binary_accuracy": right.mean(axis=1)}
    return {"accuracy": (chosen_classes(predictions) == truth).astype(np.float64)}


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """The figures of one source.

    Attributes:
        source: its name.
        group: the one it is in.
        labels: how many it has.
        model, baseline: the means of `label_errors` by name.
    """

    source: str
    group: str
    labels: int
    model: dict[str, float]
    baseline: dict[str, float]


def source_rows(
    sources: Sequence[str],
    groups: Sequence[str],
    places: Array,
    ours: dict[str, Array],
    theirs: dict[str, Array],
    *,
    higher_is_better: bool,
) -> list[SourceRow]:
    """A row a source, the worst by the first figure first; one that is not a number is worse than any.

    Args:
        sources: the names of S sources; those without labels get no row.
        groups: the group of each.
        places: ``[M]`` int64, the source of each label, from 0 to S - 1.
        ours: `label_errors` of the model.
        theirs: `label_errors` of the baseline.
        higher_is_better: what the first figure is.
    """
    counts = np.bincount(places, minlength=len(sources))

    def means(errors: dict[str, Array]) -> dict[str, Array]:
        sums = {name: np.bincount(places, v, len(sources)) for name, v in errors.items()}
        return {name: values / np.maximum(counts, 1) for name, values in sums.items()}

    model, baseline = means(ours), means(theirs)
    key = next(iter(model.values())) * (1 if higher_is_better else -1)
    order = np.argsort(np.where(np.isfinite(key), key, -np.inf), kind="stable")
    return [
        SourceRow(
            source=sources[i],
            group=groups[i],
            labels=int(counts[i]),
            model={name: float(values[i]) for name, values in model.items()},
            baseline={name: float(values[i]) for name, values in baseline.items()},
        )
        for i in order
        if counts[i]
    ]


@dataclass(frozen=True, kw_only=True)
class RangeRow:
    """The errors where the true target lies in ``[low, high)``, in its unit; the last holds its end too."""

    low: float
    high: float
    labels: int
    mae: float
    bias: float
    baseline_mae: float


def range_rows(truth: Array, predictions: Array, baseline: float) -> list[RangeRow]:
    """A row for each range of one target, ``[M]`` each, that holds labels.

    Ranges are equally wide and end at round numbers, but for the first and last, which reach as far as
    truth.
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
    """At least two edges between ranges of ``values``, from their least to their most."""
    # A few far values must not leave one range for all others.
    low, high = np.quantile(values, (0.01, 0.99))
    least, most = float(values.min()), float(values.max())
    if not low < high:
        return np.array([least, most])
    step = round_step((high - low) / _RANGES)
    inner = step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)
    return np.concatenate([[least], inner[(inner > least) & (inner < most)], [most]])


def round_step(step: float) -> float:
    """The least of 1, 2, 2.5 and 5 times a power of ten that is at least ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= step * (1 - 1e-9))


def sequence_losses(
    label: LabelSpec, truth: Array, predictions: Array, valid: Array, scales: Array
) -> Array:
    """How wrong each of N sequences is, ``[N]`` float64: the mean over its labels that count.

    The cross entropy of classes; of targets, the error in standard deviations of the train split. Infinite
    where a prediction is not a number, and NaN where no label counts.

    Args:
        label: the task and its names.
        truth: ``[N, ...]``, or ``[N, T, ...]`` with labels by frame.
        predictions: ``[N, classes or targets]`` or ``[N, T, ...]``.
        valid: ``[N]`` or ``[N, T]``: the labels that count.
        scales: ``[targets]``, the standard deviations.
    """
    where, answers = np.nonzero(valid)[0], predictions[valid]
    if label.task == "regression":
        losses = (np.abs(answers - truth[valid]) / np.where(scales > 0, scales, 1)).mean(axis=1)
    elif label.task == "multilabel":
        told = np.where(truth[valid] > 0.5, answers, 1 - answers)
        losses = -np.log(np.maximum(told, LEAST_PROBABILITY)).mean(axis=1)
    else:
        losses = cross_entropies(truth[valid], answers)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    counts = np.bincount(where, minlength=len(valid))
    with np.errstate(invalid="ignore"):
        return np.bincount(where, losses, len(valid)) / counts


def worst_sequences(
    losses: Array, sources: Sequence[str], *, count: int, by_source: int
) -> list[int]:
    """The places of ``count`` sequences with the greatest losses, the worst first.

    At first no more than ``by_source`` of one source are taken, since its sequences err alike; when that
    leaves too few, the rest come after them.
    """
    order = [int(i) for i in np.argsort(-losses, kind="stable") if not np.isnan(losses[i])]
    taken: dict[str, int] = {}
    first: list[int] = []
    rest: list[int] = []
    for place in order:
        source = sources[place]
        taken[source] = taken.get(source, 0) + 1
        (first if taken[source] <= by_source else rest).append(place)
        if len(first) == count:
            break
    return first + rest[: count - len(first)]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
