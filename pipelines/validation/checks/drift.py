"""The checks of a dataset against an older one: two versions of it, or last month's footage."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from pipelines.validation.checks.balance import coarsen, expected_by_chance, jensen_shannon
from pipelines.validation.dataset_view import (
    MOST_NAMED,
    DatasetView,
    concatenate,
    list_names,
    locate,
)
from pipelines.validation.findings import Check, Problem, check, error, note, warning
from pipelines.validation.views import target_column
from tfrecords_schema import spec as keys

_PIXEL_LEVELS = 10.0


@check(
    "drift.spec",
    reason="A model trained on one dataset reads the other only if records have the same shape, "
    "and its outputs mean the same only if classes and targets do, in the same order.",
    remedy="Build the new dataset with the options of the old one, or train a new model.",
)
def drift_spec(dataset: DatasetView) -> Iterator[Problem]:
    """Records hold the same as those of the dataset it is compared with."""
    if dataset.old is None:
        return
    for difference in dataset.info.spec.differences(dataset.old.info.spec):
        yield error(difference)


@check(
    "drift.splits",
    reason="Footage that an older training has seen, and that is test footage now, makes the old "
    "model's score on the new test a lie.",
    remedy="Build with the same --seed, --splits and --group_by, which never move a group; give "
    "published splits with --split_list.",
)
def drift_splits(dataset: DatasetView) -> Iterator[Problem]:
    """No group (``clip/group_id``) of the older dataset is in another split now."""
    if dataset.old is None:
        return
    for (now, mine), (then, theirs) in itertools.product(
        dataset.by_split.items(), dataset.old.by_split.items()
    ):
        if now == then:
            continue
        common, places, _ = np.intersect1d(
            concatenate([shard.groups.hashes for shard in mine]),
            concatenate([shard.groups.hashes for shard in theirs]),
            return_indices=True,
        )
        parts = [(shard.file, shard.groups) for shard in mine]
        for place in places[:MOST_NAMED].tolist():
            shard, offset = locate(parts, place)
            name = dataset.name(shard, offset, keys.GROUP_ID)
            yield warning(
                f"group {name!r} was in {then}, and is in {now}", dataset.where(shard, offset)
            )
        if len(common) > MOST_NAMED:
            yield warning(
                f"{len(common) - MOST_NAMED} more groups were in {then}, and are in {now}"
            )


@check(
    "drift.records",
    reason="A version of a dataset that lost a split, or most of its records, is rarely meant.",
    remedy="Look at failures.jsonl and the counts of both datasets for what was left out.",
)
def drift_records(dataset: DatasetView) -> Iterator[Problem]:
    """No split has lost a large part of its records."""
    if dataset.old is None:
        return
    for split, info in dataset.old.info.splits.items():
        now = dataset.info.splits.get(split)
        count, before = now.num_records if now else 0, info.num_records
        if count < before:
            problem = warning if count < before / 2 else note
            yield problem(f"{split} had {before:,} records, and has {count:,}")


@check(
    "drift.labels",
    reason="When labels are distributed otherwise than in the footage a model was trained on, its "
    "scores change although nothing is wrong with it.",
    remedy="Compare where both datasets' footage is from; train again, or weigh the classes.",
)
def drift_labels(dataset: DatasetView) -> Iterator[Problem]:
    """Labels are distributed as in the older dataset, split by split."""
    old = dataset.old
    if old is None or dataset.info.spec.label != old.info.spec.label:
        return  # `drift_spec` says what differs
    for split in [name for name in dataset.tallies if name in old.tallies]:
        now, then = dataset.tallies[split], old.tallies[split]
        pairs = [("classes", then.labels, now.labels)]
        for name in dataset.info.spec.label.target_names:
            column = target_column(name)
            if column in now.histograms and column in then.histograms:
                bins = (coarsen(then.histograms[column]), coarsen(now.histograms[column]))
                pairs.append((f"values of {name}", *bins))
        for what, one, other in pairs:
            if not any(one) or not any(other):
                continue
            used = sum(1 for a, b in zip(one, other, strict=True) if a or b)
            apart = jensen_shannon(one, other)
            chance = expected_by_chance(
                used, old.count_sources(split), dataset.count_sources(split)
            )
            if apart > dataset.thresholds.skew + chance:
                yield warning(
                    f"{split}: {what} are distributed otherwise: a Jensen-Shannon divergence of {apart:.2f}"
                )


@check(
    "drift.values",
    reason="Targets, signals and pixels are scaled by the moments of the old dataset; when the "
    "new ones are elsewhere (another unit, another camera), the model sees what it never saw.",
    remedy="Look for a changed unit, sensor or exposure; convert it, or train again.",
)
def drift_values(dataset: DatasetView) -> Iterator[Problem]:
    """Targets, signals and pixels have about the mean they had."""
    old = dataset.old
    if old is None:
        return
    for split in [name for name in dataset.tallies if name in old.tallies]:
        now, then = dataset.tallies[split], old.tallies[split]
        few = 2 / min(dataset.count_sources(split) or 1, old.count_sources(split) or 1) ** 0.5
        for name in [column for column in now.columns if column in then.columns]:
            mine, theirs = now.columns[name], then.columns[name]
            scale = max(theirs.std, 1e-12)
            if not mine.count or not theirs.count:
                continue
            if abs(mine.mean - theirs.mean) > (dataset.thresholds.drift + few) * scale:
                yield warning(
                    f"{split}: the mean of {name} was {theirs.mean:g} (std {theirs.std:g}), now it is "
                    f"{mine.mean:g}"
                )
        if now.pixel_frames and then.pixel_frames:
            levels = [total / now.pixel_frames for total in now.pixel_sums]
            before = [total / then.pixel_frames for total in then.pixel_sums]
            apart = max(map(abs, np.subtract(levels, before))) if len(levels) == len(before) else 0
            if apart > _PIXEL_LEVELS * (1 + few * 4):
                yield warning(
                    f"{split}: pixels are {apart:.0f} levels brighter or darker than they were"
                )


@check(
    "drift.classes",
    reason="A class that has no records any more is one that the next training forgets.",
    remedy="Look at failures.jsonl and the footage for what became of its records.",
)
def drift_classes(dataset: DatasetView) -> Iterator[Problem]:
    """Classes that had records have some."""
    old = dataset.old
    if old is None:
        return
    before = {
        n for n, c in zip(old.info.spec.label.class_names, old.total.labels, strict=False) if c
    }
    now = {
        n
        for n, c in zip(dataset.info.spec.label.class_names, dataset.total.labels, strict=False)
        if c
    }
    if before - now:
        yield warning(f"no record is left of class {list_names(sorted(before - now))}")


DRIFT_CHECKS: tuple[Check[DatasetView], ...] = (
    drift_spec,
    drift_splits,
    drift_records,
    drift_classes,
    drift_labels,
    drift_values,
)
