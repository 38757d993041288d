"""The report of an evaluation: one HTML file that opens offline, verdict first.

It loads nothing and runs nothing, which its content policy also forbids. Names of classes, sources and
groups come from footage that anybody may have named, so every text passes `trainer.report.markup.escape`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from trainer.evaluation.baseline import describe_baseline
from trainer.evaluation.bootstrap import LEAST_GROUPS, LEVEL, RESAMPLES, SEED
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.metrics import THRESHOLD
from trainer.evaluation.score import Metric, format_interval
from trainer.report.markup import NOTHING, cell, escape, name_cell, number, plural, section, table
from trainer.report.sections import classes, confusion, sources, targets
from trainer.report.style import STYLE
from trainer.report.worst import worst

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_MEANINGS = {
    "accuracy": "the share of the labels whose likeliest class is the true one",
    "balanced_accuracy": "the mean over classes of the share of each that is found",
    "cross_entropy": "the mean of minus the logarithm of the probability given to the true class",
    "mean_average_precision": "the mean over classes of the area under precision over recall",
    "binary_accuracy": f"the share of right decisions, class by class, at a probability of {THRESHOLD:g}",
    "mae": "the mean of the absolute error",
    "rmse": "the root of the mean of the squared error",
    "bias": "the mean of prediction minus truth",
}
_INTERVALS = f"""<p>Intervals hold {LEVEL:.0%} of {RESAMPLES:,} resamples (percentile bootstrap, seed {SEED}).
Groups are drawn as wholes, since the sequences of one drive or video are alike. The model and the
baseline see the same resamples, so that the interval of the difference is the one to decide by. With
fewer than {LEAST_GROUPS} groups none is given. Efron and Tibshirani, <cite>An Introduction to the
Bootstrap</cite> (1993), chapter 13; Davison and Hinkley, <cite>Bootstrap Methods and their
Application</cite> (1997), section 3.8.</p>"""


def write_report(
    path: str | os.PathLike[str],
    evaluations: Sequence[Evaluation],
    *,
    model: str | os.PathLike[str],
    directory: str | os.PathLike[str],
) -> None:
    """Writes `render_report`'s page atomically."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    page = render_report(evaluations, model=str(model), directory=str(directory))
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def render_report(evaluations: Sequence[Evaluation], *, model: str, directory: str) -> str:
    """The whole page.

    Args:
        evaluations: of one or more splits, the most telling one first: it gives the verdict.
        model: what the page calls the model.
        directory: what it calls the dataset.
    """
    first = evaluations[0]
    title = escape(f"{first.info.name}: evaluation")
    parts = [_split(evaluation, f"split{i}") for i, evaluation in enumerate(evaluations)]
    links = "".join(
        f'<a href="#split{i}">{escape(_title(e))}</a>' for i, e in enumerate(evaluations)
    )
    body = "\n".join([*parts, _method(first), _provenance(first, model, directory)])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{_verdict(first)}
<nav aria-label="Parts of the page">{links}<a href="#method">How it was measured</a></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _verdict(evaluation: Evaluation) -> str:
    metric = evaluation.metrics[0]
    word = {
        "good": "Better than looking at nothing",
        "unsure": "Not surely better than looking at nothing"
        if metric.gain_interval
        else "Better than looking at nothing, but of too few groups to be sure",
        "bad": "Not better than looking at nothing",
    }[_style(metric)]
    interval = (
        f" ({LEVEL:.0%} interval {format_interval(metric.interval)})" if metric.interval else ""
    )
    return (
        f'<div class="verdict {_style(metric)}" role="status"><p><strong>{word}</strong></p>'
        f"<p>{escape(evaluation.split)} {escape(metric.name)}: "
        f"{escape(number(metric.model, metric.unit) + interval)}; "
        f"the baseline's is {escape(number(metric.baseline, metric.unit))}.</p>"
        f'<p class="dim">The baseline: {escape(describe_baseline(evaluation.trained_on))}.</p></div>'
    )


