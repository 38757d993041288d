"""Summaries of a plan, of a finished dataset and of failures, for the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipelines.build.build import Plan
from pipelines.plan.descriptors import SourceFailure
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import LabelSpec

_MAX_CLASSES = 10
_MAX_REASONS, _MAX_NAMED = 10, 3
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_NUMBER = re.compile(r"\b\d+(\.\d+)?\b")


def describe_plan(plan: Plan) -> str:
    """Returns sources and classes of a plan, and a table by split. Sequences and bytes are estimates."""
    listing, estimates = plan.listing, plan.estimates.items()
    rows = [
        (split, e.sources, e.groups, e.segments, e.shards, e.sequences, format_bytes(e.bytes))
        for split, e in estimates
    ]
    header = ("split", "sources", "groups", "segments", "shards", "sequences ~", "bytes ~")
    lines = [
        f"{listing.name}: {plan.totals.sources} sources, {_describe_label(listing.label)}",
        *_table(header, *rows),
    ]
    if empty := [split for split, e in estimates if not e.sources]:
        lines.append(
            f"note: no group fell into {' or '.join(empty)}; with few groups, set --splits or another --seed"
        )
    for failure in plan.totals.failures:
        lines.append(f"cannot be used: {failure.source!r}: {failure.stage}: {failure.reason}")
    return "\n".join(lines)


def describe_dataset(info: DatasetInfo, output: str) -> str:
    """Returns what a complete dataset holds, where it lies, and which libraries decided its bytes."""
    rows = [
        (name, split.sources, len(split.shards), split.num_records, format_bytes(split.num_bytes))
        for name, split in info.splits.items()
    ]
    lines = [
        f"{info.name} is complete in {output}",
        *_table(("split", "sources", "shards", "sequences", "bytes"), *rows),
    ]
    if count := info.counts.get("short_clips_dropped"):
        lines.append(
            f"{count} clips were shorter than a sequence and were dropped (see --short_clips)"
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


def format_bytes(count: int) -> str:
    """Returns ``count`` with a binary unit: ``1.5 MiB``."""
    power = min(max(count.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{count / 1024**power:.{min(power, 1)}f} {_UNITS[power]}"


def _describe_label(label: LabelSpec) -> str:
    if label.task == "none":
        return "no labels"
    by_frame = " by frame" if label.per_frame else ""
    if label.task == "regression":
        units = label.target_units or ("",) * len(label.target_names)
        targets = [
            f"{name} ({unit})" if unit else name
            for name, unit in zip(label.target_names, units, strict=True)
        ]
        return f"regression of {', '.join(targets)}{by_frame}"
    shown = ", ".join(label.class_names[:_MAX_CLASSES])
    more = f", ... ({label.num_classes})" if label.num_classes > _MAX_CLASSES else ""
    return f"{label.task} of {shown}{more}{by_frame}"


def _table(*rows: Sequence[object]) -> list[str]:
    """Returns aligned lines: the first column to the left, the others to the right."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    template = "  ".join(f"{{!s:{'>' if i else '<'}{width}}}" for i, width in enumerate(widths))
    return [f"  {template.format(*row)}" for row in rows]
