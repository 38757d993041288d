"""`RecordCollector`: adds the records of a shard to its index and its tally."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from pipelines.validation.checks.neighbours import Neighbours
from pipelines.validation.findings import Where
from pipelines.validation.pictures.hashes import frames_per_record, hash_text, takes_part
from pipelines.validation.shard_index import ShardIndex, file_of
from pipelines.validation.tallies import Tally, find_bin
from pipelines.validation.views import RecordView, target_column, to_text, value_columns
from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo

_MAX_STRATA = 64
_BINS_PER_QUARTER = 6
"""Bins of a histogram in a quarter of it."""


@dataclass(frozen=True, kw_only=True)
class Census:
    """Facts about a dataset that are known before its records are read.

    Attributes:
        ranges: smallest and largest value of targets, by column.
        records: number of records by ``dataset_info.json``.
        label_by_source: True if all records of a source have the same one class.
        seed: of random samples.
        compared: number of records to compare with their sources.
    """

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    records: int = 0
    label_by_source: bool = False
    seed: int = 0
    compared: int = 0


def take_census(info: DatasetInfo, *others: DatasetInfo, seed: int, compared: int = 0) -> Census:
    """Returns the census of a dataset; the ranges of targets include those of ``others``."""
    ranges: dict[str, tuple[float, float]] = {}
    for described in (info, *others):
        for index, name in enumerate(described.spec.label.target_names):
            declared = [
                s.targets[index] for s in described.splits.values() if len(s.targets) > index
            ]
            bounds = [*ranges.get(target_column(name), ())]
            bounds += [
                bound for statistics in declared for bound in (statistics.min, statistics.max)
            ]
            if bounds:
                ranges[target_column(name)] = (min(bounds), max(bounds))
    label, by_time = info.spec.label, not info.build_options.labels_whole_sources
    return Census(
        ranges=ranges,
        records=sum(split.num_records for split in info.splits.values()),
        label_by_source=label.task == "classification" and not label.per_frame and not by_time,
        seed=seed,
        compared=compared,
    )


class RecordCollector:
    """Collects the facts about a shard's records that the checks of the whole dataset need.

    Attributes:
        tally: sums over the records.
        index: names, times and hashes of the records.
    """

    def __init__(self, census: Census, split: str, file: str):
        self._census = census
        self._known: dict[str, set[int]] = {keys.MEDIA_ID: set(), keys.GROUP_ID: set()}
        self._class_of: dict[bytes, int] = {}
        self._names_of: dict[bytes, tuple[bytes, bytes]] = {}
        self.tally = Tally()
        self.index = ShardIndex(split=split, file=file)

    def add(self, record: RecordView, offset: int) -> None:
        """Adds the next record, whose framing begins at byte ``offset``."""
        index, ranges = self.index, self._census.ranges
        record_id, media = record.value(keys.EXAMPLE_ID), record.value(keys.MEDIA_ID)
        if record_id is not None:
            index.ids.add(hash_text(record_id), offset)
        for key, names in ((keys.MEDIA_ID, index.media), (keys.GROUP_ID, index.groups)):
            name = record.value(key)
            if name is not None and (name_hash := hash_text(name)) not in self._known[key]:
                self._known[key].add(name_hash)
                names.add(name_hash, offset)
        if record.problems:
            return
        rank = hash_text(record_id or b"", self._census.seed)
        self.tally.add(record, ranges, rank, (index.file, offset))
        self._draw(rank, offset)
        self._add_footage(record, offset)
        self._compare_names(record, offset)
        stratum = find_stratum(record, ranges)
        quarter = stratum if record.spec.label.num_classes else stratum // _BINS_PER_QUARTER
        index.order.add(hash_text(media), quarter)
        if self._census.label_by_source:
            self._compare_class(record, media, stratum, offset)
        if stratum in index.samples or len(index.samples) < _MAX_STRATA:
            index.samples[stratum] = min(index.samples.get(stratum, (rank, offset)), (rank, offset))

    def add_pair(self, pair: Neighbours, offset: int) -> None:
        """Adds how much values changed from the record before to this one of the same source."""
        before, record = pair.before, pair.record
        if record.problems or before.problems:
            return
        end = before.timestamps[before.valid_frames - 1]
        length = end - before.timestamps[0]
        if record.timestamps[0] - end > 2 * max(length, 1):
            return
        rank = hash_text(record.value(keys.EXAMPLE_ID) or b"", self._census.seed)
        after = value_columns(record)
        for name, values in value_columns(before).items():
            step = abs(after[name][0] - values[0])
            if name in record.expected.angles:
                step = min(step, abs(360 - step))
            self.tally.changes_of(name).add([step], rank, self.index.file, offset)

    def _draw(self, rank: int, offset: int) -> None:
        drawn = self.index.drawn
        if len(drawn) < self._census.compared:
            heapq.heappush(drawn, (-rank, offset))
        elif drawn and -rank > drawn[0][0]:
            heapq.heapreplace(drawn, (-rank, offset))

    def _add_footage(self, record: RecordView, offset: int) -> None:
        valid, records = record.valid_frames, self._census.records
        shown = record.timestamps[:valid]
        if shown:
            file_hash = hash_text(file_of(record.value(keys.MEDIA_ID)))
            self.index.spans.add(file_hash, min(shown), max(shown), offset)
        pictures = record.pictures
        if pictures is None or any(pictures.problems):
            return
        if takes_part(hash_text(record.value(keys.EXAMPLE_ID)), records):
            count = frames_per_record(records, record.spec.num_frames)
            self.index.frames.add(pictures.hashes[:valid], pictures.tones[:valid], offset, count)

    def _compare_names(self, record: RecordView, offset: int) -> None:
        names = (record.value(keys.GROUP_ID), record.value(keys.DATA_PATH))
        media = record.value(keys.MEDIA_ID)
        known = self._names_of.setdefault(media, names)
        for what, own, other in zip(("group", "path"), names, known, strict=True):
            if own != other:
                self.index.name_conflicts.add(
                    self._where(record, offset),
                    f"its {what} is {to_text(own)!r}, but an earlier record of its source "
                    f"{to_text(media)!r} says {to_text(other)!r}",
                )
                return

    def _compare_class(self, record: RecordView, media: bytes, label: int, offset: int) -> None:
        labels, names = self.index.labels, record.spec.label.class_names
        if not 0 <= label < len(names):
            return
        folders = to_text(record.value(keys.DATA_PATH) or b"").split("/")[:-1]
        others = [folder for folder in folders if folder in names]
        if names[label] in folders:
            labels.named += 1
        elif others:
            labels.misnamed.add(
                self._where(record, offset),
                f"it is of class {names[label]!r}, but in the folder {others[-1]!r}",
            )
        first = self._class_of.setdefault(media, label)
        if first != label:
            labels.mixed.add(
                self._where(record, offset),
                f"it is of class {names[label]!r}, but an earlier record of its source {to_text(media)!r} "
                f"is of {names[first]!r}",
            )

    def _where(self, record: RecordView, offset: int) -> Where:
        return Where(shard=self.index.file, offset=offset, record=record.text(keys.EXAMPLE_ID))


def find_stratum(record: RecordView, ranges: dict[str, tuple[float, float]]) -> int:
    """Returns the record's first class, or the bin of its first target."""
    indices = record.context.get(keys.LABEL_INDEX) or record.column(keys.FRAME_LABEL_INDEX)
    if indices:
        return int(indices[0])
    for name, values in value_columns(record).items():
        if name in ranges and np.isfinite(values[0]):
            return find_bin(values[0], ranges[name])
    return 0
