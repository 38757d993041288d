"""`ShardSummary`: the result of examining one shard, in a few bytes per record.

The checks of the whole dataset compare the summaries, and read again the few records that they name.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pipelines.validation.findings import FindingLog, Problem, Where
from pipelines.validation.tallies import Tally
from tfrecords_schema import spec as keys

NAME_KEYS = (keys.EXAMPLE_ID, keys.MEDIA_ID, keys.GROUP_ID)
"""Keys whose values are compared across records, as 64-bit hashes."""
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
class Conflicts:
    """Records that contradict others: the number of all, and places and messages of the first."""

    count: int = 0
    places: list[tuple[Where, str]] = field(default_factory=list)

    def __add__(self, other: Conflicts) -> Conflicts:
        """Returns the conflicts of two shards."""
        places = [*self.places, *other.places][:_MAX_PLACES]
        return Conflicts(self.count + other.count, places)

    def add(self, where: Where, message: str) -> None:
        """Adds a record."""
        self.count += 1
        if len(self.places) < _MAX_PLACES:
            self.places.append((where, message))

    def problems(self, problem: Callable[..., Problem]) -> Iterator[Problem]:
        """Yields a problem per place, made by ``problem``, and one for all further conflicts."""
        for where, message in self.places:
            yield problem(message, where)
        if self.count > len(self.places):
            yield problem(f"{self.count - len(self.places)} more records are like that")


@dataclass(kw_only=True)
class ShardSummary:
    """The result of examining a shard: about 16 bytes per record, and parts of bounded size.

    Attributes:
        split: of the shard.
        file: its file name.
        old: True if it belongs to the older dataset that this one is compared with.
        bytes: read.
        log: findings on the shard and its records.
        tally: sums over the records.
        names: by key of `NAME_KEYS`, hash and offset of each record; of sources and groups, of their first.
        spans: of footage.
        frames: pictures to compare, as rows of `PICTURE_ROW`.
        source_changes: how often the source changes from record to record.
        class_changes: how often the class changes with the source.
        named: number of records in the folder of their class.
        misnamed: records in the folder of another class.
        mixed: records of another class than an earlier one of their source.
        renamed: records that name another group or path than an earlier one of their source.
        drawn: records to compare with their sources: a heap of negative rank and offset.
        samples: by stratum (class, or bin of the first target), rank and offset of a random record.
    """

    split: str
    file: str
    old: bool = False
    bytes: int = 0
    log: FindingLog = field(default_factory=FindingLog)
    tally: Tally = field(default_factory=Tally)
    names: dict[str, array[int]] = field(
        default_factory=lambda: {key: array("Q") for key in NAME_KEYS}
    )
    spans: Spans = field(default_factory=Spans)
    frames: bytearray = field(default_factory=bytearray)
    source_changes: int = 0
    class_changes: int = 0
    named: int = 0
    misnamed: Conflicts = field(default_factory=Conflicts)
    mixed: Conflicts = field(default_factory=Conflicts)
    renamed: Conflicts = field(default_factory=Conflicts)
    drawn: list[tuple[int, int]] = field(default_factory=list)
    samples: dict[int, tuple[int, int]] = field(default_factory=dict)
