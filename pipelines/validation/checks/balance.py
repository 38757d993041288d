"""The checks of how records are spread over splits and shards."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from pipelines.validation.dataset_view import DatasetView
from pipelines.validation.findings import Check, Problem, check, error, note, warning
from pipelines.validation.tallies import Tally
from pipelines.validation.views import target_column

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


_LEAST_CHANGES = 20
_SMALL_SHARD = 1 << 20


@check(
    "balance.empty_splits",
    reason="Without validation records no training can be stopped at its best; without test "
    "records no result counts.",
    remedy="With few groups, choose --splits or another --seed, or give more footage.",
)
def empty_splits(dataset: DatasetView) -> Iterator[Problem]:
    """Every split holds records."""
    if not any(split.num_records for split in dataset.info.splits.values()):
        yield error("the dataset holds no record")
        return
    for name, split in dataset.info.splits.items():
        if not split.num_records:
            yield note(f"split {name} holds no record")


@check(
    "balance.shards",
    reason="Readers deal shards to workers; one that is much longer than the others keeps its "
    "worker busy while the others wait, and its records apart from theirs.",
    remedy="Build again with more --shards, or a smaller --segment_length, so that long sources "
    "are cut.",
)
def shard_sizes(dataset: DatasetView) -> Iterator[Problem]:
    """The shards of a split are of like size."""
    for name, split in dataset.info.splits.items():
        sizes = [shard.bytes for shard in split.shards]
        usual = statistics.median(sizes) if sizes else 0
        if not usual and any(sizes):
            yield note(f"{name}: {sizes.count(0)} of its {len(sizes)} shards are empty")
        largest = max(split.shards, key=lambda shard: shard.bytes, default=None)
        if largest and largest.bytes > max(dataset.thresholds.shard_ratio * usual, _SMALL_SHARD):
            yield warning(
                f"{name}: {largest.file} has {largest.bytes:,} bytes, the median shard has {usual:,.0f}"
            )


@check(
    "balance.shuffle",
    reason="Readers shuffle within a buffer; where all of a class lie together in a shard, a "
    "batch holds one class, and the model forgets the others meanwhile.",
    remedy="Build again with `pipelines`, which deals sources to shards by a hash; with other "
    "writers, shuffle before writing. Until then, shuffle with a buffer of a whole shard.",
)
def shuffle_quality(dataset: DatasetView) -> Iterator[Problem]:
    """From source to source within shards, classes change as often as in a shuffled order."""
    for split, shards in dataset.by_split.items():
        counts = _label_counts(dataset.tallies[split])
        total = sum(counts)
        changes = sum(shard.order.sources for shard in shards)
        if not total or changes < _LEAST_CHANGES:
            continue
        expected = 1 - sum((count / total) ** 2 for count in counts)
        found = sum(shard.order.classes for shard in shards) / changes
        # By chance, a shuffled order has a few less.
        chance = 3 * math.sqrt(expected * (1 - expected) / changes)
        if expected and found < min(dataset.thresholds.shuffle * expected, expected - chance):
            yield warning(
                f"{split}: from one source to the next, the class (or quarter of the target) changes in "
                f"{found:.0%} of the cases; shuffled, it would in {expected:.0%}"
            )


@check(
    "balance.skew",
    reason="A split whose labels are distributed otherwise measures something else: a model is "
    "stopped, or judged, by another mixture than it was trained on.",
    remedy="Choose another --seed or --splits, stratify the manifest's split column, or add "
    "footage; raise skew in validation.json where the difference is meant.",
)
def label_skew(dataset: DatasetView) -> Iterator[Problem]:
    """Labels are distributed alike in all splits, as far as chance allows."""
    base = "train" if "train" in dataset.tallies else next(iter(dataset.tallies), "")
    for split, tally in dataset.tallies.items():
        if split == base:
            continue
        for what, one, other in _distributions(dataset, dataset.tallies[base], tally):
            apart = jensen_shannon(one, other)
            # Records of one source are alike, so that sources are what was drawn.
            used = sum(1 for a, b in zip(one, other, strict=True) if a or b)
            chance = expected_by_chance(
                used, dataset.count_sources(base), dataset.count_sources(split)
            )
            if apart > dataset.thresholds.skew + chance:
                yield warning(
                    f"{what} of {split} are distributed otherwise than those of {base}: a Jensen-Shannon "
                    f"divergence of {apart:.2f}"
                )


BALANCE_CHECKS: tuple[Check[DatasetView], ...] = (
    empty_splits,
    shard_sizes,
    shuffle_quality,
    label_skew,
)


def _label_counts(tally: Tally) -> list[int]:
    """Records of each class; or of each quarter of the first target's range."""
    if any(tally.labels):
        return tally.labels
    bins = next(iter(tally.histograms.values()), [])
    width = max(1, len(bins) // 4)
    return [sum(bins[start : start + width]) for start in range(0, len(bins), width)]


def _distributions(
    dataset: DatasetView, one: Tally, other: Tally
) -> Iterator[tuple[str, Sequence[int], Sequence[int]]]:
    if any(one.labels) and any(other.labels):
        yield "classes", one.labels, other.labels
    for name in dataset.info.spec.label.target_names:
        column = target_column(name)
        if column in one.histograms and column in other.histograms:
            yield (
                f"values of {name}",
                coarsen(one.histograms[column]),
                coarsen(other.histograms[column]),
            )
