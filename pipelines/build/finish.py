"""Checks the reports of a finished run, and turns those of shards into the dataset's description."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from pipelines.build.output import FAILURES_FILE, NEW_FAILURES
from pipelines.build.shard import ShardBuilder, ShardReport, sum_counts
from pipelines.decoding.protocol import DISTANCES, SegmentCounts
from pipelines.plan.descriptors import Shard, SourceFailure, file_id
from tfrecords_schema.info import DatasetInfo, ShardInfo, SplitInfo, statistics_of
from tfrecords_schema.sources import SOURCES_COUNT
from tfrecords_schema.spec import SequenceSpec
from tfrecords_schema.tables import FAILED, SHORT_CLIPS
from tfrecords_schema.union import unite

_PAST = {"drop": "dropped", "pad": "padded", "loop": "looped"}
_MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Numbers of a plan that the finished run is checked against.

    Attributes:
        sources: number of listed sources.
        tasks: number of planned tasks.
        failures: sources that failed while they were listed or probed.
        max_failure_rate: fraction of the sources that may fail.
        by_file: spans of one file count as one source, as in ``sources``.
    """

    sources: int
    tasks: int
    failures: tuple[SourceFailure, ...]
    max_failure_rate: float
    by_file: bool = False


class TaskReport(Protocol):
    """The part of a task's report that says which of its sources failed; see `ShardReport`."""

    @property
    def failures(self) -> tuple[SourceFailure, ...]: ...  # noqa: D102

    @property
    def kept(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def empty(self) -> tuple[SourceFailure, ...]: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Totals(Expected):
    """Numbers of a build's plan; a task is a shard.

    Attributes:
        split_sources, split_groups: number of planned sources and groups by split.
        class_sources: listed sources of each class, in label order; empty when only their frames tell.
        fingerprint: digest of everything that decides the dataset's bytes.
        appended_to: fingerprint of the dataset that grows, whose sources count too; "" for a new one.
    """

    split_sources: dict[str, int]
    split_groups: dict[str, int]
    fingerprint: str
    class_sources: tuple[int, ...] = ()
    appended_to: str = ""


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


def finish_build(builder: ShardBuilder, reports: Sequence[ShardReport], totals: Totals) -> Outcome:
    """Concludes the build, and writes ``failures.jsonl`` and, on success, ``dataset_info.json``."""
    output, rows = builder.output, 0
    old = output.complete_info() if totals.appended_to else None
    if old is not None and old.fingerprint == totals.fingerprint:
        # A runner tries again what had written the description: its shards must not be added twice.
        output.leave_complete()
        return Outcome(failures=tuple(output.failures()), info=old, error=None)
    outcome = conclude(builder, reports, totals)
    failed = {failure.source for failure in outcome.failures if not failure.truncated}
    if totals.by_file and failed:
        failed = _failed_files(failed, output.planned_shards(Shard))
    if old is not None:
        rows = old.counts[SOURCES_COUNT]
        truncated = {failure.source: failure for failure in output.failures() if failure.truncated}
        by_source = truncated | {failure.source: failure for failure in outcome.failures}
        outcome = replace(outcome, failures=tuple(by_source[name] for name in sorted(by_source)))
    if outcome.info is not None:
        built = output.write_sources(rows, failed)
        counts = {**outcome.info.counts, "failed": len(failed), SOURCES_COUNT: built}
        info = replace(outcome.info, counts=counts)
        outcome = replace(outcome, info=info if old is None else _grow(old, info))
    output.finish(outcome.failures, outcome.info, growing=old is not None)
    return outcome


def _failed_files(failed: Collection[str], planned: Iterable[Shard]) -> set[str]:
    """Returns the ids without spans of the failed sources, if no other span of them was built."""
    ids = (segment.source.id for shard in planned for segment in shard.segments)
    return {file_id(name) for name in failed} - {
        file_id(name) for name in ids if name not in failed
    }


def _grow(old: DatasetInfo, new: DatasetInfo) -> DatasetInfo:
    """Returns the description of a dataset with the shards of an append that have records."""
    splits = {
        name: replace(split, shards=tuple(shard for shard in split.shards if shard.records))
        for name, split in new.splits.items()
    }
    dropped = {reason: counts for reason, counts in old.dropped.items() if reason != FAILED}
    old = replace(old, dropped=dropped)  # sources that failed were tried again
    info = unite([old, replace(new, splits=splits)], ["the dataset", "the append"]).info
    own = {name: new.counts[name] for name in ("sources", "failed", SOURCES_COUNT)}
    counts = {**info.counts, **own}
    return replace(info, options=new.options, fingerprint=new.fingerprint, counts=counts)


def conclude(builder: ShardBuilder, reports: Sequence[ShardReport], totals: Totals) -> Outcome:
    """Decides whether a build succeeded, and describes the dataset."""
    reports = sorted(reports, key=lambda report: report.file)
    failures, error = check_run(reports, totals, "shards were not built")
    segments = sum_counts(report.segments for report in reports)
    records = sum(report.records for report in reports)
    if error is None and not records and not totals.appended_to:
        error = _describe_missing_sequences(
            segments.frames_without_telemetry + segments.without_future
        )
    if error:
        return Outcome(failures=failures, info=None, error=error)
    truncated = sum(failure.truncated for failure in failures)
    options, built = builder.options, {report.split for report in reports}
    splits = {
        split: _describe_split(
            [report for report in reports if report.split == split],
            builder.spec,
            sources=sources,
            groups=totals.split_groups.get(split, 0),
        )
        for split, sources in totals.split_sources.items()
        if split in built
    }
    info = DatasetInfo(
        name=options.name,
        spec=builder.spec,
        splits=splits,
        counts={
            "sources": totals.sources,
            "failed": len(failures) - truncated,
            "truncated": truncated,
            "sequences": records,
            "frames_decoded": segments.frames,
            "frames_repeated": segments.repeated_frames,
            "frames_padded": segments.padded_frames,
            "frames_out_of_order": segments.unordered_frames,
            f"short_clips_{_PAST[options.sampling.short_clips]}": segments.short_clips,
            "breaks": segments.breaks,
            **_telemetry_counts(segments),
        },
        dropped=_count_dropped(reports, splits.values(), totals.class_sources),
        options=options.to_json(),
        versions=builder.versions,
        fingerprint=totals.fingerprint,
        mirrored=options.label.mirrored_columns,
    )
    return Outcome(failures=failures, info=info, error=None)


def check_run(
    reports: Sequence[TaskReport], expected: Expected, missing: str
) -> tuple[tuple[SourceFailure, ...], str | None]:
    """Returns one failure per source, sorted by source, and a line that says why the run failed, else None.

    A source of which a segment failed and another gave sequences is truncated. One that is neither short nor
    gave any sequence has failed. ``missing`` is said of tasks without a report, such as "shards were not
    built".
    """
    kept = {source for report in reports for source in report.kept}
    found = [
        replace(failure, truncated=failure.truncated or failure.source in kept)
        for report in reports
        for failure in report.failures
    ]
    found += [f for report in reports for f in report.empty if f.source not in kept]
    by_source: dict[str, SourceFailure] = {}
    for failure in (*expected.failures, *found):
        known = by_source.setdefault(failure.source, failure)
        if _weight(failure) < _weight(known):
            by_source[failure.source] = failure
    failures = tuple(by_source[source] for source in sorted(by_source))
    failed = [failure for failure in failures if not failure.truncated]
    error = None
    # As the decimal that was typed: 29 of 100 do not exceed 0.29, though 0.29 * 100 < 29 in binary.
    names = (f.source for f in failed)
    count = len({file_id(name) for name in names}) if expected.by_file else len(failed)
    if count > Fraction(str(expected.max_failure_rate)) * expected.sources:
        growing = isinstance(expected, Totals) and expected.appended_to
        named = _name_sources(failed, NEW_FAILURES if growing else FAILURES_FILE)
        error = (
            f"{count} of {expected.sources} sources failed, more than --max_failure_rate "
            f"{expected.max_failure_rate:g} allows: {named}; repair or remove them, or allow "
            "more, and type the command again"
        )
    elif len(reports) < expected.tasks:
        error = f"{expected.tasks - len(reports)} of {expected.tasks} {missing}"
    return failures, error


def _weight(failure: SourceFailure) -> tuple[bool, float]:
    """Returns a key by which a failed segment outweighs truncated ones; then the earliest counts."""
    return failure.truncated, math.inf if failure.seconds is None else failure.seconds


def _name_sources(failed: Sequence[SourceFailure], file: str) -> str:
    named = "; ".join(f"{f.source!r} ({f.stage}: {f.reason})" for f in failed[:_MAX_NAMED])
    if len(failed) > _MAX_NAMED:
        stages = Counter(failure.stage for failure in failed).most_common()
        by_stage = ", ".join(f"{count} at {stage}" for stage, count in stages)
        named += f"; and {len(failed) - _MAX_NAMED} more ({by_stage}; all in {file})"
    return named


def _describe_missing_sequences(unmeasured: int) -> str:
    if unmeasured:
        return (
            f"no source gave a sequence: {unmeasured} frames lie where telemetry has no values "
            "(see --time_unit, --time_offset, --time_origin and --max_gap)"
        )
    return "no source gave a sequence: clips may be shorter than --num_frames (see --short_clips)"


def _describe_split(
    reports: Sequence[ShardReport], spec: SequenceSpec, *, sources: int, groups: int
) -> SplitInfo:
    segments = sum_counts(report.segments for report in reports)
    count = segments.pixel_count
    # In integers: the difference of two large sums would lose its digits in floating point.
    variances = (
        (squares * count - total * total) / count**2
        for total, squares in zip(segments.pixel_sum, segments.pixel_square_sum, strict=True)
    )
    signals, moments = {}, segments.signals
    for signal in spec.signals if moments else ():
        signals[signal.name] = statistics_of(moments[: signal.size])
        moments = moments[signal.size :]
    given, class_sources = _count_sources(reports, spec.label.num_classes)
    return SplitInfo(
        shards=tuple(
            ShardInfo(file=r.file, records=r.records, bytes=r.bytes, sha256=r.sha256)
            for r in reports
        ),
        label_counts=segments.label_counts or (0,) * spec.label.num_classes,
        targets=statistics_of(segments.targets),
        signals=signals,
        pixel_mean=tuple(total / count for total in segments.pixel_sum),
        pixel_std=tuple(math.sqrt(max(0.0, variance)) for variance in variances),
        pixel_frames=segments.pixel_frames,
        sources=sources if given is None else given,
        groups=groups if given is None else min(groups, given),  # some may have given no record
        class_sources=class_sources,
    )


def _count_sources(
    reports: Sequence[ShardReport], num_classes: int
) -> tuple[int | None, tuple[int, ...]]:
    """Returns the sources that gave records, and those of each class; None and () when unknown.

    A source that was cut may lie in several shards; it counts once.
    """
    shards = [report.sources for report in reports if report.sources is not None]
    if len(shards) < len(reports):
        return None, ()
    cut: dict[str, set[int]] = {}
    counts = Counter[int]()
    for shard in shards:
        counts.update(dict(enumerate(shard.whole_classes)))
        for source, classes in shard.cut.items():
            cut.setdefault(source, set()).update(classes)
    counts.update(index for classes in cut.values() for index in classes)
    given = sum(shard.whole for shard in shards) + len(cut)
    return given, tuple(counts[index] for index in range(num_classes))


def _count_dropped(
    reports: Sequence[ShardReport], splits: Iterable[SplitInfo], listed: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Returns the sources of each class that gave no sequence, by reason; see `DatasetInfo.dropped`."""
    given = [split.class_sources for split in splits]
    short = [report.sources.short_clips for report in reports if report.sources is not None]
    if not listed or not all(given) or len(short) < len(reports):
        return {}
    none = (0,) * len(listed)  # an append may have no shard
    too_short = [sum(counts) for counts in zip(none, *short, strict=True)]
    kept = [sum(counts) for counts in zip(none, *given, strict=True)]
    failed = [max(0, a - b - c) for a, b, c in zip(listed, kept, too_short, strict=True)]
    reasons = {SHORT_CLIPS: too_short, FAILED: failed}
    return {reason: tuple(counts) for reason, counts in reasons.items() if any(counts)}


def _telemetry_counts(segments: SegmentCounts) -> dict[str, int]:
    """Returns the counts of frames by their distance in time to the nearest telemetry rows."""
    without = {"telemetry_frames_without": segments.frames_without_telemetry}
    if segments.without_future:
        without["telemetry_sequences_without_future"] = segments.without_future
    if not segments.telemetry_frames:
        return without if any(without.values()) else {}
    names = [
        "telemetry_frames_at_a_row",
        *(f"telemetry_frames_between_rows_up_to_{bound:g}_s" for bound in DISTANCES[1:]),
        f"telemetry_frames_between_rows_over_{DISTANCES[-1]:g}_s",
    ]
    return {**dict(zip(names, segments.telemetry_frames, strict=True)), **without}
