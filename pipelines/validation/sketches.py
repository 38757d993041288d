"""`Sketch`: what a column of numbers is like, in a few kilobytes however many there are."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

_SAMPLE = 1000
_EXTREMES = 10
_NORMAL_MAD = 1.4826
"""Standard deviations of a normal distribution in one of its median absolute deviations."""
_LEAST_SAMPLE = 20


class Extreme(NamedTuple):
    """A value and the record that has it."""

    value: float
    shard: str
    offset: int


@dataclass
class Sketch:
    """A sample of values drawn by rank, and the most extreme ones with their places.

    Sketches of parts add up to the sketch of the whole: the sample is of the values of lowest rank, whatever
    the order in which they come.
    """

    sample: list[tuple[int, float]] = field(default_factory=list)
    lowest: list[Extreme] = field(default_factory=list)
    highest: list[Extreme] = field(default_factory=list)

    def add(self, values: Iterable[float], rank: int, shard: str, offset: int) -> None:
        """Takes the finite values of one record.

        Args:
            values: of the record.
            rank: a hash of the record, by which one of its values is drawn, or none.
            shard: where the record lies.
            offset: where it lies in the shard.
        """
        finite = [value for value in values if value - value == 0]
        if not finite:
            return
        entry = (-rank, finite[rank % len(finite)])
        if len(self.sample) < _SAMPLE:
            heapq.heappush(self.sample, entry)
        elif entry > self.sample[0]:
            heapq.heapreplace(self.sample, entry)
        low, high = min(finite), max(finite)
        if len(self.lowest) < _EXTREMES or low < self.lowest[-1].value:
            self.lowest = sorted([*self.lowest, Extreme(low, shard, offset)])[:_EXTREMES]
        if len(self.highest) < _EXTREMES or high > self.highest[-1].value:
            self.highest = _highest([*self.highest, Extreme(high, shard, offset)])

    def merge(self, other: Sketch) -> None:
        """Takes what ``other`` was given."""
        self.sample = heapq.nlargest(_SAMPLE, [*self.sample, *other.sample])
        heapq.heapify(self.sample)
        self.lowest = sorted([*self.lowest, *other.lowest])[:_EXTREMES]
        self.highest = _highest([*self.highest, *other.highest])

    def outliers(self, most: float, *, least_scale: float = 0.0) -> list[tuple[Extreme, float]]:
        """The extremes that lie more than ``most`` robust standard deviations from the median, and how many.

        Args:
            most: robust standard deviations; see `scale`.
            least_scale: what a standard deviation is at least.
        """
        median, scale = self.scale()
        scale = max(scale, least_scale)
        if len(self.sample) < _LEAST_SAMPLE or not scale:
            return []
        far = [(e, abs(e.value - median) / scale) for e in {*self.lowest, *self.highest}]
        return sorted((pair for pair in far if pair[1] > most), key=lambda pair: -pair[1])

    def scale(self) -> tuple[float, float]:
        """Median and robust standard deviation; the latter is 0 where nearly all values are equal.

        It is the larger of those that the median absolute deviation and the span of 98% of the values stand
        for, so that a value is not far off where one in fifty is like it.
        """
        if not self.sample:
            return 0.0, 0.0
        values = np.array([value for _, value in self.sample])
        # Of few values, a hundredth is none: at least five on either side are left out.
        outer = min(max(0.01, 5 / len(values)), 0.25)
        first, median, last = np.quantile(values, [outer, 0.5, 1 - outer])
        mad = float(np.median(np.abs(values - median)))
        normal = 2 * NormalDist().inv_cdf(1 - outer)
        if last == first:
            return float(median), 0.0
        return float(median), max(_NORMAL_MAD * mad, float(last - first) / normal)


def _highest(extremes: list[Extreme]) -> list[Extreme]:
    return sorted(extremes, key=lambda e: (-e.value, e.shard, e.offset))[:_EXTREMES]
