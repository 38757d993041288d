"""The checks that look at one shard as a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.validation.findings import Check, Problem, Where, check, error
from tfrecords_schema.info import ShardInfo


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """What was found in one file, whatever is in it.

    Attributes:
        declared: what ``dataset_info.json`` says of it.
        records: that could be read whole.
        bytes, sha256: of the file.
        corrupt: byte offset and reason of each record that could not be read, in order.
        unreadable: why the system could not read on; None when it could.
    """

    declared: ShardInfo
    records: int
    bytes: int
    sha256: str
    corrupt: tuple[tuple[int, str], ...] = ()
    unreadable: str | None = None


@check(
    "format.framing",
    reason="TFRecord files carry two checksums a record; TensorFlow stops at the first that does "
    "not hold, and everything behind it is lost.",
    remedy="The file was damaged after it was written, or cut short in a copy: copy it again, or "
    "delete it and build again.",
)
def framing(shard: ShardFacts) -> Iterator[Problem]:
    """The file can be read to its end, and the checksums of every record hold."""
    if shard.unreadable is not None:
        yield error(f"the file cannot be read: {shard.unreadable}")
    for offset, reason in shard.corrupt:
        yield error(f"corrupt record: {reason}", Where(shard=shard.declared.file, offset=offset))


@check(
    "format.checksums",
    reason="dataset_info.json states what each shard held when the dataset was complete; another "
    "content means that it was damaged, replaced or edited since.",
    remedy="Copy the shard again from where it was built, or build again; never edit shards in "
    "place.",
)
def checksums(shard: ShardFacts) -> Iterator[Problem]:
    """Records, bytes and SHA-256 are as ``dataset_info.json`` says."""
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


SHARD_CHECKS: tuple[Check[ShardFacts], ...] = (framing, checksums)
