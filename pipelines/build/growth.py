"""Selects the sources that a growing dataset does not hold yet, by its ``sources.jsonl``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipelines.build.output import OutputFolder
from pipelines.errors import UserError
from pipelines.plan.descriptors import Listing, SideFile, Source
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.report.pages import plural
from tfrecords_schema.sources import SOURCES_COUNT, SourceRow, read_sources
from tfrecords_schema.spec import SequenceSpec
from tfrecords_schema.tables import list_some, name_some
from tfrecords_schema.union import differences_beyond_classes


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
    new = {source.id: source for source in listing.sources}
    failures = {failure.source: failure for failure in listing.failures}
    changed, moved, gone = list[str](), list[str](), list[str]()
    output.failures()  # a damaged list is refused before the work
    for row in _read_rows(output.path, info):
        source = new.pop(row.id, None)
        if source is None:
            # A file that cannot be used any more has changed.
            (gone if failures.pop(row.id, None) is None else changed).append(row.id)
        elif source_digest(source) != row.digest:
            changed.append(row.id)
        elif None not in (source.split, row.split) and source.split != row.split:
            moved.append(row.id)
    if changed and not keeps_changed:
        raise UserError(
            f"{_name(changed)} not as when {output.path} was built, and their records may be wrong. "
            "Restore them, or build again (--overwrite). Give --changed_sources keep if contents and labels "
            "are the same, for example after a copy with other modification times"
        )
    if moved and not stratified:
        raise UserError(
            f"{_name(moved)} listed in another split than in {output.path}, and an append moves no "
            "records. Restore the list or column of splits, or build again (--overwrite)"
        )
    groups = {source.group for source in new.values()}
    splits = {
        row.group: row.split
        for row in _read_rows(output.path, info)
        if row.group in groups and row.split is not None
    }
    sources = []
    for source in new.values():
        split = splits.get(source.group, source.split)
        if source.split not in (None, split) and not stratified:
            raise UserError(
                f"a group must lie in one split, but {source.id!r} is listed in {source.split}, and its "
                f"group {source.group!r} is in {split} of {output.path}. Give it that split or another group"
            )
        sources.append(replace(source, split=split))
    notes = [
        f"--append adds {plural(len(new), 'source')} to {info.counts[SOURCES_COUNT]} in {output.path}"
    ]
    reasons = {"not as when they were built": changed, "not in the input any more": gone}
    notes += [
        f"{_name(ids)} {reason}. Their records stay as they are"
        for reason, ids in reasons.items()
        if ids
    ]
    label, old = listing.label, info.spec.label
    known = set(old.class_names)
    if added := [name for name in label.class_names if name not in known]:
        notes.append(
            f"new classes come after the old ones, which keep their indices: {list_some(added, 10)} from "
            f"index {old.num_classes} on"
        )
    if label.task == old.task:
        label = replace(label, class_names=(*old.class_names, *added))
    grown = replace(
        listing,
        sources=tuple(sources),
        label=label,
        failures=tuple(failures.values()),
        notes=(*listing.notes, *notes),
    )
    return grown, Growth(info=info, group_splits=splits)


def _name(ids: Sequence[str]) -> str:
    """Returns the number of sources, the first of them, and the verb: ``1 source ('a.mp4') is``."""
    return f"{plural(len(ids), 'source')} ({name_some(ids)}) {'is' if len(ids) == 1 else 'are'}"


def _read_rows(folder: str, info: DatasetInfo) -> Iterator[SourceRow]:
    try:
        yield from read_sources(folder, info)
    except DatasetInfoError as error:
        raise UserError(f"{error}. Restore the file, or build again (--overwrite)") from error
