"""Summaries of a plan, of a finished dataset and of failures, for the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipelines.build.build import Plan
from pipelines.plan.descriptors import SourceFailure
from tfrecords_schema import tables
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.report.pages import plural
from tfrecords_schema.tables import Cell, format_bytes, format_table

_MAX_REASONS, _MAX_NAMED = 10, 3
_NUMBER = re.compile(r"\b\d+(\.\d+)?\b")


def describe_plan(plan: Plan) -> str:
    """Returns sources and classes of a plan, and a table by split. Sequences and bytes are estimates."""
    listing, growth = plan.listing, plan.growth
    estimates = [(s, e) for s, e in plan.estimates.items() if growth is None or e.sources]
    rows = [
        (split, e.sources, e.groups, e.segments, e.shards, e.sequences, format_bytes(e.bytes))
        for split, e in estimates
    ]
    header = ("split", "sources", "groups", "segments", "shards", "sequences ~", "bytes ~")
    lines = [
        f"{listing.name}: {plan.totals.sources} sources, {tables.describe_label(listing.label)}",
        *(format_table(header, *rows) if rows else ["nothing new"]),
    ]
    label = listing.label
    if label.task == "regression":
        lines += tables.target_table(label, {split: e.targets for split, e in estimates})
    elif any(e.classes for _, e in estimates):
        cells = {
            split: [e.classes.get(name, Cell(0, 0)) for name in label.class_names]
            for split, e in estimates
        }
        lines += tables.class_table(label, cells)
        warnings = [*_warn_of_short_clips(plan, cells), *tables.split_warnings(label, cells)]
        lines += [f"warning: {warning}" for warning in warnings]
    empty = [split for split, e in estimates if not e.sources]
    # Of published splits, those that are not listed are meant to be empty.
    if empty and not any(source.split for source in listing.sources):
        lines.append(
            f"note: no group fell into {' or '.join(empty)}; with few groups, set --splits or another --seed"
        )
    for failure in plan.totals.failures:
        lines.append(f"cannot be used: {failure.source!r}: {failure.stage}: {failure.reason}")
    return "\n".join(lines)


def _warn_of_short_clips(plan: Plan, cells: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Returns a sentence about the classes that no sequence is expected of, according to headers."""
    names, sampling = plan.listing.label.class_names, plan.builder.options.sampling
    rows = enumerate(zip(*cells.values(), strict=True))
    short = [
        tables.shorten(names[i])
        for i, row in rows
        if any(cell.sources for cell in row) and not any(cell.sequences for cell in row)
    ]
    if not short:
        return []
    return [
        f"all clips of {tables.name_some(short)} look shorter than --num_frames "
        f"{sampling.num_frames}, so they are dropped: {tables.KEEP_SHORT_CLIPS}"
    ]


def describe_dataset(info: DatasetInfo, output: str) -> str:
    """Returns what a complete dataset holds, where it lies, and which libraries decided its bytes."""
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
    if info.versions:
        named = ", ".join(f"{name} {version}" for name, version in info.versions.items())
        lines.append(f"built with {named}")
    return "\n".join(lines)


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
        lines.append(f"{count} {'source' if count == 1 else 'sources'} {what}:")
        ordered = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
        for reason, sources in ordered[:_MAX_REASONS]:
            named = ", ".join(map(repr, sources[:_MAX_NAMED]))
            more = ", ..." if len(sources) > _MAX_NAMED else ""
            lines.append(f"  {len(sources)} at {reason} ({named}{more})")
        if len(ordered) > _MAX_REASONS:
            lines.append(f"  and {len(ordered) - _MAX_REASONS} more reasons")
    return [*lines, "see failures.jsonl for each"] if lines else []
