"""Computes metrics of predictions, for one set of labels or many resamples of it, with NumPy alone.

A prediction that is not finite is never right: its class is `NO_CLASS`, and errors computed from it are NaN.
Leaving such labels out would reward a model for failing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.spec import LabelSpec

Array = npt.NDArray[Any]
Thresholds = float | Array
"""Probability from which a class of a multi-label task counts as present: one, or ``[classes]``."""

# The class of predictions that are not finite.
NO_CLASS = -1
THRESHOLD = 0.5
# Keeps the logarithm of a probability of 0 finite, as Keras does.
MIN_PROBABILITY = 1e-7

_ALL = slice(None)
_HALF = 0.5  # between labels that are not set and those that are
_TOP = (3, 5)
# Spreads this much smaller than the sample's are rounding errors.
_ROUNDING = 1e-7
# Weights of single labels that are held at a time: 8 MiB.
_NUMBERS_AT_A_TIME = 2**20


def add_offsets(label: LabelSpec, values: Array) -> Array:
    """Returns labels, ``[..., targets]``, with the offsets of targets added, in float64 if there are any."""
    return values.astype(np.float64) + label.target_offsets if label.target_offsets else values


def measure(
    label: LabelSpec, truth: Array, predictions: Array, thresholds: Thresholds = THRESHOLD
) -> dict[str, float]:
    """Returns metrics by name, the most important one first.

    Args:
        label: the task and its names.
        truth: of M labels: ``[M]`` classes, ``[M, classes]`` of 0 and 1, or ``[M, targets]``.
        predictions: ``[M, classes]`` probabilities, or ``[M, targets]`` in the targets' units.
        thresholds: see `decide`.
    """
    together, once = np.zeros(len(truth), np.int64), np.ones((1, 1))
    values = measure_resamples(label, truth, predictions, together, once, thresholds)
    return {name: float(value[0]) for name, value in values.items()}


def measure_resamples(
    label: LabelSpec,
    truth: Array,
    predictions: Array,
    groups: Array,
    weights: Array,
    thresholds: Thresholds = THRESHOLD,
) -> dict[str, Array]:
    """Returns the metrics of R resamples, ``[R]`` float64 each, without building the resamples.

    ``groups``, ``[M]`` int64, holds the group of each label, from 0 to G - 1; ``weights``, ``[R, G]``, the
    times that each group is in each resample. The other arguments are those of `measure`.
    """
    # The first row is the sample itself, whose values stand for classes that a resample lacks.
    weights = np.concatenate([np.ones((1, weights.shape[1])), weights])

    def mean(values: Array, rows: Array | slice = _ALL) -> Array:
        own, amounts, count = groups[rows], values[rows].astype(np.float64), weights.shape[1]
        if len(own) < count:
            chosen = weights[:, own]
            return chosen @ amounts / chosen.sum(axis=1)
        sums = weights @ np.bincount(own, amounts, minlength=count)
        return sums / (weights @ np.bincount(own, minlength=count))

    with np.errstate(invalid="ignore", divide="ignore"):
        if label.task == "regression":
            found = _target_metrics(label, truth, predictions, mean)
        elif label.task == "multilabel":
            areas = [
                ranking_areas(truth[:, c], predictions[:, c], groups, weights)
                for c in np.flatnonzero(truth.any(axis=0))
            ]
            likelihood = np.where(truth > _HALF, predictions, 1 - predictions)
            right = decide(label, predictions, thresholds) == truth
            found = {
                "mean_average_precision": _mean_over_classes([area for area, _ in areas], weights),
                "mean_auc": _mean_over_classes([area for _, area in areas], weights),
                "binary_accuracy": mean(right.mean(axis=1)),
                "cross_entropy": mean(
                    -np.log(np.maximum(likelihood, MIN_PROBABILITY)).mean(axis=1)
                ),
            }
        else:
            found = _class_metrics(truth, predictions, groups, weights, mean)
        return {name: values[1:] for name, values in found.items()}


def _target_metrics(
    label: LabelSpec, truth: Array, predictions: Array, mean: Callable[[Array], Array]
) -> dict[str, Array]:
    errors, found = predictions - truth, {}
    for i, target in enumerate(label.target_names):
        found[f"{target}_mae"] = mean(np.abs(errors[:, i]))
        found[f"{target}_rmse"] = np.sqrt(mean(np.square(errors[:, i])))
        found[f"{target}_correlation"] = _correlation(truth[:, i], predictions[:, i], mean)
    if label.has_one_unit:
        found["joint_rmse"] = np.sqrt(mean(np.square(errors).mean(axis=1)))
    return found


def _correlation(truth: Array, predictions: Array, mean: Callable[[Array], Array]) -> Array:
    """Returns Pearson's correlation; 0 if either side is constant, NaN if a prediction is not finite."""
    # Differences from one value keep their digits, and those of constant predictions are exactly 0.
    x, y = (side.astype(np.float64) - side[:1] for side in (truth, predictions))
    x_mean, y_mean = mean(x), mean(y)
    spreads = [np.maximum(mean(v * v) - m * m, 0.0) for v, m in ((x, x_mean), (y, y_mean))]
    spread = np.sqrt(spreads[0] * spreads[1])
    found = np.clip((mean(x * y) - x_mean * y_mean) / spread, -1, 1)
    return np.where(spread <= _ROUNDING * spread[0], 0.0, found)


