"""Selects the sources that a growing dataset does not hold yet, by its ``sources.jsonl``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.build.output import OutputFolder
from pipelines.errors import UserError
from pipelines.plan.descriptors import Listing, SideFile, Source, SourceFailure
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.sources import SOURCES_COUNT, read_sources
from tfrecords_schema.spec import SequenceSpec
from tfrecords_schema.union import differences_beyond_classes

_MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The dataset that new sources are added to.

    Attributes:
        info: its description.
        group_splits: the splits of its groups that new sources belong to.
    """

    info: DatasetInfo
    group_splits: dict[str, str]

    @property
    def old_sources(self) -> int:
        """Number of its sources that have not failed."""
        return self.info.counts["sources"] - self.info.counts["failed"]

    @property
    def existing_shards(self) -> dict[str, int]:
        """The first free index of a shard by split. Some below may be unused: those of empty shards."""
        return {
            name: 1 + max(int(shard.file.split("-")[-3]) for shard in split.shards)
            for name, split in self.info.splits.items()
            if split.shards
        }

    def check_spec(self, spec: SequenceSpec) -> None:
        """Checks that records of ``spec`` differ from the dataset's in their classes only."""
        sides = ("in the dataset", "in the new sources")
        if found := differences_beyond_classes(self.info.spec, spec, sides):
            raise UserError(
                f"the new sources give other records than the dataset holds: {'; '.join(found)}. Give them "
                "the labels and columns that the dataset has"
            )


def source_digest(source: Source) -> str:
    """Returns a digest of what a listed source's records depend on: its labels, and its files as they are.

    The split is left out: the records keep theirs.
    """
    files = (source, *source.parts, source.telemetry, *(part.telemetry for part in source.parts))
    states = [(f.data_path, f.bytes, f.mtime_ns) for f in files if isinstance(f, Source | SideFile)]
    text = repr((source.group, source.labels, source.values, source.start, source.end, states))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def select_new(
    listing: Listing, info: DatasetInfo, output: OutputFolder, keeps_changed: bool, stratified: bool
) -> tuple[Listing, Growth]:
    """Returns the sources of a listing that a dataset does not hold yet, and what it already holds of them.

    A new source of an old group gets the split of the group. New classes come after the old ones. Notes
    of the listing say how many sources are new, and name those that are gone.

    Args:
        listing: all sources of the input.
        info: the description of the dataset in ``output``.
        output: its folder.
        keeps_changed: keep the records of sources that have changed since they were built.
        stratified: splits of the listing are computed, so those of the dataset take precedence.

    Raises:
        UserError: if sources have changed, or are listed in another split than their group has.
    """
    found = _compare(listing, info, output)
    if found.changed and not keeps_changed:
        raise UserError(
            f"{_name(found.changed)} not as when {output.path} was built, and their records may be wrong. "
            "Restore them, or build again (--overwrite). Give --changed_sources keep if contents and labels "
            "are the same, for example after a copy with other modification times"
        )
    if found.moved and not stratified:
        raise UserError(
            f"{_name(found.moved)} listed in another split than in {output.path}, and an append moves no "
            "records. Restore the list or column of splits, or build again (--overwrite)"
        )
    groups, splits = {source.group for source in found.new}, {}
    for row in read_sources(output.path, info):
        if row.group in groups and row.split is not None:
            splits[row.group] = row.split
    sources = []
    for source in found.new:
        split = splits.get(source.group, source.split)
        if source.split not in (None, split) and not stratified:
            raise UserError(
                f"a group must lie in one split, but {source.id!r} is listed in {source.split}, and its "
                f"group {source.group!r} is in {split} of {output.path}. Give it that split or another group"
            )
        sources.append(replace(source, split=split))
    notes = [
        f"--append adds {len(sources)} sources to {info.counts[SOURCES_COUNT]} in {output.path}"
    ]
    for ids, reason in (
        (found.changed, "changed since it was built"),
        (found.gone, "not in the input any more"),
    ):
        if ids:
            notes.append(f"{_name(ids)} {reason}: their records stay as they are")
    label, old = listing.label, info.spec.label
    if added := [name for name in label.class_names if name not in set(old.class_names)]:
        notes.append(
            f"new classes come after the old ones, which keep their indices: {', '.join(added)} from index "
            f"{old.num_classes} on"
        )
    if label.task == old.task:
        label = replace(label, class_names=(*old.class_names, *added))
    grown = replace(
        listing,
        sources=tuple(sources),
        label=label,
        failures=found.failures,
        notes=(*listing.notes, *notes),
    )
    return grown, Growth(info=info, group_splits=splits)


@dataclass(frozen=True)
class _Comparison:
    """Listed sources and failures that a dataset does not hold, and ids of those that differ from its own."""

    new: list[Source]
    failures: tuple[SourceFailure, ...]
    changed: list[str]
    moved: list[str]
    gone: list[str]


def _compare(listing: Listing, info: DatasetInfo, output: OutputFolder) -> _Comparison:
    """Compares a listing with the sources of a dataset, which are read one by one."""
    places = {source.id: place for place, source in enumerate(listing.sources)}
    failures = {failure.source: failure for failure in listing.failures}
    known = bytearray(len(listing.sources))
    changed, moved, gone = [], [], []
    for row in read_sources(output.path, info):
        place = places.get(row.id)
        if place is None:
            failures.pop(row.id, None)
            gone.append(row.id)
            continue
        known[place], source = True, listing.sources[place]
        if source_digest(source) != row.digest:
            changed.append(row.id)
        elif None not in (source.split, row.split) and source.split != row.split:
            moved.append(row.id)
    new = [source for source, is_old in zip(listing.sources, known, strict=True) if not is_old]
    return _Comparison(new, tuple(failures.values()), changed, moved, gone)


def _name(ids: Sequence[str]) -> str:
    """Returns the number of sources, the first of them, and the verb: ``1 source ('a.mp4') is``."""
    named = ", ".join(map(repr, ids[:_MAX_NAMED])) + (", ..." if len(ids) > _MAX_NAMED else "")
    return f"1 source ({named}) is" if len(ids) == 1 else f"{len(ids)} sources ({named}) are"
