"""The shards' reports to ``failures.jsonl`` and ``dataset_info.json``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipelines.build.shard import ShardBuilder, ShardReport, sum_results
from pipelines.decoding.protocol import DISTANCES, SegmentResult
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import SourceFailure
from tfrecords_schema.codec import to_json
from tfrecords_schema.info import DatasetInfo, ShardInfo, SplitInfo, TargetStatistics
from tfrecords_schema.moments import Moments
from tfrecords_schema.spec import SequenceSpec


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What the plan knows of the whole dataset, for the end of the build.

    Attributes:
        sources: that were listed.
        split_sources, split_groups: planned, by split.
        shards: that are to be built.
        failures: of sources that never came to be built.
        max_failure_rate: fraction of the sources that may fail.
        fingerprint: of the dataset.
    """

    sources: int
    split_sources: dict[str, int]
    split_groups: dict[str, int]
    shards: int
    failures: tuple[SourceFailure, ...]
    max_failure_rate: float
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a build ended.

    Attributes:
        failures: a line of ``failures.jsonl`` each; one a source and kind, in order.
        info: the dataset's description; None when it is not complete.
        error: why it is not, in one line.
    """

    failures: tuple[SourceFailure, ...]
    info: DatasetInfo | None
    error: str | None


def conclude(
    reports: Sequence[ShardReport],
    totals: Totals,
    *,
    spec: SequenceSpec,
    options: DatasetOptions,
    versions: dict[str, str],
) -> Outcome:
    """Decides whether the build succeeded, and describes the dataset.

    Args:
        reports: of the shards that were built, each once.
        totals: from the plan.
        spec: of the dataset's records.
        options: the dataset was built with.
        versions: of the libraries it was built with.
    """
    reports = sorted(reports, key=lambda report: report.file)
    found = [*totals.failures, *(failure for report in reports for failure in report.failures)]
    failures = one_a_source(found)
    failed = [failure for failure in failures if not failure.truncated]
    records = sum(report.records for report in reports)
    error = say_too_many_failed(failed, totals.sources, totals.max_failure_rate)
    if error is None and len(reports) < totals.shards:
        error = f"{totals.shards - len(reports)} of {totals.shards} shards were not built"
    if error is None and not records:
        error = _say_why_nothing(reports)
    if error:
        return Outcome(failures=failures, info=None, error=error)
    segments = sum_results(report.segments for report in reports)
    built = {report.split for report in reports}
    split_names = [split for split in totals.split_sources if split in built]
    info = DatasetInfo(
        name=options.name,
        spec=spec,
        splits={
            split: _describe_split(
                [report for report in reports if report.split == split],
                spec,
                sources=totals.split_sources.get(split, 0),
                groups=totals.split_groups.get(split, 0),
            )
            for split in split_names
        },
        counts={
            "sources": totals.sources,
            "failed": len(failed),
            "truncated": len(failures) - len(failed),
            "sequences": records,
            "frames_decoded": segments.frames,
            "frames_repeated": segments.repeated_frames,
            "frames_padded": segments.padded_frames,
            "frames_out_of_order": segments.unordered_frames,
            f"short_clips_{_PAST[options.sampling.short_clips]}": segments.short_clips,
            "breaks": segments.breaks,
            **_telemetry_counts(segments),
        },
        options=options.to_json(),
        versions=versions,
        fingerprint=totals.fingerprint,
        mirrored=options.label.mirrored_columns,
    )
    return Outcome(failures=failures, info=info, error=None)


def finish_build(builder: ShardBuilder, reports: Sequence[ShardReport], totals: Totals) -> Outcome:
    """Concludes the build, and writes ``failures.jsonl`` and, on success, ``dataset_info.json``.

    Raises:
        OSError: when they cannot be written.
    """
    outcome = conclude(
        reports, totals, spec=builder.spec, options=builder.options, versions=builder.versions
    )
    builder.output.finish(map(failure_line, outcome.failures), outcome.info)
    return outcome


_PAST = {"drop": "dropped", "pad": "padded", "loop": "looped"}


def failure_line(failure: SourceFailure) -> str:
    """A line of ``failures.jsonl``."""
    return json.dumps(to_json(failure))


def one_a_source(failures: Iterable[SourceFailure]) -> tuple[SourceFailure, ...]:
    """One failure a source: a real one outweighs a cut, and of several cuts the first in time counts."""
    by_source: dict[str, SourceFailure] = {}
    for failure in failures:
        known = by_source.setdefault(failure.source, failure)
        if _weight(failure) < _weight(known):
            by_source[failure.source] = failure
    return tuple(by_source[source] for source in sorted(by_source))


def _weight(failure: SourceFailure) -> tuple[bool, float]:
    return failure.truncated, math.inf if failure.seconds is None else failure.seconds


def say_too_many_failed(
    failed: Sequence[SourceFailure], sources: int, max_failure_rate: float
) -> str | None:
    """That more of the ``sources`` have failed than may, and which; None when they have not."""
    # The decimal that was typed: 29 of 100 are not more than 0.29, though 0.29 * 100 < 29 in binary.
    if len(failed) <= Fraction(str(max_failure_rate)) * sources:
        return None
    return (
        f"{len(failed)} of {sources} sources failed, more than --max_failure_rate {max_failure_rate:g} "
        f"allows: {_name_some(failed)}; repair or remove them, or allow more, and type the command again"
    )


def _say_why_nothing(reports: Sequence[ShardReport]) -> str:
    unmeasured = sum(report.segments.frames_without_telemetry for report in reports)
    if unmeasured:
        return (
            f"no source gave a sequence: {unmeasured} frames lie where telemetry has no values "
            "(see --time_unit, --time_offset, --time_origin and --max_gap)"
        )
    return "no source gave a sequence: clips may be shorter than --num_frames (see --short_clips)"


def _name_some(failed: Sequence[SourceFailure], most: int = 5) -> str:
    reasons = Counter(failure.stage for failure in failed)
    named = "; ".join(f"{f.source!r} ({f.stage}: {f.reason})" for f in failed[:most])
    if len(failed) > most:
        by_stage = ", ".join(f"{count} at {stage}" for stage, count in reasons.most_common())
        named += f"; and {len(failed) - most} more ({by_stage}; all in failures.jsonl)"
    return named


def _describe_split(
    reports: Sequence[ShardReport], spec: SequenceSpec, *, sources: int, groups: int
) -> SplitInfo:
    segments = sum_results(report.segments for report in reports)
    mean, std = _pixel_moments(segments.pixel_count, segments.pixel_sum, segments.pixel_square_sum)
    return SplitInfo(
        shards=tuple(
            ShardInfo(file=r.file, records=r.records, bytes=r.bytes, sha256=r.sha256)
            for r in reports
        ),
        label_counts=segments.label_counts or (0,) * spec.label.num_classes,
        targets=_statistics(segments.targets),
        signals=_signal_statistics(segments.signals, spec),
        pixel_mean=mean,
        pixel_std=std,
        pixel_frames=segments.pixel_frames,
        sources=sources,
        groups=groups,
    )


def _pixel_moments(
    count: int, sums: Sequence[int], square_sums: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    means = tuple(total / count for total in sums)
    # In integers: the difference of two large sums would lose its digits in floating point.
    variances = (
        (squares * count - total * total) / count**2
        for total, squares in zip(sums, square_sums, strict=True)
    )
    return means, tuple(math.sqrt(max(0.0, variance)) for variance in variances)


def _statistics(moments: Iterable[Moments]) -> tuple[TargetStatistics, ...]:
    return tuple(
        TargetStatistics(mean=own.mean, std=own.std, min=own.min, max=own.max) for own in moments
    )


def _signal_statistics(
    moments: Sequence[Moments], spec: SequenceSpec
) -> dict[str, tuple[TargetStatistics, ...]]:
    statistics = {}
    for signal in spec.signals if moments else ():
        statistics[signal.name] = _statistics(moments[: signal.size])
        moments = moments[signal.size :]
    return statistics


def _telemetry_counts(segments: SegmentResult) -> dict[str, int]:
    """How far apart the rows were between which frames' values were found, and where there were none."""
    without = {"telemetry_frames_without": segments.frames_without_telemetry}
    if not segments.telemetry_frames:
        return without if segments.frames_without_telemetry else {}
    names = [
        "telemetry_frames_at_a_row",
        *(f"telemetry_frames_between_rows_up_to_{bound:g}_s" for bound in DISTANCES[1:]),
        f"telemetry_frames_between_rows_over_{DISTANCES[-1]:g}_s",
    ]
    return {**dict(zip(names, segments.telemetry_frames, strict=True)), **without}
