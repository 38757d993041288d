"""Tables and charts that show where a model errs: by class, target and source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfrecords_schema.report.pages import (
    Cell,
    Row,
    Table,
    describe_rows,
    format_number,
    format_percentage,
)
from trainer.evaluation.baseline import baseline_prediction
from trainer.evaluation.breakdown import ClassRow, RangeRow
from trainer.evaluation.evaluate import Evaluation
from trainer.report.charts import Chart, make_scatter_chart, make_time_chart

Array = npt.NDArray[Any]

_MAX_CLASSES = 500
_MAX_MATRIX_CLASSES = 24
"""Classes of a confusion matrix; a larger one is too wide to read."""
_MAX_CONFUSIONS = 20
_MAX_SOURCES = 50
_MAX_TARGETS = 4
_MAX_TIME_CHARTS = 8


class Confusion(NamedTuple):
    """The confusion matrix, None for many classes, and the most frequent confusions, None for two classes."""

    matrix: Table | None
    frequent: Table | None


@dataclass(frozen=True)
class Target:
    """Charts and a table about one regression target.

    Attributes:
        name: of the target.
        scatter: predicted against true values; None if no prediction is a number.
        ranges: the error by range of the true value.
        time_charts: source, error in words, and true and predicted values over time.
        sources: number of sources, of which ``time_charts`` shows some.
    """

    name: str
    scatter: Chart | None
    ranges: Table
    time_charts: list[tuple[str, str, Chart | None]]
    sources: int


def classes(evaluation: Evaluation) -> Table | None:
    """Returns precision and recall of each class, lowest recall first; None for tasks without classes."""
    analysis = evaluation.analysis
    if not analysis.classes:
        return None
    pairs = sorted(
        zip(analysis.classes, analysis.baseline_classes, strict=True),
        key=lambda pair: _rank(pair[0]),
    )
    is_multilabel = evaluation.trained_on.spec.label.task == "multilabel"
    largest = max(row.support for row in analysis.classes)
    rows: list[Row] = [
        [
            row.name,
            _bar(row.support, largest, f"{row.support:,}"),
            *_side_by_side(row.precision, baseline.precision),
            *_side_by_side(row.recall, baseline.recall),
            format_percentage(row.f1),
            *(_side_by_side(_area(row), _area(baseline)) if is_multilabel else ()),
        ]
        for row, baseline in pairs[:_MAX_CLASSES]
    ]
    return Table(
        "Precision and recall by class, lowest recall first "
        + describe_rows(len(pairs), len(rows), "class"),
        (
            *("class", "labels", "precision", "baseline's", "recall", "baseline's", "F1"),
            *(("average precision", "baseline's") if is_multilabel else ()),
        ),
        rows,
    )


def _rank(row: ClassRow) -> tuple[bool, float, str]:
    return math.isnan(row.recall), row.recall if row.support else 0.0, row.name


def _area(row: ClassRow) -> float:
    return math.nan if row.average_precision is None else row.average_precision


def _side_by_side(model: float, baseline: float) -> tuple[str, str]:
    return format_percentage(model), format_percentage(baseline)


def _bar(value: float, largest: float, text: str) -> Cell:
    is_finite = largest > 0 and math.isfinite(value)
    return Cell(text, bar=value / largest if is_finite else 0.0)


def confusion(evaluation: Evaluation) -> Confusion | None:
    """Returns which classes are predicted for which; None for tasks without one class per label."""
    counts = evaluation.analysis.confusion
    if counts is None:
        return None
    names = [row.name for row in evaluation.analysis.classes]
    return Confusion(
        _confusion_matrix(names, counts) if len(names) <= _MAX_MATRIX_CLASSES else None,
        _frequent_confusions(names, counts) if len(names) > 2 else None,
    )


def _confusion_matrix(names: list[str], counts: Array) -> Table:
    columns = [*names, "not a number"] if counts[:, -1].any() else names
    rows: list[Row] = [
        [
            name,
            *(
                Cell(
                    f"{count:,}",
                    style="right" if column == index else "",
                    heat=0.55 * count / max(int(row.sum()), 1),
                )
                for column, count in enumerate(row[: len(columns)])
            ),
        ]
        for index, (name, row) in enumerate(zip(names, counts, strict=True))
    ]
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


def targets(evaluation: Evaluation) -> list[Target]:
    """Returns charts and a table for each of the first regression targets."""
    label = evaluation.trained_on.spec.label
    found = []
    for index, name in enumerate(label.target_names[:_MAX_TARGETS]):
        unit = label.target_units[index] if label.target_units else ""
        quantity = f"{name} ({unit})" if unit else name
        baseline = float(baseline_prediction(evaluation.trained_on)[index])
        predictions = evaluation.predictions
        found.append(
            Target(
                name,
                make_scatter_chart(
                    predictions.truth[:, index],
                    predictions.answers[:, index],
                    baseline,
                    quantity=quantity,
                    summary=f"Scatter plot: predicted against true {name}",
                ),
                _ranges(evaluation.analysis.ranges[name], quantity),
                _time_charts(evaluation, index, name, unit, quantity, baseline),
                len(evaluation.analysis.sources),
            )
        )
    return found


def _ranges(ranges: tuple[RangeRow, ...], quantity: str) -> Table:
    largest = max([row.mae for row in ranges if math.isfinite(row.mae)], default=0.0)
    rows: list[Row] = [
        [
            f"{row.low:.4g} to {row.high:.4g}",
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


def _time_charts(
    evaluation: Evaluation, index: int, name: str, unit: str, quantity: str, baseline: float
) -> list[tuple[str, str, Chart | None]]:
    """Charts of some sources, spread evenly from the largest error to the smallest."""
    rows, predictions = evaluation.analysis.sources, evaluation.predictions
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_MAX_TIME_CHARTS, len(rows))).round())
    found = []
    for row in (rows[int(place)] for place in chosen):
        is_own = [source == row.source for source in predictions.origins.sources]
        own = predictions.by_label(np.array(is_own))
        error = f"mean absolute error {format_number(row.model[f'{name}_mae'], unit)}"
        chart = make_time_chart(
            predictions.times()[own] / 1e6,
            predictions.truth[own, index],
            predictions.answers[own, index],
            baseline,
            quantity=quantity,
            summary=f"Line chart: true and predicted {name} over time in {row.source}, {error}",
        )
        found.append((row.source, error, chart))
    return found


def sources(evaluation: Evaluation) -> Table:
    """Returns the metrics of each source beside the baseline's, worst source first."""
    rows, label = evaluation.analysis.sources, evaluation.trained_on.spec.label
    metrics = list(rows[0].model)[: 2 * _MAX_TARGETS]
    is_regression = label.task == "regression"
    show = format_number if is_regression else format_percentage
    values = [row.model[metrics[0]] for row in rows]
    largest = max(filter(math.isfinite, values), default=0.0) if is_regression else 1.0
    heading, body = ["source", "group", "labels"], []
    for metric in metrics:
        heading += [metric] if _is_bias(metric, is_regression) else [metric, "baseline's"]
    for row in rows[:_MAX_SOURCES]:
        cells: list[str | Cell] = [row.source, row.group, f"{row.labels:,}"]
        for metric in metrics:
            value = row.model[metric]
            if _is_bias(metric, is_regression):
                cells.append(_format_signed(value))
                continue
            is_first = metric == metrics[0]
            cells.append(_bar(value, largest, show(value)) if is_first else show(value))
            cells.append(show(row.baseline[metric]))
        body.append(cells)
    caption = f"Metrics by source, worst first {describe_rows(len(rows), len(body), 'source')}"
    return Table(caption, heading, body)


def _is_bias(metric: str, is_regression: bool) -> bool:
    return is_regression and metric.endswith("_bias")


def _format_signed(value: float) -> str:
    return "not a number" if math.isnan(value) else f"{value:+.3g}"
