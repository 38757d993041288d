"""The parts of the report that show where a model errs: HTML, or nothing for another kind of task."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.evaluation.baseline import baseline_prediction
from trainer.evaluation.breakdown import ClassRow, RangeRow
from trainer.evaluation.evaluate import Evaluation
from trainer.report.charts import scatter_chart, time_chart
from trainer.report.markup import (
    bar_cell,
    cell,
    figure,
    name_cell,
    number,
    plural,
    section,
    share,
    table,
)

Array = npt.NDArray[Any]

_MOST_CLASSES = 500
# A matrix of more classes is too wide to read; the confusions that occur most are listed instead.
_MOST_IN_MATRIX = 24
_MOST_CONFUSIONS = 20
_MOST_SOURCES = 50
_MOST_TARGETS = 4
_MOST_COURSES = 8
_KEY = (
    '<p class="key dim"><span><i class="t"></i>true</span><span><i class="p"></i>predicted</span>'
    '<span><i class="b"></i>baseline</span></p>'
)


def classes(evaluation: Evaluation, name: str) -> str:
    """Precision and recall of each class, beside the baseline's; the class found least first."""
    analysis = evaluation.analysis
    if not analysis.classes:
        return ""
    pairs = sorted(
        zip(analysis.classes, analysis.baseline_classes, strict=True), key=lambda p: _rank(p[0])
    )
    multilabel = evaluation.trained_on.spec.label.task == "multilabel"
    most = max(row.support for row in analysis.classes)
    rows = [
        [
            name_cell(row.name),
            bar_cell(row.support, most, f"{row.support:,}"),
            cell(share(row.precision)),
            cell(share(baseline.precision)),
            cell(share(row.recall)),
            cell(share(baseline.recall)),
            cell(share(row.f1)),
            *([cell(share(_area(row))), cell(share(_area(baseline)))] if multilabel else []),
        ]
        for row, baseline in pairs[:_MOST_CLASSES]
    ]
    heading = (
        *("class", "labels", "precision", "baseline's", "recall", "baseline's", "F1"),
        *(("average precision", "baseline's") if multilabel else ()),
    )
    held = plural(len(pairs), "class")
    shown = "" if len(pairs) <= _MOST_CLASSES else f", {_MOST_CLASSES} shown"
    caption = f"Precision and recall by class, the class found least first ({held}{shown})"
    return section(f"{name}-classes", "By class", table(caption, heading, rows), level=3)


def _rank(row: ClassRow) -> tuple[bool, float, str]:
    return math.isnan(row.recall), row.recall if row.support else 0.0, row.name


def _area(row: ClassRow) -> float:
    return math.nan if row.average_precision is None else row.average_precision


def confusion(evaluation: Evaluation, name: str) -> str:
    """Which classes are taken for which: a matrix of a few classes, and the confusions that occur most."""
    counts = evaluation.analysis.confusion
    if counts is None:
        return ""
    names = [row.name for row in evaluation.analysis.classes]
    body = _confusions(names, counts)
    if len(names) <= _MOST_IN_MATRIX:
        body = _matrix(names, counts) + (body if len(names) > 2 else "")
    return section(f"{name}-confusion", "Confusion", body, level=3)


def _matrix(names: list[str], counts: Array) -> str:
    columns = [*names, "not a number"] if counts[:, -1].any() else names
    rows = []
    for place, (name, row) in enumerate(zip(names, counts, strict=True)):
        of_class = max(int(row.sum()), 1)
        cells = [
            f"<td{' class=right' if column == place else ''} "
            f'style="background:rgba(var(--heat),{0.55 * count / of_class:.3f})">{count:,}</td>'
            for column, count in enumerate(row[: len(columns)])
        ]
        rows.append([name_cell(name), *cells])
    caption = "Labels by true class (row) and answered class (column); right answers are framed"
    return f'<div class="confusion">{table(caption, ("true, answered", *columns), rows)}</div>'


