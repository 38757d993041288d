"""Combines the summaries of all shards into the result, and runs the checks of the whole dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelines.validation.checks.catalogue import DATASET_CHECKS
from pipelines.validation.dataset_view import DatasetView, target_units
from pipelines.validation.examine import MAX_FINDINGS, ShardSummary
from pipelines.validation.findings import FindingLog, Level
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.result import Result, Sample, SplitFacts
from pipelines.validation.shard_index import ShardIndex
from pipelines.validation.sketches import Sketch
from pipelines.validation.tallies import merge_tallies
from pipelines.validation.thresholds import DEFAULTS, Thresholds
from pipelines.validation.views import target_column
from tfrecords_schema.info import DatasetInfo

_MAX_SAMPLES = 6
"""Random records shown per split."""
_MAX_EXTREME_TARGETS = 3
"""Targets whose extreme records are shown."""


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """Turns the summaries of all shards into a result; pickled and sent to one worker.

    Attributes:
        folder: of the dataset.
        info: its description.
        thresholds: of the checks.
        old: folder and description of the older dataset; None for none.
        sources: folder of the sources to compare records with; None for none.
    """

    folder: DatasetFolder
    info: DatasetInfo
    thresholds: Thresholds = DEFAULTS
    old: tuple[DatasetFolder, DatasetInfo] | None = None
    sources: str | None = None

    def conclude(self, summaries: Iterable[ShardSummary]) -> Result:
        """Returns the result.

        Args:
            summaries: in any order. A repeated one, from a runner that retries, counts once.
        """
        by_file = {(summary.old, summary.index.file): summary for summary in summaries}
        every = [by_file[key] for key in sorted(by_file)]
        own = [summary for summary in every if not summary.old]
        log = FindingLog(MAX_FINDINGS)
        for summary in own:
            log.merge(summary.findings, summary.counts)
        old = self.old and self._view(*self.old, [summary for summary in every if summary.old])
        view = self._view(self.folder, self.info, own, old, self.sources)
        for check in DATASET_CHECKS:
            log.add(check(view))
        counts: dict[str, dict[Level, int]] = {}
        for (name, level), count in sorted(log.counts.items()):
            counts.setdefault(name, {})[level] = count
        return Result(
            findings=log.kept,
            counts=counts,
            splits={
                split: SplitFacts.from_tally(
                    view.tallies[split],
                    shards=len(view.by_split.get(split, [])),
                    bytes_=sum(s.bytes for s in own if s.index.split == split),
                )
                for split in self.info.splits
            },
            samples=(
                *_find_extremes(view),
                *choose_samples(
                    {split: view.by_split.get(split, []) for split in self.info.splits},
                    _MAX_SAMPLES,
                ),
            ),
        )

    def _view(
        self,
        folder: DatasetFolder,
        info: DatasetInfo,
        summaries: list[ShardSummary],
        old: DatasetView | None = None,
        sources: str | None = None,
    ) -> DatasetView:
        """Merges the summaries of shards into what the checks of a whole dataset look at."""
        return DatasetView(
            folder=folder,
            info=info,
            listing=folder.list_files(info),
            tallies={
                split: merge_tallies([s.tally for s in summaries if s.index.split == split])
                for split in info.splits
            },
            shards=[summary.index for summary in summaries],
            thresholds=self.thresholds,
            old=old,
            sources=sources,
        )


def _find_extremes(view: DatasetView) -> Iterator[Sample]:
    """Yields the records with the smallest and the largest value of the first targets."""
    split_of = {shard.file: shard.split for shard in view.shards}
    for name, unit in target_units(view.info)[:_MAX_EXTREME_TARGETS]:
        sketch = view.total.sketches.get(target_column(name), Sketch())
        for what, extremes in (("lowest", sketch.lowest), ("highest", sketch.highest)):
            for extreme in extremes[:1]:
                yield Sample(
                    split=split_of[extreme.shard],
                    shard=extreme.shard,
                    offset=extreme.offset,
                    why=f"{what} {name}: {extreme.value:.4g} {unit}".rstrip(),
                )


def choose_samples(
    shards: Mapping[str, Sequence[ShardIndex]], max_samples: int
) -> tuple[Sample, ...]:
    """Returns random records of each split, from as many strata as possible.

    Args:
        shards: of each split.
        max_samples: records per split.
    """
    samples: list[Sample] = []
    for split, indexes in shards.items():
        best: dict[int, tuple[int, str, int]] = {}
        ranked: list[tuple[int, str, int]] = []
        for index in indexes:
            for stratum, (rank, offset) in index.samples.items():
                ranked.append((rank, index.file, offset))
                best[stratum] = min(best.get(stratum, ranked[-1]), ranked[-1])
        first = sorted(best.values())[:max_samples]
        rest = sorted(set(ranked) - set(first))[: max_samples - len(first)]
        samples += [Sample(split=split, shard=f, offset=offset) for _, f, offset in first + rest]
    return tuple(samples)
