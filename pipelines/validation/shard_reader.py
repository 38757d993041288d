"""Reads a shard for validation: its intact records, its damaged places, its size and checksum."""

from __future__ import annotations

import hashlib
import os
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

_MAX_EXCESS = 64 << 20  # bytes that are read beyond twice those of the description


def read_shard(
    folder: DatasetFolder,
    facts: ShardFacts,
    on_bytes: Callable[[int], None],
    max_bytes: int = MAX_RECORD_BYTES,
) -> Iterator[StoredRecord]:
    """Yields the intact records of the shard ``facts.declared``, and fills ``facts`` in at its end.

    A file that is far larger than the declared one, such as a hole of terabytes, is not read to its end.
    """
    name, limit = facts.declared.file, 2 * facts.declared.bytes + _MAX_EXCESS
    try:
        with folder.open(name) as file:
            hashed = _HashedFile(file, on_bytes, limit)
            for found in scan_records(cast(BinaryIO, hashed), name, max_bytes):
                if isinstance(found, CorruptRecordError):
                    facts.corrupt.append((found.offset, found.reason))
                else:
                    facts.records += 1
                    yield found
            whole = file.seek(0, os.SEEK_END) if hashed.position >= limit else hashed.position
            facts.bytes, facts.sha256 = whole, hashed.digest.hexdigest()
    except OSError as problem:
        facts.unreadable = problem.strerror or str(problem)


class _HashedFile:
    """A file that counts and hashes everything that is read from it, and ends at ``limit``."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None], limit: int):
        self._file = file
        self._on_bytes = on_bytes
        self._limit = limit
        self.digest = hashlib.sha256()
        self.position = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._limit - self.position))
        self.digest.update(data)
        self.position += len(data)
        self._on_bytes(len(data))
        return data
