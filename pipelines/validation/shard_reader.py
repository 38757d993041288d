"""Reads a shard for validation: its intact records, its damaged places, its size and checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from pipelines.validation.checks.shards import ShardFacts
from pipelines.validation.folder import DatasetFolder
from tfrecords_schema.records import (
    MAX_RECORD_BYTES,
    CorruptRecordError,
    StoredRecord,
    scan_records,
)


def read_shard(
    folder: DatasetFolder,
    facts: ShardFacts,
    on_bytes: Callable[[int], None],
    max_bytes: int = MAX_RECORD_BYTES,
) -> Iterator[StoredRecord]:
    """Yields the intact records of the shard ``facts.declared``, and fills ``facts`` in at its end."""
    name = facts.declared.file
    try:
        with folder.open(name) as file:
            hashed = _HashedFile(file, on_bytes)
            for found in scan_records(cast(BinaryIO, hashed), name, max_bytes):
                if isinstance(found, CorruptRecordError):
                    facts.corrupt.append((found.offset, found.reason))
                else:
                    facts.records += 1
                    yield found
            facts.bytes, facts.sha256 = hashed.position, hashed.digest.hexdigest()
    except OSError as problem:
        facts.unreadable = problem.strerror or str(problem)


class _HashedFile:
    """A file that counts and hashes everything that is read from it."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None]):
        self._file = file
        self._on_bytes = on_bytes
        self.digest = hashlib.sha256()
        self.position = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self.position += len(data)
        self._on_bytes(len(data))
        return data
