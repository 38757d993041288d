"""The checks that look at the dataset as a whole, through the summaries of its shards."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.findings import Check, Problem, Where, check, error, note, warning
from pipelines.validation.folder import DatasetFolder, Listing
from pipelines.validation.places import Places
from pipelines.validation.record_checks import signal_column, target_column
from pipelines.validation.tallies import Moments, Tally, merged
from pipelines.validation.thresholds import DEFAULTS, Thresholds
from pipelines.validation.views import to_text
from tfrecords_schema import spec as keys
from tfrecords_schema.decode import parse_example
from tfrecords_schema.info import DatasetInfo, SplitInfo
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import SpecError

_MOST_NAMED = 20
"""Records, sources or groups that a check reads again to name them; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class ShardPlaces:
    """What a shard's records are called, as hashes, and where they lie."""

    split: str
    file: str
    ids: Places
    media: Places
    groups: Places


@dataclass(frozen=True)
class DatasetView:
    """A dataset, examined.

    Attributes:
        folder: where it lies.
        info: its description.
        listing: of the folder.
        tallies: by split, of the records that were read.
        shards: that were read, in order.
        thresholds: of the checks.
    """

    folder: DatasetFolder
    info: DatasetInfo
    listing: Listing
    tallies: dict[str, Tally]
    shards: Sequence[ShardPlaces]
    thresholds: Thresholds = DEFAULTS

    @cached_property
    def total(self) -> Tally:
        """Of all splits."""
        return merged(list(self.tallies.values()))

    @property
    def training(self) -> Tally:
        """Of the training split; of all splits, where none is called so."""
        train = self.tallies.get("train")
        return train if train is not None and train.records else self.total

    def name(self, shard: str, offset: int, key: str) -> str:
        """The string that the record there has under ``key``; what is wrong, when that cannot be read."""
        try:
            example = parse_example(self.folder.read_record(shard, offset))
            return to_text(example.context.feature[key].bytes_list.value[0])
        except (CorruptRecordError, SpecError, OSError, IndexError) as problem:
            return f"<unreadable: {problem}>"


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
    hashes = _concatenate([shard.ids.hashes for shard in shards])
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    again = (
        np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    )  # all but the first of each run of equals

    def place(rank: int) -> tuple[str, int]:
        record = int(order[rank])
        shard = int(np.searchsorted(starts, record, side="right")) - 1
        return shards[shard].file, shards[shard].ids.offsets[record - int(starts[shard])]

    for rank in map(int, again[:_MOST_NAMED]):
        (first, first_offset), (second, second_offset) = place(rank - 1), place(rank)
        name = dataset.name(second, second_offset, keys.EXAMPLE_ID)
        yield error(
            f"{name!r} is also the id of the record at byte {first_offset} of {first}",
            Where(shard=second, offset=second_offset, record=name),
        )
    if len(again) > _MOST_NAMED:
        yield error(f"{len(again) - _MOST_NAMED} more records have the id of another one")


@check(
    "leaks.sources",
    reason="Sequences of one video in two splits are nearly the same pictures: a model that has "
    "learnt them by heart passes its test.",
    remedy="Build again and let groups decide the split: --group_by, or the manifest's group and "
    "split columns.",
)
def leaked_sources(dataset: DatasetView) -> Iterator[Problem]:
    """No source (``clip/media_id``) has records in two splits."""
    places = {
        split: [(shard.file, shard.media) for shard in shards]
        for split, shards in _by_split(dataset.shards)
    }
    yield from _leaks(dataset, places, keys.MEDIA_ID, "source")


@check(
    "leaks.groups",
    reason="A group (person, drive, original video) in two splits lets a model pass its test by "
    "recognizing who or where it is.",
    remedy="Build again with a --group_by that captures what must stay together, or set the "
    "manifest's split by group.",
)
def leaked_groups(dataset: DatasetView) -> Iterator[Problem]:
    """No group (``clip/group_id``) has records in two splits."""
    places = {
        split: [(shard.file, shard.groups) for shard in shards]
        for split, shards in _by_split(dataset.shards)
    }
    yield from _leaks(dataset, places, keys.GROUP_ID, "group")


@check(
    "labels.statistics",
    reason="Class weights, baselines and the scaling of targets are taken from "
    "dataset_info.json; when it is not what the records say, training starts from wrong numbers "
    "without a word.",
    remedy="Build again with `pipelines --overwrite`; do not edit dataset_info.json.",
)
def label_statistics(dataset: DatasetView) -> Iterator[Problem]:
    """The statistics of ``dataset_info.json`` are those of the records."""
    spec = dataset.info.spec
    for split, info in dataset.info.splits.items():
        tally = dataset.tallies[split]
        if tally.records != info.num_records or not tally.records:
            continue  # records are missing, which other checks say; no sum can be right
        # Whether padding counts is not written down, so both ways of counting are taken.
        counted = (tally.labels, tally.padded_labels)
        if spec.label.num_classes and list(info.label_counts) not in counted:
            yield error(
                f"{split}: dataset_info.json says label_counts {list(info.label_counts)}, the records have "
                f"{tally.labels}"
            )
        padded = tally.frames < tally.records * spec.num_frames
        if padded and spec.label.per_frame:
            continue
        yield from _check_targets(split, info, tally, dataset)


