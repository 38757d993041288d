"""Compares two runs on one split: each metric of both, with an interval of their difference by group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.tables import format_table
from trainer.config.dataset import Datasets
from trainer.config.run_folder import open_run, options_of_run
from trainer.errors import TrainerError
from trainer.evaluation.bootstrap import LEVEL, MIN_GROUPS
from trainer.evaluation.evaluate import evaluate_run
from trainer.evaluation.score import Metric, Score, explain_no_intervals, format_interval, score

NO_OPTION = "-"
"""Stands for an option that one of the runs does not have."""
# Where a run was trained decides nothing, and the folder of its dataset is named elsewhere.
_NOT_COMPARED = ("python", "tensorflow", "keras", "tfrecords")


@dataclass(frozen=True, kw_only=True)
class Comparison(Score):
    """The `Score` of a run B; in place of the baseline, each metric has the value of a run A.

    Attributes:
        runs: the folders of A and B.
        directory: of the dataset.
        info: its description.
        options: name, value of A and value of B of each option that differs.
        notes: reasons to distrust the comparison.
    """

    runs: tuple[str, str]
    directory: str
    info: DatasetInfo
    options: list[tuple[str, str, str]]
    notes: list[str]


def compare_runs(
    runs: Sequence[str], directory: Datasets, *, split: str | None = None, batch_size: int = 16
) -> Comparison:
    """Scores two runs on a split of one dataset, by default the first of test, validation and train.

    Both see the same sequences, and intervals of the difference come from the same resamples of groups, so
    that they are narrower than the intervals of either.

    Raises:
        TrainerError: if the runs are scored on different labels, or the dataset cannot be read.
    """
    first, second = (
        evaluate_run(run, directory, split=split, batch_size=batch_size) for run in runs
    )
    a, b = first.predictions, second.predictions
    if a.ids != b.ids or not np.array_equal(a.truth, b.truth, equal_nan=True):
        counts = [
            f"{side.labels:,} labels of {len(side.predictions.ids):,}" for side in (first, second)
        ]
        raise TrainerError(
            f"the runs are scored on different labels of {first.split}: {runs[0]} on {counts[0]} sequences, "
            f"{runs[1]} on {counts[1]}. They take other frames of a sequence (--num_frames, --frame_step, "
            "--eval_clips), or skip other records (--ignore_errors): compare runs that take the same"
        )
    scored = score(first.split, b, second.trained_on, a.answers, a.thresholds)
    notes = [
        f"{run} was not trained on this build of the dataset: its train split may hold these sequences"
        for run, side in zip(runs, (first, second), strict=True)
        if side.trained_on.splits != side.info.splits
    ]
    return Comparison(
        **vars(scored),
        runs=(os.fspath(runs[0]), os.fspath(runs[1])),
        directory=str(directory),
        info=first.info,
        options=_differing_options(runs),
        notes=list(dict.fromkeys([*notes, *first.warnings(), *second.warnings()])),
    )


def better_run(metric: Metric) -> str:
    """Returns ``A`` or ``B`` if the interval of the difference says so, else why it does not."""
    if metric.is_sure:
        return "B" if metric.beats_baseline else "A"
    return {"too few groups": "too few groups to say"}.get(metric.verdict, "not sure")


def format_comparison(comparison: Comparison) -> str:
    """Returns the tables of metrics and of options that differ, as lines for a terminal."""
    lines = [f"{side}  {run}" for side, run in zip("AB", comparison.runs, strict=True)]
    lines.append(f"{comparison.split}, {comparison.labels} labels of {comparison.groups} groups")
    has_intervals = comparison.groups >= MIN_GROUPS
    heading = ["metric", "A", "B", "B better by"]
    heading += [f"{LEVEL:.0%} interval", "better"] if has_intervals else []
    rows = []
    for m in comparison.metrics:
        values = [f"{value:.4g}" for value in (m.baseline, m.model, m.gain)]
        interval = format_interval(m.gain_interval) if m.gain_interval else "-"
        row = [f"{m.name} {m.unit}".rstrip(), *values]
        rows.append([*row, interval, better_run(m)] if has_intervals else row)
    lines += format_table(heading, *rows)
    if not has_intervals:
        lines.append(
            f"  too few groups to say which is better: {explain_no_intervals(comparison.groups)}"
        )
    if comparison.options:
        lines += ["", *format_table(("option", "A", "B"), *comparison.options)]
    else:
        lines += ["", "no option differs"]
    return "\n".join([*lines, *(f"note: {note}" for note in comparison.notes)])


def _differing_options(runs: Sequence[str]) -> list[tuple[str, str, str]]:
    first, second = (options_of_run(open_run(run)[0]) for run in runs)
    names = [name for name in {**first, **second} if name not in _NOT_COMPARED]
    pairs = [(name, first.get(name, NO_OPTION), second.get(name, NO_OPTION)) for name in names]
    return [(name, a, b) for name, a, b in pairs if a != b]
