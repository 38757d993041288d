"""The checks of a shard as a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipelines.validation.findings import Problem, Where, check, error
from tfrecords_schema.info import ShardInfo


@dataclass
class ShardFacts:
    """Facts about the file of a shard, whatever its records hold.

    Attributes:
        declared: the shard by ``dataset_info.json``.
        records: number of records that could be read.
        bytes, sha256: of the file.
        corrupt: byte offset and reason of each corrupt record, in order.
        unreadable: why the file could not be read to its end; None if it could.
    """

    declared: ShardInfo
    records: int = 0
    bytes: int = 0
    sha256: str = ""
    corrupt: list[tuple[int, str]] = field(default_factory=list)
    unreadable: str | None = None


@check(
    reason="A TFRecord file has two checksums per record. TensorFlow stops at the first wrong one, "
    "and every record after it is lost.",
    remedy="The file was damaged after it was written, or a copy is incomplete: copy it again, or "
    "delete it and build again.",
)
def format_framing(shard: ShardFacts) -> Iterator[Problem]:
    """The file can be read to its end, and the checksums of every record are correct."""
    if shard.unreadable is not None:
        yield error(f"the file cannot be read: {shard.unreadable}")
    for offset, reason in shard.corrupt:
        yield error(f"corrupt record: {reason}", Where(shard=shard.declared.file, offset=offset))


@check(
    reason="dataset_info.json states what each shard held when the dataset was complete. A shard "
    "with other content was damaged, replaced or edited since.",
    remedy="Copy the shard again from where it was built, or build again. Never edit shards in "
    "place.",
)
def format_checksums(shard: ShardFacts) -> Iterator[Problem]:
    """Records, bytes and SHA-256 are those of ``dataset_info.json``."""
    if shard.unreadable is not None:
        return
    declared = shard.declared
    for what, expected, found in (
        ("records", declared.records, shard.records),
        ("bytes", declared.bytes, shard.bytes),
        ("SHA-256", declared.sha256, shard.sha256),
    ):
        if expected != found:
            yield error(f"{what}: dataset_info.json says {expected}, the file has {found}")
