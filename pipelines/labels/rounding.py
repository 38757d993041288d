"""Finds columns of numbers that float32, in which records hold them, rounds too coarsely."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipelines.errors import UserError

# Rounding errors at which labels lose precision: fractions of their standard deviation in a source, and of
# their usual step from row to row.
_MAX_ERROR, _MAX_STEP_ERROR = 1e-4, 0.05
_MAX_DECIMALS = 10
# Values are equal but for noise (0.1 + 0.2 and 0.3) if their deviation is this fraction of their size.
_NOISE = 2.0**-40


@dataclass(eq=False)
class Rounding:
    """The loss of a column that is stored as float32, less its offset; sums the values of several sources.

    Attributes:
        error: largest difference between a value and what is stored of it.
        decimals: with which all values are written, at most `_MAX_DECIMALS`.
        steps, step_count: sum of steps from row to row, each the median of its source, and their number.
        deviations, count: squared differences of the values from the mean of their source, and their number.
    """

    name: str
    offset: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    error: float = 0.0
    decimals: int = 0
    steps: float = 0.0
    step_count: int = 0
    deviations: float = 0.0
    count: int = 0

    def add(self, values: ArrayLike) -> None:
        """Adds the values of a source, ``[N]``, in order; NaN is none."""
        own = np.asarray(values, np.float64)
        own = own[~np.isnan(own)]
        if not len(own):
            return
        sizes, less = np.abs(own), own - self.offset
        with np.errstate(over="ignore"):
            self.error = max(self.error, float(np.abs(less.astype(np.float32) - less).max()))
        steps = np.abs(np.diff(own))
        steps = steps[steps > _NOISE * sizes.max()]
        if len(steps):
            self.steps += float(np.median(steps)) * len(steps)
            self.step_count += len(steps)
        while self.decimals < _MAX_DECIMALS and not np.all(
            np.abs(np.round(own, self.decimals) - own) <= sizes * 2.0**-50
        ):
            self.decimals += 1
        self.min, self.max = min(self.min, float(own.min())), max(self.max, float(own.max()))
        self.count += len(own)
        self.deviations += float(own.var()) * len(own)

    @property
    def std(self) -> float:
        """The standard deviation within a source."""
        return math.sqrt(self.deviations / max(self.count, 1))

    @property
    def tolerance(self) -> float:
        """The error up to which nothing is lost: half of the last decimal, or little beside differences."""
        step = self.steps / self.step_count if self.step_count else math.inf
        return max(min(_MAX_ERROR * self.std, _MAX_STEP_ERROR * step), 10.0**-self.decimals / 2)

    @property
    def is_coarse(self) -> bool:
        """True if rounding loses differences between values, other than noise."""
        is_noise = self.std <= _NOISE * max(abs(self.min), abs(self.max))
        return self.error > self.tolerance and not is_noise

    def better_offset(self) -> float | None:
        """Returns a round offset with which float32 holds the differences; None if no offset suffices."""
        middle, extent = self.min / 2 + self.max / 2, self.max - self.min
        if not 0 < extent < math.inf:
            return None
        offset = round(middle, -math.floor(math.log10(extent)))  # no farther away than the extent
        farthest = np.float32(max(self.max - offset, offset - self.min))
        return offset if float(np.spacing(farthest)) / 2 <= self.tolerance else None

    def __str__(self) -> str:
        less = f" less {self.offset:.15g}" if self.offset else ""
        return (
            f"{self.name}{less} is {self.min:.15g} to {self.max:.15g}, and would be stored up to "
            f"{self.error:.2g} off, with a standard deviation of {self.std:.2g} in a source"
        )


def add_rows(roundings: Iterable[Rounding], rows: Sequence[Sequence[float]]) -> None:
    """Adds the rows of one source, or the only row of each source, to the roundings of their columns."""
    for rounding, values in zip(roundings, np.asarray(rows, np.float64).T, strict=False):
        rounding.add(values)


def check_targets(place: str, roundings: Iterable[Rounding]) -> None:
    """Raises `UserError` if float32 rounds targets too coarsely; names column, range and remedy."""
    offsets = {own: own.better_offset() for own in roundings if own.is_coarse}
    if not offsets:
        return
    given = ",".join(f"{own.name}={offset or 0:.15g}" for own, offset in offsets.items())
    remedy = f"Give --target_offset {given}, which is subtracted from labels and added to predictions, or use"
    wide = ", ".join(own.name for own, offset in offsets.items() if offset is None)
    raise UserError(
        f"{place}: targets must fit into float32, which has 7 digits, but {'; '.join(map(str, offsets))}. "
        f"{f'No single offset suffices for {wide}: use' if wide else remedy} differences (seconds since the "
        "start of the drive, metres since the last frame)"
    )


def describe_signals(roundings: Iterable[Rounding]) -> list[str]:
    """Returns a note about each input signal that float32 rounds too coarsely."""
    return [
        f"SIGNAL LOSES PRECISION: float32 has 7 digits, but {own}. Use differences instead"
        for own in roundings
        if own.is_coarse
    ]
