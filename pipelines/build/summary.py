"""Summaries of a plan, of a finished dataset and of failures, for the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipelines.build.build import Plan
from pipelines.plan.descriptors import SourceFailure
from tfrecords_schema import tables
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.report.pages import plural
from tfrecords_schema.tables import Cell, format_bytes, format_table

_MAX_REASONS = 10
_NUMBER = re.compile(r"\b\d+(\.\d+)?\b")


def describe_plan(plan: Plan) -> str:
    """Returns sources and classes of a plan, and a table by split. Sequences and bytes are estimates."""
    listing, label = plan.listing, plan.listing.label
    estimates = {s: e for s, e in plan.estimates.items() if plan.growth is None or e.sources}
    rows = [
        (split, e.sources, e.groups, e.segments, e.shards, e.sequences, format_bytes(e.bytes))
        for split, e in estimates.items()
    ]
    header = ("split", "sources", "groups", "segments", "shards", "sequences ~", "bytes ~")
    lines = [
        f"{listing.name}: {plan.totals.sources} sources, {tables.describe_label(label)}",
        *(format_table(header, *rows) if rows else ["nothing new"]),
    ]
    if label.task == "regression":
        lines += tables.target_table(label, {split: e.targets for split, e in estimates.items()})
    elif any(e.classes for e in estimates.values()):
        cells = {
            split: [e.classes.get(name, Cell()) for name in label.class_names]
            for split, e in estimates.items()
        }
        lines += tables.class_table(label, cells)
        short = [
            tables.shorten(name)
            for name, *row in zip(label.class_names, *cells.values(), strict=True)
            if any(cell.sources for cell in row)
            and not any(cell.sequences for cell in row)
            and name not in plan.unmeasured
        ]
        if short:
            lines.append(
                f"warning: all clips of {tables.name_some(short)} look shorter than --num_frames "
                f"{plan.builder.spec.num_frames}, so they are dropped: {tables.KEEP_SHORT_CLIPS}"
            )
        if plan.growth is None:  # else the dataset may have what the new sources lack
            lines += [f"warning: {text}" for text in tables.split_warnings(label, cells)]
    lines += plan.notes
    empty = [split for split, e in estimates.items() if not e.sources]
    # Of published splits, those that are not listed are meant to be empty.
    if empty and not any(source.split for source in listing.sources):
        lines.append(
            f"note: no group fell into {' or '.join(empty)}; with few groups, set --splits or another --seed"
        )
    failures = (f"{f.source!r}: {f.stage}: {f.reason}" for f in plan.totals.failures)
    lines += tables.cut_lines((f"cannot be used: {text}" for text in failures), "failed source")
    return "\n".join(lines)


def describe_dataset(info: DatasetInfo, output: str, failures: Sequence[SourceFailure] = ()) -> str:
    """Returns what a complete dataset holds, where it lies, which libraries decided its bytes, warnings."""
    lines = [
        f"{info.name} is complete in {output}",
        *tables.split_table(info),
        *tables.label_table(info),
        *tables.describe_dropped(info),
    ]
    count = info.counts.get("short_clips_dropped")
    if count and not info.dropped:
        lines.append(
            f"{plural(count, 'clip')} shorter than --num_frames, so dropped ({tables.KEEP_SHORT_CLIPS})"
        )
    if count := info.counts.get("telemetry_frames_without"):
        lines.append(f"{count} frames were left out: telemetry has no values there (see --max_gap)")
    if count := info.counts.get("telemetry_sequences_without_future"):
        lines.append(
            f"{plural(count, 'sequence')} left out: telemetry has no values at --label_ahead after"
        )
    if info.versions:
        named = ", ".join(f"{name} {version}" for name, version in info.versions.items())
        lines.append(f"built with {named}")
    warnings = (f"warning: {text}" for text in tables.class_warnings(info))
    return "\n".join([*lines, *describe_failures(failures), *warnings])  # last, where they are seen


def describe_failures(failures: Sequence[SourceFailure]) -> list[str]:
    """Returns lines that count failed and truncated sources by reason, the most frequent first."""
    lines = []
    for truncated, what in ((True, "not whole, but used"), (False, "failed")):
        by_reason: dict[str, list[str]] = {}
        for failure in failures:
            if failure.truncated == truncated:
                # Reasons that differ only in numbers ("at 3.2 s", "at 4.1 s") are counted together.
                reason = _NUMBER.sub("N", f"{failure.stage}: {failure.reason}")
                by_reason.setdefault(reason, []).append(failure.source)
        if not by_reason:
            continue
        count = sum(map(len, by_reason.values()))
        lines.append(f"{plural(count, 'source')} {what}:")
        ordered = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
        reasons = (f"  {len(ids)} at {text} ({tables.name_some(ids)})" for text, ids in ordered)
        lines += tables.cut_lines(reasons, "reason", _MAX_REASONS)
    return [*lines, "see failures.jsonl for each"] if lines else []
