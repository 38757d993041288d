"""The metrics of one split: each beside the baseline's, with intervals that say how sure it is."""

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
from trainer.evaluation.bootstrap import LEAST_GROUPS, LEVEL, Interval, bootstrap_intervals
from trainer.evaluation.metrics import measure, measure_resamples
from trainer.evaluation.predictions import numbered

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a model, and the baseline's.

    Attributes:
        name: such as ``accuracy``, or ``speed_mae`` of the target ``speed``.
        model, baseline: the two values, in ``unit``.
        unit: empty where there is none.
        higher_is_better: otherwise, lower is.
        interval, baseline_interval: where the two values lie with a confidence of 95 %; None when that
            cannot be said.
        gain_interval: the same of how much better the model is, which is surer than either alone: both see
            the same resamples.
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
        """How much better than the baseline the model is, in ``unit``; negative where it is worse."""
        gain = self.model - self.baseline
        return gain if self.higher_is_better else -gain

    @property
    def beats_baseline(self) -> bool:
        """Whether the model is better than looking at nothing."""
        return self.gain > 0

    @property
    def is_sure(self) -> bool:
        """Whether the interval of the gain leaves no doubt of its sign."""
        interval = self.gain_interval
        return interval is not None and (interval[0] > 0 or interval[1] < 0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; what is not a number is null."""
        return {
            "model": finite(self.model),
            "baseline": finite(self.baseline),
            "unit": self.unit,
            "better": "higher" if self.higher_is_better else "lower",
            "interval": self.interval and list(self.interval),
            "baseline_interval": self.baseline_interval and list(self.baseline_interval),
            "gain_interval": self.gain_interval and list(self.gain_interval),
        }


@dataclass(frozen=True, kw_only=True)
class Score:
    """The metrics of one split, the most telling one first.

    Attributes:
        split: its name.
        labels: how many labels they are over: sequences, or frames with labels by frame.
        metrics: of the model and the baseline.
        groups: how many groups the labels come from; 0 when that was not told.
    """

    split: str
    labels: int
    metrics: tuple[Metric, ...]
    groups: int = 0

    def to_json(self) -> dict[str, Any]:
        """``{"labels": 40, "metrics": {"accuracy": {"model": 0.9, "baseline": 0.3, ...}}}``."""
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
        groups: of the N sequences; without them there are no intervals.
    """
    label, truth = trained_on.spec.label, labels.values[labels.valid]
    answers = np.asarray(predictions, np.float64)[labels.valid]
    theirs = baseline_metrics(labels, trained_on)
    units = dict(zip(label.target_names, label.target_units, strict=False))
    count, group_of = _groups_of_labels(labels, groups)
    intervals = _intervals(truth, answers, trained_on, group_of, count)
    metrics = [
        Metric(
            name=name,
            model=value,
            baseline=theirs[name],
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
    """A table for people to read: one metric a line, model beside baseline, and the model's interval."""
    width = max(22, 2 + max(len(metric.name) for metric in score.metrics))
    sure = any(metric.interval for metric in score.metrics)
    title = f"{score.split}, {score.labels} labels"
    lines = [
        f"{title:<{width}}      model   baseline" + (f"   {LEVEL:.0%} interval" if sure else "")
    ]
    for m in score.metrics:
        interval = "   " + format_interval(m.interval, m.unit) if m.interval else f" {m.unit}"
        lines.append(
            f"  {m.name:<{width - 2}} {m.model:10.4g} {m.baseline:10.4g}{interval}".rstrip()
        )
    if 0 < score.groups < LEAST_GROUPS:
        lines.append(f"  {few_groups(score.groups)}")
    return "\n".join(lines)


def compare(score: Score) -> str:
    """The first metric in words: ``test speed_mae 0.61 m/s (0.5 to 0.7), the baseline's 3.1 m/s: better``."""
    first = score.metrics[0]
    return (
        f"{score.split} {first.name} {first.model:.4g} {first.unit}".rstrip()
        + (f" ({format_interval(first.interval)})" if first.interval else "")
        + f", the baseline's {first.baseline:.4g} {first.unit}".rstrip()
        + f": {verdict(first)}"
    )


def verdict(metric: Metric) -> str:
    """Whether the model is better than the baseline, in a few words."""
    if math.isnan(metric.model):
        return "NOT a number"
    if metric.gain_interval is not None and not metric.is_sure:
        return "NOT surely better or worse than looking at nothing"
    return "better" if metric.beats_baseline else "NOT better than looking at nothing"


def few_groups(groups: int) -> str:
    """Why there is no interval."""
    held = "1 group is" if groups == 1 else f"{groups} groups are"
    return f"no intervals: {held} too few for one to mean anything, it takes {LEAST_GROUPS}"


def format_interval(interval: Interval, unit: str = "") -> str:
    """``0.52 to 0.71 m/s``."""
    return f"{interval[0]:.4g} to {interval[1]:.4g} {unit}".rstrip()


def finite(value: float) -> float | None:
    """``value`` for JSON, which knows no NaN: None."""
    return value if math.isfinite(value) else None


def _higher_is_better(name: str, trained_on: DatasetInfo) -> bool:
    return trained_on.spec.label.task != "regression" and name != "cross_entropy"


def _groups_of_labels(labels: Labels, groups: Sequence[str] | None) -> tuple[int, Array]:
    """How many groups have labels, and the place among them of each label's, ``[M]`` int64."""
    if groups is None:
        return 0, np.array([], np.int64)
    counts = labels.valid.reshape(len(groups), -1).sum(axis=1)
    held, group_of = np.unique(np.repeat(numbered(groups)[1], counts), return_inverse=True)
    return len(held), group_of


def _intervals(
    truth: Array, answers: Array, trained_on: DatasetInfo, group_of: Array, groups: int
) -> dict[tuple[str, str], Interval | None]:
    """The intervals of each metric's ``model``, ``baseline`` and ``gain``; none with too few groups."""
    if groups < LEAST_GROUPS:
        return {}
    label, guesses = trained_on.spec.label, baseline_answers(trained_on, len(truth))

    def resampled(weights: Array) -> dict[tuple[str, str], Array]:
        ours = measure_resamples(label, truth, answers, group_of, weights)
        theirs = measure_resamples(label, truth, guesses, group_of, weights)
        signs = {name: 1 if _higher_is_better(name, trained_on) else -1 for name in ours}
        return {
            **{(name, "model"): ours[name] for name in ours},
            **{(name, "baseline"): theirs[name] for name in ours},
            **{(name, "gain"): signs[name] * (ours[name] - theirs[name]) for name in ours},
        }

    return bootstrap_intervals(resampled, groups)
