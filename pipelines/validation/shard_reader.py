"""`ShardReader`: every record of a shard that can be read, and what became of the others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from pipelines.validation.checks.shards import ShardFacts
from pipelines.validation.folder import DatasetFolder
from tfrecords_schema.info import ShardInfo
from tfrecords_schema.records import CorruptRecordError, StoredRecord, read_records

_HEADER_BYTES = 12


class ShardReader:
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
        """Yields the records that are whole."""
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
        """What was found, once all records were read."""
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
