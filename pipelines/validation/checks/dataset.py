"""The checks of a dataset's format: shards, ids, sources and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from pipelines.validation.dataset_view import MAX_NAMED, DatasetView, hashed_names
from pipelines.validation.findings import Problem, Where, check, error, warning
from pipelines.validation.shard_summary import Conflicts
from tfrecords_schema import spec as keys


@check(
    reason="Readers open the shards that dataset_info.json names. A missing one ends the training. "
    "An extra one is never read, or is read by programs that list the folder.",
    remedy="Copy the missing shards again, or build again. Move files that do not belong to the "
    "dataset away.",
)
def format_shards(dataset: DatasetView) -> Iterator[Problem]:
    """The folder holds the shards that ``dataset_info.json`` names, no others, and no remains of a build."""
    files = Counter(shard.file for split in dataset.info.splits.values() for shard in split.shards)
    for name in sorted(name for name, count in files.items() if count > 1):
        yield error(f"dataset_info.json names the shard {files[name]} times", Where(shard=name))
    listing = dataset.folder.list_files(dataset.info)
    for name in listing.missing:
        yield error("the shard is missing", Where(shard=name))
    for name in listing.extra:
        yield error("dataset_info.json does not name this TFRecord file", Where(shard=name))
    for name in listing.leftover:
        yield warning(f"{name} was left by a build that failed, or that is still running")


@check(
    reason="Predictions, failures and features are told apart by example/id. Two records with one "
    "id are the same record twice, or results cannot be assigned to either.",
    remedy="Check if a source is listed twice, or if a slow source repeats the frame that two "
    "sequences begin with. List it once, or sample it at a lower --frame_rate.",
)
def format_unique_ids(dataset: DatasetView) -> Iterator[Problem]:
    """No two records have the same ``example/id``."""
    ids = hashed_names(dataset.shards, keys.EXAMPLE_ID)
    order = np.argsort(ids.hashes, kind="stable")
    ordered = ids.hashes[order]
    repeats = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1  # all but the first of each id
    for rank in map(int, repeats[:MAX_NAMED]):
        first, first_offset = ids.place(order[rank - 1])
        where = dataset.where(*ids.place(order[rank]))
        yield error(
            f"{where.record!r} is also the id of the record at byte {first_offset} of {first}",
            where,
        )
    if len(repeats) > MAX_NAMED:
        yield error(f"{len(repeats) - MAX_NAMED} more records have the id of another one")


@check(
    reason="The group of a source decides its split. Records of one source that name two groups or "
    "paths were edited or mixed up.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not edit records.",
)
def format_sources(dataset: DatasetView) -> Iterator[Problem]:
    """All records of a source name the same group and path."""
    renamed = sum((shard.renamed for shard in dataset.shards), Conflicts())
    yield from renamed.problems(error)


@check(
    reason="The number of sources and groups of a split tells how far its results can be trusted. "
    "Wrong numbers come from an edited file, or one of another dataset.",
    remedy="Build again with `pipelines --overwrite`; do not edit dataset_info.json.",
)
def format_counts(dataset: DatasetView) -> Iterator[Problem]:
    """Sequences, sources and groups are as many as ``dataset_info.json`` says."""
    # Sources without a sequence are counted too, and they may be all sources of a group.
    declared = dataset.info.counts
    empty = declared.get("failed", 0) + declared.get("short_clips_dropped", 0)
    for name, split in dataset.info.splits.items():
        if dataset.tallies[name].records != split.num_records:
            continue  # other checks report the missing records
        shards = dataset.by_split.get(name, [])
        for what, said, key in (
            ("sources", split.sources, keys.MEDIA_ID),
            ("groups", split.groups, keys.GROUP_ID),
        ):
            found = len(np.unique(hashed_names(shards, key).hashes))
            # Other writers may leave the counts, or the names in records, out.
            if said and found and not found <= said <= found + empty:
                problem = error if said < found else warning
                yield problem(
                    f"{name}: dataset_info.json says {what} {said}, the records have {found}"
                )
    held = sum(split.num_records for split in dataset.info.splits.values())
    said = declared.get("sequences", held)
    if said != held:
        yield error(f"dataset_info.json says {said} sequences, but its shards have {held} records")
