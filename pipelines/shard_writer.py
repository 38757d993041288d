"""`ShardWriter`: the file of a shard while it is written."""

from __future__ import annotations

import hashlib
from typing import BinaryIO, Protocol

from pipelines.sources.listing import SourceFailure
from tfrecords_schema.records import frame_parts


class Listener(Protocol):
    """Hears how a shard comes along."""

    def sequences(self, count: int) -> None:
        """``count`` more sequences were built (fewer, when negative: thrown away)."""

    def failed(self, failure: SourceFailure) -> None:
        """A source failed or ended early."""


class ShardWriter:
    """Frames records into a file; can go back to where a segment began.

    Attributes:
        bytes: written so far.
    """

    def __init__(self, file: BinaryIO, listener: Listener):
        self._file = file
        self._listener = listener
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.mark()

    @property
    def sha256(self) -> str:
        """Of the file so far."""
        return self._digest.hexdigest()

    def write(self, record: bytes) -> None:
        """Appends a serialized record."""
        # One by one: to join them would copy the record.
        for part in frame_parts(record):
            self._file.write(part)
            self._digest.update(part)
            self.bytes += len(part)
        self._since_mark += 1
        self._listener.sequences(1)

    def mark(self) -> None:
        """Notes where a segment begins."""
        self._marked = (self.bytes, self._digest.copy())
        self._since_mark = 0

    def go_back(self) -> None:
        """Throws away what was written since the mark."""
        self.bytes, self._digest = self._marked
        self._file.seek(self.bytes)
        self._file.truncate()
        self._listener.sequences(-self._since_mark)
        self.mark()
