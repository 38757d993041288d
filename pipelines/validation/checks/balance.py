"""The checks of how records are distributed over splits and shards."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from pipelines.validation.dataset_view import DatasetView
from pipelines.validation.divergence import coarsen, significant_divergences
from pipelines.validation.findings import Problem, check, error, note, warning

_MIN_CHANGES = 20
_SMALL_SHARD = 1 << 20
_QUARTERS = 4


@check(
    reason="Without validation records, training cannot be stopped at its best; without test "
    "records, there is no result.",
    remedy="With few groups, choose --splits or another --seed, or add footage.",
)
def balance_empty_splits(dataset: DatasetView) -> Iterator[Problem]:
    """Every split holds records."""
    if not any(split.num_records for split in dataset.info.splits.values()):
        yield error("the dataset holds no record")
        return
    for name, split in dataset.info.splits.items():
        if not split.num_records:
            yield note(f"split {name} holds no record")


@check(
    reason="Readers deal shards to workers. A shard that is much longer than the others keeps its "
    "worker busy while the others wait, and its records are not mixed with theirs.",
    remedy="Build again with more --shards, or a smaller --segment_length, so that long sources "
    "are cut.",
)
def balance_shards(dataset: DatasetView) -> Iterator[Problem]:
    """The shards of a split have similar sizes."""
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
    reason="Readers shuffle within a buffer. If all records of a class are together in a shard, a "
    "batch holds one class, and the model forgets the others meanwhile.",
    remedy="Build again with `pipelines`, which deals sources to shards by a hash; with other "
    "writers, shuffle before writing. Until then, shuffle with a buffer of a whole shard.",
)
def balance_shuffle(dataset: DatasetView) -> Iterator[Problem]:
    """From source to source within shards, classes change as often as in a shuffled order."""
    for split, shards in dataset.by_split.items():
        counts, targets = dataset.tallies[split].labels, dataset.tallies[split].histograms
        if not any(counts):
            counts = coarsen(next(iter(targets.values()), []), _QUARTERS)
        total = sum(counts)
        changes = sum(shard.source_changes for shard in shards)
        if not total or changes < _MIN_CHANGES:
            continue
        expected = 1 - sum((count / total) ** 2 for count in counts)
        found = sum(shard.class_changes for shard in shards) / changes
        by_chance = expected - 3 * (expected * (1 - expected) / changes) ** 0.5
        if expected and found < min(dataset.thresholds.shuffle * expected, by_chance):
            yield warning(
                f"{split}: from one source to the next, the class (or quarter of the target) changes in "
                f"{found:.0%} of the cases; in a shuffled order it would in {expected:.0%}"
            )


@check(
    reason="A split whose labels are distributed differently measures something else: a model is "
    "stopped, or judged, by another mixture than it was trained on.",
    remedy="Choose another --seed or --splits, stratify the manifest's split column, or add "
    "footage. Raise skew in validation.json if the difference is intended.",
)
def balance_skew(dataset: DatasetView) -> Iterator[Problem]:
    """Labels are distributed alike in all splits, except for chance."""
    base = "train" if "train" in dataset.tallies else next(iter(dataset.tallies), "")
    for split in dataset.tallies:
        if split != base:
            for what, divergence in significant_divergences((dataset, base), (dataset, split)):
                yield warning(
                    f"{what} of {split} are distributed differently from those of {base}: a Jensen-Shannon "
                    f"divergence of {divergence:.2f}"
                )