def _class_metrics(
    truth: Array,
    predictions: Array,
    groups: Array,
    weights: Array,
    mean: Callable[..., Array],
) -> dict[str, Array]:
    right, classes = chosen_classes(predictions) == truth, predictions.shape[1]
    by_class = np.split(np.argsort(truth, kind="stable"), np.cumsum(np.bincount(truth))[:-1])
    present = [(c, rows) for c, rows in enumerate(by_class) if len(rows)]
    areas = [ranking_areas(truth == c, predictions[:, c], groups, weights)[1] for c, _ in present]
    found = {
        "accuracy": mean(right),
        # The mean recall over classes, to which rare and common classes contribute equally.
        "balanced_accuracy": _mean_over_classes(
            [mean(right, rows) for _, rows in present], weights
        ),
        "mean_auc": _mean_over_classes(areas, weights),
        "cross_entropy": mean(cross_entropies(truth, predictions)),
    }
    own = np.take_along_axis(predictions, truth[:, None], axis=1)
    # Equal probabilities count against the class, so that constant ones are not right by their order.
    rank = np.where(np.isfinite(predictions).all(axis=1), (predictions >= own).sum(axis=1), classes)
    for k in _TOP:
        if classes > k + 1:
            found[f"top_{k}_accuracy"] = mean(rank <= k)
    return found


def decide(label: LabelSpec, predictions: Array, thresholds: Thresholds = THRESHOLD) -> Array:
    """Returns the answers that predictions stand for: classes, or the predicted targets themselves.

    In a multi-label task, a class is present from its probability in ``thresholds`` on.
    """
    if label.task == "multilabel":
        return present_classes(predictions, thresholds)
    return chosen_classes(predictions) if label.task == "classification" else predictions


def chosen_classes(predictions: Array) -> Array:
    """Returns the most probable class of each of ``[..., classes]``; `NO_CLASS` if one is not finite."""
    whole = np.isfinite(predictions).all(axis=-1)
    return np.where(whole, np.nan_to_num(predictions).argmax(axis=-1), NO_CLASS)


def cross_entropies(truth: Array, predictions: Array) -> Array:
    """Returns minus the logarithm of the true class's probability, ``[M]``; NaN if one is not finite."""
    likelihood = predictions[np.arange(len(truth)), truth]
    likelihood = np.where(np.isfinite(predictions).all(axis=-1), likelihood, np.nan)
    return -np.log(np.maximum(likelihood, MIN_PROBABILITY))


def present_classes(predictions: Array, thresholds: Thresholds = THRESHOLD) -> Array:
    """Returns a multi-label model's answer for each class: 1 present, 0 absent, `NO_CLASS` not finite."""
    return np.where(np.isfinite(predictions), predictions >= np.asarray(thresholds), NO_CLASS)


def ranking_areas(
    truth: Array, scores: Array, groups: Array, weights: Array
) -> tuple[Array, Array]:
    """Returns two areas in each resample, ``[R]`` each: under precision over recall, and under the ROC curve.

    Equal scores are one step, so that constant scores give the share of the truth that is set, and 0.5. The
    first area is the mean, over the labels that are set, of the precision at the end of their step; the
    second, of the share of other labels below them, where equal ones count half. So only the P steps with
    labels that are set are summed. Both are NaN in a resample without such labels; ``truth`` must hold one.
    """
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    order = np.argsort(-scores, kind="stable")
    hit, ordered = truth[order] > _HALF, scores[order]
    step = np.append(0, np.cumsum(ordered[1:] != ordered[:-1]))
    steps, first_hits = np.unique(step[hit], return_index=True)
    begins, ends = (np.searchsorted(step, steps, side=side) for side in ("left", "right"))
    edges = np.unique(np.concatenate([[0], begins, ends]))
    group_of, group_of_hit = groups[order[: edges[-1]]], groups[order[hit]]
    sizes = np.bincount(groups, minlength=weights.shape[1])
    at_a_time = max(1, _NUMBERS_AT_A_TIME // len(truth))
    areas = []
    for some in np.split(weights, range(at_a_time, len(weights), at_a_time)):
        counts = np.ascontiguousarray(some.T)  # [G, r], so that a label's weights lie together
        found = np.add.reduceat(counts[group_of_hit], first_hits, axis=0)  # [P, r]
        between = np.add.reduceat(counts[group_of], edges[:-1], axis=0).cumsum(axis=0)
        seen = np.concatenate([np.zeros((1, len(some))), between])  # labels above each edge
        above, through = (seen[np.searchsorted(edges, at)] for at in (begins, ends))
        hits = found.cumsum(axis=0)
        precision = (found * hits / np.maximum(through, 1)).sum(axis=0) / hits[-1]
        others = (above - (hits - found) + through - hits) / 2
        roc = 1 - (found * others).sum(axis=0) / (hits[-1] * (some @ sizes - hits[-1]))
        areas.append((precision, roc))
    return np.concatenate([a for a, _ in areas]), np.concatenate([a for _, a in areas])


def _mean_over_classes(values: list[Array], weights: Array) -> Array:
    """Returns the mean over classes of ``[R]`` values; a resample without a class has its value in the first.

    Leaving such classes out would measure resamples by the common classes only. Those that are not finite in
    the first, which is the sample itself, cannot be measured.
    """
    table = np.reshape(values, (-1, len(weights)))
    table = table[np.isfinite(table[:, 0])]
    return np.where(np.isfinite(table), table, table[:, :1]).sum(axis=0) / len(table)