@check(
    "labels.constant",
    reason="A target that never changes can be predicted without looking; the loss falls and "
    "nothing is learnt.",
    remedy="Look whether the right column was given, and whether its values arrived; add footage "
    "in which it changes.",
)
def constant_targets(dataset: DatasetView) -> Iterator[Problem]:
    """Targets and signals vary."""
    spec, tally = dataset.info.spec, dataset.training
    if tally.records < 2:
        return
    if spec.label.num_classes == 1 and spec.label.task == "classification":
        yield warning(f"every record is of the one class {spec.label.class_names[0]!r}")
    for name, moments in tally.columns.items():
        if moments.count > 1 and moments.min == moments.max:
            problem = warning if name.startswith(target_column("")) else note
            yield problem(f"{name} is {moments.min:g} in all {moments.count} values")


@check(
    "labels.coverage",
    reason="A class that training never sees is never predicted; one that the test never sees is "
    "never measured.",
    remedy="Add footage of the class, leave it out, or choose --splits, --seed or the manifest's "
    "split so that it comes in.",
)
def label_coverage(dataset: DatasetView) -> Iterator[Problem]:
    """Every class has records, in the training split above all."""
    names = dataset.info.spec.label.class_names
    if not names or not dataset.total.records:
        return
    absent = _absent(names, dataset.total)
    if absent:
        yield warning(f"no record is of class {_list(absent)}")
    for split, tally in dataset.tallies.items():
        own = [name for name in _absent(names, tally) if name not in absent]
        if own and tally.records:
            problem = warning if split == "train" else note
            yield problem(f"{split} holds no record of class {_list(own)}")


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


DATASET_CHECKS: tuple[Check[DatasetView], ...] = (
    shard_files,
    unique_ids,
    leaked_sources,
    leaked_groups,
    label_statistics,
    constant_targets,
    label_coverage,
    empty_splits,
)


def _check_targets(
    split: str, info: SplitInfo, tally: Tally, dataset: DatasetView
) -> Iterator[Problem]:
    spec = dataset.info.spec
    declared = {
        target_column(name): info.targets[place] if place < len(info.targets) else None
        for place, name in enumerate(spec.label.target_names)
    }
    for signal, components in info.signals.items():
        for place, statistics in enumerate(components):
            declared[signal_column(signal, place)] = statistics
    for name, stated in declared.items():
        moments = tally.columns.get(name, Moments())
        if stated is None:
            yield error(f"{split}: dataset_info.json has no statistics of {name}")
            continue
        if not moments.count:
            continue
        # Records hold float32, so that a value of 1e6 may be off by 0.06.
        scale = max(abs(stated.min), abs(stated.max), stated.std, 1e-12)
        for field in ("mean", "std", "min", "max"):
            said, found = getattr(stated, field), getattr(moments, field)
            if not abs(said - found) <= dataset.thresholds.statistics_tolerance * scale:
                yield error(
                    f"{split}: dataset_info.json says {name} has {field} {said:g}, the records have {found:g}"
                )


def _leaks(
    dataset: DatasetView,
    places: dict[str, list[tuple[str, Places]]],
    key: str,
    what: str,
) -> Iterator[Problem]:
    for (one, mine), (other, theirs) in itertools.combinations(places.items(), 2):
        hashes, places_one, places_other = np.intersect1d(
            _concatenate([p.hashes for _, p in mine]),
            _concatenate([p.hashes for _, p in theirs]),
            return_indices=True,
        )
        for rank in range(min(len(hashes), _MOST_NAMED)):
            first, first_offset = _locate(mine, int(places_one[rank]))
            second, second_offset = _locate(theirs, int(places_other[rank]))
            name = dataset.name(second, second_offset, key)
            yield error(
                f"{what} {name!r} is in {one} ({first}, byte {first_offset}) and in {other}",
                Where(
                    shard=second,
                    offset=second_offset,
                    record=dataset.name(second, second_offset, keys.EXAMPLE_ID),
                ),
            )
        if len(hashes) > _MOST_NAMED:
            yield error(f"{len(hashes) - _MOST_NAMED} more {what}s are in {one} and in {other}")


def _locate(parts: list[tuple[str, Places]], place: int) -> tuple[str, int]:
    for shard, places in parts:
        if place < len(places):
            return shard, places.offsets[place]
        place -= len(places)
    raise IndexError(f"{place} beyond the last shard")


def _concatenate(parts: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _by_split(
    shards: Sequence[ShardPlaces],
) -> list[tuple[str, list[ShardPlaces]]]:
    names = dict.fromkeys(shard.split for shard in shards)
    return [(name, [shard for shard in shards if shard.split == name]) for name in names]


def _absent(names: Sequence[str], tally: Tally) -> list[str]:
    return [
        name
        for place, name in enumerate(names)
        if place >= len(tally.labels) or not tally.labels[place]
    ]


def _list(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
