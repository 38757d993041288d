"""The shards' summaries to a `Result`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipelines.validation.columns import target_column
from pipelines.validation.dataset_checks import DATASET_CHECKS
from pipelines.validation.dataset_view import DatasetView, column_names
from pipelines.validation.examine import MOST_FINDINGS, ShardSummary
from pipelines.validation.findings import FindingLog, Level
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.notes import Census, ShardPlaces
from pipelines.validation.result import Result, Sample, SplitFacts, choose_samples
from pipelines.validation.sketches import Sketch
from pipelines.validation.tallies import Tally
from pipelines.validation.thresholds import DEFAULTS, Thresholds
from tfrecords_schema.info import DatasetInfo

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
    for name, unit in list(column_names(view.info))[:_MOST_EXTREME]:
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
