"""The checks of a dataset against an older one; they need ``--against``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from pipelines.validation.dataset_view import DatasetView, list_names, names_in, shared_names
from pipelines.validation.divergence import label_divergences
from pipelines.validation.findings import Problem, check, error, note, warning
from tfrecords_schema import spec as keys

_PIXEL_LEVELS = 10.0


@check(
    "drift.spec",
    reason="A model trained on one dataset reads the other only if records have the same shape. "
    "Its outputs mean the same only if classes and targets are the same, in the same order.",
    remedy="Build the new dataset with the options of the old one, or train a new model.",
)
def drift_spec(dataset: DatasetView) -> Iterator[Problem]:
    """Records have the spec of the older dataset."""
    if dataset.old is None:
        return
    for difference in dataset.info.spec.differences(dataset.old.info.spec):
        yield error(difference)


@check(
    "drift.splits",
    reason="Footage that an older training used, and that is test footage now, makes the old "
    "model's score on the new test worthless.",
    remedy="Build with the same --seed, --splits and --group_by, which never move a group; give "
    "published splits with --split_list.",
)
def drift_splits(dataset: DatasetView) -> Iterator[Problem]:
    """No group (``clip/group_id``) of the older dataset is in another split now."""
    if dataset.old is None:
        return
    splits = itertools.product(dataset.by_split.items(), dataset.old.by_split.items())
    for (now, mine), (then, theirs) in splits:
        if now == then:
            continue
        groups = names_in(mine, keys.GROUP_ID)
        pairs, more = shared_names(groups, names_in(theirs, keys.GROUP_ID))
        for index, _ in pairs:
            shard, offset = groups.place(index)
            name = dataset.read_text(shard, offset, keys.GROUP_ID)
            where = dataset.where(shard, offset)
            yield warning(f"group {name!r} was in {then}, and is in {now}", where)
        if more:
            yield warning(f"{more} more groups were in {then}, and are in {now}")


@check(
    "drift.records",
    reason="A version of a dataset that lost a split, or most of its records, is rarely intended.",
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
    "drift.classes",
    reason="The next training forgets a class that has no records any more.",
    remedy="Look at failures.jsonl and the footage for the records of the class.",
)
def drift_classes(dataset: DatasetView) -> Iterator[Problem]:
    """Every class with records in the older dataset has records."""
    if dataset.old is not None:
        lost = _classes_with_records(dataset.old) - _classes_with_records(dataset)
        if lost:
            yield warning(f"no record is left of class {list_names(sorted(lost))}")


def _classes_with_records(dataset: DatasetView) -> set[str]:
    names, counts = dataset.info.spec.label.class_names, dataset.total.labels
    return {name for name, count in zip(names, counts, strict=False) if count}


@check(
    "drift.labels",
    reason="If labels are distributed differently from the footage that a model was trained on, "
    "its scores change although the model is unchanged.",
    remedy="Compare where the footage of both datasets is from; train again, or weight the "
    "classes.",
)
def drift_labels(dataset: DatasetView) -> Iterator[Problem]:
    """Labels are distributed as in the older dataset, split by split."""
    old = dataset.old
    if old is None or dataset.info.spec.label != old.info.spec.label:
        return  # `drift_spec` reports the difference
    for split in [name for name in dataset.tallies if name in old.tallies]:
        for what, divergence in label_divergences((old, split), (dataset, split)):
            yield warning(
                f"{split}: {what} are distributed differently: a Jensen-Shannon divergence of "
                f"{divergence:.2f}"
            )


@check(
    "drift.values",
    reason="Targets, signals and pixels are scaled by the moments of the old dataset. If the new "
    "ones differ (another unit, another camera), the model gets inputs unlike those of its "
    "training.",
    remedy="Look for a changed unit, sensor or exposure; convert it, or train again.",
)
def drift_values(dataset: DatasetView) -> Iterator[Problem]:
    """Targets, signals and pixels have about the mean of the older dataset."""
    old = dataset.old
    if old is None:
        return
    for split in [name for name in dataset.tallies if name in old.tallies]:
        now, then = dataset.tallies[split], old.tallies[split]
        sources = min(dataset.count_sources(split) or 1, old.count_sources(split) or 1)
        chance = 2 / sources**0.5
        for name in [column for column in now.columns if column in then.columns]:
            mine, theirs = now.columns[name], then.columns[name]
            if not mine.count or not theirs.count:
                continue
            limit = (dataset.thresholds.drift + chance) * max(theirs.std, 1e-12)
            if abs(mine.mean - theirs.mean) > limit:
                yield warning(
                    f"{split}: the mean of {name} was {theirs.mean:g} (std {theirs.std:g}), and is "
                    f"{mine.mean:g}"
                )
        if now.pixel_frames and then.pixel_frames and len(now.pixel_sums) == len(then.pixel_sums):
            means = [np.array(tally.pixel_sums) / tally.pixel_frames for tally in (now, then)]
            difference = np.abs(means[0] - means[1]).max()
            if difference > _PIXEL_LEVELS * (1 + chance * 4):
                yield warning(
                    f"{split}: pixels are {difference:.0f} levels brighter or darker than they were"
                )