def _style(metric: Metric) -> str:
    """Without an interval, a gain may be chance: nothing is sure then."""
    if math.isnan(metric.gain) or (not metric.beats_baseline and metric.gain_interval is None):
        return "bad"
    if not metric.is_sure:
        return "unsure"
    return "good" if metric.beats_baseline else "bad"


def _short_verdict(metric: Metric) -> str:
    if math.isnan(metric.gain):
        return "not a number"
    if metric.gain_interval is not None and not metric.is_sure:
        return "not sure"
    return "better" if metric.beats_baseline else "not better"


def _title(evaluation: Evaluation) -> str:
    return evaluation.split.capitalize()


def _split(evaluation: Evaluation, name: str) -> str:
    analysis, label = evaluation.analysis, evaluation.trained_on.spec.label
    counts = [plural(analysis.sequences, "sequence")]
    if label.per_frame:
        counts.append(f"{plural(evaluation.labels, 'frame')} with a label")
    counts += [plural(len(analysis.sources), "source"), plural(evaluation.groups, "group")]
    parts = [
        f'<p class="dim">{escape(", ".join(counts))}</p>',
        *(f'<p class="warning">{escape(_sentence(w))}</p>' for w in evaluation.warnings()),
        _metrics(evaluation),
        classes(evaluation, name),
        confusion(evaluation, name),
        targets(evaluation, name),
        sources(evaluation, name),
        worst(evaluation, name),
    ]
    return section(name, _title(evaluation), "\n".join(part for part in parts if part))


def _metrics(evaluation: Evaluation) -> str:
    sure = any(metric.interval for metric in evaluation.metrics)
    heading = ("metric", "model", "baseline", "better by")
    intervals = (f"model, {LEVEL:.0%} interval", f"better by, {LEVEL:.0%} interval")
    rows = []
    for m in evaluation.metrics:
        unit = f" ({m.unit})" if m.unit else ""
        row = [
            name_cell(m.name + unit),
            cell(number(m.model)),
            cell(number(m.baseline)),
            cell(NOTHING if math.isnan(m.gain) else f"{m.gain:.4g}"),
        ]
        if sure:
            row += [
                cell(format_interval(interval) if interval else NOTHING)
                for interval in (m.interval, m.gain_interval)
            ]
        rows.append([*row, cell(_short_verdict(m), style=_style(m))])
    return table(
        f"Metrics of the {evaluation.split} split, beside the baseline's",
        (*heading, *(intervals if sure else ()), "verdict"),
        rows,
    )


def _method(evaluation: Evaluation) -> str:
    named = [m.name for m in evaluation.metrics]
    if evaluation.trained_on.spec.label.task == "regression":
        named = ["mae", "rmse", "bias"]
    meanings = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_MEANINGS[name])}</dd>" for name in named
    )
    return section(
        "method",
        "How it was measured",
        f"<dl>{meanings}</dl>\n"
        f"<p>The baseline looks at nothing: {escape(describe_baseline(evaluation.trained_on))}. It is made "
        "of the train split alone, and scored by the same functions as the model.</p>\n"
        f"{_INTERVALS}\n"
        "<p>A prediction that is not a number is never right, and an error that needs it is not a number "
        "either.</p>",
    )


def _provenance(evaluation: Evaluation, model: str, directory: str) -> str:
    pairs = (
        ("model", model),
        ("trained on", _dataset(evaluation.trained_on.name, evaluation.trained_on.fingerprint)),
        ("evaluated on", _dataset(evaluation.info.name, evaluation.info.fingerprint)),
        ("folder", directory),
    )
    items = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in pairs
    )
    return section("provenance", "Provenance", f"<dl>{items}</dl>")


def _dataset(name: str, fingerprint: str) -> str:
    return f"{name}, fingerprint {fingerprint}" if fingerprint else name


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
