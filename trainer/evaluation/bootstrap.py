"""Computes confidence intervals by bootstrap over groups.

Sequences of one drive or video resemble each other, so the independent samples are the groups. Each
resample draws as many groups as there are, with replacement, with all their labels. The interval lies
between percentiles of the metric over the resamples.

- The percentile interval: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
- Resampling groups as a whole: Davison and Hinkley, Bootstrap Methods and their Application (1997),
  section 3.8.
- With few groups such intervals come out too narrow, so the percentiles lie further out, as Student's t
  does: Hesterberg, What Teachers Should Know About the Bootstrap (2015), section 5.3.
- Where all groups agree on a share of 0 or 1, resamples do too, and `wilson_interval` is given: Wilson,
  Probable Inference (1927).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Interval = tuple[float, float]
Name = TypeVar("Name")

_NORMAL = NormalDist()
RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
# With fewer groups there are too few distinct resamples for meaningful percentiles.
MIN_GROUPS = 5
# With fewer groups than these, intervals are too narrow, and a warning says so.
FEW_GROUPS = 20
# Weights of resamples that are held at a time: 32 MiB.
_NUMBERS_AT_A_TIME = 2**22


def bootstrap_intervals(
    measure: Callable[[Array], Mapping[Name, Array]],
    groups: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[Name, Interval | None]:
    """Returns the interval of every metric that ``measure`` computes, between percentiles.

    Example: the mean of 30 numbers that come from 6 groups, 0 to 5 in ``group_of`` ``[30]``::

        sums, counts = np.bincount(group_of, numbers), np.bincount(group_of)
        bootstrap_intervals(lambda w: {"mean": (w @ sums) / (w @ counts)}, groups=6)

    ``measure`` maps weights ``[r, groups]`` float64, the times that each group is in each of r resamples, to
    metrics ``[r]`` by name.

    Returns:
        Intervals by name; None with fewer than `MIN_GROUPS` groups, and for a metric that is finite in no
        resample. Resamples in which it is not finite, such as those without a class, do not count.
    """
    parts = [measure(w) for w in resample_weights(groups, resamples=resamples, seed=seed)]
    tail = 1.0 if groups < MIN_GROUPS else expanded_tail(groups)
    intervals: dict[Name, Interval | None] = {}
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        values = values[np.isfinite(values)]
        if groups < MIN_GROUPS or not len(values):
            intervals[name] = None
        else:
            low, high = np.quantile(values, (tail, 1 - tail))
            intervals[name] = (float(low), float(high))
    return intervals


def expanded_tail(groups: int) -> float:
    """Returns the share of resamples below an interval: 0.025 for very many groups, 0.001 for 5."""
    z, freedom = _NORMAL.inv_cdf((1 + LEVEL) / 2), groups - 1
    # The quantile of Student's t by the expansion of Cornish and Fisher, exact to 0.3 % from 5 groups on.
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    t = z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
    return _NORMAL.cdf(-t * math.sqrt(groups / freedom))


def wilson_interval(share: float, count: int) -> Interval:
    """Returns the interval of a share of ``count`` independent samples; it has a width at 0 and 1 too."""
    z = _NORMAL.inv_cdf((1 + LEVEL) / 2)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    return max(centre - reach, 0.0), min(centre + reach, 1.0)


def resample_weights(groups: int, *, resamples: int, seed: int) -> Iterator[Array]:
    """Yields weights ``[r, groups]`` float64: how many times each group is in each resample."""
    random = np.random.default_rng(seed)
    at_a_time = max(1, _NUMBERS_AT_A_TIME // groups)
    for start in range(0, resamples, at_a_time):
        rows = min(at_a_time, resamples - start)
        drawn = random.integers(0, groups, (rows, groups)) + groups * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * groups)
        yield counts.reshape(rows, groups).astype(np.float64)
