"""Computes charts with two axes, which the macro ``chart`` of ``macros.html`` draws as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

# Pixels of the view box. A phone is about as wide as this, so that text is not too small there.
WIDTH, HEIGHT = 360, 230
ACROSS, UP = (48, WIDTH - 10), (HEIGHT - 38, 8)
"""Pixels from the low to the high end of the horizontal and of the vertical axis."""

_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """The values from ``low`` to ``high``, drawn from pixel ``start`` to pixel ``end``."""

    low: float
    high: float
    start: float
    end: float
    min_step: float = 0.0
    """Smallest distance of two ticks."""

    def to_pixels(self, values: Any) -> Any:
        """Returns the positions of values along the axis."""
        return self.start + (values - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[tuple[str, float]]:
        """Returns the text and the position of each tick."""
        step = max(round_step((self.high - self.low) / _TICKS), self.min_step)
        values = step * np.arange(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        return [(_tick_text(float(v)), float(self.to_pixels(v))) for v in values]


class Bar(NamedTuple):
    """A bar of a chart: its pixels, and what it shows in words."""

    left: float
    top: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Chart:
    """A chart with two axes.

    Attributes:
        x, y: the axes.
        x_name, y_name: what the axes measure, with the unit.
        summary: what the chart shows, for readers who cannot see it.
        paths: CSS class and SVG path data of each line.
        bars: drawn below the lines.
    """

    x: Axis
    y: Axis
    x_name: str
    y_name: str
    summary: str
    paths: Sequence[tuple[str, str]] = ()
    bars: Sequence[Bar] = ()
    width: int = WIDTH
    height: int = HEIGHT


def make_histogram(
    counts: Sequence[int], low: float, high: float, *, x_name: str, y_name: str, summary: str
) -> Chart:
    """Returns a bar for each of the ranges of equal width into which ``low`` to ``high`` is divided."""
    low, high = widen(low, high)
    x = Axis(low, high, *ACROSS)
    y = Axis(0.0, 1.05 * max(1, *counts), *UP, min_step=1)
    edges = np.linspace(low, high, len(counts) + 1)
    places = x.to_pixels(edges)
    bars = []
    for index, count in enumerate(counts):
        top = float(y.to_pixels(count))
        title = f"{edges[index]:.4g} to {edges[index + 1]:.4g}: {count:,}"
        width = float(places[index + 1] - places[index])
        bars.append(Bar(float(places[index]), top, 0.9 * width, y.start - top, title))
    return Chart(x, y, x_name, y_name, summary, bars=bars)


def _tick_text(value: float) -> str:
    """Returns ``0.3``, ``25000``, ``150k`` or ``2M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if 1e5 <= abs(value) < 1e13 and abs(value) >= size:
            return f"{value / size:.6g}{unit}"
    # Without rounding, 3 * 0.1 would be labelled 0.30000000000000004.
    return f"{round(value, 10):g}"


def round_step(step: float) -> float:
    """Returns the smallest of 1, 2, 2.5 and 5 times a power of ten that is at least ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= step * (1 - 1e-9))


def widen(low: float, high: float) -> tuple[float, float]:
    """Returns the same range, unless it is empty: values cannot be scaled to an empty range."""
    if high > low:
        return low, high
    margin = 0.5 * abs(low) or 0.5
    return low - margin, low + margin
