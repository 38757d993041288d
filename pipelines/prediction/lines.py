"""Formats answers as lines of the output: names, units and times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import repeat
from typing import Any

from pipelines.prediction.sequences import Answer
from tfrecords_schema.spec import LabelSpec, format_target

LIKELY = 0.5
"""Probability from which a multi-label model reports a class."""

_DIGITS = 7  # of a float32


def prediction_line(
    answer: Answer,
    label: LabelSpec,
    *,
    source: str,
    origin: int,
    thresholds: Sequence[float] = (),
) -> dict[str, Any]:
    """Returns a line of the output as JSON; its times are in seconds after the file's first frame.

    Example, for a classification::

        {"source": "a.mp4", "start": 0.8, "end": 1.5, "class": "run",
         "probabilities": {"run": 0.93, "walk": 0.07}}

    ``origin`` is the presentation time of the first frame, microseconds; ``thresholds``, of each class of a
    multi-label model, are `LIKELY` if empty.
    """
    fields: dict[str, Any] = {
        "source": source,
        "start": _seconds(answer.start, origin),
        "end": _seconds(answer.end, origin),
    }
    if label.per_frame:
        size = len(label.class_names or label.target_names)
        fields["frames"] = [
            {"time": _seconds(time, origin), **_describe(answer.values[size * i :][:size], label)}
            for i, time in enumerate(answer.times)
        ]
    else:
        fields |= _describe(answer.values, label, thresholds)
    if any(label.target_units):
        fields["units"] = dict(zip(label.target_names, label.target_units, strict=True))
    return fields


def _seconds(timestamp: int, origin: int) -> float:
    return (timestamp - origin) / 1_000_000


def _describe(
    values: Sequence[float], label: LabelSpec, thresholds: Sequence[float] = ()
) -> dict[str, Any]:
    if label.task == "regression":
        named = zip(label.target_names, values, label.offsets, strict=True)
        return {"values": {name: _number(value, offset) for name, value, offset in named}}
    probabilities = dict(zip(label.class_names, map(_number, values), strict=True))
    known = {name: value for name, value in probabilities.items() if value is not None}
    if label.task == "multilabel":
        least = dict(zip(label.class_names, thresholds or repeat(LIKELY), strict=False))
        likely = [name for name, value in known.items() if value >= least[name]]
        return {"classes": likely, "probabilities": probabilities}
    likeliest = max(known, key=lambda name: known[name], default=None)
    return {"class": likeliest, "probabilities": probabilities}


def _number(value: float, offset: float = 0.0) -> float | None:
    """Returns ``value`` with a float32's digits, plus ``offset``; None for NaN and infinities."""
    return float(format_target(value, offset, _DIGITS)) if math.isfinite(value) else None
