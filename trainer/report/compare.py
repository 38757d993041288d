"""Renders the report of a comparison of two runs: one HTML file that opens offline."""

from __future__ import annotations

from pathlib import Path

from tfrecords_schema.report.pages import EMPTY_CELL, Cell, Row, Table, format_number, render_page
from trainer.config.run_folder import RunFolder, read_history
from trainer.evaluation.bootstrap import LEVEL, MIN_GROUPS, RESAMPLES, SEED
from trainer.evaluation.compare import Comparison, better_run
from trainer.evaluation.score import format_interval
from trainer.report import sections


def render_comparison(comparison: Comparison) -> str:
    """Returns the page of a comparison."""
    first, better = comparison.metrics[0], better_run(comparison.metrics[0])
    interval = (
        f" ({LEVEL:.0%} interval {format_interval(first.gain_interval, first.unit)})"
        if first.gain_interval
        else ""
    )
    histories = [read_history(RunFolder(Path(run)).history) for run in comparison.runs]
    rows: list[Row] = []
    for m in comparison.metrics:
        row = [m.name + (f" ({m.unit})" if m.unit else "")]
        for value, own in ((m.baseline, m.baseline_interval), (m.model, m.interval)):
            row += [format_number(value), format_interval(own) if own else EMPTY_CELL]
        row += [
            format_number(m.gain),
            format_interval(m.gain_interval) if m.gain_interval else EMPTY_CELL,
        ]
        rows.append([*row, Cell(better_run(m), style="pass" if m.is_sure else "warning")])
    heading = ["metric", "A", "interval", "B", "interval", "B better by", "interval", "better"]
    return render_page(
        __package__,
        "compare.html",
        title=f"{comparison.info.name}: two runs compared",
        verdict={
            "style": "pass" if first.is_sure else "warning",
            "text": f"{better} is better" if first.is_sure else better.capitalize(),
            "detail": f"{comparison.split} {first.name}: {format_number(first.baseline, first.unit)} (A), "
            f"{format_number(first.model, first.unit)} (B); B is better by "
            f"{format_number(first.gain, first.unit)}{interval}.",
        },
        runs=[*zip("AB", comparison.runs, strict=True), ("dataset", comparison.directory)],
        notes=[f"{note[:1].upper()}{note[1:]}" for note in comparison.notes],
        metrics=Table(f"Metrics of the {comparison.split} split", heading, rows),
        options=Table("Options that differ", ["option", "A", "B"], comparison.options),
        learning=sections.curves(*histories),
        level=f"{LEVEL:.0%}",
        resamples=RESAMPLES,
        seed=SEED,
        min_groups=MIN_GROUPS,
    )
