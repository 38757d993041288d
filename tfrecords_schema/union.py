"""Describes several datasets as one: pure, from their descriptions alone.

Classes keep the order of their first appearance: those of the first dataset keep their indices, and each
further dataset adds its new classes at the end. So the records of the first dataset stay as they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
_CLASS_NAMES = "label.class_names: "
# Options that may differ: how pixels were stored, and where labels came from.
_MAY_DIFFER = ("interpolation", "jpeg_quality", "class_column", "annotation", "telemetry")


@dataclass(frozen=True)
class United:
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
    classes = list(dict.fromkeys(c for info in infos for c in info.spec.label.class_names))
    indices = {name: index for index, name in enumerate(classes)}
    tables = [tuple(map(indices.__getitem__, info.spec.label.class_names)) for info in infos]
    spec = replace(first.spec, label=replace(first.spec.label, class_names=tuple(classes)))
    splits = dict.fromkeys(name for info in infos for name in info.splits)
    counts: Counter[str] = Counter()
    for info in infos:
        counts.update(info.counts)
    if not all(SOURCES_COUNT in info.counts for info in infos):
        del counts[SOURCES_COUNT]
    reasons = dict.fromkeys(reason for info in infos for reason in info.dropped)
    mirrored = {info.mirrored for info in infos}
    fingerprints = "\n".join(info.fingerprint for info in infos)
    united = DatasetInfo(
        name=NAME_SEPARATOR.join(dict.fromkeys(info.name for info in infos)),
        spec=spec,
        splits={
            name: _unite_split(
                [
                    (i.splits[name], t, i)
                    for i, t in zip(infos, tables, strict=True)
                    if name in i.splits
                ],
                len(classes),
            )
            for name in splits
        },
        counts=dict(counts),
        dropped={
            reason: _add_counts(
                [
                    (info.dropped[reason], table)
                    for info, table in zip(infos, tables, strict=True)
                    if reason in info.dropped
                ],
                len(classes),
            )
            for reason in reasons
        },
        options={
            key: value
            for key, value in first.options.items()
            if all(key in info.options and info.options[key] == value for info in infos)
        },
        versions=unite_versions([info.versions for info in infos]),
        fingerprint=hashlib.sha256(fingerprints.encode()).hexdigest(),
        mirrored=first.mirrored if len(mirrored) == 1 else None,
    )
    remaps = tuple(None if table == tuple(range(len(table))) else table for table in tables)
    return United(united, remaps)


def differences_beyond_classes(
    spec: SequenceSpec, other: SequenceSpec, sides: tuple[str, str]
) -> list[str]:
    """Returns the differences of two specs without those of class names; see `SequenceSpec.differences`."""
    return [d for d in spec.differences(other, sides) if not d.startswith(_CLASS_NAMES)]


def unite_versions(versions: Sequence[dict[str, str]]) -> dict[str, str]:
    """Returns the versions of each library, several of them separated by commas."""
    names = dict.fromkeys(name for own in versions for name in own)
    found = {n: [v for own in versions if n in own for v in own[n].split(", ")] for n in names}
    return {name: ", ".join(dict.fromkeys(own)) for name, own in found.items()}


def _check_compatible(first: DatasetInfo, info: DatasetInfo, sides: tuple[str, str]) -> None:
    if info.adopted:
        raise DatasetInfoError(
            f"the records {sides[1]} were written by another program (pipelines adopt) and may lack names of "
            "sources and groups, so they cannot be put together with others. Build the dataset with "
            "`pipelines`"
        )
    differences = differences_beyond_classes(first.spec, info.spec, sides)
    ours, theirs = first.build_options, info.build_options
    for field in dataclasses.fields(BuildOptions):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        if mine != other and field.name not in _MAY_DIFFER:
            differences.append(f"{field.name}: {mine} {sides[0]}, {other} {sides[1]}")
    if None not in (first.mirrored, info.mirrored) and first.mirrored != info.mirrored:
        differences.append(
            f"mirrored_columns: {list(first.mirrored or ())} {sides[0]}, "
            f"{list(info.mirrored or ())} {sides[1]}"
        )
    if differences:
        raise DatasetInfoError(
            f"datasets can be put together if their records differ in classes only, but here differ "
            f"{'; '.join(differences)}. Build one of them with the options of the other"
        )


def _unite_split(
    parts: Sequence[tuple[SplitInfo, tuple[int, ...], DatasetInfo]], num_classes: int
) -> SplitInfo:
    """Returns the description of a split from those in several datasets, with the new indices of classes."""
    held = [part for part in parts if part[0].num_records]

    def statistics(
        choose: Callable[[SplitInfo], Sequence[TargetStatistics]], by_frame: bool
    ) -> Any:
        """Returns the statistics of each column; none if a part with records has none."""
        return statistics_of(
            _add_all(
                [_moments(s, _count(split, info, by_frame)) for s in choose(split)]
                for split, _, info in held
            )
        )

    pixels = _add_all(
        [
            _moments_of(split.pixel_frames or _count(split, info, True), mean, std)
            for mean, std in zip(split.pixel_mean, split.pixel_std, strict=True)
        ]
        for split, _, info in held
    )
    return SplitInfo(
        shards=tuple(shard for split, _, _ in parts for shard in split.shards),
        label_counts=_add_counts([(s.label_counts, t) for s, t, _ in held], num_classes),
        class_sources=_add_counts([(s.class_sources, t) for s, t, _ in held], num_classes),
        targets=statistics(lambda s: s.targets, parts[0][2].spec.label.per_frame),
        signals={
            name: statistics(lambda s, name=name: s.signals.get(name, ()), True)
            for name in dict.fromkeys(name for split, _, _ in held for name in split.signals)
        },
        pixel_mean=tuple(moments.mean for moments in pixels),
        pixel_std=tuple(moments.std for moments in pixels),
        pixel_frames=sum(split.pixel_frames for split, _, _ in parts),
        groups=sum(split.groups for split, _, _ in parts),
        sources=sum(split.sources for split, _, _ in parts),
    )


def _add_counts(
    parts: Sequence[tuple[Sequence[int], tuple[int, ...]]], num_classes: int
) -> tuple[int, ...]:
    """Returns counts by class, added under the new indices; none if those of a part are unknown."""
    total = [0] * num_classes
    for counts, table in parts:
        for index, count in zip(table, counts, strict=False):
            total[index] += count
    return tuple(total) if all(counts for counts, _ in parts) else ()


def _count(split: SplitInfo, info: DatasetInfo, by_frame: bool) -> int:
    """Returns the number of values behind statistics of an earlier version, which did not store it."""
    return split.num_records * (info.spec.num_frames if by_frame else 1)


def _moments(statistics: TargetStatistics, count: int) -> Moments:
    own = _moments_of(statistics.count or count, statistics.mean, statistics.std)
    return replace(own, min=statistics.min, max=statistics.max)


def _moments_of(count: int, mean: float, std: float) -> Moments:
    return Moments(count=count, mean=mean, deviations=std**2 * count)


def _add_all(parts: Iterable[Sequence[Moments]]) -> Sequence[Moments]:
    """Returns the sums of moments, position by position; none if a part has none."""
    parts = list(parts)
    total: Sequence[Moments] = ()
    for own in parts if all(parts) else ():
        total = add_each(total, own)
    return total
