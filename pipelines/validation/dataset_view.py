"""`DatasetView`: a dataset, examined, as the checks of the whole dataset see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.findings import Where
from pipelines.validation.folder import DatasetFolder, Listing
from pipelines.validation.notes import Conflicts, Places, ShardPlaces, SourceLabels
from pipelines.validation.pictures.source_pictures import Compared, SourceReader
from pipelines.validation.tallies import Tally, merged
from pipelines.validation.thresholds import DEFAULTS, Thresholds
from pipelines.validation.views import RecordView, expectation, to_text
from tfrecords_schema import spec as keys
from tfrecords_schema.decode import parse_example
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import SpecError

MOST_NAMED = 20
"""Records, sources or groups that a check reads again to name them; the others are counted."""


_MOST_OF_A_SOURCE = 4
"""Records that are compared with one source."""


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
        old: the dataset that it is compared with; None for none.
        sources: the folder that its records' paths are relative to; None when it is not to be looked at.
    """

    folder: DatasetFolder
    info: DatasetInfo
    listing: Listing
    tallies: dict[str, Tally]
    shards: Sequence[ShardPlaces]
    thresholds: Thresholds = DEFAULTS
    old: DatasetView | None = None
    sources: str | None = None

    @cached_property
    def total(self) -> Tally:
        """Of all splits."""
        return merged(list(self.tallies.values()))

    @property
    def training(self) -> Tally:
        """Of the training split; of all splits, where none is called so."""
        train = self.tallies.get("train")
        return train if train is not None and train.records else self.total

    @cached_property
    def by_split(self) -> dict[str, list[ShardPlaces]]:
        """The shards of each split that has any."""
        names = dict.fromkeys(shard.split for shard in self.shards)
        return {name: [s for s in self.shards if s.split == name] for name in names}

    @cached_property
    def labels(self) -> SourceLabels:
        """How classes agree with footage, in all shards."""
        total = SourceLabels()
        for shard in self.shards:
            total.merge(shard.labels)
        return total

    @cached_property
    def names(self) -> Conflicts:
        """Records that do not agree with others of their source, in all shards."""
        total = Conflicts()
        for shard in self.shards:
            total.merge(shard.names)
        return total

    @cached_property
    def compared(self) -> list[tuple[Where, Compared]]:
        """A draw of records beside their sources, and where they lie; empty without ``sources``."""
        if self.sources is None or self.info.spec.image is None:
            return []
        ranked = sorted((-rank, s.file, place) for s in self.shards for rank, place in s.drawn)
        expected, most = expectation(self.info, self.thresholds), self.thresholds.source_records
        found: list[tuple[Where, Compared]] = []
        counts: Counter[bytes] = Counter()
        with SourceReader(self.sources, self.info) as reader:
            for _, shard, offset in ranked:
                record = RecordView(self.folder.read_record(shard, offset), expected)
                path = record.value(keys.DATA_PATH)
                # Many files can only be read from their beginning, which takes long.
                if len(found) < most and counts[path] < _MOST_OF_A_SOURCE:
                    counts[path] += 1
                    found.append((self.where(shard, offset), reader.compare(record)))
        return found

    def count_sources(self, split: str) -> int:
        """Distinct sources of a split, or more: one whose records lie in two shards counts twice."""
        return sum(len(shard.media) for shard in self.by_split.get(split, []))

    def name(self, shard: str, offset: int, key: str) -> str:
        """The string that the record there has under ``key``; what is wrong, when that cannot be read."""
        try:
            example = parse_example(self.folder.read_record(shard, offset))
            return to_text(example.context.feature[key].bytes_list.value[0])
        except (CorruptRecordError, SpecError, OSError, IndexError) as problem:
            return f"<unreadable: {problem}>"

    def where(self, shard: str, offset: int, frame: int | None = None) -> Where:
        """The place of a record, with its id; ``frame`` is what is meant in it."""
        name = self.name(shard, offset, keys.EXAMPLE_ID)
        return Where(shard=shard, offset=offset, record=name, frame=frame)


def concatenate(parts: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """``np.concatenate`` that takes no part at all, too."""
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def locate(parts: Sequence[tuple[str, Places]], place: int) -> tuple[str, int]:
    """Shard and offset of the name at ``place`` in all parts together."""
    for shard, places in parts:
        if place < len(places):
            return shard, places.offsets[place]
        place -= len(places)
    raise IndexError(f"{place} beyond the last shard")


def list_names(names: Sequence[str], most: int = 8) -> str:
    """The first names, quoted, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def target_units(info: DatasetInfo) -> Iterator[tuple[str, str]]:
    """Name and unit of each target."""
    label = info.spec.label
    yield from zip(
        label.target_names, label.target_units or ("",) * len(label.target_names), strict=True
    )
