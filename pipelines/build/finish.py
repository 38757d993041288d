"""Turns the reports of shards into ``failures.jsonl`` and ``dataset_info.json``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipelines.build.shard import ShardBuilder, ShardReport, sum_counts
from pipelines.decoding.protocol import DISTANCES, SegmentCounts
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import SourceFailure
from tfrecords_schema.codec import to_json
from tfrecords_schema.info import DatasetInfo, ShardInfo, SplitInfo, TargetStatistics
from tfrecords_schema.moments import Moments
from tfrecords_schema.spec import SequenceSpec


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Numbers of the plan that the finished build is checked against.

    Attributes:
        sources: number of listed sources.
        split_sources, split_groups: number of planned sources and groups by split.
        shards: number of planned shards.
        failures: sources that failed while they were listed or probed.
        max_failure_rate: fraction of the sources that may fail.
        fingerprint: digest of everything that decides the dataset's bytes.
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
    """The result of a build.

    Attributes:
        failures: the lines of ``failures.jsonl``, one per source, sorted by source.
        info: the dataset's description; None if the build failed.
        error: one line that says why the build failed, else None.
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
        reports: one per built shard.
        totals: the plan's numbers.
        spec: spec of the dataset's records.
        options: options of the build.
        versions: versions of the libraries that decide its bytes.
    """
    reports = sorted(reports, key=lambda report: report.file)
    found = [*totals.failures, *(failure for report in reports for failure in report.failures)]
    failures = one_failure_per_source(found)
    failed = [failure for failure in failures if not failure.truncated]
    records = sum(report.records for report in reports)
    error = describe_excess_failures(failed, totals.sources, totals.max_failure_rate)
    if error is None and len(reports) < totals.shards:
        error = f"{totals.shards - len(reports)} of {totals.shards} shards were not built"
    if error is None and not records:
        error = _describe_missing_sequences(reports)
    if error:
        return Outcome(failures=failures, info=None, error=error)
    segments = sum_counts(report.segments for report in reports)
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
        OSError: if they cannot be written.
    """
    outcome = conclude(
        reports, totals, spec=builder.spec, options=builder.options, versions=builder.versions
    )
    builder.output.finish(map(failure_line, outcome.failures), outcome.info)
    return outcome


_PAST = {"drop": "dropped", "pad": "padded", "loop": "looped"}


def failure_line(failure: SourceFailure) -> str:
    """Returns a line of ``failures.jsonl``."""
    return json.dumps(to_json(failure))


def one_failure_per_source(failures: Iterable[SourceFailure]) -> tuple[SourceFailure, ...]:
    """Returns one failure per source: a failed segment outweighs truncated ones, then the earliest counts."""
    by_source: dict[str, SourceFailure] = {}
    for failure in failures:
        known = by_source.setdefault(failure.source, failure)
        if _weight(failure) < _weight(known):
            by_source[failure.source] = failure
    return tuple(by_source[source] for source in sorted(by_source))


def _weight(failure: SourceFailure) -> tuple[bool, float]:
    return failure.truncated, math.inf if failure.seconds is None else failure.seconds


def describe_excess_failures(
    failed: Sequence[SourceFailure], sources: int, max_failure_rate: float
) -> str | None:
    """Returns the error if more sources failed than allowed, with their names; None otherwise."""
    # As the decimal that was typed: 29 of 100 do not exceed 0.29, though 0.29 * 100 < 29 in binary.
    if len(failed) <= Fraction(str(max_failure_rate)) * sources:
        return None
    return (
        f"{len(failed)} of {sources} sources failed, more than --max_failure_rate {max_failure_rate:g} "
        f"allows: {_name_sources(failed)}; repair or remove them, or allow more, and type the command again"
    )


def _describe_missing_sequences(reports: Sequence[ShardReport]) -> str:
    unmeasured = sum(report.segments.frames_without_telemetry for report in reports)
    if unmeasured:
        return (
            f"no source gave a sequence: {unmeasured} frames lie where telemetry has no values "
            "(see --time_unit, --time_offset, --time_origin and --max_gap)"
        )
    return "no source gave a sequence: clips may be shorter than --num_frames (see --short_clips)"


def _name_sources(failed: Sequence[SourceFailure], most: int = 5) -> str:
    reasons = Counter(failure.stage for failure in failed)
    named = "; ".join(f"{f.source!r} ({f.stage}: {f.reason})" for f in failed[:most])
    if len(failed) > most:
        by_stage = ", ".join(f"{count} at {stage}" for stage, count in reasons.most_common())
        named += f"; and {len(failed) - most} more ({by_stage}; all in failures.jsonl)"
    return named


def _describe_split(
    reports: Sequence[ShardReport], spec: SequenceSpec, *, sources: int, groups: int
) -> SplitInfo:
    segments = sum_counts(report.segments for report in reports)
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


def _telemetry_counts(segments: SegmentCounts) -> dict[str, int]:
    """Returns the counts of frames by their distance in time to the nearest telemetry rows."""
    without = {"telemetry_frames_without": segments.frames_without_telemetry}
    if not segments.telemetry_frames:
        return without if segments.frames_without_telemetry else {}
    names = [
        "telemetry_frames_at_a_row",
        *(f"telemetry_frames_between_rows_up_to_{bound:g}_s" for bound in DISTANCES[1:]),
        f"telemetry_frames_between_rows_over_{DISTANCES[-1]:g}_s",
    ]
    return {**dict(zip(names, segments.telemetry_frames, strict=True)), **without}
