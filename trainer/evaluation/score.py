"""Scores predictions on one split: each metric beside the baseline's, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo
from trainer.data.reader import Labels
from trainer.evaluation.baseline import baseline_answers, baseline_metrics
from trainer.evaluation.bootstrap import LEVEL, MIN_GROUPS, Interval, bootstrap_intervals
from trainer.evaluation.metrics import measure, measure_resamples
from trainer.evaluation.predictions import index_names

Array = npt.NDArray[Any]


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

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON types, with null for values that are not finite."""
        fields = dict(vars(self))
        del fields["name"]
        fields["better"] = "higher" if fields.pop("higher_is_better") else "lower"
        return null_if_not_finite(fields)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The metrics of one split, the most important one first.

    Attributes:
        split: its name.
        labels: number of labels: sequences, or frames with labels by frame.
        metrics: of the model and the baseline.
        groups: number of groups that the labels come from; 0 if unknown.
    """

    split: str
    labels: int
    metrics: tuple[Metric, ...]
    groups: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns ``{"labels": 40, "metrics": {"accuracy": {"model": 0.9, "baseline": 0.3, ...}}}``."""
        return {
            "labels": self.labels,
            "groups": self.groups,
            "metrics": {metric.name: metric.to_json() for metric in self.metrics},
        }


def score(
    split: str,
    labels: Labels,
    predictions: Array,
    trained_on: DatasetInfo,
    *,
    groups: Sequence[str] | None = None,
) -> Score:
    """Compares ``predictions`` and the baseline with the labels.

    Args:
        split: its name.
        labels: of N sequences.
        predictions: ``[N, classes or targets]``, or ``[N, T, ...]`` with labels by frame.
        trained_on: the dataset whose train split gives the baseline.
        groups: of the N sequences; None leaves out the intervals.
    """
    label, truth = trained_on.spec.label, labels.values[labels.valid]
    answers = np.asarray(predictions, np.float64)[labels.valid]
    baselines = baseline_metrics(labels, trained_on)
    units = dict(zip(label.target_names, label.target_units, strict=False))
    count, group_of = _groups_of_labels(labels, groups)
    intervals = _intervals(truth, answers, trained_on, group_of, count)
    metrics = [
        Metric(
            name=name,
            model=value,
            baseline=baselines[name],
            unit=units.get(name.rpartition("_")[0], "") if label.task == "regression" else "",
            higher_is_better=_higher_is_better(name, trained_on),
            interval=intervals.get((name, "model")),
            baseline_interval=intervals.get((name, "baseline")),
            gain_interval=intervals.get((name, "gain")),
        )
        for name, value in measure(label, truth, answers).items()
    ]
    return Score(split=split, labels=len(truth), metrics=tuple(metrics), groups=count)


def format_score(score: Score) -> str:
    """Returns a table: one metric per line, model beside baseline, and the model's interval."""
    width = max(22, 2 + max(len(metric.name) for metric in score.metrics))
    has_intervals = any(metric.interval for metric in score.metrics)
    title = f"{score.split}, {score.labels} labels"
    heading = f"   {LEVEL:.0%} interval" if has_intervals else ""
    lines = [f"{title:<{width}}      model   baseline{heading}"]
    for m in score.metrics:
        interval = "   " + format_interval(m.interval, m.unit) if m.interval else f" {m.unit}"
        lines.append(
            f"  {m.name:<{width - 2}} {m.model:10.4g} {m.baseline:10.4g}{interval}".rstrip()
        )
    if 0 < score.groups < MIN_GROUPS:
        lines.append(f"  {explain_no_intervals(score.groups)}")
    return "\n".join(lines)


def compare(score: Score) -> str:
    """Returns the first metric in words.

    Example: ``test speed_mae 0.61 m/s (0.5 to 0.7), the baseline's 3.1 m/s: better``.
    """
    first = score.metrics[0]
    return (
        f"{score.split} {first.name} {first.model:.4g} {first.unit}".rstrip()
        + (f" ({format_interval(first.interval)})" if first.interval else "")
        + f", the baseline's {first.baseline:.4g} {first.unit}".rstrip()
        + f": {_verdict(first)}"
    )


def _verdict(metric: Metric) -> str:
    if math.isnan(metric.model):
        return "not a finite number"
    if metric.gain_interval is not None and not metric.is_sure:
        return "not surely better or worse than the baseline"
    return "better" if metric.beats_baseline else "not better than the baseline"


def explain_no_intervals(groups: int) -> str:
    """Returns the reason why ``groups`` groups give no intervals."""
    counted = "1 group is" if groups == 1 else f"{groups} groups are"
    return f"no intervals: {counted} too few for one to mean anything, it takes {MIN_GROUPS}"


def format_interval(interval: Interval, unit: str = "") -> str:
    """Returns an interval as ``0.52 to 0.71 m/s``."""
    return f"{interval[0]:.4g} to {interval[1]:.4g} {unit}".rstrip()


def null_if_not_finite(value: Any) -> Any:
    """Returns ``value`` for JSON, which has no NaN: at any depth, None for numbers that are not finite."""
    if isinstance(value, dict):
        return {name: null_if_not_finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [null_if_not_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _higher_is_better(name: str, trained_on: DatasetInfo) -> bool:
    return trained_on.spec.label.task != "regression" and name != "cross_entropy"


def _groups_of_labels(labels: Labels, groups: Sequence[str] | None) -> tuple[int, Array]:
    """Returns the number of groups that have labels, and the index of each label's group, ``[M]`` int64."""
    if groups is None:
        return 0, np.array([], np.int64)
    counts = labels.valid.reshape(len(groups), -1).sum(axis=1)
    present, group_of = np.unique(np.repeat(index_names(groups)[1], counts), return_inverse=True)
    return len(present), group_of


def _intervals(
    truth: Array, answers: Array, trained_on: DatasetInfo, group_of: Array, groups: int
) -> dict[tuple[str, str], Interval | None]:
    """Returns intervals of each metric's ``model``, ``baseline`` and ``gain``; none with too few groups."""
    if groups < MIN_GROUPS:
        return {}
    label, guesses = trained_on.spec.label, baseline_answers(trained_on, len(truth))

    def measure_all(weights: Array) -> dict[tuple[str, str], Array]:
        model = measure_resamples(label, truth, answers, group_of, weights)
        baseline = measure_resamples(label, truth, guesses, group_of, weights)
        signs = {name: 1 if _higher_is_better(name, trained_on) else -1 for name in model}
        return {
            **{(name, "model"): model[name] for name in model},
            **{(name, "baseline"): baseline[name] for name in model},
            **{(name, "gain"): signs[name] * (model[name] - baseline[name]) for name in model},
        }

    return bootstrap_intervals(measure_all, groups)
