"""Scores predictions on one split: each metric beside the baseline's, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.tables import format_table
from trainer.evaluation.baseline import baseline_answers
from trainer.evaluation.bootstrap import (
    LEVEL,
    MIN_GROUPS,
    Interval,
    bootstrap_intervals,
    wilson_interval,
)
from trainer.evaluation.metrics import THRESHOLD, Thresholds, measure_resamples
from trainer.evaluation.predictions import Predictions

Array = npt.NDArray[Any]
Verdict = Literal["not a number", "too few groups", "not sure", "better", "not better"]
_INTERVALS = ("interval", "baseline_interval", "gain_interval")
_ERRORS = (
    "mae",
    "rmse",
    "cross_entropy",
)  # ends of the names of metrics that are better when lower


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a model, and of the baseline.

    Attributes:
        name: such as ``accuracy``, or ``speed_mae`` of the target ``speed``.
        model, baseline: the two values, in ``unit``.
        unit: empty if there is none.
        higher_is_better: otherwise, lower is better.
        interval, baseline_interval: 95 % confidence intervals of the two values; None if unknown.
        gain_interval: the same of the model's gain over the baseline. It is narrower than the other two
            suggest, since both are measured on the same resamples.
    """

    name: str
    model: float
    baseline: float
    unit: str = ""
    higher_is_better: bool = False
    interval: Interval | None = None
    baseline_interval: Interval | None = None
    gain_interval: Interval | None = None

    @property
    def gain(self) -> float:
        """Improvement over the baseline, in ``unit``; negative if the model is worse."""
        gain = self.model - self.baseline
        return gain if self.higher_is_better else -gain

    @property
    def beats_baseline(self) -> bool:
        """True if the model is better than the baseline."""
        return self.gain > 0

    @property
    def is_sure(self) -> bool:
        """True if the interval of the gain does not hold 0."""
        interval = self.gain_interval
        return interval is not None and (interval[0] > 0 or interval[1] < 0)

    @property
    def verdict(self) -> Verdict:
        """The comparison with the baseline; without an interval of the gain, nothing is proven."""
        if math.isnan(self.gain):
            return "not a number"
        if self.gain_interval is None:
            return "too few groups"
        if not self.is_sure:
            return "not sure"
        return "better" if self.beats_baseline else "not better"

    def to_json(self) -> dict[str, Any]:
        """Returns the fields but for the name, with ``"better": "higher"`` or ``"lower"``."""
        fields = {**vars(self), "better": "higher" if self.higher_is_better else "lower"}
        del fields["name"], fields["higher_is_better"]
        return fields


@dataclass(frozen=True, kw_only=True)
class Score:
    """The metrics of one split, the most important one first.

    Attributes:
        split: its name.
        labels: number of labels: sequences, or frames with labels by frame.
        metrics: of the model and the baseline.
        groups: number of groups that the labels come from.
    """

    split: str
    labels: int
    metrics: tuple[Metric, ...]
    groups: int

    def to_json(self) -> dict[str, Any]:
        """Returns ``{"labels": 40, "metrics": {"accuracy": {"model": 0.9, "baseline": 0.3, ...}}}``."""
        return {
            "labels": self.labels,
            "groups": self.groups,
            "metrics": {metric.name: metric.to_json() for metric in self.metrics},
        }


def score(
    split: str,
    predictions: Predictions,
    trained_on: DatasetInfo,
    guesses: Array | None = None,
    guess_thresholds: Thresholds = THRESHOLD,
) -> Score:
    """Compares predictions, and the baseline's, with the labels.

    ``guesses`` are the baseline's answers, or another model's with its ``guess_thresholds``; by default those
    of the train split of ``trained_on``.
    """
    label, truth, answers = trained_on.spec.label, predictions.truth, predictions.answers
    guesses = baseline_answers(trained_on, len(truth)) if guesses is None else guesses
    _, places = np.unique(np.array(predictions.groups, object), return_inverse=True)
    groups, group_of = np.unique(predictions.by_label(places), return_inverse=True)
    by_source = _mean_by_source(label, predictions, guesses, group_of)

    def measure_all(weights: Array) -> dict[tuple[str, str], Array]:
        def measure_one(values: Array, thresholds: Thresholds, side: int) -> dict[str, Array]:
            found = measure_resamples(label, truth, values, group_of, weights, thresholds)
            if by_source is not None:
                own_truth, *sides, own_groups = by_source
                own = measure_resamples(
                    label, own_truth, sides[side], own_groups, weights, thresholds
                )
                name, value = next(iter(own.items()))
                found[f"source_{name}"] = value
            return found

        ours = measure_one(answers, predictions.thresholds, 0)
        theirs = measure_one(guesses, guess_thresholds, 1)
        gains = {
            name: (theirs[name] - ours[name]) * (1 if name.endswith(_ERRORS) else -1)
            for name in ours
        }
        kinds = zip(_INTERVALS, (ours, theirs, gains), strict=True)
        return {(name, kind): by_name[name] for kind, by_name in kinds for name in ours}

    values = {key: float(value[0]) for key, value in measure_all(np.ones((1, len(groups)))).items()}
    intervals = bootstrap_intervals(measure_all, len(groups)) if len(groups) >= MIN_GROUPS else {}
    return Score(
        split=split,
        labels=len(truth),
        metrics=tuple(
            _to_metric(name, values, intervals, label, len(groups))
            for name, kind in values
            if kind == "interval"
        ),
        groups=len(groups),
    )


