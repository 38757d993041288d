"""`ShardIndex`: names, times and hashes of a shard's records, in a few bytes per record.

The checks of the whole dataset compare the indexes of all shards, and read again the few records that they
name. Names are kept as 64-bit hashes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.findings import Problem, Where
from pipelines.validation.pictures.hashes import FrameHashes, new_array

_MAX_SPANS = 20_000
"""Spans kept of a shard; records with further spans are not compared."""
_MAX_PLACES = 20
"""Conflicts kept of a shard and of the dataset; all are counted."""


class Span(NamedTuple):
    """Footage from one time to another, both included, in microseconds; ``offset`` is its first record's."""

    start: int
    end: int
    offset: int


@dataclass
class Spans:
    """The spans of footage that records show, by hash of the file's name. Overlapping spans are merged."""

    by_file: dict[int, list[Span]] = field(default_factory=dict)
    count: int = 0

    def add(self, file_hash: int, start: int, end: int, offset: int) -> None:
        """Adds the span of a record."""
        spans = self.by_file.setdefault(file_hash, [])
        if spans and spans[-1].start <= start <= spans[-1].end + 1:
            last = spans[-1]
            spans[-1] = Span(last.start, max(last.end, end), last.offset)
        elif self.count < _MAX_SPANS:
            self.count += 1
            spans.append(Span(start, end, offset))


def file_of(media_id: bytes) -> bytes:
    """Returns a source's id without the span of a clip: ``drive.mp4`` for ``drive.mp4#t=0,8``."""
    return media_id.partition(b"#t=")[0]


@dataclass
class Names:
    """Hashes of names, each with the byte offset of a record that has the name."""

    hashes_: array[int] = field(default_factory=lambda: new_array("Q"))
    offsets: array[int] = field(default_factory=lambda: new_array("Q"))

    def add(self, name_hash: int, offset: int) -> None:
        """Adds a name."""
        self.hashes_.append(name_hash)
        self.offsets.append(offset)

    def __len__(self) -> int:
        return len(self.hashes_)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """The hashes in the order of addition."""
        return np.frombuffer(self.hashes_, np.uint64)


@dataclass
class Conflicts:
    """Records that contradict others.

    Attributes:
        count: number of them.
        places: places and messages of the first.
    """

    count: int = 0
    places: list[tuple[Where, str]] = field(default_factory=list)

    def add(self, where: Where, message: str) -> None:
        """Adds a record."""
        self.count += 1
        if len(self.places) < _MAX_PLACES:
            self.places.append((where, message))

    def merge(self, other: Conflicts) -> None:
        """Adds the conflicts of another shard."""
        self.count += other.count
        self.places = [*self.places, *other.places][:_MAX_PLACES]

    def problems(self, problem: Callable[..., Problem]) -> Iterator[Problem]:
        """Yields a problem per place, made by ``problem``, and one for all further conflicts."""
        for where, message in self.places:
            yield problem(message, where)
        if self.count > len(self.places):
            yield problem(f"{self.count - len(self.places)} more records are like that")


@dataclass
class SourceLabels:
    """Agreement of classes with the sources and folders of their records.

    Attributes:
        named: number of records in the folder of their class.
        misnamed: records in the folder of another class.
        mixed: records of another class than an earlier one of their source.
    """

    named: int = 0
    misnamed: Conflicts = field(default_factory=Conflicts)
    mixed: Conflicts = field(default_factory=Conflicts)

    def merge(self, other: SourceLabels) -> None:
        """Adds those of another shard."""
        self.named += other.named
        self.misnamed.merge(other.misnamed)
        self.mixed.merge(other.mixed)


@dataclass
class RecordOrder:
    """Counts how often the source changes from record to record, and how often the class changes with it."""

    source_changes: int = 0
    class_changes: int = 0
    _last: tuple[int, int] | None = None

    def add(self, source: int, label: int) -> None:
        """Adds the next record's source and class."""
        if self._last is not None and source != self._last[0]:
            self.source_changes += 1
            self.class_changes += label != self._last[1]
        self._last = (source, label)


@dataclass(kw_only=True)
class ShardIndex:
    """An index of one shard.

    Attributes:
        split: of the shard.
        file: its file name.
        ids, media, groups: names of records, sources and groups.
        spans: of footage.
        frames: hashes of pictures.
        order: of sources and classes.
        labels: agreement of classes with sources and folders.
        name_conflicts: records that name another group or path than an earlier one of their source.
        drawn: records to compare with their sources: a heap of negative rank and offset.
        samples: by stratum (class, or bin of the first target), rank and offset of a random record.
    """

    split: str
    file: str
    ids: Names = field(default_factory=Names)
    media: Names = field(default_factory=Names)
    groups: Names = field(default_factory=Names)
    spans: Spans = field(default_factory=Spans)
    frames: FrameHashes = field(default_factory=FrameHashes)
    order: RecordOrder = field(default_factory=RecordOrder)
    labels: SourceLabels = field(default_factory=SourceLabels)
    name_conflicts: Conflicts = field(default_factory=Conflicts)
    drawn: list[tuple[int, int]] = field(default_factory=list)
    samples: dict[int, tuple[int, int]] = field(default_factory=dict)
