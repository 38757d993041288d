"""One shard to a `ShardSummary`: records are streamed, and one is in memory at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from pipelines.validation.dataset_checks import ShardPlaces
from pipelines.validation.findings import Finding, FindingLog, Level, Where
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.places import Places
from pipelines.validation.record_checks import (
    RECORD_CHECKS,
    decodes,
    target_column,
    value_columns,
)
from pipelines.validation.shard_checks import SHARD_CHECKS, ShardFacts
from pipelines.validation.tallies import Tally, find_bin
from pipelines.validation.views import Expectation, RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo, ShardInfo
from tfrecords_schema.records import CorruptRecordError, StoredRecord, read_records

MOST_FINDINGS = 50
"""Findings that are kept of each check and level; all are counted."""
_MOST_STRATA = 64
_HEADER_BYTES = 12


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """A shard to examine."""

    split: str
    shard: ShardInfo


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What is kept of an examined shard: some 16 bytes a record, and what does not grow with it.

    Attributes:
        bytes: that were read.
        findings: that were kept; see `MOST_FINDINGS`.
        counts: of all findings, by check and level.
        tally: of its records.
        places: of its records' ids, and of its distinct sources and groups.
        samples: by stratum (class, or bin of the first target), the rank and offset of the record with the
            lowest seeded hash.
    """

    bytes: int
    findings: tuple[Finding, ...]
    counts: Counter[tuple[str, Level]]
    tally: Tally
    places: ShardPlaces
    samples: dict[int, tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class ShardExaminer:
    """What the examination of all shards of a dataset has in common; sent to every worker."""

    folder: DatasetFolder
    expected: Expectation
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    seed: int = 0

    def examine(self, job: ShardJob, on_bytes: Callable[[int], None]) -> ShardSummary:
        """Examines one shard.

        Args:
            job: the shard.
            on_bytes: told how many bytes more were read.
        """
        log = FindingLog(MOST_FINDINGS)
        notes = _Notes(self, job)
        reader = _ShardReader(self.folder, job.shard, on_bytes)
        for stored in reader.records():
            record = RecordView(stored.data, self.expected)
            where = Where(
                shard=job.shard.file, offset=stored.offset, record=record.text(keys.EXAMPLE_ID)
            )
            log.add(check_record(record, where))
            notes.take(record, stored.offset)
        facts = reader.facts()
        for check in SHARD_CHECKS:
            log.add(check(facts, Where(shard=job.shard.file)))
        return ShardSummary(
            bytes=facts.bytes,
            findings=log.kept,
            counts=log.counts,
            tally=notes.tally,
            places=notes.places,
            samples=notes.samples,
        )


def check_record(record: RecordView, where: Where) -> list[Finding]:
    """All findings on one record."""
    found = [finding for check in RECORD_CHECKS for finding in check(record, where)]
    if not any(finding.level == "error" for finding in found):
        found += decodes(record, where)
    return found


def hash_text(text: bytes, seed: int = 0) -> int:
    """64 bits that depend on the seed and the text.

    Among 100 million texts, the chance that any two have the same is 1 in 3,700.
    """
    digest = hashlib.blake2b(text, digest_size=8, salt=seed.to_bytes(8, "little", signed=True))
    return int.from_bytes(digest.digest(), "little")


def histogram_ranges(info: DatasetInfo) -> dict[str, tuple[float, float]]:
    """Least and most of each regression target over all splits, by name of its column."""
    ranges = {}
    for place, name in enumerate(info.spec.label.target_names):
        stated = [s.targets[place] for s in info.splits.values() if len(s.targets) > place]
        if stated:
            ranges[target_column(name)] = (min(t.min for t in stated), max(t.max for t in stated))
    return ranges


class _Notes:
    """What is remembered of the records of a shard."""

    def __init__(self, examiner: ShardExaminer, job: ShardJob):
        self._ranges = examiner.ranges
        self._seed = examiner.seed
        self._known: dict[str, set[int]] = {keys.MEDIA_ID: set(), keys.GROUP_ID: set()}
        self.tally = Tally()
        self.places = ShardPlaces(
            split=job.split, file=job.shard.file, ids=Places(), media=Places(), groups=Places()
        )
        self.samples: dict[int, tuple[int, int]] = {}

    def take(self, record: RecordView, offset: int) -> None:
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
        self.tally.add(record, self._ranges)
        stratum = self._stratum(record)
        rank = hash_text(record_id or b"", self._seed)
        known_rank, _ = self.samples.get(stratum, (None, 0))
        if known_rank is None:
            if len(self.samples) < _MOST_STRATA:
                self.samples[stratum] = (rank, offset)
        elif rank < known_rank:
            self.samples[stratum] = (rank, offset)

    def _stratum(self, record: RecordView) -> int:
        """The class, or the bin of the first target, that a sample of this record stands for."""
        indices = record.context.get(keys.LABEL_INDEX) or record.column(keys.FRAME_LABEL_INDEX)
        if indices:
            return indices[0]
        for name, values in value_columns(record).items():
            if name in self._ranges and values[0] == values[0]:  # not NaN
                return find_bin(values[0], self._ranges[name])
        return 0


class _ShardReader:
    """Streams a shard's records past every record that is corrupt, as far as lengths can be believed."""

    def __init__(self, folder: DatasetFolder, declared: ShardInfo, on_bytes: Callable[[int], None]):
        self._folder = folder
        self._declared = declared
        self._on_bytes = on_bytes
        self._records = 0
        self._corrupt: list[tuple[int, str]] = []
        self._unreadable: str | None = None
        self._bytes, self._sha256 = 0, ""

    def records(self) -> Iterator[StoredRecord]:
        try:
            with self._folder.open(self._declared.file) as file:
                hashed = _HashedFile(file, self._on_bytes)
                yield from self._intact(hashed)
                while hashed.read(1 << 20):
                    pass  # what lies behind a record that ended the reading belongs to the checksum
                self._bytes, self._sha256 = hashed.position, hashed.hexdigest()
        except OSError as problem:
            self._unreadable = problem.strerror or str(problem)

    def facts(self) -> ShardFacts:
        return ShardFacts(
            declared=self._declared,
            records=self._records,
            bytes=self._bytes,
            sha256=self._sha256,
            corrupt=tuple(self._corrupt),
            unreadable=self._unreadable,
        )

    def _intact(self, file: _HashedFile) -> Iterator[StoredRecord]:
        base = 0
        while True:
            try:
                for stored in read_records(cast(BinaryIO, file), self._declared.file):
                    self._records += 1
                    yield StoredRecord(base + stored.offset, stored.data)
                return
            except CorruptRecordError as problem:
                offset = base + problem.offset
                self._corrupt.append((offset, problem.reason))
                # When the data were read, their length could be believed, and the next record follows.
                if file.position <= offset + _HEADER_BYTES:
                    return
                base = file.position


class _HashedFile:
    """A file of which everything that is read is also counted and hashed."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None]):
        self._file = file
        self._digest = hashlib.sha256()
        self._on_bytes = on_bytes
        self.position = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        self.position += len(data)
        self._on_bytes(len(data))
        return data

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
