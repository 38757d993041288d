"""The report's verdict, and what every check found or did not find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.build.summary import format_bytes
from pipelines.validation.checks.catalogue import ALL_CHECKS
from pipelines.validation.findings import LEVELS, Check, Level
from pipelines.validation.outcome import Validation, plural
from pipelines.validation.report.markup import escape, section
from pipelines.validation.report.style import MOST_BOXES


def verdict(validation: Validation) -> str:
    """Whether the dataset passed, in a word, and what was examined."""
    result = validation.result
    word, style = ("Failed", "failed") if validation.failed else ("Passed", "passed")
    counts = ", ".join(plural(result.count(level), level) for level in LEVELS)
    shards = sum(split.shards for split in result.splits.values())
    return (
        f'<div class="verdict {style}" role="status"><p><strong>{word}</strong>: {counts}</p>'
        f'<p class="dim">{plural(result.records, "record")} in {plural(shards, "shard")} '
        f"({escape(format_bytes(result.bytes))}) examined in {validation.seconds:.1f} s</p></div>"
    )


def findings(validation: Validation) -> str:
    """What was found, worst first, with boxes that hide levels and families of checks."""
    result = validation.result
    if not result.findings:
        return section("findings", "Findings", "<p>No check found anything.</p>")
    shown = [
        (check, level)
        for level in LEVELS
        for check in ALL_CHECKS
        if result.count(level, check.name)
    ]
    levels = [level for level in LEVELS if result.count(level)]
    families = _families(validation)
    boxes = filters("Levels", "level", levels) + filters("Checks", "family", families)
    parts = [_check_findings(validation, check, level) for check, level in shown]
    return section("findings", "Findings", boxes + "\n".join(parts))


def passed(validation: Validation) -> str:
    """The checks that found nothing."""
    counts = validation.result.counts
    items = "".join(
        f"<li><strong>{escape(check.name)}</strong>: {escape(check.summary)}</li>"
        for check in ALL_CHECKS
        if check.name not in counts
    )
    if not items:
        return ""
    return section("passed", "Checks that found nothing", f'<ul class="passed">{items}</ul>')


def family(check: Check[Any]) -> str:
    """``labels`` of ``labels.finite``."""
    return check.name.partition(".")[0]


def filters(legend: str, kind: str, values: Sequence[str]) -> str:
    """A box for each value that hides what has its number as ``data-KIND``; see `report_style`, no script."""
    if not 2 <= len(values) <= MOST_BOXES:
        return ""
    # Values may come from the dataset, so that the rules know them by number.
    boxes = "".join(
        f'<label><input type="checkbox" id="show-{kind}-{number}" checked> {escape(value)}</label>'
        for number, value in enumerate(values)
    )
    return f'<fieldset class="filters"><legend>{escape(legend)}</legend>{boxes}</fieldset>'


def _families(validation: Validation) -> list[str]:
    return list(dict.fromkeys(family(c) for c in ALL_CHECKS if c.name in validation.result.counts))


def _check_findings(validation: Validation, check: Check[Any], level: Level) -> str:
    result = validation.result
    count = result.count(level, check.name)
    kept = [f for f in result.findings if f.check == check.name and f.level == level]
    items = "\n".join(
        f"<li>{escape(finding.message)}"
        + (
            f'<br><code class="where">{escape(str(finding.where))}</code>'
            if str(finding.where)
            else ""
        )
        + "</li>"
        for finding in kept
    )
    more = f"<p>and {count - len(kept):,} more</p>" if count > len(kept) else ""
    levels = [own for own in LEVELS if result.count(own)]
    families = _families(validation)
    is_open = "" if level == "note" else " open"
    return (
        f'<details{is_open} data-level="{levels.index(level)}" '
        f'data-family="{families.index(family(check))}"><summary>'
        f'<span class="level {level}">{level}</span> '
        f"<strong>{escape(check.name)}</strong>: {plural(count, 'finding')}</summary>\n"
        f"<p>{escape(check.reason)}</p><p><strong>What to do:</strong> {escape(check.remedy)}</p>\n"
        f"<ol>\n{items}\n</ol>{more}</details>"
    )
