"""Scores predictions on one split: each metric beside the baseline's, with confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo
from trainer.evaluation.baseline import baseline_answers
from trainer.evaluation.bootstrap import LEVEL, MIN_GROUPS, Interval, bootstrap_intervals
from trainer.evaluation.metrics import measure, measure_resamples
from trainer.evaluation.predictions import Predictions

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

    @property
    def verdict(self) -> Literal["not a number", "not sure", "better", "not better"]:
        """The comparison with the baseline; never ``not sure`` without an interval of the gain."""
        if math.isnan(self.gain):
            return "not a number"
        if self.gain_interval is not None and not self.is_sure:
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


def score(split: str, predictions: Predictions, trained_on: DatasetInfo) -> Score:
    """Compares predictions, and the baseline of the train split of ``trained_on``, with the labels."""
    label, truth, answers = trained_on.spec.label, predictions.truth, predictions.answers
    guesses = baseline_answers(trained_on, len(truth))
    model, baseline = (measure(label, truth, values) for values in (answers, guesses))
    is_regression = label.task == "regression"
    higher_is_better = {name: not is_regression and name != "cross_entropy" for name in model}
    units = dict(zip(label.target_names, label.target_units, strict=False))
    _, places = np.unique(np.array(predictions.groups, object), return_inverse=True)
    groups, group_of = np.unique(predictions.by_label(places), return_inverse=True)

    def measure_all(weights: Array) -> dict[tuple[str, str], Array]:
        ours, theirs = (
            measure_resamples(label, truth, values, group_of, weights)
            for values in (answers, guesses)
        )
        signs = {name: 1 if higher else -1 for name, higher in higher_is_better.items()}
        gains = {name: signs[name] * (ours[name] - theirs[name]) for name in ours}
        kinds = {"interval": ours, "baseline_interval": theirs, "gain_interval": gains}
        return {(name, kind): by_name[name] for kind, by_name in kinds.items() for name in ours}

    intervals = bootstrap_intervals(measure_all, len(groups)) if len(groups) >= MIN_GROUPS else {}
    metrics = [
        Metric(
            name=name,
            model=value,
            baseline=baseline[name],
            unit=units.get(name.rpartition("_")[0], "") if is_regression else "",
            higher_is_better=higher_is_better[name],
            **{kind: interval for (own, kind), interval in intervals.items() if own == name},
        )
        for name, value in model.items()
    ]
    return Score(split=split, labels=len(truth), metrics=tuple(metrics), groups=len(groups))


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


def describe_main_metric(score: Score) -> str:
    """Returns the model's and the baseline's value of the main metric, which is the first, with the verdict.

    Example: ``test speed_mae 0.61 m/s (0.5 to 0.7), the baseline's 3.1 m/s: better``.
    """
    first = score.metrics[0]
    verdicts = {
        "not a number": "not a finite number",
        "not sure": "not surely better or worse than the baseline",
        "better": "better",
        "not better": "not better than the baseline",
    }
    return (
        f"{score.split} {first.name} {first.model:.4g} {first.unit}".rstrip()
        + (f" ({format_interval(first.interval)})" if first.interval else "")
        + f", the baseline's {first.baseline:.4g} {first.unit}".rstrip()
        + f": {verdicts[first.verdict]}"
    )


def explain_no_intervals(groups: int) -> str:
    """Returns the reason why ``groups`` groups give no intervals."""
    counted = "1 group is" if groups == 1 else f"{groups} groups are"
    return f"no intervals: {counted} too few for one to mean anything, it takes {MIN_GROUPS}"


def format_interval(interval: Interval, unit: str = "") -> str:
    """Returns an interval as ``0.52 to 0.71 m/s``."""
    return f"{interval[0]:.4g} to {interval[1]:.4g} {unit}".rstrip()
