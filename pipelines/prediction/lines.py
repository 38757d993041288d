"""Describes the answers of a model in words and numbers: classes, values and units, as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

from tfrecords_schema.spec import LabelSpec, format_target

if TYPE_CHECKING:
    from pipelines.prediction.rows import Row

LIKELY = 0.5
"""Probability from which a multi-label model reports a class."""

_DIGITS = 7  # of a float32


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """The meaning of a model's values.

    Attributes:
        label: the classes or targets.
        thresholds: probability from which a multi-label model reports each class; `LIKELY` if empty.
    """

    label: LabelSpec
    thresholds: tuple[float, ...] = ()


def json_line(row: Row, output: ModelOutput) -> dict[str, Any]:
    """Returns a row as a JSON object.

    Example, for a classification by sequence::

        {"source": "a.mp4", "start": 0.8, "end": 1.5, "class": "run",
         "probabilities": {"run": 0.93, "walk": 0.07}}
    """
    line, label = dict(row.place), output.label
    if row.frames:
        line["frames"] = [{"time": time, **describe(own, output)} for time, own in row.frames]
    elif row.values is not None:
        line |= describe(row.values, output)
    if row.reason:
        line["reason"] = row.reason
    elif any(label.target_units):
        line["units"] = dict(zip(label.target_names, label.target_units, strict=True))
    return line


def describe(values: Sequence[float], output: ModelOutput) -> dict[str, Any]:
    """Returns values as ``class`` and ``probabilities``, ``classes`` and these, or ``values`` of targets."""
    label = output.label
    if label.task == "regression":
        named = zip(label.target_names, values, label.offsets, strict=True)
        return {"values": {name: number(value, offset) for name, value, offset in named}}
    likely = likely_classes(values, output)
    probabilities = dict(zip(label.class_names, map(number, values), strict=True))
    if label.task == "multilabel":
        return {"classes": likely, "probabilities": probabilities}
    return {"class": next(iter(likely), None), "probabilities": probabilities}


def likely_classes(values: Sequence[float], output: ModelOutput) -> list[str]:
    """Returns the most likely class, or those that are likely of several; none if no value is a number."""
    label = output.label
    known = {
        name: value
        for name, value in zip(label.class_names, values, strict=True)
        if math.isfinite(value)
    }
    if label.task == "multilabel":
        least = dict(zip(label.class_names, output.thresholds or repeat(LIKELY), strict=False))
        return [name for name, value in known.items() if (number(value) or 0) >= least[name]]
    return sorted(known, key=lambda name: -known[name])[:1]


def number(value: float, offset: float = 0.0) -> float | None:
    """Returns ``value`` with a float32's digits, plus ``offset``; None for NaN and infinities."""
    return float(format_target(value, offset, _DIGITS)) if math.isfinite(value) else None
