"""Compares two runs on one split: each metric of both, with an interval of their difference by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfrecords_schema.tables import format_table
from trainer.config.dataset import Datasets
from trainer.config.run_folder import open_run, options_of_run
from trainer.errors import TrainerError
from trainer.evaluation.bootstrap import LEVEL
from trainer.evaluation.evaluate import evaluate_run
from trainer.evaluation.score import Metric, Score, format_interval, score

# Where a run was trained decides nothing, and the folder of its dataset is named elsewhere.
_NOT_COMPARED = ("python", "tensorflow", "keras", "tfrecords")


@dataclass(frozen=True, kw_only=True)
class Comparison(Score):
    """The `Score` of a run B; in place of the baseline, each metric has the value of a run A.

    Attributes:
        runs: the folders of A and B.
        options: name, value of A and value of B of each option that differs.
        notes: reasons to distrust the comparison.
    """

    runs: Sequence[str]
    options: list[tuple[str, str, str]]
    notes: list[str]

    def rows(self) -> list[list[str]]:
        """Returns the table of metrics: the heading, then a row each."""
        rows = [["metric", "A", "B", "B better by", f"{LEVEL:.0%} interval", "better"]]
        for m in self.metrics:
            values = [f"{value:.4g}" for value in (m.baseline, m.model, m.gain)]
            interval = format_interval(m.gain_interval) if m.gain_interval else "-"
            rows.append([f"{m.name} {m.unit}".rstrip(), *values, interval, better_run(m)])
        return rows


def compare_runs(
    runs: Sequence[str], directory: Datasets, *, split: str | None = None, batch_size: int = 16
) -> Comparison:
    """Scores two runs on a split of one dataset, by default the first of test, validation and train.

    Intervals of the difference come from the same resamples of groups for both.

    Raises:
        TrainerError: if the runs are scored on different labels, or the dataset cannot be read.
    """
    first, second = (
        evaluate_run(run, directory, split=split, batch_size=batch_size) for run in runs
    )
    a, b = first.predictions, second.predictions
    if a.ids != b.ids or not np.array_equal(a.truth, b.truth, equal_nan=True):
        raise TrainerError(
            f"the runs are scored on different labels of {first.split}: {runs[0]} on {first.labels:,} labels "
            f"of {len(a.ids):,} sequences, {runs[1]} on {second.labels:,} of {len(b.ids):,}. They take other "
            "frames of a sequence, or skip other records: compare runs that take the same"
        )
    sides = zip(runs, (first, second), strict=True)
    notes = [
        f"{run} was not trained on this build of the dataset: its train split may hold these sequences"
        for run, side in sides
        if side.trained_on.splits != side.info.splits
    ]
    ours, theirs = (options_of_run(open_run(run)[0]) for run in runs)
    names = [name for name in {**ours, **theirs} if name not in _NOT_COMPARED]
    pairs = [(name, ours.get(name, "-"), theirs.get(name, "-")) for name in names]
    return Comparison(
        **vars(score(first.split, b, second.trained_on, a.answers, a.thresholds)),
        runs=runs,
        options=[(name, own, other) for name, own, other in pairs if own != other],
        notes=list(dict.fromkeys([*notes, *first.warnings(), *second.warnings()])),
    )


def better_run(metric: Metric) -> str:
    """Returns ``A`` or ``B`` if the interval of the difference says so, else why it does not."""
    if metric.is_sure:
        return "B" if metric.beats_baseline else "A"
    return "too few groups to say" if metric.gain_interval is None else "not sure"


def format_comparison(comparison: Comparison) -> str:
    """Returns the tables of metrics and of options that differ, as lines for a terminal."""
    options = format_table(("option", "A", "B"), *comparison.options)
    lines = [
        *(f"{side}  {run}" for side, run in zip("AB", comparison.runs, strict=True)),
        f"{comparison.split}, {comparison.labels} labels of {comparison.groups} groups",
        *format_table(*comparison.rows()),
        *(options if comparison.options else ["no option differs"]),
        *(f"note: {note}" for note in comparison.notes),
    ]
    return "\n".join(lines)
