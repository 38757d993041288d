"""`Result`: the outcome of a validation, as JSON and for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.validation.findings import LEVELS, Finding, Level
from pipelines.validation.tallies import Tally
from tfrecords_schema import codec

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Column:
    """Moments of a target or of a component of a signal."""

    count: int
    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """Contents of a split, from its readable records.

    Attributes:
        shards, bytes: read.
        records, frames, seconds: in the shards; frames and seconds without padding.
        labels: records (frames, for labels by frame) of each class, in label order.
        columns: moments of each target and component of a signal, by name.
        histograms: by target, the number of values in equal parts of its range.
        steps: number of steps between timestamps in equal parts of a range of frame periods.
    """

    shards: int
    bytes: int
    records: int
    frames: int
    seconds: float
    labels: tuple[int, ...]
    columns: dict[str, Column]
    histograms: dict[str, tuple[int, ...]]
    steps: tuple[int, ...]

    @classmethod
    def from_tally(cls, tally: Tally, *, shards: int, bytes_: int) -> SplitFacts:
        """Returns the facts that a tally has counted."""
        return cls(
            shards=shards,
            bytes=bytes_,
            records=tally.records,
            frames=tally.frames,
            seconds=tally.seconds,
            labels=tuple(tally.labels),
            columns={
                name: Column(count=m.count, mean=m.mean, std=m.std, min=m.min, max=m.max)
                for name, m in tally.columns.items()
                if m.count
            },
            histograms={name: tuple(bins) for name, bins in tally.histograms.items()},
            steps=tuple(tally.steps),
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A record to show in the report.

    Attributes:
        split, shard, offset: place of the record.
        why: reason to show it; empty for a random record.
        frame: index of the frame that a finding is about; None for none.
    """

    split: str
    shard: str
    offset: int
    why: str = ""
    frame: int | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of a validation.

    Attributes:
        findings: those that were kept, worst first.
        counts: by check and level, the number of all findings.
        splits: contents of each split.
        samples: records to show in the report: extreme ones and random ones.
    """

    findings: tuple[Finding, ...]
    counts: dict[str, dict[Level, int]]
    splits: dict[str, SplitFacts]
    samples: tuple[Sample, ...]

    def count(self, level: Level, check: str | None = None) -> int:
        """Returns the number of findings of a level, of all checks or of one."""
        chosen = self.counts.values() if check is None else [self.counts.get(check, {})]
        return sum(counts.get(level, 0) for counts in chosen)

    def fails(self, fail_on: Level) -> bool:
        """Returns True if there is a finding of the level ``fail_on`` or a worse one."""
        return any(self.count(level) for level in LEVELS[: LEVELS.index(fail_on) + 1])

    @property
    def records(self) -> int:
        """Number of records read."""
        return sum(split.records for split in self.splits.values())

    @property
    def bytes(self) -> int:
        """Number of bytes read."""
        return sum(split.bytes for split in self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """Returns a dict of plain JSON types, for `from_json`."""
        return {"format_version": FORMAT_VERSION, **codec.to_json(self)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Result:
        """Returns the result that `to_json` described; further fields are ignored."""
        return codec.from_json(cls, fields)
