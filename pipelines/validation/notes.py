"""`ShardNotes`: what is remembered of a shard's records for the checks of the whole dataset."""

from __future__ import annotations

import heapq
from array import array
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.checks.neighbours import Neighbours
from pipelines.validation.findings import Where
from pipelines.validation.pictures.hashes import (
    FrameHashes,
    frames_per_record,
    hash_text,
    takes_part,
)
from pipelines.validation.tallies import Tally, find_bin
from pipelines.validation.views import RecordView, to_text, value_columns
from tfrecords_schema import spec as keys

_MOST = 20_000
"""Spans that are kept of a shard; records of footage beyond them are not compared."""


class Span(NamedTuple):
    """Footage from one time to another, both included, in microseconds; and the first record of it."""

    start: int
    end: int
    offset: int


@dataclass
class Spans:
    """By hash of a file's name, the spans of it that records show; those that overlap are one."""

    by_file: dict[int, list[Span]] = field(default_factory=dict)
    count: int = 0

    def add(self, file_hash: int, start: int, end: int, offset: int) -> None:
        """Takes the span of a record."""
        spans = self.by_file.setdefault(file_hash, [])
        if spans and spans[-1].start <= start <= spans[-1].end + 1:
            last = spans[-1]
            spans[-1] = Span(last.start, max(last.end, end), last.offset)
        elif self.count < _MOST:
            self.count += 1
            spans.append(Span(start, end, offset))


def name_of_file(media_id: bytes) -> bytes:
    """A source's id without the span that its end may name: ``drive.mp4#t=0,8`` is of ``drive.mp4``."""
    return media_id.partition(b"#t=")[0]


def _numbers() -> array[int]:
    return array("Q")


@dataclass
class Places:
    """64-bit hashes of names, and beside each the byte offset of a record that has the name."""

    _hashes: array[int] = field(default_factory=_numbers)
    offsets: array[int] = field(default_factory=_numbers)

    def add(self, name_hash: int, offset: int) -> None:
        """Takes a name."""
        self._hashes.append(name_hash)
        self.offsets.append(offset)

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """In the order they were added."""
        return np.frombuffer(self._hashes, np.uint64)


_MOST_PLACES = 20


@dataclass
class Conflicts:
    """Where records contradict others, and what they say.

    Attributes:
        count: of all.
        places: of the first.
    """

    count: int = 0
    places: list[tuple[Where, str]] = field(default_factory=list)

    def add(self, where: Where, said: str) -> None:
        """Takes a record that does."""
        self.count += 1
        if len(self.places) < _MOST_PLACES:
            self.places.append((where, said))

    def merge(self, other: Conflicts) -> None:
        """Takes what another shard has."""
        self.count += other.count
        self.places = [*self.places, *other.places][:_MOST_PLACES]

    @property
    def more(self) -> int:
        """How many are not among `places`."""
        return self.count - len(self.places)


_MOST_STRATA = 64
_QUARTER = 6
"""Bins of a histogram in a quarter of it."""


@dataclass(frozen=True, kw_only=True)
class Census:
    """What is known of a dataset before its records are read.

    Attributes:
        ranges: of targets, by column: the least and the most.
        records: in all shards, by ``dataset_info.json``.
        label_by_source: whether all records of a source have its one class.
        seed: of the draw of samples.
        compared: records that are drawn to be compared with their sources.
    """

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    records: int = 0
    label_by_source: bool = False
    seed: int = 0
    compared: int = 0


@dataclass
class ShardOrder:
    """How records follow each other: how often the source changes, and the class with it."""

    records: int = 0
    sources: int = 0
    classes: int = 0
    _source: int | None = None
    _class: int | None = None

    def add(self, source: int, label: int) -> None:
        """Takes the next record's source and class."""
        self.records += 1
        if self._source is not None and source != self._source:
            self.sources += 1
            self.classes += label != self._class
        self._source, self._class = source, label


@dataclass
class SourceLabels:
    """How classes agree with the footage they are of.

    Attributes:
        named: records in a folder called as their class.
        misnamed: records in a folder called as another class.
        mixed: records of another class than an earlier one of their source.
    """

    named: int = 0
    misnamed: Conflicts = field(default_factory=Conflicts)
    mixed: Conflicts = field(default_factory=Conflicts)

    def merge(self, other: SourceLabels) -> None:
        """Takes what another shard has."""
        self.named += other.named
        self.misnamed.merge(other.misnamed)
        self.mixed.merge(other.mixed)


@dataclass(kw_only=True)
class ShardPlaces:
    """What a shard's records are called, as hashes, what they look like, and where they lie."""

    split: str
    file: str
    ids: Places = field(default_factory=Places)
    media: Places = field(default_factory=Places)
    groups: Places = field(default_factory=Places)
    spans: Spans = field(default_factory=Spans)
    frames: FrameHashes = field(default_factory=FrameHashes)
    order: ShardOrder = field(default_factory=ShardOrder)
    labels: SourceLabels = field(default_factory=SourceLabels)
    names: Conflicts = field(default_factory=Conflicts)
    drawn: list[tuple[int, int]] = field(default_factory=list)
    """Rank, negative, and offset of records to compare with their sources; a heap."""


