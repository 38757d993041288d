"""Small charts as inline SVG. Their colours are the style sheet's, and follow light and dark mode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.evaluation.breakdown import round_step
from trainer.report.markup import escape

Array = npt.NDArray[Any]

# Of the view box. On a phone a chart is about as wide as this, so that its text is not too small.
_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 8, 38
_TICKS = 5
_MOST_DOTS = 2000
_MOST_STEPS = 400
# A line is broken where no value came for this many times the usual while.
_BREAK = 5


@dataclass(frozen=True)
class _Axis:
    """Values from ``low`` to ``high``, drawn from the pixel ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def place(self, values: Any) -> Any:
        return self.start + (values - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Array:
        step = round_step((self.high - self.low) / _TICKS)
        return step * np.arange(math.ceil(self.low / step), math.floor(self.high / step) + 1)


def scatter_chart(
    truth: Array, predicted: Array, baseline: float, *, quantity: str, said: str
) -> str:
    """Predicted against true, ``[M]`` each: a dot a label, drawn from at most 2000 of them.

    Args:
        truth: what is not finite is left out.
        predicted: the same.
        baseline: what is always answered by looking at nothing, drawn dashed.
        quantity: what the values are, with their unit.
        said: what the picture shows, for those who cannot see it.
    """
    truth, predicted = _finite(truth, predicted)
    if not len(truth):
        return ""
    if len(truth) > _MOST_DOTS:
        chosen = np.random.default_rng(0).choice(len(truth), _MOST_DOTS, replace=False)
        truth, predicted = truth[chosen], predicted[chosen]
    low, high = _limits(truth, predicted)
    x, y = _x_axis(low, high), _y_axis(low, high)
    dots = "".join(
        f"M{across:.0f} {up:.0f}h0"
        for across, up in sorted(
            set(zip(x.place(truth).round(), y.place(predicted).round(), strict=True))
        )
    )
    corners = f"M{x.start} {y.start}L{x.end} {y.end}"
    level = f"{y.place(np.clip(baseline, low, high)):.1f}"
    return _chart(
        f'<path class="truth" d="{corners}"/><path class="baseline" d="M{x.start} {level}H{x.end}"/>'
        f'<path class="dots" d="{dots}"/>',
        x,
        y,
        across=f"true {quantity}",
        up=f"predicted {quantity}",
        said=said,
    )


def time_chart(
    seconds: Array, truth: Array, predicted: Array, baseline: float, *, quantity: str, said: str
) -> str:
    """True and predicted over time, ``[M]`` each in any order; those of one time are averaged.

    Args:
        seconds: when.
        truth: where it is not finite, its line is broken.
        predicted: the same.
        baseline: drawn dashed.
        quantity: what the values are, with their unit.
        said: what the picture shows, for those who cannot see it.
    """
    times, places, counts = np.unique(seconds, return_inverse=True, return_counts=True)
    truth, predicted = (np.bincount(places, v) / counts for v in (truth, predicted))
    if len(times) > _MOST_STEPS:
        chosen = np.linspace(0, len(times) - 1, _MOST_STEPS).round().astype(int)
        times, truth, predicted = times[chosen], truth[chosen], predicted[chosen]
    shown = np.concatenate([v[np.isfinite(v)] for v in (truth, predicted)])
    if not len(shown):
        return ""
    low, high = _limits(shown, np.array([baseline]))
    x, y = _x_axis(*_widened(float(times[0]), float(times[-1]))), _y_axis(low, high)
    level = f"{y.place(baseline):.1f}"
    return _chart(
        f'<path class="baseline" d="M{x.start} {level}H{x.end}"/>'
        f'<path class="truth" d="{_line(times, truth, x, y)}"/>'
        f'<path class="predicted" d="{_line(times, predicted, x, y)}"/>',
        x,
        y,
        across="seconds",
        up=quantity,
        said=said,
    )


def sparkline(values: Array, *, said: str) -> str:
    """``[T, size]`` as lines without axes."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ""
    x = _Axis(*_widened(0.0, len(values) - 1.0), 2, 158)
    y = _Axis(*_widened(float(finite.min()), float(finite.max())), 34, 2)
    steps = np.arange(len(values))
    lines = "".join(
        f'<path class="predicted" d="{_line(steps, values[:, i], x, y)}"/>'
        for i in range(values.shape[1])
    )
    return f'<svg class="spark" viewBox="0 0 160 36" role="img" aria-label="{escape(said)}">{lines}</svg>'


def _chart(marks: str, x: _Axis, y: _Axis, *, across: str, up: str, said: str) -> str:
    grid = "".join(
        f'<path class="grid-line" d="M{at:.1f} {y.end}V{y.start}"/>'
        f'<text x="{at:.1f}" y="{y.start + 14}" text-anchor="middle">{value:g}</text>'
        for value, at in _labelled(x)
    ) + "".join(
        f'<path class="grid-line" d="M{x.start} {at:.1f}H{x.end}"/>'
        f'<text x="{x.start - 5}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value, at in _labelled(y)
    )
    middle = (y.start + y.end) / 2
    names = (
        f'<text x="{(x.start + x.end) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>'
        f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"{grid}{names}{marks}</svg>"
    )


def _labelled(axis: _Axis) -> list[tuple[float, float]]:
    # Rounded, since 3 * 0.1 would be labelled 0.30000000000000004.
    return [(round(float(v), 10), float(axis.place(v))) for v in axis.ticks()]


def _line(times: Array, values: Array, x: _Axis, y: _Axis) -> str:
    """The path through the values; dots where a value stands alone."""
    gaps = np.diff(times, prepend=times[0])
    usual = float(np.median(gaps[1:])) if len(times) > 1 else 0.0
    parts, drawing = [], False
    for across, up, gap in zip(x.place(times), y.place(values), gaps, strict=True):
        if not math.isfinite(up):
            drawing = False
            continue
        goes_on = drawing and gap <= _BREAK * usual
        parts.append(f"{'L' if goes_on else 'M'}{across:.1f} {up:.1f}{'' if goes_on else 'h0'}")
        drawing = True
    return "".join(parts)


def _x_axis(low: float, high: float) -> _Axis:
    return _Axis(low, high, _LEFT, _WIDTH - _RIGHT)


def _y_axis(low: float, high: float) -> _Axis:
    return _Axis(low, high, _HEIGHT - _BOTTOM, _TOP)


def _limits(*values: Array) -> tuple[float, float]:
    """From the least to the greatest, with a little room."""
    low = min(float(v.min()) for v in values)
    high = max(float(v.max()) for v in values)
    room = 0.03 * (high - low)
    return _widened(low - room, high + room)


def _widened(low: float, high: float) -> tuple[float, float]:
    """The same limits, unless they are one number, to which nothing could be scaled."""
    if high > low:
        return low, high
    room = 0.5 * abs(low) or 0.5
    return low - room, low + room


def _finite(*values: Array) -> tuple[Array, ...]:
    held = np.all([np.isfinite(v) for v in values], axis=0)
    return tuple(np.asarray(v[held], np.float64) for v in values)