def _confusions(names: list[str], counts: Array) -> str:
    wrong = counts[:, :-1] * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_CONFUSIONS]
    pairs = [(int(i) // len(names), int(i) % len(names)) for i in order if wrong.flat[i]]
    rows = [
        [
            name_cell(names[true]),
            cell(names[said]),
            cell(f"{wrong[true, said]:,}"),
            cell(share(wrong[true, said] / counts[true].sum())),
        ]
        for true, said in pairs
    ]
    if not rows:
        return "<p>No class was taken for another.</p>"
    heading = ("true class", "answered", "labels", "of the true class")
    return table("The confusions that occur most", heading, rows)


def targets(evaluation: Evaluation, name: str) -> str:
    """Of each target: predicted against true, the error by range, and the course over time by source."""
    label = evaluation.trained_on.spec.label
    parts = []
    for place, target in enumerate(label.target_names[:_MOST_TARGETS]):
        unit = label.target_units[place] if label.target_units else ""
        body = "\n".join(
            [
                _KEY,
                f'<div class="grid">{_scatter(evaluation, place, target, unit)}</div>',
                _ranges(evaluation.analysis.ranges[target], target, unit),
                "<h4>Over time</h4>",
                _courses(evaluation, place, target, unit),
            ]
        )
        parts.append(section(f"{name}-target{place}", f"Target {target}", body, level=3))
    left = len(label.target_names) - len(parts)
    if left > 0:
        parts.append(f"<p>{plural(left, 'more target')} in metrics.json.</p>")
    return "\n".join(parts)


def _scatter(evaluation: Evaluation, place: int, target: str, unit: str) -> str:
    truth = evaluation.predictions.truth[:, place]
    answers = evaluation.predictions.answers[:, place]
    baseline = float(baseline_prediction(evaluation.trained_on)[place])
    said = f"{target}, predicted against true, {plural(len(truth), 'label')}"
    chart = scatter_chart(
        truth, answers, baseline, quantity=_quantity(target, unit), said=f"Scatter plot: {said}"
    )
    if not chart:
        return "<p>No prediction is a number: there is nothing to draw.</p>"
    return figure(chart, "Predicted against true", "On the rising line, predictions are right.")


def _ranges(rows: tuple[RangeRow, ...], target: str, unit: str) -> str:
    most = max([row.mae for row in rows if math.isfinite(row.mae)], default=0.0)
    return table(
        f"Error by range of the true {_quantity(target, unit)}",
        ("range", "labels", "mean absolute error", "baseline's", "bias"),
        [
            [
                name_cell(f"{row.low:.4g} to {row.high:.4g}"),
                cell(f"{row.labels:,}"),
                bar_cell(row.mae, most, number(row.mae)),
                cell(number(row.baseline_mae)),
                cell(_signed(row.bias)),
            ]
            for row in rows
        ],
    )


def _courses(evaluation: Evaluation, place: int, target: str, unit: str) -> str:
    """Predicted and true over time: of all sources, or of some from the worst to the best."""
    rows, predictions = evaluation.analysis.sources, evaluation.predictions
    baseline = float(baseline_prediction(evaluation.trained_on)[place])
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_MOST_COURSES, len(rows))).round())
    figures = []
    for row in (rows[int(i)] for i in chosen):
        own = predictions.by_label(
            np.array([source == row.source for source in predictions.origins.sources])
        )
        error = number(row.model[f"{target}_mae"], unit)
        chart = time_chart(
            predictions.times()[own] / 1e6,
            predictions.truth[own, place],
            predictions.answers[own, place],
            baseline,
            quantity=_quantity(target, unit),
            said=f"Line chart: true and predicted {target} over time in {row.source}, "
            f"mean absolute error {error}",
        )
        figures.append(figure(chart, row.source, f"mean absolute error {error}"))
    left = len(rows) - len(figures)
    some = (
        f'<p class="dim">{len(figures)} of {len(rows):,} sources, spread from the one with the greatest '
        "error to the one with the least.</p>"
        if left
        else ""
    )
    return f'{some}<div class="grid">{"".join(figures)}</div>'


def sources(evaluation: Evaluation, name: str) -> str:
    """The figures of each source beside the baseline's, the worst first."""
    rows, label = evaluation.analysis.sources, evaluation.trained_on.spec.label
    figures = list(rows[0].model)[: 2 * _MOST_TARGETS]
    shares = label.task != "regression"
    finite = [row.model[figures[0]] for row in rows if math.isfinite(row.model[figures[0]])]
    most = 1.0 if shares else max(finite, default=0.0)
    show = share if shares else number
    heading, body = ["source", "group", "labels"], []
    for figure_name in figures:
        is_bias = figure_name.endswith("_bias") and not shares
        heading += [figure_name] if is_bias else [figure_name, "baseline's"]
    for row in rows[:_MOST_SOURCES]:
        cells = [name_cell(row.source), cell(row.group), cell(f"{row.labels:,}")]
        for figure_name in figures:
            value = row.model[figure_name]
            if figure_name.endswith("_bias") and not shares:
                cells.append(cell(_signed(value)))
                continue
            shown = show(value)
            cells.append(bar_cell(value, most, shown) if figure_name == figures[0] else cell(shown))
            cells.append(cell(show(row.baseline[figure_name])))
        body.append(cells)
    held = plural(len(rows), "source")
    some = "" if len(rows) <= _MOST_SOURCES else f", {_MOST_SOURCES} shown"
    caption = f"Figures by source, the worst first ({held}{some})"
    return section(f"{name}-sources", "By source", table(caption, heading, body), level=3)


def _signed(value: float) -> str:
    return "not a number" if math.isnan(value) else f"{value:+.3g}"


def _quantity(target: str, unit: str) -> str:
    return f"{target} ({unit})" if unit else target
