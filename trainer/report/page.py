"""Renders the report of an evaluation: one HTML file, verdict first, that opens offline."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrecords_schema.report.pages import (
    EMPTY_CELL,
    Cell,
    Row,
    Table,
    format_number,
    plural,
    render_page,
)
from tfrecords_schema.storage import write_bytes
from trainer.config.run_folder import RunFolder, options_of_run, read_history
from trainer.evaluation.baseline import describe_baseline
from trainer.evaluation.bootstrap import LEVEL, MIN_GROUPS, RESAMPLES, SEED
from trainer.evaluation.compare import Comparison, better_run
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.score import Metric, describe_verdict, format_interval
from trainer.report import sections
from trainer.report.ranked import ranked_sequences

_MEANINGS = {
    "accuracy": "the fraction of labels whose most probable class is the true one",
    "balanced_accuracy": "the mean over classes of the recall",
    "cross_entropy": "the mean of minus the logarithm of the probability of the true class",
    "mean_average_precision": "the mean over classes of the area under precision over recall",
    "mean_auc": "the mean over classes of the area under the ROC curve, each class against the others",
    "binary_accuracy": "the fraction of correct decisions per class, at its threshold",
    "top_3_accuracy": "the fraction of labels whose true class is among the 3 most probable ones",
    "top_5_accuracy": "the fraction of labels whose true class is among the 5 most probable ones",
    "source_accuracy": "the accuracy of the mean prediction over the sequences of each source",
    "source_mean_average_precision": "the same of the mean prediction over the sequences of each source",
    "mae": "the mean of the absolute error",
    "rmse": "the root of the mean of the squared error",
    "correlation": "Pearson's, of predictions and targets; 0 for constant predictions",
    "joint_rmse": "the root of the mean of the squared error over all targets, which have one unit",
    "bias": "the mean of prediction minus truth",
}


def write_report(
    path: str | os.PathLike[str],
    evaluations: Sequence[Evaluation],
    *,
    model: str | os.PathLike[str],
    directory: str | os.PathLike[str],
) -> None:
    """Writes the page of `render_report` atomically."""
    page = render_report(evaluations, model=str(model), directory=str(directory))
    write_bytes(path, page.encode())


def render_report(evaluations: Sequence[Evaluation], *, model: str, directory: str) -> str:
    """Returns the page of one or more splits; the verdict is that of the first."""
    first = evaluations[0]
    names = [metric.name for metric in first.metrics]
    run = RunFolder(Path(model))
    if first.trained_on.spec.label.task == "regression":
        names = ["mae", "rmse", "correlation", "bias"]
        names += ["joint_rmse"] if first.trained_on.spec.label.has_one_unit else []
    return render_page(
        __package__,
        "page.html",
        title=f"{first.info.name}: evaluation",
        verdict=_verdict(first),
        baseline=describe_baseline(first.trained_on),
        splits=[_split(evaluation, f"split{i}") for i, evaluation in enumerate(evaluations)],
        meanings=[(name, _MEANINGS[name]) for name in names],
        learning=sections.curves(read_history(run.history)),
        options=list(options_of_run(run).items()) if run.config.is_file() else (),
        provenance=[
            ("model", model),
            ("trained on", _describe_dataset(first.trained_on.name, first.trained_on.fingerprint)),
            ("evaluated on", _describe_dataset(first.info.name, first.info.fingerprint)),
            ("folder", directory),
        ],
        level=f"{LEVEL:.0%}",
        resamples=RESAMPLES,
        seed=SEED,
        min_groups=MIN_GROUPS,
    )


def render_comparison(comparison: Comparison) -> str:
    """Returns the page of a comparison of two runs."""
    first, (heading, *rows) = comparison.metrics[0], comparison.rows()
    better = better_run(first)
    histories = [read_history(RunFolder(Path(run)).history) for run in comparison.runs]
    return render_page(
        __package__,
        "compare.html",
        title="Two runs compared",
        style="pass" if first.is_sure else "warning",
        verdict=f"{better} is better" if first.is_sure else better.capitalize(),
        main=f"{comparison.split} {': '.join(rows[0][:2])} (A), {rows[0][2]} (B)",
        runs=list(zip("AB", comparison.runs, strict=True)),
        notes=comparison.notes,
        metrics=Table(f"Metrics of the {comparison.split} split", heading, rows),
        options=Table("Options that differ", ["option", "A", "B"], comparison.options),
        learning=sections.curves(*histories),
        method=f"{LEVEL:.0%} of {RESAMPLES:,} resamples of whole groups (seed {SEED})",
    )


def _verdict(evaluation: Evaluation) -> dict[str, str]:
    metric = evaluation.metrics[0]
    text = describe_verdict(evaluation)
    model = format_number(metric.model, metric.unit)
    if metric.interval:
        model += f" ({LEVEL:.0%} interval {format_interval(metric.interval)})"
    return {
        "style": _style(metric),
        "text": text[:1].upper() + text[1:],
        "name": f"{evaluation.split} {metric.name}",
        "model": model,
        "baseline": format_number(metric.baseline, metric.unit),
    }


def _style(metric: Metric) -> str:
    """Returns the CSS class of a verdict. Without an interval, a gain may be chance."""
    styles = {"better": "pass", "not better": "error", "not a number": "error"}
    return styles.get(metric.verdict, "warning")


def _split(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """Returns what the page shows of one split; ``name`` begins the ids of its headings."""
    label = evaluation.trained_on.spec.label
    targets = sections.targets(evaluation)
    counts = [plural(len(evaluation.predictions.values), "sequence")]
    if label.per_frame:
        counts.append(f"{plural(evaluation.labels, 'frame')} with a label")
    counts += [plural(len(evaluation.sources), "source"), plural(evaluation.groups, "group")]
    return {
        "id": name,
        "title": evaluation.split.capitalize(),
        "counts": ", ".join(counts),
        "warnings": [f"{text[:1].upper()}{text[1:]}." for text in evaluation.warnings()],
        "metrics": _metrics(evaluation),
        "classes": sections.classes(evaluation),
        "confusion": sections.confusion(evaluation),
        "targets": targets,
        "targets_left": len(label.target_names) - len(targets),
        "sources": sections.sources(evaluation),
        "worst": ranked_sequences(evaluation, evaluation.worst),
        "best": ranked_sequences(evaluation, evaluation.best),
    }


def _metrics(evaluation: Evaluation) -> Table:
    has_intervals = any(metric.interval for metric in evaluation.metrics)
    heading = ["metric", "model", "baseline", "better by"]
    if has_intervals:
        heading += [f"{what}, {LEVEL:.0%} interval" for what in ("model", "better by")]
    rows: list[Row] = []
    for metric in evaluation.metrics:
        row = [
            metric.name + (f" ({metric.unit})" if metric.unit else ""),
            format_number(metric.model),
            format_number(metric.baseline),
            EMPTY_CELL if math.isnan(metric.gain) else f"{metric.gain:.4g}",
        ]
        for interval in (metric.interval, metric.gain_interval) if has_intervals else ():
            row.append(format_interval(interval) if interval else EMPTY_CELL)
        rows.append([*row, Cell(metric.verdict, style=_style(metric))])
    caption = f"Metrics of the {evaluation.split} split, beside the baseline's"
    return Table(caption, [*heading, "verdict"], rows)


def _describe_dataset(name: str, fingerprint: str) -> str:
    return f"{name}, fingerprint {fingerprint}" if fingerprint else name
