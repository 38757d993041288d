"""`Result`: the outcome of a validation, as JSON and for the report."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.validation.findings import LEVELS, Finding, Level


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
    labels: list[int]
    columns: dict[str, Column]
    histograms: dict[str, list[int]]
    steps: list[int]


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
