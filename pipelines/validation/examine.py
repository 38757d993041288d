"""Examines one shard: streams its records through the checks, two in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines.validation.checks.catalogue import NEIGHBOUR_CHECKS, RECORD_CHECKS, SHARD_CHECKS
from pipelines.validation.checks.neighbours import Neighbours, are_neighbours
from pipelines.validation.checks.records import decodes
from pipelines.validation.collector import Census, RecordCollector
from pipelines.validation.findings import Finding, FindingLog, Level, Where
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.pictures.thumbnails import PictureReader
from pipelines.validation.shard_index import ShardIndex
from pipelines.validation.shard_reader import ShardReader
from pipelines.validation.tallies import Tally
from pipelines.validation.views import Expectation, RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.info import ShardInfo

MAX_FINDINGS = 50
"""Findings kept per check and level; all are counted."""
_DECODE_EVERY = 16
"""One record in so many is also decoded by `decode_record`, which takes as long as all other checks."""


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """A shard to examine.

    Attributes:
        split: of the shard.
        shard: by ``dataset_info.json``.
        old: True if it belongs to the older dataset that this one is compared with.
    """

    split: str
    shard: ShardInfo
    old: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """The result of examining a shard: about 16 bytes per record, and parts of bounded size.

    Attributes:
        bytes: read.
        findings: up to `MAX_FINDINGS` per check and level.
        counts: of all findings, by check and level.
        tally: sums over the records.
        index: names, times and hashes of the records.
        old: True if the shard belongs to the older dataset.
    """

    bytes: int
    findings: tuple[Finding, ...]
    counts: Counter[tuple[str, Level]]
    tally: Tally
    index: ShardIndex
    old: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardExaminer:
    """Examines the shards of a dataset; pickled and sent to every worker.

    Attributes:
        folder: of the dataset.
        expected: what the dataset says of its records.
        census: facts about the dataset.
        old: examiner of the older dataset; None for none.
    """

    folder: DatasetFolder
    expected: Expectation
    census: Census = field(default_factory=Census)
    old: ShardExaminer | None = None

    def examine(self, job: ShardJob, on_bytes: Callable[[int], None]) -> ShardSummary:
        """Examines one shard.

        Args:
            job: the shard.
            on_bytes: called with the number of bytes of each read.
        """
        if job.old and self.old is not None:
            return self.old.examine(job, on_bytes)
        log = FindingLog(MAX_FINDINGS)
        collector = RecordCollector(self.census, job.split, job.shard.file)
        reader = ShardReader(self.folder, job.shard, on_bytes)
        image = self.expected.spec.image
        pictures = None if image is None else PictureReader(image)
        before: RecordView | None = None
        for index, stored in enumerate(reader.records()):
            record = RecordView(stored.data, self.expected, pictures)
            where = Where(
                shard=job.shard.file, offset=stored.offset, record=record.text(keys.EXAMPLE_ID)
            )
            log.add(check_record(record, where, decode=index % _DECODE_EVERY == 0))
            collector.add(record, stored.offset)
            if before is not None and are_neighbours(before, record):
                pair = Neighbours(before, record)
                for check in NEIGHBOUR_CHECKS:
                    log.add(check(pair, where))
                collector.add_pair(pair, stored.offset)
            before = record
        facts = reader.facts()
        for check in SHARD_CHECKS:
            log.add(check(facts, Where(shard=job.shard.file)))
        return ShardSummary(
            bytes=facts.bytes,
            findings=log.kept,
            counts=log.counts,
            tally=collector.tally,
            index=collector.index,
            old=job.old,
        )


def check_record(record: RecordView, where: Where, *, decode: bool) -> list[Finding]:
    """Returns all findings on one record; with ``decode``, `decodes` runs if there is no error."""
    found = [finding for check in RECORD_CHECKS for finding in check(record, where)]
    if decode and not any(finding.level == "error" for finding in found):
        found += decodes(record, where)
    return found
