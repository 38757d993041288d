"""Finds columns of numbers that float32, in which records hold them, rounds too coarsely."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipelines.errors import UserError

_MAX_ERROR, _MAX_STEP_ERROR = 1e-4, 0.05
"""Rounding errors at which labels lose precision: fractions of their standard deviation in a source, and of
their usual step from row to row."""
_MAX_DECIMALS = 9
_NOISE = 2.0**-46
"""Values are equal but for noise (0.1 + 0.2 and 0.3) if their deviation is this fraction of their size."""


@dataclass
class Rounding:
    """The loss of a column that is stored as float32, less its offset; sums the values of several sources.

    Attributes:
        error: largest difference between a value and what is stored of it.
        decimals: with which all values are written; more than `_MAX_DECIMALS` for those that were computed.
        steps, step_count: sum of the sources' median steps from row to row, each as often as the source has
            steps, without those that are only noise; and their number.
        count, deviations: of the values, and their squared differences from the mean of their source.
    """

    name: str
    offset: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    error: float = 0.0
    decimals: int = 0
    steps: float = 0.0
    step_count: int = 0
    count: int = 0
    deviations: float = 0.0

    def add(self, values: ArrayLike) -> None:
        """Adds the values of a source, ``[N]``, in order; NaN is none."""
        own = np.asarray(values, np.float64)
        own = own[~np.isnan(own)]
        if not len(own):
            return
        with np.errstate(over="ignore"):
            rounded = (own - self.offset).astype(np.float32).astype(np.float64)
        self.error = max(self.error, float(np.abs(rounded - (own - self.offset)).max()))
        steps = np.abs(np.diff(own))
        steps = steps[steps > _NOISE * np.abs(own).max()]
        if len(steps):
            self.steps += float(np.median(steps)) * len(steps)
            self.step_count += len(steps)
        noise = np.abs(own) * 2.0**-50
        while self.decimals <= _MAX_DECIMALS and not np.all(
            np.abs(np.round(own, self.decimals) - own) <= noise
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
        digit = 10.0**-self.decimals if self.decimals <= _MAX_DECIMALS else 0.0
        step = self.steps / self.step_count if self.step_count else math.inf
        return max(min(_MAX_ERROR * self.std, _MAX_STEP_ERROR * step), digit / 2)

    @property
    def is_coarse(self) -> bool:
        """True if rounding loses differences between values, other than noise."""
        noise = _NOISE * max(abs(self.min), abs(self.max))
        return self.error > self.tolerance and self.std > noise

    def better_offset(self) -> float | None:
        """Returns a round offset with which float32 holds the differences; None if no offset suffices."""
        middle, extent = self.min / 2 + self.max / 2, self.max - self.min
        if not 0 < extent < math.inf:
            return None
        offset = round(middle, -math.floor(math.log10(extent)))  # no farther away than the extent
        farthest = np.float32(max(self.max - offset, offset - self.min))
        return offset if float(np.spacing(farthest)) / 2 <= self.tolerance else None

    def describe(self) -> str:
        """Describes the loss: ``time is 1.7e9 to 1.7e9 + 60, and off by up to 64 (std 17)``."""
        less = f" less {self.offset:.15g}" if self.offset else ""
        return (
            f"{self.name}{less} is {self.min:.15g} to {self.max:.15g}, and would be stored up to "
            f"{self.error:.2g} off, with a standard deviation of {self.std:.2g} in a source"
        )


def make_roundings(names: Sequence[str], offsets: Sequence[float] = ()) -> list[Rounding]:
    """Returns a `Rounding` without values for each column."""
    return [
        Rounding(name, offset)
        for name, offset in zip(names, offsets or [0.0] * len(names), strict=True)
    ]


def add_rows(roundings: Iterable[Rounding], rows: Sequence[Sequence[float]]) -> None:
    """Adds the rows of one source, or the only row of each source, to the roundings of their columns."""
    table = np.asarray(rows, np.float64)
    for index, rounding in enumerate(roundings if len(table) else ()):
        rounding.add(table[:, index])


def check_targets(place: str, roundings: Iterable[Rounding]) -> None:
    """Raises `UserError` if float32 rounds targets too coarsely; names column, range and remedy."""
    coarse = [rounding for rounding in roundings if rounding.is_coarse]
    if not coarse:
        return
    offsets = {own.name: own.better_offset() for own in coarse}
    given = ",".join(
        f"{name}={offset:.15g}" for name, offset in offsets.items() if offset is not None
    )
    differences = "differences (seconds since the start of the drive, metres since the last frame)"
    wide = ", ".join(name for name, offset in offsets.items() if offset is None)
    remedy = f"Use {differences}: no single offset suffices for {wide}"
    if not wide:
        remedy = (
            f"Give --target_offset {given}, which is subtracted from labels and added to predictions, or use "
            f"{differences}"
        )
    raise UserError(
        f"{place}: targets must fit into float32, which has 7 digits, but "
        f"{'; '.join(own.describe() for own in coarse)}. {remedy}"
    )


def describe_signals(roundings: Iterable[Rounding]) -> list[str]:
    """Returns a note about each input signal that float32 rounds too coarsely."""
    return [
        f"SIGNAL LOSES PRECISION: float32 has 7 digits, but {own.describe()}. Use differences instead"
        for own in roundings
        if own.is_coarse
    ]
