"""Compares the distributions of labels in two splits, with an allowance for chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.dataset_view import DatasetView
from pipelines.validation.views import target_column

_BINS = 8
"""Bins of the histograms that are compared: few, so that few values suffice."""


def significant_divergences(
    one: tuple[DatasetView, str], other: tuple[DatasetView, str]
) -> Iterator[tuple[str, float]]:
    """Yields the names and divergences of classes or targets that differ by more than chance.

    Each split is given as a dataset and a name. The thresholds are those of the second dataset.
    """
    (first, first_split), (second, second_split) = one, other
    mine, theirs = first.tallies[first_split], second.tallies[second_split]
    histograms: dict[str, tuple[Sequence[int], Sequence[int]]]
    histograms = {"classes": (mine.labels, theirs.labels)}
    for name in second.info.spec.label.target_names:
        bins, other_bins = (t.histograms.get(target_column(name), []) for t in (mine, theirs))
        histograms[f"values of {name}"] = (coarsen(bins, _BINS), coarsen(other_bins, _BINS))
    for what, (counts, other_counts) in histograms.items():
        if not any(counts) or not any(other_counts):
            continue
        used = sum(1 for a, b in zip(counts, other_counts, strict=True) if a or b)
        # Records of one source are alike, so that sources are the independent draws.
        chance = expected_by_chance(
            used, first.count_sources(first_split), second.count_sources(second_split)
        )
        divergence = jensen_shannon(counts, other_counts)
        if divergence > second.thresholds.skew + chance:
            yield what, divergence


def jensen_shannon(one: Sequence[int], other: Sequence[int]) -> float:
    """Returns the Jensen-Shannon divergence of two histograms, with logarithms of base 2.

    It is 0 for equal proportions and 1 for histograms that share no bin, as in TensorFlow Data Validation's
    skew and drift comparators. ``jensen_shannon([1, 1], [2, 2])`` is 0.
    """
    if not sum(one) or not sum(other):
        return 0.0
    first, second = np.array(one) / sum(one), np.array(other) / sum(other)
    parts = (_entropy(first) + _entropy(second)) / 2
    return max(0.0, _entropy((first + second) / 2) - parts)


def _entropy(fractions: NDArray[np.float64]) -> float:
    used = fractions[fractions > 0]
    return -float(used @ np.log2(used))


def expected_by_chance(bins: int, one: int, other: int) -> float:
    """Returns the divergence that two samples of one distribution rarely exceed.

    The divergence of small samples is never 0. Times 8 ln 2 / (1/n + 1/m) it follows a chi-squared
    distribution with ``bins - 1`` degrees of freedom (Lin 1991; Grosse et al. 2002), whose mean is
    ``bins - 1``. Four standard deviations more are allowed. ``bins`` are those that are not empty in both;
    ``one`` and ``other`` are the independent draws of each sample.
    """
    if not one or not other or bins < 2:
        return 1.0
    freedom = bins - 1
    unlikely = freedom + 4 * math.sqrt(2 * freedom)
    return unlikely * (1 / one + 1 / other) / (8 * math.log(2))


def coarsen(bins: Sequence[int], count: int) -> list[int]:
    """Returns a histogram with about ``count`` bins: ``coarsen([1, 2, 3, 4], 2)`` is ``[3, 7]``."""
    width = max(1, len(bins) // count)
    return [sum(bins[start : start + width]) for start in range(0, len(bins), width)]
