"""`DatasetView`: an examined dataset, the subject of the checks of whole datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.findings import Where
from pipelines.validation.folder import DatasetFolder, Listing
from pipelines.validation.pictures.source_pictures import Comparison, SourceReader
from pipelines.validation.shard_index import Conflicts, Names, ShardIndex, SourceLabels
from pipelines.validation.tallies import Tally, merge_tallies
from pipelines.validation.thresholds import DEFAULTS, Thresholds
from pipelines.validation.views import RecordView, expectation, to_text
from tfrecords_schema import spec as keys
from tfrecords_schema.decode import parse_example
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import SpecError

MAX_NAMED = 20
"""Records, sources or groups that a check reads again to name them; the others are counted."""
_MAX_PER_SOURCE = 4
"""Records compared with one source: many files can only be read from their beginning, which takes long."""


@dataclass(frozen=True)
class DatasetView:
    """An examined dataset.

    Attributes:
        folder: of the dataset.
        info: its description.
        listing: files that are missing or too many.
        tallies: sums over the records, by split.
        shards: indexes of the shards, in order.
        thresholds: of the checks.
        old: the older dataset to compare with; None for none.
        sources: folder of the sources to compare records with; None for none.
    """

    folder: DatasetFolder
    info: DatasetInfo
    listing: Listing
    tallies: dict[str, Tally]
    shards: Sequence[ShardIndex]
    thresholds: Thresholds = DEFAULTS
    old: DatasetView | None = None
    sources: str | None = None

    @cached_property
    def total(self) -> Tally:
        """The tally of all splits."""
        return merge_tallies(list(self.tallies.values()))

    @property
    def training(self) -> Tally:
        """The tally of the split ``train``; of all splits if there is no such split."""
        train = self.tallies.get("train")
        return train if train is not None and train.records else self.total

    @cached_property
    def by_split(self) -> dict[str, list[ShardIndex]]:
        """The shards of each split that has any."""
        names = dict.fromkeys(shard.split for shard in self.shards)
        return {name: [s for s in self.shards if s.split == name] for name in names}

    @cached_property
    def labels(self) -> SourceLabels:
        """Agreement of classes with sources and folders."""
        total = SourceLabels()
        for shard in self.shards:
            total.merge(shard.labels)
        return total

    @cached_property
    def name_conflicts(self) -> Conflicts:
        """Records that name another group or path than others of their source."""
        total = Conflicts()
        for shard in self.shards:
            total.merge(shard.name_conflicts)
        return total

    @cached_property
    def comparisons(self) -> list[tuple[Where, Comparison]]:
        """Random records and their comparison with their sources; empty without ``sources``."""
        if self.sources is None or self.info.spec.image is None:
            return []
        ranked = sorted((-rank, s.file, offset) for s in self.shards for rank, offset in s.drawn)
        expected, count = expectation(self.info, self.thresholds), self.thresholds.source_records
        found: list[tuple[Where, Comparison]] = []
        per_source: Counter[bytes] = Counter()
        with SourceReader(self.sources, self.info) as reader:
            for _, shard, offset in ranked:
                record = RecordView(self.folder.read_record(shard, offset), expected)
                path = record.value(keys.DATA_PATH)
                if len(found) < count and per_source[path] < _MAX_PER_SOURCE:
                    per_source[path] += 1
                    found.append((self.where(shard, offset), reader.compare(record)))
        return found

    def count_sources(self, split: str) -> int:
        """Returns the number of sources of a split; a source with records in two shards counts twice."""
        return sum(len(shard.media) for shard in self.by_split.get(split, []))

    def read_text(self, shard: str, offset: int, key: str) -> str:
        """Returns the text under ``key`` of the record at a place, or the reason why it is unreadable."""
        try:
            example = parse_example(self.folder.read_record(shard, offset))
            return to_text(example.context.feature[key].bytes_list.value[0])
        except (CorruptRecordError, SpecError, OSError, IndexError) as problem:
            return f"<unreadable: {problem}>"

    def where(self, shard: str, offset: int, frame: int | None = None) -> Where:
        """Returns the place of a record with its id."""
        record = self.read_text(shard, offset, keys.EXAMPLE_ID)
        return Where(shard=shard, offset=offset, record=record, frame=frame)


def target_units(info: DatasetInfo) -> list[tuple[str, str]]:
    """Returns name and unit of each target; the unit is empty if there is none."""
    label = info.spec.label
    units = [*label.target_units, *[""] * (len(label.target_names) - len(label.target_units))]
    return list(zip(label.target_names, units, strict=True))


def concatenate(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Returns the arrays as one; unlike `np.concatenate`, also of no arrays."""
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def locate(parts: Sequence[tuple[str, Names]], place: int) -> tuple[str, int]:
    """Returns shard and offset of the name at ``place`` in the names of all ``parts`` together."""
    for shard, names in parts:
        if place < len(names):
            return shard, names.offsets[place]
        place -= len(names)
    raise IndexError(f"{place} is beyond the last shard")


def list_names(names: Sequence[str], max_shown: int = 8) -> str:
    """Returns the first names, quoted, and the number of the others."""
    more = f" and {len(names) - max_shown} more" if len(names) > max_shown else ""
    return ", ".join(repr(name) for name in names[:max_shown]) + more
