"""Examines one shard: streams its records through the checks, two in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.validation.checks.catalogue import NEIGHBOUR_CHECKS, RECORD_CHECKS, SHARD_CHECKS
from pipelines.validation.checks.neighbours import Neighbours, are_neighbours
from pipelines.validation.checks.records import format_decode
from pipelines.validation.checks.shards import ShardFacts
from pipelines.validation.collector import RecordCollector
from pipelines.validation.findings import Where
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.pictures.thumbnails import PictureReader
from pipelines.validation.shard_reader import read_shard
from pipelines.validation.shard_summary import ShardSummary
from pipelines.validation.views import Expectation, RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.info import ShardInfo

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
class ShardExaminer:
    """Examines the shards of a dataset; pickled and sent to every worker.

    Attributes:
        folder: of the dataset.
        expected: what is known of its records.
        old: examiner of the older dataset; None for none.
    """

    folder: DatasetFolder
    expected: Expectation
    old: ShardExaminer | None = None

    def examine(self, job: ShardJob, on_bytes: Callable[[int], None]) -> ShardSummary:
        """Examines one shard; ``on_bytes`` is called with the number of bytes of each read."""
        examiner = self.old if job.old and self.old is not None else self
        folder, expected = examiner.folder, examiner.expected
        summary = ShardSummary(split=job.split, file=job.shard.file, old=job.old)
        collector, facts = RecordCollector(summary), ShardFacts(job.shard)
        image = expected.spec.image
        pictures = None if image is None else PictureReader(image)
        before: RecordView | None = None
        for index, (offset, data) in enumerate(
            read_shard(folder, facts, on_bytes, expected.info.max_record_bytes)
        ):
            record = RecordView(data, expected, pictures, f"{summary.file}@{offset}")
            where = Where(shard=summary.file, offset=offset, record=record.text(keys.EXAMPLE_ID))
            found = [finding for check in RECORD_CHECKS for finding in check(record, where)]
            if index % _DECODE_EVERY == 0 and not any(f.level == "error" for f in found):
                found += format_decode(record, where)
            summary.log.add(found)
            collector.add(record, where, offset)
            if before is not None and are_neighbours(before, record):
                pair = Neighbours(before, record)
                for check in NEIGHBOUR_CHECKS:
                    summary.log.add(check(pair, where))
                collector.add_pair(pair, offset)
            before = record
        summary.bytes = facts.bytes
        for check in SHARD_CHECKS:
            summary.log.add(check(facts, Where(shard=summary.file)))
        return summary
