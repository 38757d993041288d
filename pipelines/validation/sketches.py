"""`Sketch`: a sample and the extremes of any number of values, in a few kilobytes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

_SAMPLE_SIZE = 1000
_EXTREMES = 10
_NORMAL_MAD = 1.4826
"""Standard deviations of a normal distribution in one of its median absolute deviations."""
_MIN_SAMPLE = 20
"""Values that outliers need to be told from the others."""


class Extreme(NamedTuple):
    """A value and the place of its record."""

    value: float
    shard: str
    offset: int


@dataclass
class Sketch:
    """A random sample of values, and the most extreme ones with their places.

    Sketches of parts add up to the sketch of the whole: the sample holds the values of lowest rank, in
    whatever order they are added.

    Attributes:
        sample: a heap of negative rank and value.
        lowest, highest: most extreme first.
    """

    sample: list[tuple[int, float]] = field(default_factory=list)
    lowest: list[Extreme] = field(default_factory=list)
    highest: list[Extreme] = field(default_factory=list)

    def add(self, values: Iterable[float], rank: int, shard: str, offset: int) -> None:
        """Adds the finite values of a record, whose hash ``rank`` decides which of them is in the sample."""
        finite = [value for value in values if value - value == 0]
        if not finite:
            return
        entry = (-rank, finite[rank % len(finite)])
        if len(self.sample) < _SAMPLE_SIZE:
            heapq.heappush(self.sample, entry)
        elif entry > self.sample[0]:
            heapq.heapreplace(self.sample, entry)
        low, high = min(finite), max(finite)
        if len(self.lowest) < _EXTREMES or low < self.lowest[-1].value:
            self.lowest = sorted([*self.lowest, Extreme(low, shard, offset)])[:_EXTREMES]
        if len(self.highest) < _EXTREMES or high > self.highest[-1].value:
            self.highest = _highest([*self.highest, Extreme(high, shard, offset)])

    def __add__(self, other: Sketch) -> Sketch:
        """Returns the sketch of the values of both."""
        sample = heapq.nlargest(_SAMPLE_SIZE, [*self.sample, *other.sample])
        heapq.heapify(sample)
        lowest = sorted([*self.lowest, *other.lowest])[:_EXTREMES]
        return Sketch(sample, lowest, _highest([*self.highest, *other.highest]))

    def outliers(self, max_scale: float, *, min_scale: float = 0.0) -> list[tuple[Extreme, float]]:
        """Returns the extremes more than ``max_scale`` from the median, with their distance, farthest first.

        Distances are in robust standard deviations (see `scale`) of at least ``min_scale``.
        """
        median, scale = self.scale()
        scale = max(scale, min_scale)
        if len(self.sample) < _MIN_SAMPLE or not scale:
            return []
        found = [(e, abs(e.value - median) / scale) for e in {*self.lowest, *self.highest}]
        far = [pair for pair in found if pair[1] > max_scale]
        # By place, too: the order of a set changes from run to run.
        return sorted(far, key=lambda pair: (-pair[1], pair[0]))

    def scale(self) -> tuple[float, float]:
        """Returns the median and a robust standard deviation, which is 0 if nearly all values are equal.

        It is the larger of two estimates: by the median absolute deviation, and by the range of the middle
        98% of the values. The second keeps values from being outliers if one in fifty is like them.
        """
        if not self.sample:
            return 0.0, 0.0
        values = np.array([value for _, value in self.sample])
        # 1% on either side is left out, but of fewer than 500 values five, and at most a quarter.
        outer = min(max(0.01, 5 / len(values)), 0.25)
        low, median, high = np.quantile(values, [outer, 0.5, 1 - outer])
        if high == low:
            return float(median), 0.0
        mad = float(np.median(np.abs(values - median)))
        normal_range = 2 * NormalDist().inv_cdf(1 - outer)
        return float(median), max(_NORMAL_MAD * mad, float(high - low) / normal_range)


def _highest(extremes: list[Extreme]) -> list[Extreme]:
    return sorted(extremes, key=lambda e: (-e.value, e.shard, e.offset))[:_EXTREMES]
