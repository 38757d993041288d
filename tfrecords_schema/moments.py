"""Computes mean, spread and range of numbers in parts that can be added."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean, sum of squared differences from the mean, minimum and maximum of ``count`` numbers.

    ``Moments.of([1, 3]) + Moments.of([5])`` equals ``Moments.of([1, 3, 5])``: count 3, mean 3, deviations 8.
    Sums of squares would lose the spread of large values, such as clock times, to rounding.
    """

    count: int = 0
    mean: float = 0.0
    deviations: float = 0.0
    min: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float]) -> Moments:
        """Returns the moments of ``values``."""
        if not values:
            return cls()
        mean = math.fsum(values) / len(values)
        return cls(
            count=len(values),
            mean=mean,
            deviations=math.fsum((value - mean) ** 2 for value in values),
            min=min(values),
            max=max(values),
        )

    def __add__(self, other: Moments) -> Moments:
        """Returns the moments of both together (Chan, Golub and LeVeque 1979, "Updating formulae")."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        distance = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + distance * other.count / count,
            deviations=self.deviations
            + other.deviations
            + distance**2 * self.count * other.count / count,
            min=min(self.min, other.min),
            max=max(self.max, other.max),
        )

    @property
    def std(self) -> float:
        """Population standard deviation; 0 for no numbers."""
        return math.sqrt(self.deviations / self.count) if self.count else 0.0


def add_each(mine: Sequence[Moments], others: Sequence[Moments]) -> tuple[Moments, ...]:
    """Adds moments position by position; an empty sequence counts as no moments yet."""
    if not mine or not others:
        return tuple(mine or others)
    return tuple(a + b for a, b in zip(mine, others, strict=True))


def moments_by_column(rows: Iterable[Sequence[float]]) -> tuple[Moments, ...]:
    """Returns the moments of each column of ``rows``; empty for no rows."""
    return tuple(Moments.of(column) for column in zip(*rows, strict=True))
