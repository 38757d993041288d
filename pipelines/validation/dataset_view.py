"""`DatasetView`: an examined dataset, the subject of the checks of whole datasets."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.findings import Where
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.pictures.source_pictures import Comparison, SourceReader
from pipelines.validation.shard_summary import ShardSummary
from pipelines.validation.tallies import Tally, merge_tallies
from pipelines.validation.thresholds import Thresholds
from pipelines.validation.views import Expectation, RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import CorruptRecordError

MAX_NAMED = 20
"""Records, sources or groups that a check reads again to name them; the others are counted."""
_MAX_PER_SOURCE = 4
"""Records compared with one source: many files can only be read from their beginning, which takes long."""


class HashedNames(NamedTuple):
    """Hashes of the texts under one key, such as records' ids, with the places of the records that hold them.

    Attributes:
        hashes: of the texts, ``[names]``.
        offsets: of the records in their files, in bytes, ``[names]``.
        shards: indices in ``files``, ``[names]``.
        files: of the shards.
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    shards: NDArray[np.int64]
    files: list[str]

    def place(self, index: int) -> tuple[str, int]:
        """Returns shard and offset of the record of a name."""
        return self.files[self.shards[index]], int(self.offsets[index])


def hashed_names(shards: Sequence[ShardSummary], key: str) -> HashedNames:
    """Returns the hashes under one of `NAME_KEYS`, in the order of the shards and their records."""
    rows = [np.frombuffer(shard.names[key], np.uint64).reshape(-1, 2) for shard in shards]
    hashes, offsets = np.concatenate([np.zeros((0, 2), np.uint64), *rows]).T
    indices = np.repeat(np.arange(len(rows)), [len(own) for own in rows])
    return HashedNames(hashes, offsets, indices, [shard.file for shard in shards])


def shared_names(
    one: HashedNames, other: HashedNames
) -> tuple[list[tuple[tuple[str, int], tuple[str, int]]], int]:
    """Returns the places in both of the first `MAX_NAMED` common names, and the number of further ones."""
    common, mine, theirs = np.intersect1d(one.hashes, other.hashes, return_indices=True)
    pairs = zip(mine[:MAX_NAMED], theirs[:MAX_NAMED], strict=True)
    return [(one.place(i), other.place(j)) for i, j in pairs], max(0, len(common) - MAX_NAMED)


@dataclass(frozen=True)
class DatasetView:
    """An examined dataset.

    Attributes:
        folder: of the dataset.
        expected: its description and the options of the checks.
        shards: summaries of the shards, in order.
    """

    folder: DatasetFolder
    expected: Expectation
    shards: Sequence[ShardSummary]

    @property
    def info(self) -> DatasetInfo:
        """The dataset's description."""
        return self.expected.info

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of the checks."""
        return self.expected.thresholds

    @cached_property
    def by_split(self) -> dict[str, list[ShardSummary]]:
        """The shards of each split that has any."""
        names = dict.fromkeys(shard.split for shard in self.shards)
        return {name: [s for s in self.shards if s.split == name] for name in names}

    @cached_property
    def tallies(self) -> dict[str, Tally]:
        """Sums over the records of each split."""
        return {
            split: merge_tallies(shard.tally for shard in self.by_split.get(split, []))
            for split in self.info.splits
        }

    @cached_property
    def total(self) -> Tally:
        """The tally of all splits."""
        return merge_tallies(self.tallies.values())

    @cached_property
    def comparisons(self) -> list[tuple[Where, Comparison]]:
        """Random records and their comparison with their sources; empty without ``--sources``."""
        if self.expected.sources is None or self.info.spec.image is None:
            return []
        ranked = sorted((-rank, s.file, offset) for s in self.shards for rank, offset in s.drawn)
        found: list[tuple[Where, Comparison]] = []
        most = self.thresholds.source_records
        per_source: Counter[bytes] = Counter()
        with contextlib.closing(SourceReader(self.expected.sources, self.info)) as reader:
            for _, shard, offset in ranked:
                record = self.read_view(shard, offset)
                path = record.value(keys.DATA_PATH)
                if len(found) < most and per_source[path] < _MAX_PER_SOURCE:
                    per_source[path] += 1
                    found.append((self.where(shard, offset), reader.compare(record)))
        return found

    def count_sources(self, split: str) -> int:
        """Returns the number of sources of a split; a source with records in two shards counts twice."""
        return sum(len(s.names[keys.MEDIA_ID]) // 2 for s in self.by_split.get(split, []))

    def read_view(self, shard: str, offset: int) -> RecordView:
        """Returns the record at a place."""
        data = self.folder.read_record(shard, offset)
        return RecordView(data, self.expected, place=f"{shard}@{offset}")

    def read_text(self, shard: str, offset: int, key: str) -> str:
        """Returns the text under ``key`` of the record at a place, or the reason why it is unreadable."""
        try:
            return self.read_view(shard, offset).text(key)
        except (CorruptRecordError, OSError) as problem:
            return f"<unreadable: {problem}>"

    def where(self, shard: str, offset: int, frame: int | None = None) -> Where:
        """Returns the place of a record with its id."""
        record = self.read_text(shard, offset, keys.EXAMPLE_ID)
        return Where(shard=shard, offset=offset, record=record, frame=frame)


def target_units(info: DatasetInfo) -> list[tuple[str, str]]:
    """Returns name and unit of each target, as of stored values: ``s from 1700000000.0`` with an offset.

    The unit is empty if there is none.
    """
    label = info.spec.label
    units = label.target_units or ("",) * len(label.target_names)
    return [
        (name, f"{unit} from {offset!r}" if offset else unit)
        for name, unit, offset in zip(label.target_names, units, label.offsets, strict=True)
    ]


def list_names(names: Sequence[str], max_shown: int = 8) -> str:
    """Returns the first names, quoted, and the number of the others."""
    more = f" and {len(names) - max_shown} more" if len(names) > max_shown else ""
    return ", ".join(repr(name) for name in names[:max_shown]) + more


def used_classes(dataset: DatasetView, tally: Tally) -> set[str]:
    """Returns the classes that have records in a tally of the dataset."""
    names = dataset.info.spec.label.class_names
    return {name for name, count in zip(names, tally.labels, strict=False) if count}
