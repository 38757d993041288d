"""Computes metrics of predictions, for one set of labels or many resamples of it, with NumPy alone.

A prediction that is not finite is never right: its class is `NO_CLASS`, and errors computed from it are NaN.
Leaving such labels out would reward a model for failing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.spec import LabelSpec

Array = npt.NDArray[Any]

# The class of predictions that are not finite.
NO_CLASS = -1
# From this probability on, a class of a multi-label task counts as present.
THRESHOLD = 0.5
# Keeps the logarithm of a probability of 0 finite, as Keras does.
MIN_PROBABILITY = 1e-7

_ALL = slice(None)
# Weights of single labels that are held at a time: 8 MiB.
_NUMBERS_AT_A_TIME = 2**20


def add_offsets(label: LabelSpec, values: Array) -> Array:
    """Returns labels, ``[..., targets]``, with the offsets of targets added, in float64 if there are any."""
    return values.astype(np.float64) + label.target_offsets if label.target_offsets else values


def measure(label: LabelSpec, truth: Array, predictions: Array) -> dict[str, float]:
    """Returns metrics by name, the most important one first.

    Args:
        label: the task and its names.
        truth: of M labels: ``[M]`` classes, ``[M, classes]`` of 0 and 1, or ``[M, targets]``.
        predictions: ``[M, classes]`` probabilities, or ``[M, targets]`` in the targets' units.
    """
    together = np.zeros(len(truth), np.int64)
    values = measure_resamples(label, truth, predictions, together, np.ones((1, 1)))
    return {name: float(value[0]) for name, value in values.items()}


def measure_resamples(
    label: LabelSpec, truth: Array, predictions: Array, groups: Array, weights: Array
) -> dict[str, Array]:
    """Returns the metrics of R resamples, ``[R]`` float64 each, without building the resamples.

    ``groups``, ``[M]`` int64, holds the group of each label, from 0 to G - 1; ``weights``, ``[R, G]``, the
    times that each group is in each resample. The other arguments are those of `measure`.
    """

    def mean(values: Array, rows: Array | slice = _ALL) -> Array:
        own, amounts, count = groups[rows], values[rows].astype(np.float64), weights.shape[1]
        if len(own) < count:
            chosen = weights[:, own]
            return chosen @ amounts / chosen.sum(axis=1)
        sums = weights @ np.bincount(own, amounts, minlength=count)
        return sums / (weights @ np.bincount(own, minlength=count))

    with np.errstate(invalid="ignore", divide="ignore"):
        if label.task == "regression":
            errors = predictions - truth
            return {
                f"{target}_{name}": value
                for i, target in enumerate(label.target_names)
                for name, value in (
                    ("mae", mean(np.abs(errors[:, i]))),
                    ("rmse", np.sqrt(mean(np.square(errors[:, i])))),
                )
            }
        right = decide(label, predictions) == truth
        if label.task == "multilabel":
            precisions = [
                _average_precisions(truth[:, c], predictions[:, c], groups, weights)
                for c in np.flatnonzero(truth.any(axis=0))
            ]
            return {
                "mean_average_precision": _mean_over_classes(precisions, len(weights)),
                "binary_accuracy": mean(right.mean(axis=1)),
            }
        by_class = np.split(np.argsort(truth, kind="stable"), np.cumsum(np.bincount(truth))[:-1])
        recalls = [mean(right, of_class) for of_class in by_class]
        return {
            "accuracy": mean(right),
            # The mean recall over classes, to which rare and common classes contribute equally.
            "balanced_accuracy": _mean_over_classes(recalls, len(weights)),
            "cross_entropy": mean(cross_entropies(truth, predictions)),
        }


def decide(label: LabelSpec, predictions: Array) -> Array:
    """Returns the answers that predictions stand for: classes, or the predicted targets themselves."""
    if label.task == "multilabel":
        return present_classes(predictions)
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


def present_classes(predictions: Array) -> Array:
    """Returns a multi-label model's answer for each class: 1 present, 0 absent, `NO_CLASS` not finite."""
    return np.where(np.isfinite(predictions), predictions >= THRESHOLD, NO_CLASS)


def _average_precisions(truth: Array, scores: Array, groups: Array, weights: Array) -> Array:
    """Returns the area under the steps of precision over recall in each resample, ``[R]``.

    Equal scores are one step, so that constant scores give the share of the truth that is set. The area is
    the mean, over the labels that are set, of the precision at the end of their step, so only the P steps
    with such labels are summed. It is NaN in a resample without such labels; ``truth`` must hold one.
    """
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    order = np.argsort(-scores, kind="stable")
    hit, ordered = truth[order] > 0.5, scores[order]
    step = np.append(0, np.cumsum(ordered[1:] != ordered[:-1]))
    steps, first_hits = np.unique(step[hit], return_index=True)
    ends = np.searchsorted(step, steps, side="right")
    starts = np.append(0, ends[:-1])
    group_of, group_of_hit = groups[order[: ends[-1]]], groups[order[hit]]
    at_a_time = max(1, _NUMBERS_AT_A_TIME // len(truth))
    areas = []
    for some in np.split(weights, range(at_a_time, len(weights), at_a_time)):
        counts = np.ascontiguousarray(some.T)  # [G, r], so that a label's weights lie together
        found = np.add.reduceat(counts[group_of_hit], first_hits, axis=0)  # [P, r]
        seen = np.add.reduceat(counts[group_of], starts, axis=0).cumsum(axis=0)
        hits = found.cumsum(axis=0)
        areas.append((found * hits / np.maximum(seen, 1)).sum(axis=0) / hits[-1])
    return np.concatenate(areas)


def _mean_over_classes(values: list[Array], resamples: int) -> Array:
    """Returns the mean of ``[R]`` values over the classes that a resample holds; NaN if it holds none."""
    table = np.reshape(values, (-1, resamples))
    held = np.isfinite(table)
    return table.sum(axis=0, where=held) / held.sum(axis=0)
