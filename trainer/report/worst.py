"""Describes the worst sequences, with their filmstrips and signals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.report.filmstrips import StripFrame
from tfrecords_schema.report.pages import plural
from tfrecords_schema.spec import LabelSpec
from trainer.evaluation.analysis import WorstSequence
from trainer.evaluation.evaluate import Evaluation
from trainer.report.charts import make_sparkline

Array = npt.NDArray[Any]

_MAX_SPARKLINES = 6


@dataclass(frozen=True)
class Figure:
    """One of the worst sequences.

    Attributes:
        caption: true and predicted labels.
        detail: the loss, and the time in the source.
        sequence: its id, source and group.
        frames: some of its frames; empty if it has none.
        signals: name, range, and lines of each of its first signals.
    """

    caption: str
    detail: str
    sequence: WorstSequence
    frames: tuple[StripFrame, ...]
    signals: list[tuple[str, str, list[str]]]


def worst_sequences(evaluation: Evaluation) -> list[Figure]:
    """Returns the worst sequences, worst first."""
    label, figures = evaluation.trained_on.spec.label, []
    for rank, sequence in enumerate(evaluation.analysis.worst, start=1):
        strip = evaluation.strips.get(sequence.place)
        signals = list(strip.signals.items())[:_MAX_SPARKLINES] if strip else []
        figures.append(
            Figure(
                f"{rank}. true: {_describe(sequence.true, label)}; "
                f"predicted: {_describe(sequence.predicted, label)}",
                f"{_describe_loss(sequence.loss, label)}; {sequence.start:.2f} s to {sequence.end:.2f} s",
                sequence,
                strip.frames if strip else (),
                [(name, _span(values), make_sparkline(values)) for name, values in signals],
            )
        )
    return figures


def _describe(value: Any, label: LabelSpec) -> str:
    """Returns ``true`` or ``predicted`` of a `WorstSequence` in words."""
    if isinstance(value, dict):
        units = dict(zip(label.target_names, label.target_units, strict=False))
        return ", ".join(
            f"{name} {_describe_number(own)} {units.get(name, '')}".rstrip()
            for name, own in value.items()
        )
    if not isinstance(value, list):
        return "not a number" if value is None else value
    if label.task == "multilabel":
        return ", ".join(value) or "none"
    counts = {own: value.count(own) for own in value}
    if len(counts) == 1:
        return _describe(value[0], label)
    return ", ".join(f"{_describe(v, label)} ({plural(n, 'frame')})" for v, n in counts.items())


def _describe_number(value: float | list[float | None] | None) -> str:
    if isinstance(value, list):
        return _span(np.array([math.nan if own is None else own for own in value]))
    return "not a number" if value is None else f"{value:.4g}"


def _span(values: Array) -> str:
    if not np.isfinite(values).all():
        return "not a number"
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _describe_loss(loss: float, label: LabelSpec) -> str:
    if math.isinf(loss):
        return "a prediction is not a number"
    if label.task == "regression":
        return f"off by {loss:.2g} standard deviations of the train split"
    if label.task == "multilabel":
        return f"cross entropy {loss:.3g} per class"
    return f"the true class had a probability of {math.exp(-loss):.2g}"
