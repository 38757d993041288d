"""Tables and charts that show where a model errs: by class, target and source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.report.charts import Chart
from tfrecords_schema.report.pages import (
    Cell,
    Row,
    Table,
    describe_rows,
    format_number,
    format_percentage,
)
from tfrecords_schema.spec import format_target
from trainer.evaluation.baseline import baseline_prediction
from trainer.evaluation.breakdown import ClassRow, RangeRow
from trainer.evaluation.evaluate import Evaluation
from trainer.report.charts import make_curves_chart, make_scatter_chart, make_time_chart

Array = npt.NDArray[Any]

_MAX_CLASSES = 500
_MAX_MATRIX_CLASSES = 24
"""Classes of a confusion matrix; a larger one is too wide to read."""
_MAX_CONFUSIONS = 20
_MAX_SOURCES = 50
_MAX_TARGETS = 4
_MAX_TIME_CHARTS = 8


def curves(
    first: Sequence[Mapping[str, str]], second: Sequence[Mapping[str, str]] | None = None
) -> list[tuple[str, Chart]]:
    """Returns a name and a chart for each column of a ``history.csv``, given as rows.

    Of one run, train and validation are in one chart; of two, the same column of both.
    """
    names = dict.fromkeys(
        name for rows in (first, second or ()) for row in rows[:1] for name in row
    )
    found = []
    for name in names:
        if name in ("epoch", "seconds") or (second is None and name.startswith("val_")):
            continue
        other = f"val_{name}" if second is None else name
        chart = make_curves_chart(
            {"truth": first, "predicted": first if second is None else second},
            {"truth": name, "predicted": other},
            summary=f"{name} by epoch",
        )
        if chart:
            found.append((name, chart))
    return found


def classes(evaluation: Evaluation) -> Table | None:
    """Returns precision and recall of each class, lowest recall first; None for tasks without classes."""
    pairs = evaluation.classes
    if not pairs:
        return None

    def rank(pair: tuple[ClassRow, ClassRow]) -> tuple[bool, float, str]:
        row = pair[0]
        return math.isnan(row.recall), row.recall if row.support else 0.0, row.name

    heading = ["class", "labels", "precision", "baseline's", "recall", "baseline's", "F1"]
    heading += ["average precision", "baseline's", "AUC"]
    largest = max(row.support for row, _ in pairs)
    rows: list[Row] = []
    for row, baseline in sorted(pairs, key=rank)[:_MAX_CLASSES]:
        shares = [row.precision, baseline.precision, row.recall, baseline.recall, row.f1]
        shares += [row.average_precision, baseline.average_precision, row.auc]
        support = _bar(row.support, largest, f"{row.support:,}")
        rows.append([row.name, support, *map(format_percentage, shares)])
    shown = describe_rows(len(pairs), len(rows), "class")
    return Table(f"Precision and recall by class, lowest recall first {shown}", heading, rows)


def _bar(value: float, largest: float, text: str) -> Cell:
    is_finite = largest > 0 and math.isfinite(value)
    return Cell(text, bar=value / largest if is_finite else 0.0)


def confusion(evaluation: Evaluation) -> dict[str, Table | None] | None:
    """Returns which classes are predicted for which; None for tasks without one class per label.

    ``matrix`` is None for many classes, and ``frequent``, the most frequent confusions, for two.
    """
    counts = evaluation.confusion
    if counts is None:
        return None
    names = [row.name for row, _ in evaluation.classes]
    return {
        "matrix": _confusion_matrix(names, counts) if len(names) <= _MAX_MATRIX_CLASSES else None,
        "frequent": _frequent_confusions(names, counts) if len(names) > 2 else None,
    }


def _confusion_matrix(names: list[str], counts: Array) -> Table:
    columns = [*names, "not a number"] if counts[:, -1].any() else names
    rows: list[Row] = []
    for index, (name, row) in enumerate(zip(names, counts[:, : len(columns)], strict=True)):
        heats = 0.55 * row / max(int(counts[index].sum()), 1)
        styles = ["right" if column == index else "" for column in range(len(columns))]
        cells = zip(row, styles, heats, strict=True)
        rows.append([name, *(Cell(f"{n:,}", style=style, heat=heat) for n, style, heat in cells)])
    caption = "Labels by true class (row) and predicted class (column); correct ones are framed"
    return Table(caption, ("true, predicted", *columns), rows)


def _frequent_confusions(names: list[str], counts: Array) -> Table:
    wrong = counts[:, :-1] * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_CONFUSIONS]
    pairs = [divmod(int(index), len(names)) for index in order if wrong.flat[index]]
    rows = [
        [
            names[true],
            names[predicted],
            f"{wrong[true, predicted]:,}",
            format_percentage(wrong[true, predicted] / counts[true].sum()),
        ]
        for true, predicted in pairs
    ]
    heading = ("true class", "predicted", "labels", "of the true class")
    return Table("The most frequent confusions", heading, rows)


def targets(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Returns charts and a table for each of the first regression targets, as ``page.html`` shows them.

    A chart is None if it has no value to show.
    """
    label, predictions = evaluation.trained_on.spec.label, evaluation.predictions
    found = []
    for index, name in enumerate(label.target_names[:_MAX_TARGETS]):
        unit = label.target_units[index] if label.target_units else ""
        quantity, offset = f"{name} ({unit})" if unit else name, label.offsets[index]
        ranges = _ranges(evaluation.ranges[name], quantity, offset)
        baseline = float(baseline_prediction(evaluation.trained_on)[index]) - offset
        truth, answers = predictions.truth[:, index], predictions.answers[:, index]
        if offset:  # axes have no room for the digits of both
            quantity += f" from {offset!r}"
            truth, answers = truth - offset, answers - offset
        scatter = make_scatter_chart(
            truth,
            answers,
            baseline,
            quantity=quantity,
            summary=f"Scatter plot: predicted against true {name}",
        )
        rows, time_charts = evaluation.sources, []
        # Some sources, spread evenly from the largest error to the smallest.
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(_MAX_TIME_CHARTS, len(rows))).round())
        for row in (rows[int(place)] for place in chosen):
            is_own = [source == row.source for source in predictions.sources]
            own = predictions.by_label(np.array(is_own))
            error = f"mean absolute error {format_number(row.model[f'{name}_mae'], unit)}"
            chart = make_time_chart(
                predictions.times()[own] / 1e6,
                truth[own],
                answers[own],
                baseline,
                quantity=quantity,
                summary=f"Line chart: true and predicted {name} over time in {row.source}, {error}",
            )
            time_charts.append((row.source, error, chart))
        found.append(
            {
                "name": name,
                "scatter": scatter,
                "ranges": ranges,
                "time_charts": time_charts,
                "sources": len(rows),
            }
        )
    return found


