"""One shard to a `ShardSummary`: records are streamed, and two are in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines.validation.checks.neighbours import NEIGHBOUR_CHECKS, Neighbours, are_neighbours
from pipelines.validation.checks.records import RECORD_CHECKS, decodes
from pipelines.validation.checks.shards import SHARD_CHECKS
from pipelines.validation.findings import Finding, FindingLog, Level, Where
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.notes import Census, ShardNotes, ShardPlaces
from pipelines.validation.pictures.thumbnails import PictureReader
from pipelines.validation.shard_reader import ShardReader
from pipelines.validation.tallies import Tally
from pipelines.validation.views import Expectation, RecordView, target_column
from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo, ShardInfo

MOST_FINDINGS = 50
"""Findings that are kept of each check and level; all are counted."""
_DECODED_AGAIN = 16
"""One record in so many is also given to the package's own decoder, which takes as long as all checks."""


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """A shard to examine; ``old`` when it is of the dataset that this one is compared with."""

    split: str
    shard: ShardInfo
    old: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What is kept of an examined shard: some 16 bytes a record, and what does not grow with it.

    Attributes:
        bytes: that were read.
        findings: that were kept; see `MOST_FINDINGS`.
        counts: of all findings, by check and level.
        tally: of its records.
        places: of its records' ids, sources, groups and pictures.
        samples: by stratum, the rank and offset of a record; see `ShardNotes`.
        old: whether it is of the dataset that this one is compared with.
    """

    bytes: int
    findings: tuple[Finding, ...]
    counts: Counter[tuple[str, Level]]
    tally: Tally
    places: ShardPlaces
    samples: dict[int, tuple[int, int]]
    old: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardExaminer:
    """What the examination of all shards of a dataset has in common; sent to every worker.

    Attributes:
        folder: of the dataset.
        expected: of its records.
        census: what is known of all of them.
        old: examines the shards of the dataset that this one is compared with.
    """

    folder: DatasetFolder
    expected: Expectation
    census: Census = field(default_factory=Census)
    old: ShardExaminer | None = None

    def examine(self, job: ShardJob, on_bytes: Callable[[int], None]) -> ShardSummary:
        """Examines one shard.

        Args:
            job: the shard.
            on_bytes: told how many bytes more were read.
        """
        if job.old and self.old is not None:
            return self.old.examine(job, on_bytes)
        log = FindingLog(MOST_FINDINGS)
        notes = ShardNotes(self.census, job.split, job.shard.file)
        reader = ShardReader(self.folder, job.shard, on_bytes)
        image = self.expected.spec.image
        pictures = None if image is None else PictureReader(image)
        before: RecordView | None = None
        for place, stored in enumerate(reader.records()):
            record = RecordView(stored.data, self.expected, pictures)
            where = Where(
                shard=job.shard.file, offset=stored.offset, record=record.text(keys.EXAMPLE_ID)
            )
            log.add(check_record(record, where, again=place % _DECODED_AGAIN == 0))
            notes.take(record, stored.offset)
            if before is not None and are_neighbours(before, record):
                pair = Neighbours(before, record)
                for neighbour_check in NEIGHBOUR_CHECKS:
                    log.add(neighbour_check(pair, where))
                notes.take_pair(pair, stored.offset)
            before = record
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
            old=job.old,
        )


def check_record(record: RecordView, where: Where, *, again: bool = True) -> list[Finding]:
    """All findings on one record; ``again``: it is also given to the package's decoder."""
    found = [finding for check in RECORD_CHECKS for finding in check(record, where)]
    if again and not any(finding.level == "error" for finding in found):
        found += decodes(record, where)
    return found


def take_census(info: DatasetInfo, *others: DatasetInfo, seed: int, compared: int = 0) -> Census:
    """What is known of a dataset beforehand; targets range over those of ``others`` too."""
    ranges: dict[str, tuple[float, float]] = {}
    for described in (info, *others):
        for name, (low, high) in _ranges(described).items():
            known = ranges.get(name, (low, high))
            ranges[name] = (min(low, known[0]), max(high, known[1]))
    label, options = info.spec.label, info.options
    from_time = any(options.get(name) for name in ("class_column", "annotation", "telemetry"))
    return Census(
        ranges=ranges,
        records=sum(split.num_records for split in info.splits.values()),
        label_by_source=label.task == "classification" and not label.per_frame and not from_time,
        seed=seed,
        compared=compared,
    )


def _ranges(info: DatasetInfo) -> dict[str, tuple[float, float]]:
    """Least and most of each regression target over all splits, by name of its column."""
    ranges = {}
    for place, name in enumerate(info.spec.label.target_names):
        stated = [s.targets[place] for s in info.splits.values() if len(s.targets) > place]
        if stated:
            ranges[target_column(name)] = (min(t.min for t in stated), max(t.max for t in stated))
    return ranges
