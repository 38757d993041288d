"""`RecordCollector`: adds the records of a shard to its summary."""

from __future__ import annotations

import heapq

import numpy as np

from pipelines.validation.checks.neighbours import Neighbours
from pipelines.validation.findings import Where
from pipelines.validation.pictures.hashes import choose_pictures, frames_to_compare, hash_text
from pipelines.validation.shard_summary import NAME_KEYS, ShardSummary, file_of
from pipelines.validation.sketches import Sketch
from pipelines.validation.tallies import find_bin
from pipelines.validation.views import RecordView, to_text
from tfrecords_schema import spec as keys

_MAX_STRATA = 64
_BINS_PER_QUARTER = 6
"""Bins of a histogram in a quarter of it."""


class RecordCollector:
    """Collects the facts about a shard's records that the checks of the whole dataset need."""

    def __init__(self, summary: ShardSummary):
        self._summary = summary
        self._known: set[tuple[str, int]] = set()
        self._class_of: dict[bytes, int] = {}
        self._names_of: dict[bytes, tuple[bytes, bytes]] = {}
        self._last: tuple[bytes, int] | None = None

    def add(self, record: RecordView, where: Where, offset: int) -> None:
        """Adds the next record, whose framing begins at byte ``offset``."""
        summary, expected = self._summary, record.expected
        for key in NAME_KEYS:
            name = record.value(key)
            if name is None:
                continue
            name_hash = hash_text(name)
            if key != keys.EXAMPLE_ID:
                if (key, name_hash) in self._known:
                    continue
                self._known.add((key, name_hash))
            summary.names[key].extend((name_hash, offset))
        if record.problems:
            return
        rank = _rank(record)
        summary.tally.add(record, rank, summary.file, offset)
        if expected.sources is not None:
            heapq.heappush(summary.drawn, (-rank, offset))
            if len(summary.drawn) > expected.thresholds.source_records:
                heapq.heappop(summary.drawn)
        self._add_footage(record, offset)
        media = record.value(keys.MEDIA_ID)
        self._compare_names(record, media, where)
        stratum = _find_stratum(record)
        label = stratum if record.spec.label.num_classes else stratum // _BINS_PER_QUARTER
        if self._last is not None and media != self._last[0]:
            summary.source_changes += 1
            summary.class_changes += label != self._last[1]
        self._last = (media, label)
        if expected.labels_whole_sources:
            self._compare_class(record, media, stratum, where)
        if stratum in summary.samples or len(summary.samples) < _MAX_STRATA:
            sample = (rank, offset)
            summary.samples[stratum] = min(summary.samples.get(stratum, sample), sample)

    def add_pair(self, pair: Neighbours, offset: int) -> None:
        """Adds how much values changed from the record before to this one of the same source."""
        before, record = pair.before, pair.record
        if record.problems or before.problems:
            return
        times = before.shown_times
        if record.timestamps[0] - times[-1] > 2 * max(times[-1] - times[0], 1):
            return
        rank, changes = _rank(record), self._summary.tally.changes
        for name, values in before.value_columns.items():
            step = abs(record.value_columns[name][0] - values[0])
            if name in record.expected.angles:
                step = min(step, abs(360 - step))
            changes.setdefault(name, Sketch()).add([step], rank, self._summary.file, offset)

    def _add_footage(self, record: RecordView, offset: int) -> None:
        records, times = record.expected.num_records, record.shown_times
        if times:
            file_hash = hash_text(file_of(record.value(keys.MEDIA_ID)))
            self._summary.spans.add(file_hash, min(times), max(times), offset)
        pictures = record.intact_pictures
        if pictures is not None:
            id_hash = hash_text(record.value(keys.EXAMPLE_ID))
            count = frames_to_compare(id_hash, records, record.spec.num_frames)
            self._summary.frames += choose_pictures(pictures, offset, count).tobytes()

    def _compare_names(self, record: RecordView, media: bytes, where: Where) -> None:
        names = (record.value(keys.GROUP_ID), record.value(keys.DATA_PATH))
        known = self._names_of.setdefault(media, names)
        for what, own, other in zip(("group", "path"), names, known, strict=True):
            if own != other:
                self._summary.renamed.add(
                    where,
                    f"its {what} is {to_text(own)!r}, but an earlier record of its source "
                    f"{to_text(media)!r} says {to_text(other)!r}",
                )
                return

    def _compare_class(self, record: RecordView, media: bytes, label: int, where: Where) -> None:
        summary, names = self._summary, record.spec.label.class_names
        if not 0 <= label < len(names):
            return
        folders = record.text(keys.DATA_PATH).split("/")[:-1]
        others = [folder for folder in folders if folder in names]
        if names[label] in folders:
            summary.named += 1
        elif others:
            summary.misnamed.add(
                where, f"it is of class {names[label]!r}, but in the folder {others[-1]!r}"
            )
        first = self._class_of.setdefault(media, label)
        if first != label:
            summary.mixed.add(
                where,
                f"it is of class {names[label]!r}, but an earlier record of its source {to_text(media)!r} "
                f"is of {names[first]!r}",
            )


def _rank(record: RecordView) -> int:
    """Returns a hash of the record's id, by which random records are drawn."""
    return hash_text(record.value(keys.EXAMPLE_ID) or b"", record.expected.seed)


def _find_stratum(record: RecordView) -> int:
    """Returns the record's first class, or the bin of its first target."""
    indices = record.context.get(keys.LABEL_INDEX) or record.column(keys.FRAME_LABEL_INDEX)
    if indices:
        return int(indices[0])
    ranges = record.expected.ranges
    for name, values in record.value_columns.items():
        if name in ranges and np.isfinite(values[0]):
            return find_bin(values[0], ranges[name])
    return 0
