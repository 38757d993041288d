"""Reads a shard for validation: its intact records, its damaged places, its size and checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from pipelines.validation.checks.shards import ShardFacts
from pipelines.validation.folder import DatasetFolder
from tfrecords_schema.info import ShardInfo
from tfrecords_schema.records import CorruptRecordError, StoredRecord, scan_records


class ShardReader:
    """Streams the intact records of a shard and notes every damaged place."""

    def __init__(self, folder: DatasetFolder, declared: ShardInfo, on_bytes: Callable[[int], None]):
        self._folder = folder
        self._declared = declared
        self._on_bytes = on_bytes
        self._records = 0
        self._corrupt: list[tuple[int, str]] = []
        self._unreadable: str | None = None
        self._bytes, self._sha256 = 0, ""

    def records(self) -> Iterator[StoredRecord]:
        """Yields the intact records."""
        try:
            with self._folder.open(self._declared.file) as file:
                hashed = _HashedFile(file, self._on_bytes)
                for found in scan_records(cast(BinaryIO, hashed), self._declared.file):
                    if isinstance(found, CorruptRecordError):
                        self._corrupt.append((found.offset, found.reason))
                    else:
                        self._records += 1
                        yield found
                self._bytes, self._sha256 = hashed.position, hashed.hexdigest()
        except OSError as problem:
            self._unreadable = problem.strerror or str(problem)

    def facts(self) -> ShardFacts:
        """Returns the facts about the file, after all records were read."""
        return ShardFacts(
            declared=self._declared,
            records=self._records,
            bytes=self._bytes,
            sha256=self._sha256,
            corrupt=tuple(self._corrupt),
            unreadable=self._unreadable,
        )


class _HashedFile:
    """A file that counts and hashes everything that is read from it."""

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
