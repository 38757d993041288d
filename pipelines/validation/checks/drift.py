"""The checks of a dataset against an older one; they need ``--against``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipelines.validation.dataset_view import (
    DatasetView,
    hashed_names,
    list_names,
    shared_names,
    used_classes,
)
from pipelines.validation.divergence import significant_divergences
from pipelines.validation.findings import Problem, check, error, note, warning
from tfrecords_schema import spec as keys

_PIXEL_LEVELS = 10.0


class Versions(NamedTuple):
    """Two examined versions of a dataset."""

    now: DatasetView
    old: DatasetView


@check(
    reason="A model trained on one dataset reads the other only if records have the same shape. "
    "Its outputs mean the same only if classes and targets are the same, in the same order.",
    remedy="Build the new dataset with the options of the old one, or train a new model.",
)
def drift_spec(versions: Versions) -> Iterator[Problem]:
    """Records have the spec of the older dataset."""
    for difference in versions.now.info.spec.differences(versions.old.info.spec):
        yield error(difference)


@check(
    reason="Footage that an older training used, and that is test footage now, makes the old "
    "model's score on the new test worthless.",
    remedy="Build with the same --seed, --splits and --group_by, which never move a group; give "
    "published splits with --split_list.",
)
def drift_splits(versions: Versions) -> Iterator[Problem]:
    """No group (``clip/group_id``) of the older dataset is in another split now."""
    dataset, old = versions
    for (now, mine), (then, theirs) in itertools.product(
        dataset.by_split.items(), old.by_split.items()
    ):
        if now == then:
            continue
        groups, old_groups = (hashed_names(shards, keys.GROUP_ID) for shards in (mine, theirs))
        pairs, more = shared_names(groups, old_groups)
        for place, _ in pairs:
            name = dataset.read_text(*place, keys.GROUP_ID)
            yield warning(f"group {name!r} was in {then}, and is in {now}", dataset.where(*place))
        if more:
            yield warning(f"{more} more groups were in {then}, and are in {now}")


@check(
    reason="A version of a dataset that lost a split, or most of its records, is rarely intended.",
    remedy="Look at failures.jsonl and the counts of both datasets for what was left out.",
)
def drift_records(versions: Versions) -> Iterator[Problem]:
    """No split has lost a large part of its records."""
    for split, info in versions.old.info.splits.items():
        now = versions.now.info.splits.get(split)
        count, before = now.num_records if now else 0, info.num_records
        if count < before:
            problem = warning if count < before / 2 else note
            yield problem(f"{split} had {before:,} records, and has {count:,}")


@check(
    reason="The next training forgets a class that has no records any more.",
    remedy="Look at failures.jsonl and the footage for the records of the class.",
)
def drift_classes(versions: Versions) -> Iterator[Problem]:
    """Every class with records in the older dataset has records."""
    now, old = versions
    lost = used_classes(old, old.total) - used_classes(now, now.total)
    if lost:
        yield warning(f"no record is left of class {list_names(sorted(lost))}")


@check(
    reason="If labels are distributed differently from the footage that a model was trained on, "
    "its scores change although the model is unchanged.",
    remedy="Compare where the footage of both datasets is from; train again, or weight the "
    "classes.",
)
def drift_labels(versions: Versions) -> Iterator[Problem]:
    """Labels are distributed as in the older dataset, split by split."""
    dataset, old = versions
    if dataset.info.spec.label != old.info.spec.label:
        return  # `drift_spec` reports the difference
    for split in [name for name in dataset.tallies if name in old.tallies]:
        for what, divergence in significant_divergences((old, split), (dataset, split)):
            yield warning(
                f"{split}: {what} are distributed differently: a Jensen-Shannon divergence of "
                f"{divergence:.2f}"
            )


@check(
    reason="Targets, signals and pixels are scaled by the moments of the old dataset. If the new "
    "ones differ (another unit, another camera), the model gets inputs unlike those of its "
    "training.",
    remedy="Look for a changed unit, sensor or exposure; convert it, or train again.",
)
def drift_values(versions: Versions) -> Iterator[Problem]:
    """Targets, signals and pixels have about the mean of the older dataset."""
    dataset, old = versions
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
