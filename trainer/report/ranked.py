"""Describes the worst and the best sequences, with their filmstrips and signals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.report.pages import plural
from tfrecords_schema.spec import LabelSpec, format_target
from trainer.evaluation.breakdown import RankedSequence
from trainer.evaluation.evaluate import Evaluation
from trainer.report.charts import make_sparkline

Array = npt.NDArray[Any]

_MAX_SPARKLINES = 6


def ranked_sequences(
    evaluation: Evaluation, sequences: Sequence[RankedSequence]
) -> list[dict[str, Any]]:
    """Returns the worst or the best sequences as ``page.html`` shows them, in their order.

    ``frames`` are some of the sequence's frames, ``heat`` some with what the answer depends on; ``signals``
    the name, the range and the lines of each of its first signals.
    """
    label, figures = evaluation.trained_on.spec.label, []
    for rank, sequence in enumerate(sequences, start=1):
        strip = evaluation.strips.get(sequence.place)
        signals = list(strip.signals.items())[:_MAX_SPARKLINES] if strip else []
        true, predicted = (_describe(v, label) for v in (sequence.true, sequence.predicted))
        loss = _describe_loss(sequence.loss, label)
        figures.append(
            {
                "caption": f"{rank}. true: {true}; predicted: {predicted}",
                "detail": f"{loss}; {sequence.start:.2f} s to {sequence.end:.2f} s",
                "sequence": sequence,
                "frames": strip.frames if strip else (),
                "heat": strip.heat if strip else (),
                "signals": [(name, _span(v), make_sparkline(v)) for name, v in signals],
            }
        )
    return figures


def _describe(value: Any, label: LabelSpec) -> str:
    """Returns ``true`` or ``predicted`` of a `RankedSequence` in words."""
    if isinstance(value, dict):
        units = dict(zip(label.target_names, label.target_units, strict=False))
        offsets = dict(zip(label.target_names, label.offsets, strict=True))
        return ", ".join(
            f"{name} {_span(np.array(own), offsets[name])} {units.get(name, '')}".rstrip()
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


def _span(values: Array, offset: float = 0.0) -> str:
    if not np.isfinite(values).all():
        return "not a number"
    low, high = (format_target(v - offset, offset, 4) for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _describe_loss(loss: float, label: LabelSpec) -> str:
    if math.isinf(loss):
        return "a prediction is not a number"
    if label.task == "regression":
        return f"off by {loss:.2g} standard deviations of the train split"
    if label.task == "multilabel":
        return f"cross entropy {loss:.3g} per class"
    return f"the true class had a probability of {math.exp(-loss):.2g}"
