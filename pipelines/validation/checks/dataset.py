"""The checks of the dataset as a whole, through the summaries of its shards: here, those of its format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from pipelines.validation.checks.balance import BALANCE_CHECKS
from pipelines.validation.checks.drift import DRIFT_CHECKS
from pipelines.validation.checks.leaks import LEAK_CHECKS
from pipelines.validation.checks.sources import SOURCE_CHECKS
from pipelines.validation.checks.statistics import STATISTICS_CHECKS
from pipelines.validation.checks.values import VALUE_CHECKS
from pipelines.validation.dataset_view import MOST_NAMED, DatasetView, concatenate
from pipelines.validation.findings import Check, Problem, Where, check, error, warning
from tfrecords_schema import spec as keys


@check(
    "format.shards",
    reason="Readers open the shards that dataset_info.json names; a missing one ends the "
    "training, one too many is never read, or read by programs that list the folder.",
    remedy="Copy the missing shards again, or build again; move files that do not belong to the "
    "dataset away.",
)
def shard_files(dataset: DatasetView) -> Iterator[Problem]:
    """The folder holds the shards that ``dataset_info.json`` names, no other, and no trace of a build."""
    files = Counter(shard.file for split in dataset.info.splits.values() for shard in split.shards)
    for name in sorted(name for name, count in files.items() if count > 1):
        yield error(f"dataset_info.json names the shard {files[name]} times", Where(shard=name))
    for name in dataset.listing.missing:
        yield error("the shard is missing", Where(shard=name))
    for name in dataset.listing.extra:
        yield error("dataset_info.json does not name this TFRecord file", Where(shard=name))
    for name in dataset.listing.leftover:
        yield warning(f"{name} is left over from a build that did not end, or goes on now")


@check(
    "format.unique_ids",
    reason="Predictions, failures and features are told apart by example/id; two records with "
    "one id are one record twice, or two that no result can be traced to.",
    remedy="Look whether a source is listed twice, or whether a slow source repeats the frame "
    "that two sequences begin with; list it once, or sample it at a lower --frame_rate.",
)
def unique_ids(dataset: DatasetView) -> Iterator[Problem]:
    """No two records have the same ``example/id``."""
    shards = dataset.shards
    starts = np.cumsum([0, *(len(shard.ids) for shard in shards)])
    hashes = concatenate([shard.ids.hashes for shard in shards])
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    # All but the first of each run of equals.
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1

    def place(rank: int) -> tuple[str, int]:
        record = int(order[rank])
        shard = int(np.searchsorted(starts, record, side="right")) - 1
        return shards[shard].file, shards[shard].ids.offsets[record - int(starts[shard])]

    for rank in map(int, again[:MOST_NAMED]):
        (first, first_offset), (second, second_offset) = place(rank - 1), place(rank)
        name = dataset.name(second, second_offset, keys.EXAMPLE_ID)
        yield error(
            f"{name!r} is also the id of the record at byte {first_offset} of {first}",
            Where(shard=second, offset=second_offset, record=name),
        )
    if len(again) > MOST_NAMED:
        yield error(f"{len(again) - MOST_NAMED} more records have the id of another one")


@check(
    "format.sources",
    reason="What a source is called decides its split, its folder and what it may not leak into; records "
    "that do not agree on it were edited, or mixed up.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not edit records.",
)
def source_names(dataset: DatasetView) -> Iterator[Problem]:
    """All records of a source name the same group and path."""
    names = dataset.names
    for where, said in names.places:
        yield error(said, where)
    if names.more:
        yield error(f"{names.more} more records are like that")


@check(
    "format.counts",
    reason="How many sources and groups a split has says how far its results can be trusted; a "
    "description that was edited, or is another dataset's, says nothing.",
    remedy="Build again with `pipelines --overwrite`; do not edit dataset_info.json.",
)
def counts(dataset: DatasetView) -> Iterator[Problem]:
    """As many sequences, sources and groups as ``dataset_info.json`` says."""
    # Sources that gave no sequence count too; of a group, all may be like that.
    stated = dataset.info.counts
    empty = stated.get("failed", 0) + stated.get("short_clips_dropped", 0)
    for name, split in dataset.info.splits.items():
        if dataset.tallies[name].records != split.num_records:
            continue  # records are missing, which other checks say
        shards = dataset.by_split.get(name, [])
        for what, said, parts in (
            ("sources", split.sources, [shard.media.hashes for shard in shards]),
            ("groups", split.groups, [shard.groups.hashes for shard in shards]),
        ):
            found = len(np.unique(concatenate(parts)))
            # A dataset from elsewhere may not say; and some names may be missing, which is said already.
            if said and found and not found <= said <= found + empty:
                problem = error if said < found else warning
                yield problem(
                    f"{name}: dataset_info.json says {what} {said}, the records have {found}"
                )
    listed = sum(split.num_records for split in dataset.info.splits.values())
    sequences = stated.get("sequences", listed)
    if sequences != listed:
        yield error(f"dataset_info.json says {sequences} sequences, and lists shards of {listed}")


DATASET_CHECKS: tuple[Check[DatasetView], ...] = (
    shard_files,
    unique_ids,
    source_names,
    counts,
    *STATISTICS_CHECKS,
    *VALUE_CHECKS,
    *SOURCE_CHECKS,
    *LEAK_CHECKS,
    *BALANCE_CHECKS,
    *DRIFT_CHECKS,
)
