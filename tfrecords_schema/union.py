"""Describes several datasets as one: pure, from their descriptions alone.

Classes keep the order of their first appearance: those of the first dataset keep their indices, and each
further dataset adds its new classes at the end. So the records of the first dataset stay as they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

from tfrecords_schema.info import (
    BuildOptions,
    DatasetInfo,
    DatasetInfoError,
    SplitInfo,
    TargetStatistics,
    statistics_of,
)
from tfrecords_schema.moments import Moments, add_each
from tfrecords_schema.sources import SOURCES_COUNT
from tfrecords_schema.spec import SequenceSpec

NAME_SEPARATOR = " + "
DIFFERS = "differs between the merged datasets"
"""Value of an option in the description of several datasets that were built with different ones."""

# Options that may differ: how pixels were stored, and where labels came from.
_MAY_DIFFER = ("interpolation", "jpeg_quality", "class_column", "annotation", "telemetry")


class United(NamedTuple):
    """The description of several datasets as one.

    Attributes:
        info: of all records. Shards are in the order of the datasets, under the names that they have there.
        remaps: by dataset, the new index of each of its classes; None if all stay the same.
    """

    info: DatasetInfo
    remaps: tuple[tuple[int, ...] | None, ...]


def unite(infos: Sequence[DatasetInfo], names: Sequence[str]) -> United:
    """Returns the description of several datasets as one.

    Example: classes ``("run", "walk")`` and ``("jump", "run")`` become ``("run", "walk", "jump")``, with the
    remaps ``(None, (2, 0))``.

    Raises:
        DatasetInfoError: if their records differ in more than classes; names the datasets by ``names``.
    """
    first = infos[0]
    for info, name in zip(infos, names, strict=True):
        _check_compatible(first, info, (f"in {names[0]}", f"in {name}"))
    # A dict keeps the order of first appearance.
    classes = tuple(dict.fromkeys(c for info in infos for c in info.spec.label.class_names))
    indices = {name: index for index, name in enumerate(classes)}
    tables = [tuple(map(indices.__getitem__, info.spec.label.class_names)) for info in infos]
    moved = [_reindex(*pair, len(classes)) for pair in zip(infos, tables, strict=True)]
    counts = Counter[str]()
    for info in infos:
        counts.update(info.counts)
    if not all(SOURCES_COUNT in info.counts for info in infos):
        del counts[SOURCES_COUNT]
    versions: dict[str, dict[str, None]] = {}
    for library, version in (pair for info in infos for pair in info.versions.items()):
        versions.setdefault(library, {}).update(dict.fromkeys(version.split(", ")))
    fingerprints = "\n".join(info.fingerprint for info in infos)
    united = DatasetInfo(
        name=NAME_SEPARATOR.join(dict.fromkeys(info.name for info in infos)),
        spec=replace(first.spec, label=replace(first.spec.label, class_names=classes)),
        splits={
            name: _unite_split([info.splits[name] for info in moved if name in info.splits])
            for name in dict.fromkeys(name for info in infos for name in info.splits)
        },
        counts=dict(counts),
        dropped={
            reason: _add_counts([info.dropped[reason] for info in moved if reason in info.dropped])
            for reason in dict.fromkeys(reason for info in infos for reason in info.dropped)
        },
        options={
            key: value if all(info.options[key] == value for info in infos) else DIFFERS
            for key, value in first.options.items()
            if all(key in info.options for info in infos)
        },
        versions={library: ", ".join(own) for library, own in versions.items()},
        fingerprint=hashlib.sha256(fingerprints.encode()).hexdigest(),
        mirrored=first.mirrored if len({info.mirrored for info in infos}) == 1 else None,
    )
    return United(united, tuple(None if t == tuple(range(len(t))) else t for t in tables))


def differences_beyond_classes(
    spec: SequenceSpec, other: SequenceSpec, sides: tuple[str, str]
) -> list[str]:
    """Returns the differences of two specs without those of class names; see `SequenceSpec.differences`."""
    differences = spec.differences(other, sides)
    return [text for text in differences if not text.startswith("label.class_names: ")]


def _check_compatible(first: DatasetInfo, info: DatasetInfo, sides: tuple[str, str]) -> None:
    if info.adopted:
        raise DatasetInfoError(
            f"the records {sides[1]} were written by another program (pipelines adopt) and may lack names of "
            "sources and groups, so they cannot be put together with others. Build the dataset with "
            "`pipelines`"
        )
    differences = differences_beyond_classes(first.spec, info.spec, sides)
    compared = [
        (field.name, *(getattr(own.build_options, field.name) for own in (first, info)))
        for field in dataclasses.fields(BuildOptions)
        if field.name not in _MAY_DIFFER
    ]
    if None not in (first.mirrored, info.mirrored):
        compared.append(("mirrored_columns", first.mirrored, info.mirrored))
    differences += [
        f"{name}: {mine} {sides[0]}, {other} {sides[1]}"
        for name, mine, other in compared
        if mine != other
    ]
    if differences:
        raise DatasetInfoError(
            f"datasets can be put together if their records differ in classes only, but here differ "
            f"{'; '.join(differences)}. Build one of them with the options of the other"
        )


def _reindex(info: DatasetInfo, table: tuple[int, ...], num_classes: int) -> DatasetInfo:
    """Returns a description whose counts by class and of values are those of ``num_classes`` classes."""

    def place(counts: Sequence[int]) -> tuple[int, ...]:
        total = [0] * num_classes
        for index, count in zip(table, counts, strict=False):
            total[index] += count
        return tuple(total) if counts else ()

    def count(columns: Iterable[TargetStatistics], number: int) -> tuple[TargetStatistics, ...]:
        return tuple(replace(own, count=own.count or number) for own in columns)

    splits = {}
    for name, split in info.splits.items():
        # An earlier version did not store how many values statistics are of.
        frames = split.num_records * info.spec.num_frames
        values = frames if info.spec.label.per_frame else split.num_records
        splits[name] = replace(
            split,
            label_counts=place(split.label_counts),
            class_sources=place(split.class_sources),
            targets=count(split.targets, values),
            signals={key: count(own, frames) for key, own in split.signals.items()},
            pixel_frames=split.pixel_frames or frames,
        )
    dropped = {reason: place(counts) for reason, counts in info.dropped.items()}
    return replace(info, splits=splits, dropped=dropped)


def _unite_split(parts: Sequence[SplitInfo]) -> SplitInfo:
    """Returns the description of a split from those in several datasets, whose classes are the same."""
    held = [split for split in parts if split.num_records]
    pixels = _add_moments(
        [
            [
                _moments(split.pixel_frames, *pair)
                for pair in zip(split.pixel_mean, split.pixel_std, strict=True)
            ]
            for split in held
        ]
    )
    return SplitInfo(
        shards=tuple(shard for split in parts for shard in split.shards),
        label_counts=_add_counts([split.label_counts for split in held]),
        class_sources=_add_counts([split.class_sources for split in held]),
        targets=_add_statistics([split.targets for split in held]),
        signals={
            name: _add_statistics([split.signals.get(name, ()) for split in held])
            for name in dict.fromkeys(name for split in held for name in split.signals)
        },
        pixel_mean=tuple(moments.mean for moments in pixels),
        pixel_std=tuple(moments.std for moments in pixels),
        pixel_frames=sum(split.pixel_frames for split in held),
        groups=sum(split.groups for split in parts),
        sources=sum(split.sources for split in parts),
    )


def _add_counts(parts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Returns the sums by class; none if those of a part are unknown."""
    return tuple(map(sum, zip(*parts, strict=True))) if all(parts) else ()


def _add_statistics(parts: Sequence[Sequence[TargetStatistics]]) -> tuple[TargetStatistics, ...]:
    return statistics_of(
        _add_moments(
            [[_moments(s.count, s.mean, s.std, s.min, s.max) for s in own] for own in parts]
        )
    )


def _moments(count: int, mean: float, std: float, low: float = 0, high: float = 0) -> Moments:
    return Moments(count=count, mean=mean, deviations=std**2 * count, min=low, max=high)


def _add_moments(parts: Sequence[Sequence[Moments]]) -> Sequence[Moments]:
    """Returns the sums of moments, position by position; none if a part has none."""
    return reduce(add_each, parts) if parts and all(parts) else ()