def _mean_by_source(
    label: LabelSpec, predictions: Predictions, guesses: Array, group_of: Array
) -> tuple[Array, Array, Array, Array] | None:
    """Returns truth, the mean predictions, the mean guesses and the group of each source that has labels.

    None for targets, labels by frame, sources of several labels, and if no source has two sequences.
    """
    if label.task == "regression" or label.per_frame:
        return None
    _, place = np.unique(
        predictions.by_label(np.array(predictions.sources, object)), return_inverse=True
    )
    count = int(place.max(initial=-1)) + 1
    first = np.full(count, len(place))
    np.minimum.at(first, place, np.arange(len(place)))
    truth = predictions.truth
    if count == len(truth) or (truth != truth[first][place]).any():
        return None
    counts = np.bincount(place)[:, None]
    sums = [np.zeros((count, guesses.shape[1])) for _ in range(2)]
    for total, values in zip(sums, (predictions.answers, guesses), strict=True):
        np.add.at(total, place, values)
    return truth[first], sums[0] / counts, sums[1] / counts, group_of[first]


def _to_metric(
    name: str,
    values: Mapping[tuple[str, str], float],
    intervals: Mapping[tuple[str, str], Interval | None],
    label: LabelSpec,
    groups: int,
) -> Metric:
    model, baseline = values[name, "interval"], values[name, "baseline_interval"]
    own, theirs, gain = (intervals.get((name, kind)) for kind in _INTERVALS)
    is_share = label.task != "regression" and not name.endswith(_ERRORS)
    if is_share and gain is not None and model in (0.0, 1.0) and own == (model, model):
        # All groups agree, and so do all resamples. Both sides of the gain vary.
        own, middle = wilson_interval(model, groups), values[name, "gain_interval"]
        low, high = (
            math.hypot(middle - end, model - limit) for end, limit in zip(gain, own, strict=True)
        )
        gain = (middle - low, middle + high)
    units = dict(zip(label.target_names, label.target_units, strict=False))
    if label.has_one_unit:
        units["joint"] = "".join(label.target_units[:1])
    unit = units.get(name.rpartition("_")[0], "") if name.endswith(_ERRORS) else ""
    return Metric(
        name=name,
        model=model,
        baseline=baseline,
        unit=unit,
        higher_is_better=not name.endswith(_ERRORS),
        interval=own,
        baseline_interval=theirs,
        gain_interval=gain,
    )


def format_score(score: Score) -> str:
    """Returns a table: one metric per line, model beside baseline, and the model's interval."""
    has_intervals = any(metric.interval for metric in score.metrics)
    rows = [(f"{score.split}, {score.labels} labels", "model", "baseline", f"{LEVEL:.0%} interval")]
    for m in score.metrics:
        name = f"{m.name} ({m.unit})" if m.unit else m.name
        interval = format_interval(m.interval) if m.interval else ""
        rows.append((name, f"{m.model:.4g}", f"{m.baseline:.4g}", interval))
    lines = format_table(*(row if has_intervals else row[:-1] for row in rows))
    if 0 < score.groups < MIN_GROUPS:
        lines.append(f"  {explain_no_intervals(score.groups)}")
    return "\n".join(lines)


def describe_main_metric(score: Score) -> str:
    """Returns the model's and the baseline's value of the main metric, which is the first, with the verdict.

    Example: ``test speed_mae 0.61 m/s (0.5 to 0.7), the baseline's 3.1 m/s: better than the
    baseline``.
    """
    first = score.metrics[0]
    return (
        f"{score.split} {first.name} {first.model:.4g} {first.unit}".rstrip()
        + (f" ({format_interval(first.interval)})" if first.interval else "")
        + f", the baseline's {first.baseline:.4g} {first.unit}".rstrip()
        + f": {describe_verdict(score)}"
    )


def describe_verdict(score: Score) -> str:
    """Returns the verdict on the main metric in the words of the programs and of the reports."""
    verdict = score.metrics[0].verdict
    if verdict == "not a number":
        return "not a finite number"
    if verdict == "too few groups":
        return f"too few groups ({score.groups}) to say if it is better than the baseline"
    return f"{'not surely better' if verdict == 'not sure' else verdict} than the baseline"


def explain_no_intervals(groups: int) -> str:
    """Returns the reason why ``groups`` groups give no intervals."""
    counted = "1 group is" if groups == 1 else f"{groups} groups are"
    return f"no intervals: {counted} too few for one to mean anything, it takes {MIN_GROUPS}"


def format_interval(interval: Interval) -> str:
    """Returns an interval as ``0.52 to 0.71``."""
    return f"{interval[0]:.4g} to {interval[1]:.4g}"