def _ranges(ranges: list[RangeRow], quantity: str, offset: float) -> Table:
    largest = max([row.mae for row in ranges if math.isfinite(row.mae)], default=0.0)
    rows: list[Row] = [
        [
            " to ".join(format_target(edge - offset, offset, 4) for edge in (row.low, row.high)),
            f"{row.labels:,}",
            _bar(row.mae, largest, format_number(row.mae)),
            format_number(row.baseline_mae),
            _format_signed(row.bias),
        ]
        for row in ranges
    ]
    return Table(
        f"Error by range of the true {quantity}",
        ("range", "labels", "mean absolute error", "baseline's", "bias"),
        rows,
    )


def sources(evaluation: Evaluation) -> Table:
    """Returns the metrics of each source beside the baseline's, worst source first."""
    rows = evaluation.sources
    metrics = list(rows[0].model)[: 2 * _MAX_TARGETS]
    is_regression = evaluation.trained_on.spec.label.task == "regression"
    show = format_number if is_regression else format_percentage
    values = [row.model[metrics[0]] for row in rows]
    largest = max(filter(math.isfinite, values), default=0.0) if is_regression else 1.0
    heading, body = ["source", "group", "labels"], []
    for metric in metrics:
        heading += [metric] if metric.endswith("_bias") else [metric, "baseline's"]
    for row in rows[:_MAX_SOURCES]:
        cells: list[str | Cell] = [row.source, row.group, f"{row.labels:,}"]
        for metric in metrics:
            value = row.model[metric]
            if metric.endswith("_bias"):
                cells.append(_format_signed(value))
                continue
            cells.append(_bar(value, largest, show(value)) if len(cells) == 3 else show(value))
            cells.append(show(row.baseline[metric]))
        body.append(cells)
    caption = f"Metrics by source, worst first {describe_rows(len(rows), len(body), 'source')}"
    return Table(caption, heading, body)


def _format_signed(value: float) -> str:
    return "not a number" if math.isnan(value) else f"{value:+.3g}"
