"""How far two histograms are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BINS = 8


def jensen_shannon(one: Sequence[int], other: Sequence[int]) -> float:
    """The Jensen-Shannon divergence of two histograms, with logarithms of base 2.

    It is 0 for equal proportions and 1 for histograms that share no bin, as TensorFlow Data Validation's
    skew and drift comparators have it. ``jensen_shannon([1, 1], [2, 2])`` is 0.
    """
    first, second = sum(one), sum(other)
    if not first or not second:
        return 0.0
    total = 0.0
    for a, b in zip(one, other, strict=True):
        p, q = a / first, b / second
        mean = (p + q) / 2
        total += (p * math.log2(p / mean) if p else 0.0) + (q * math.log2(q / mean) if q else 0.0)
    return max(0.0, total / 2)


def expected_by_chance(bins: int, one: int, other: int) -> float:
    """What two draws from one distribution may well give, by the number of independent draws in each.

    The divergence of small samples is never 0. Times 8 ln 2 / (1/n + 1/m) it follows a chi-squared
    distribution of ``bins - 1`` degrees of freedom (Lin 1991, and Grosse et al. 2002), whose mean is
    ``bins - 1``; allowed are four standard deviations more.
    """
    if not one or not other or bins < 2:
        return 1.0
    freedom = bins - 1
    unlikely = freedom + 4 * math.sqrt(2 * freedom)
    return unlikely * (1 / one + 1 / other) / (8 * math.log(2))


def coarsen(bins: Sequence[int]) -> list[int]:
    """A histogram of fewer bins, so that few values are enough to compare it."""
    width = max(1, len(bins) // _BINS)
    return [sum(bins[start : start + width]) for start in range(0, len(bins), width)]
