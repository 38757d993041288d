"""`Result`: what validation says of a dataset, as JSON and for the report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.validation.checks.dataset import DATASET_CHECKS
from pipelines.validation.dataset_view import DatasetView, target_units
from pipelines.validation.examine import MOST_FINDINGS, ShardSummary
from pipelines.validation.findings import LEVELS, Finding, FindingLog, Level
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.notes import Census, ShardPlaces
from pipelines.validation.sketches import Sketch
from pipelines.validation.tallies import Tally
from pipelines.validation.thresholds import DEFAULTS, Thresholds
from pipelines.validation.views import target_column
from tfrecords_schema.info import DatasetInfo

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
    """What the readable records of a split hold.

    Attributes:
        shards: that were read.
        bytes: of them.
        records, frames, seconds: in them; frames and seconds without padding.
        labels: records (frames, for labels by frame) of each class, in label order.
        columns: by name, each target and component of a signal.
        histograms: by target, the values in each of equal parts of its range.
        steps: between timestamps, in equal parts of a range of frame periods.
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
        """The facts that ``tally`` counted."""
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

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SplitFacts:
        """The facts that `dataclasses.asdict` described."""
        return cls(
            **{
                **fields,
                "labels": tuple(fields["labels"]),
                "steps": tuple(fields["steps"]),
                "columns": {name: Column(**c) for name, c in fields["columns"].items()},
                "histograms": {name: tuple(bins) for name, bins in fields["histograms"].items()},
            }
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A record for the filmstrips: why it is shown (empty when it was drawn), which frame is meant."""

    split: str
    shard: str
    offset: int
    why: str = ""
    frame: int | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of validation.

    Attributes:
        findings: that were kept, worst first; `counts` has them all.
        counts: by check, the number of findings by level.
        splits: by name.
        samples: records that the report shows: the extreme ones, and some drawn by the seed.
    """

    findings: tuple[Finding, ...]
    counts: dict[str, dict[Level, int]]
    splits: dict[str, SplitFacts]
    samples: tuple[Sample, ...]

    def count(self, level: Level, check: str | None = None) -> int:
        """Findings of a level, of all checks or of one."""
        chosen = self.counts.values() if check is None else [self.counts.get(check, {})]
        return sum(counts.get(level, 0) for counts in chosen)

    def fails(self, fail_on: Level) -> bool:
        """Whether there is a finding of the level ``fail_on`` or a worse one."""
        return any(self.count(level) for level in LEVELS[: LEVELS.index(fail_on) + 1])

    @property
    def records(self) -> int:
        """Records that were read."""
        return sum(split.records for split in self.splits.values())

    @property
    def bytes(self) -> int:
        """Bytes that were read."""
        return sum(split.bytes for split in self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types; `from_json` gives the equal result back."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Result:
        """The result that `to_json` described; other fields are ignored."""
        return cls(
            findings=tuple(Finding.from_json(finding) for finding in fields["findings"]),
            counts=fields["counts"],
            splits={name: SplitFacts.from_json(s) for name, s in fields["splits"].items()},
            samples=tuple(Sample(**sample) for sample in fields["samples"]),
        )


def choose_samples(
    candidates: Mapping[str, Sequence[dict[int, tuple[str, int, int]]]], most: int
) -> tuple[Sample, ...]:
    """A few records a split, of as many strata as there is room for.

    Args:
        candidates: by split, a dict a shard: by stratum, the shard's file and the rank and offset of a
            record.
        most: records a split.
    """
    samples: list[Sample] = []
    for split, shards in candidates.items():
        best: dict[int, tuple[int, str, int]] = {}
        ranked: list[tuple[int, str, int]] = []
        for shard in shards:
            for stratum, (file, rank, offset) in shard.items():
                ranked.append((rank, file, offset))
                best[stratum] = min(best.get(stratum, ranked[-1]), ranked[-1])
        first = sorted(best.values())[:most]
        rest = sorted(set(ranked) - set(first))[: most - len(first)]
        samples += [
            Sample(split=split, shard=file, offset=offset) for _, file, offset in first + rest
        ]
    return tuple(samples)


_MOST_SAMPLES = 6
"""Filmstrips a split."""
_MOST_EXTREME = 3
"""Targets of which the extreme records are shown."""


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What turns the summaries of all shards into a result; sent to one worker.

    Attributes:
        folder: of the dataset.
        info: its description.
        census: what was known of it beforehand.
        thresholds: of the checks.
        old: folder and description of the dataset that it is compared with.
        sources: the folder that records' paths are relative to; None when it is not to be looked at.
    """

    folder: DatasetFolder
    info: DatasetInfo
    census: Census
    thresholds: Thresholds = DEFAULTS
    old: tuple[DatasetFolder, DatasetInfo] | None = None
    sources: str | None = None

    def conclude(self, summaries: Iterable[ShardSummary]) -> Result:
        """Adds the summaries up and runs the checks of the whole dataset.

        Args:
            summaries: in any order; one that comes twice, from a runner that retries, counts once.
        """
        by_file = {(summary.old, summary.places.file): summary for summary in summaries}
        every = [by_file[key] for key in sorted(by_file)]
        ordered = [summary for summary in every if not summary.old]
        log = FindingLog(MOST_FINDINGS)
        for summary in ordered:
            log.merge(summary.findings, summary.counts)
        old = None
        if self.old is not None:
            old = _view(*self.old, self.thresholds, [s for s in every if s.old])
        view = _view(self.folder, self.info, self.thresholds, ordered, old, self.sources)
        tallies = view.tallies
        for check in DATASET_CHECKS:
            log.add(check(view))
        return Result(
            findings=log.kept,
            counts=_by_check(log.counts),
            splits={
                split: _describe_split(split, tallies[split], ordered) for split in self.info.splits
            },
            samples=(
                *_extremes(view),
                *choose_samples(
                    {
                        split: [_candidates(s) for s in ordered if s.places.split == split]
                        for split in self.info.splits
                    },
                    _MOST_SAMPLES,
                ),
            ),
        )


def _view(
    folder: DatasetFolder,
    info: DatasetInfo,
    thresholds: Thresholds,
    summaries: list[ShardSummary],
    old: DatasetView | None = None,
    sources: str | None = None,
) -> DatasetView:
    tallies = {split: Tally() for split in info.splits}
    for summary in summaries:
        tallies[summary.places.split].merge(summary.tally)
    return DatasetView(
        folder=folder,
        info=info,
        listing=folder.list_files(info),
        tallies=tallies,
        shards=[summary.places for summary in summaries],
        thresholds=thresholds,
        old=old,
        sources=sources,
    )


def _by_check(counts: Counter[tuple[str, Level]]) -> dict[str, dict[Level, int]]:
    by_check: dict[str, dict[Level, int]] = {}
    for (check, level), count in sorted(counts.items()):
        by_check.setdefault(check, {})[level] = count
    return by_check


def _describe_split(split: str, tally: Tally, summaries: list[ShardSummary]) -> SplitFacts:
    own = [summary for summary in summaries if summary.places.split == split]
    return SplitFacts.from_tally(tally, shards=len(own), bytes_=sum(s.bytes for s in own))


def _extremes(view: DatasetView) -> Iterator[Sample]:
    """The records with the least and the greatest value of the first targets."""
    split_of = {shard.file: shard.split for shard in view.shards}
    for name, unit in list(target_units(view.info))[:_MOST_EXTREME]:
        sketch = view.total.sketches.get(target_column(name), Sketch())
        for what, extremes in (("lowest", sketch.lowest), ("highest", sketch.highest)):
            for extreme in extremes[:1]:
                yield Sample(
                    split=split_of[extreme.shard],
                    shard=extreme.shard,
                    offset=extreme.offset,
                    why=f"{what} {name}: {extreme.value:.4g} {unit}".rstrip(),
                )


def _candidates(summary: ShardSummary) -> dict[int, tuple[str, int, int]]:
    places: ShardPlaces = summary.places
    return {
        stratum: (places.file, rank, offset) for stratum, (rank, offset) in summary.samples.items()
    }
