"""Combines the summaries of all shards into the result, and runs the checks of the whole dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipelines.validation.checks.catalogue import DATASET_CHECKS, DRIFT_CHECKS
from pipelines.validation.checks.drift import Versions
from pipelines.validation.dataset_view import DatasetView, target_units
from pipelines.validation.examine import ShardExaminer
from pipelines.validation.findings import FindingLog, Level
from pipelines.validation.result import Column, Result, Sample, SplitFacts
from pipelines.validation.shard_summary import ShardSummary
from pipelines.validation.sketches import Sketch
from pipelines.validation.tallies import Tally
from pipelines.validation.views import target_column

_MAX_SAMPLES = 6
"""Random records shown per split."""
_MAX_EXTREME_TARGETS = 3
"""Targets whose extreme records are shown."""


def conclude(examiner: ShardExaminer, summaries: Iterable[ShardSummary]) -> Result:
    """Returns the result. Summaries come in any order; one that a runner repeats counts once."""
    by_file = {(summary.old, summary.file): summary for summary in summaries}
    every = [by_file[key] for key in sorted(by_file)]
    own, old = [s for s in every if not s.old], [s for s in every if s.old]
    view = DatasetView(examiner.folder, examiner.expected, own)
    log = FindingLog()
    for summary in own:
        log.merge(summary.log)
    for check in DATASET_CHECKS:
        log.add(check(view))
    if (before := examiner.old) is not None:
        versions = Versions(view, DatasetView(before.folder, before.expected, old))
        for drift_check in DRIFT_CHECKS:
            log.add(drift_check(versions))
    counts: dict[str, dict[Level, int]] = {}
    for (name, level), count in sorted(log.counts.items()):
        counts.setdefault(name, {})[level] = count
    shards = {split: view.by_split.get(split, []) for split in view.info.splits}
    splits = {split: _describe_split(view.tallies[split], parts) for split, parts in shards.items()}
    samples = (*_find_extremes(view), *choose_samples(shards, _MAX_SAMPLES))
    return Result(findings=log.kept, counts=counts, splits=splits, samples=samples)


def _describe_split(tally: Tally, shards: Sequence[ShardSummary]) -> SplitFacts:
    return SplitFacts(
        shards=len(shards),
        bytes=sum(shard.bytes for shard in shards),
        records=tally.records,
        frames=tally.frames,
        seconds=tally.seconds,
        labels=tally.labels,
        columns={
            name: Column(count=m.count, mean=m.mean, std=m.std, min=m.min, max=m.max)
            for name, m in tally.columns.items()
            if m.count
        },
        histograms=tally.histograms,
        steps=tally.steps,
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
    shards: Mapping[str, Sequence[ShardSummary]], max_samples: int
) -> tuple[Sample, ...]:
    """Returns random records of each split, at most ``max_samples``, from as many strata as possible."""
    samples: list[Sample] = []
    for split, own in shards.items():
        ranked = sorted(
            (rank, shard.file, offset, stratum)
            for shard in own
            for stratum, (rank, offset) in shard.samples.items()
        )
        first = {stratum: (rank, file) for rank, file, _, stratum in reversed(ranked)}
        # The first of each stratum, which are not unequal, go before the others.
        ranked.sort(key=lambda sample: first[sample[3]] != sample[:2])
        samples += [Sample(split=split, shard=f, offset=o) for _, f, o, _ in ranked[:max_samples]]
    return tuple(samples)
