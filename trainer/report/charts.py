"""Computes small charts, which ``macros.html`` draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.report.charts import ACROSS, UP, Axis, Chart, widen

Array = npt.NDArray[Any]

_MAX_DOTS = 2000
_MAX_STEPS = 400
_MAX_GAP = 5
"""Usual gaps between two values beyond which their line is broken."""


def make_scatter_chart(
    truth: Array, predicted: Array, baseline: float, *, quantity: str, summary: str
) -> Chart | None:
    """Returns predicted against true values, ``[M]`` each, a dot per label, of at most 2000 random labels.

    The constant prediction of the baseline is drawn dashed, and ``quantity`` names the values and their unit.
    Pairs with a value that is not finite are left out; None is returned if none is left.
    """
    finite = np.isfinite(truth) & np.isfinite(predicted)
    truth, predicted = (values[finite].astype(np.float64) for values in (truth, predicted))
    if not len(truth):
        return None
    if len(truth) > _MAX_DOTS:
        chosen = np.random.default_rng(0).choice(len(truth), _MAX_DOTS, replace=False)
        truth, predicted = truth[chosen], predicted[chosen]
    low, high = _limits(np.append(truth, predicted))
    x, y = Axis(low, high, *ACROSS), Axis(low, high, *UP)
    dots = zip(x.to_pixels(truth).round(), y.to_pixels(predicted).round(), strict=True)
    paths = [
        ("truth", f"M{x.start} {y.start}L{x.end} {y.end}"),
        ("baseline", _level(float(np.clip(baseline, low, high)), x, y)),
        ("dots", "".join(f"M{left:.0f} {top:.0f}h0" for left, top in sorted(set(dots)))),
    ]
    return Chart(x, y, f"true {quantity}", f"predicted {quantity}", summary, paths)


def make_time_chart(
    seconds: Array, truth: Array, predicted: Array, baseline: float, *, quantity: str, summary: str
) -> Chart | None:
    """Returns true and predicted values over time, ``[M]`` each, in any order; None if no value is finite.

    Values of equal times are averaged, lines are broken at values that are not finite, and the constant
    prediction of the baseline is drawn dashed. ``quantity`` names the values and their unit.
    """
    times, places, counts = np.unique(seconds, return_inverse=True, return_counts=True)
    truth, predicted = (np.bincount(places, values) / counts for values in (truth, predicted))
    if len(times) > _MAX_STEPS:
        chosen = np.linspace(0, len(times) - 1, _MAX_STEPS).round().astype(int)
        times, truth, predicted = times[chosen], truth[chosen], predicted[chosen]
    finite = np.concatenate([values[np.isfinite(values)] for values in (truth, predicted)])
    if not len(finite):
        return None
    x = Axis(*widen(float(times[0]), float(times[-1])), *ACROSS)
    y = Axis(*_limits(np.append(finite, baseline)), *UP)
    paths = [
        ("baseline", _level(baseline, x, y)),
        ("truth", _line(times, truth, x, y)),
        ("predicted", _line(times, predicted, x, y)),
    ]
    return Chart(x, y, "seconds", quantity, summary, paths)


def make_curves_chart(
    lines: Mapping[str, Sequence[Mapping[str, str]]], columns: Mapping[str, str], *, summary: str
) -> Chart | None:
    """Returns columns of histories over epochs, a line each; None if no value is finite.

    Args:
        lines: rows of a ``history.csv`` by CSS class of the line.
        columns: the name of its column by CSS class.
        summary: see `Chart`.
    """
    points = {}
    for style, rows in lines.items():
        pairs = [(float(r["epoch"]), float(r[columns[style]])) for r in rows if columns[style] in r]
        if pairs:  # not every run has a validation split
            points[style] = np.array(pairs).T
    if not points:
        return None
    epochs, values = np.concatenate(list(points.values()), axis=1)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    x = Axis(*widen(float(epochs.min()), float(epochs.max())), *ACROSS, min_step=1)
    y = Axis(*_limits(finite), *UP)
    paths = [(style, _line(at, own, x, y)) for style, (at, own) in points.items()]
    return Chart(x, y, "epoch", next(iter(columns.values())), summary, paths)


def make_sparkline(values: Array) -> list[str]:
    """Returns SVG path data of a line without axes for each column of ``values``, ``[T, size]``."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return []
    x = Axis(*widen(0.0, len(values) - 1.0), 2, 158)
    y = Axis(*widen(float(finite.min()), float(finite.max())), 34, 2)
    steps = np.arange(len(values))
    return [_line(steps, column, x, y) for column in values.T]


def _level(value: float, x: Axis, y: Axis) -> str:
    return f"M{x.start} {y.to_pixels(value):.1f}H{x.end}"


def _line(times: Array, values: Array, x: Axis, y: Axis) -> str:
    """Returns a path through the values, with dots for isolated values."""
    gaps = np.diff(times, prepend=times[0])
    usual = float(np.median(gaps[1:])) if len(times) > 1 else 0.0
    parts, drawing = [], False
    for left, top, gap in zip(x.to_pixels(times), y.to_pixels(values), gaps, strict=True):
        if not math.isfinite(top):
            drawing = False
            continue
        continues = drawing and gap <= _MAX_GAP * usual
        parts.append(f"L{left:.1f} {top:.1f}" if continues else f"M{left:.1f} {top:.1f}h0")
        drawing = True
    return "".join(parts)


def _limits(values: Array) -> tuple[float, float]:
    """Returns the range of the values with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.03 * (high - low)
    return widen(low - margin, high + margin)