class ShardNotes:
    """Takes the records of a shard, one after the other.

    Attributes:
        tally: of the records.
        places: of the records.
        samples: by stratum (class, or bin of the first target), the rank and offset of the record with the
            lowest seeded hash.
    """

    def __init__(self, census: Census, split: str, file: str):
        self._census = census
        self._known: dict[str, set[int]] = {keys.MEDIA_ID: set(), keys.GROUP_ID: set()}
        self._class_of: dict[bytes, int] = {}
        self._names_of: dict[bytes, tuple[bytes, bytes]] = {}
        self.tally = Tally()
        self.places = ShardPlaces(split=split, file=file)
        self.samples: dict[int, tuple[int, int]] = {}

    def take(self, record: RecordView, offset: int) -> None:
        """Takes the next record.

        Args:
            record: as far as it could be read.
            offset: of its framing in the shard.
        """
        record_id = record.value(keys.EXAMPLE_ID)
        if record_id is not None:
            self.places.ids.add(hash_text(record_id), offset)
        for key, places in (
            (keys.MEDIA_ID, self.places.media),
            (keys.GROUP_ID, self.places.groups),
        ):
            name = record.value(key)
            if name is not None and (name_hash := hash_text(name)) not in self._known[key]:
                self._known[key].add(name_hash)
                places.add(name_hash, offset)
        if record.problems:
            return
        rank = hash_text(record_id or b"", self._census.seed)
        where = (self.places.file, offset)
        self.tally.add(record, self._census.ranges, rank, where)
        self._draw(rank, offset)
        self._take_footage(record, offset)
        self._take_names(record, offset)
        stratum = stratum_of(record, self._census.ranges)
        media = record.value(keys.MEDIA_ID)
        self.places.order.add(
            hash_text(media), stratum if record.spec.label.num_classes else stratum // _QUARTER
        )
        if self._census.label_by_source:
            self._take_class(record, media, stratum, offset)
        known_rank, _ = self.samples.get(stratum, (None, 0))
        if known_rank is None:
            if len(self.samples) < _MOST_STRATA:
                self.samples[stratum] = (rank, offset)
        elif rank < known_rank:
            self.samples[stratum] = (rank, offset)

    def take_pair(self, pair: Neighbours, offset: int) -> None:
        """Takes a record again, beside the one before it of its source."""
        if pair.record.problems or pair.before.problems:
            return
        gap = pair.record.timestamps[0] - pair.before.timestamps[pair.before.valid_frames - 1]
        length = pair.before.timestamps[pair.before.valid_frames - 1] - pair.before.timestamps[0]
        if gap > 2 * max(length, 1):
            return
        rank = hash_text(pair.record.value(keys.EXAMPLE_ID) or b"", self._census.seed)
        after = value_columns(pair.record)
        for name, values in value_columns(pair.before).items():
            step = abs(after[name][0] - values[0])
            if name in pair.record.expected.angles:
                step = min(step, abs(360 - step))
            self.tally.steps_of(name).add([step], rank, self.places.file, offset)

    def _draw(self, rank: int, offset: int) -> None:
        drawn = self.places.drawn
        if len(drawn) < self._census.compared:
            heapq.heappush(drawn, (-rank, offset))
        elif drawn and -rank > drawn[0][0]:
            heapq.heapreplace(drawn, (-rank, offset))

    def _take_footage(self, record: RecordView, offset: int) -> None:
        places, times, valid = self.places, record.timestamps, record.valid_frames
        shown = times[:valid]
        if shown:
            file_hash = hash_text(name_of_file(record.value(keys.MEDIA_ID)))
            places.spans.add(file_hash, min(shown), max(shown), offset)
        pictures, records = record.pictures, self._census.records
        if pictures is None or any(pictures.problems):
            return
        if takes_part(hash_text(record.value(keys.EXAMPLE_ID)), records):
            most = frames_per_record(records, record.spec.num_frames)
            places.frames.add(pictures.hashes[:valid], pictures.tones[:valid], offset, most)

    def _take_names(self, record: RecordView, offset: int) -> None:
        names = (record.value(keys.GROUP_ID), record.value(keys.DATA_PATH))
        media = record.value(keys.MEDIA_ID)
        known = self._names_of.setdefault(media, names)
        if known is names or known == names:
            return
        what, own, other = next(
            (what, one, two)
            for what, one, two in zip(("group", "path"), names, known, strict=True)
            if one != two
        )
        self.places.names.add(
            self._where(record, offset),
            f"its {what} is {to_text(own)!r}, and an earlier record of its source {to_text(media)!r} says "
            f"{to_text(other)!r}",
        )

    def _take_class(self, record: RecordView, media: bytes, label: int, offset: int) -> None:
        labels, names = self.places.labels, record.spec.label.class_names
        if not 0 <= label < len(names):
            return
        folders = to_text(record.value(keys.DATA_PATH) or b"").split("/")[:-1]
        others = [folder for folder in folders if folder in names]
        if names[label] in folders:
            labels.named += 1
        elif others:
            labels.misnamed.add(
                self._where(record, offset),
                f"it is of class {names[label]!r}, and lies in the folder {others[-1]!r}",
            )
        first = self._class_of.setdefault(media, label)
        if first != label:
            labels.mixed.add(
                self._where(record, offset),
                f"it is of class {names[label]!r}, and an earlier record of its source {to_text(media)!r} "
                f"of {names[first]!r}",
            )

    def _where(self, record: RecordView, offset: int) -> Where:
        return Where(shard=self.places.file, offset=offset, record=record.text(keys.EXAMPLE_ID))


def stratum_of(record: RecordView, ranges: dict[str, tuple[float, float]]) -> int:
    """The class, or the bin of the first target, that a sample of a record stands for."""
    indices = record.context.get(keys.LABEL_INDEX) or record.column(keys.FRAME_LABEL_INDEX)
    if indices:
        return int(indices[0])
    for name, values in value_columns(record).items():
        if name in ranges and np.isfinite(values[0]):
            return find_bin(values[0], ranges[name])
    return 0
