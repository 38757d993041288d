"""`Moments`: mean, spread and range of numbers, which can be added up piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of ``count`` numbers: their mean, the sum of squared differences from it, the least and the greatest.

    Not sums of squares: those of large values (clock times, say) would leave no digits for the spread.
    """

    count: int = 0
    mean: float = 0.0
    deviations: float = 0.0
    min: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float]) -> Moments:
        """The moments of ``values``."""
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
        """The moments of both together (Chan, Golub and LeVeque 1979, "Updating formulae")."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        apart = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + apart * other.count / count,
            deviations=self.deviations
            + other.deviations
            + apart**2 * self.count * other.count / count,
            min=min(self.min, other.min),
            max=max(self.max, other.max),
        )

    @property
    def std(self) -> float:
        """Population standard deviation; 0 of nothing."""
        return math.sqrt(self.deviations / self.count) if self.count else 0.0


def add_each(mine: Sequence[Moments], others: Sequence[Moments]) -> tuple[Moments, ...]:
    """Adds moments place by place; an empty sequence stands for none so far."""
    if not mine or not others:
        return tuple(mine or others)
    return tuple(a + b for a, b in zip(mine, others, strict=True))


def moments_by_column(rows: Iterable[Sequence[float]]) -> tuple[Moments, ...]:
    """The moments of each column of ``rows``; empty for no rows."""
    return tuple(Moments.of(column) for column in zip(*rows, strict=True))
