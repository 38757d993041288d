"""The part of the report that shows the worst sequences, as filmstrips and signals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.spec import LabelSpec
from trainer.evaluation.analysis import WorstSequence
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.filmstrips import Filmstrip
from trainer.report.charts import sparkline
from trainer.report.markup import escape, plural, section

Array = npt.NDArray[Any]

_MOST_SPARKLINES = 6


def worst(evaluation: Evaluation, name: str) -> str:
    """The worst sequences with what was true and what was predicted, as filmstrips."""
    label = evaluation.trained_on.spec.label
    figures = "\n".join(
        _worst(place, sequence, evaluation.strips.get(sequence.place), label)
        for place, sequence in enumerate(evaluation.analysis.worst, start=1)
    )
    return section(f"{name}-worst", "The worst sequences", figures, level=3) if figures else ""


def _worst(place: int, sequence: WorstSequence, strip: Filmstrip | None, label: LabelSpec) -> str:
    caption = (
        f"{place}. true: {_words(sequence.true, label)}; "
        f"predicted: {_words(sequence.predicted, label)}"
    )
    detail = f"{_loss(sequence.loss, label)}; {sequence.start:.2f} s to {sequence.end:.2f} s"
    where = (
        f"<br><small>of <code>{escape(sequence.source)}</code>, "
        f"group <code>{escape(sequence.group)}</code></small>"
    )
    return (
        f"<figure><figcaption><strong>{escape(caption)}</strong> <small>{escape(detail)}</small>{where}"
        f"</figcaption>{_strip(strip, sequence) if strip else ''}</figure>"
    )


def _strip(strip: Filmstrip, sequence: WorstSequence) -> str:
    frames = "".join(
        f'<li><img src="data:image/jpeg;base64,{frame.jpeg}" loading="lazy" '
        f'alt="{escape(f"Frame {frame.index} of {sequence.id}, at {frame.seconds:.2f} s")}">'
        f"{frame.seconds:.2f} s</li>"
        for frame in strip.frames
    )
    signals = "".join(
        f"<span>{sparkline(values, said=f'Line chart of {signal} over the sequence')}"
        f"{escape(f'{signal}: {_span(values)}')}</span>"
        for signal, values in list(strip.signals.items())[:_MOST_SPARKLINES]
    )
    return (
        f'<ul class="strip" tabindex="0" aria-label="Frames">{frames}</ul>' if frames else ""
    ) + (f'<div class="signals">{signals}</div>' if signals else "")


def _words(value: Any, label: LabelSpec) -> str:
    """What `WorstSequence` holds as true or predicted, for people."""
    if isinstance(value, dict):
        units = dict(zip(label.target_names, label.target_units, strict=False))
        return ", ".join(f"{t} {_value(v)} {units.get(t, '')}".rstrip() for t, v in value.items())
    if not isinstance(value, list):
        return "not a number" if value is None else value
    if label.task == "multilabel":
        return ", ".join(value) or "none"
    counts = {v: value.count(v) for v in value}
    if len(counts) == 1:
        return _words(value[0], label)
    return ", ".join(f"{_words(v, label)} ({plural(n, 'frame')})" for v, n in counts.items())


def _value(value: float | list[float | None] | None) -> str:
    if isinstance(value, list):
        return _span(np.array([math.nan if v is None else v for v in value]))
    return "not a number" if value is None else f"{value:.4g}"


def _span(values: Array) -> str:
    if not np.isfinite(values).all():
        return "not a number"
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _loss(loss: float, label: LabelSpec) -> str:
    if math.isinf(loss):
        return "a prediction is not a number"
    if label.task == "regression":
        return f"off by {loss:.2g} standard deviations of the train split"
    if label.task == "multilabel":
        return f"cross entropy {loss:.3g} a class"
    return f"the truth was given a probability of {math.exp(-loss):.2g}"
