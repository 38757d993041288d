"""`Spans`: which parts of which footage a shard's records show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

_MOST = 20_000
"""Spans that are kept of a shard; records of footage beyond them are not compared."""


class Span(NamedTuple):
    """Footage from one time to another, both included, in microseconds; and the first record of it."""

    start: int
    end: int
    offset: int


@dataclass
class Spans:
    """By hash of a file's name, the spans of it that records show; those that overlap are one."""

    by_file: dict[int, list[Span]] = field(default_factory=dict)
    count: int = 0

    def add(self, file_hash: int, start: int, end: int, offset: int) -> None:
        """Takes the span of a record."""
        spans = self.by_file.setdefault(file_hash, [])
        if spans and spans[-1].start <= start <= spans[-1].end + 1:
            last = spans[-1]
            spans[-1] = Span(last.start, max(last.end, end), last.offset)
        elif self.count < _MOST:
            self.count += 1
            spans.append(Span(start, end, offset))


def name_of_file(media_id: bytes) -> bytes:
    """A source's id without the span that its end may name: ``drive.mp4#t=0,8`` is of ``drive.mp4``."""
    return media_id.partition(b"#t=")[0]
