"""What predictions are worth: metrics, each beside the baseline that any model must beat.

The baseline is a predictor that looks at nothing: it answers the train split's class frequencies (so, always
the majority class) or its mean. It is scored by the same functions as the model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import LabelSpec
from trainer.dataset import check_compatible, default_split
from trainer.export import load_model
from trainer.reader import Labels, located_errors, read_labels, read_sequences
from trainer.run_folder import open_run

Array = npt.NDArray[Any]

# Keeps the logarithm of a probability of 0 finite, as Keras does.
_LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a model, and the baseline's.

    Attributes:
        name: such as ``accuracy``, or ``speed_mae`` of the target ``speed``.
        model, baseline: the two values, in ``unit``.
        unit: empty where there is none.
        higher_is_better: otherwise, lower is.
    """

    name: str
    model: float
    baseline: float
    unit: str = ""
    higher_is_better: bool = False

    @property
    def beats_baseline(self) -> bool:
        """Whether the model is better than looking at nothing."""
        gain = self.model - self.baseline
        return gain > 0 if self.higher_is_better else gain < 0


@dataclass(frozen=True, kw_only=True)
class Score:
    """The metrics of one split, the most telling one first.

    Attributes:
        split: its name.
        labels: how many labels they are over: sequences, or frames with labels by frame.
        metrics: of the model and the baseline.
    """

    split: str
    labels: int
    metrics: tuple[Metric, ...]

    def to_json(self) -> dict[str, Any]:
        """``{"labels": 40, "metrics": {"accuracy": {"model": 0.9, "baseline": 0.3, ...}}}``."""
        return {
            "labels": self.labels,
            "metrics": {
                m.name: {
                    "model": m.model,
                    "baseline": m.baseline,
                    "unit": m.unit,
                    "better": "higher" if m.higher_is_better else "lower",
                }
                for m in self.metrics
            },
        }


def evaluate_model(
    model: keras.Model,
    directory: str | os.PathLike[str],
    split: str,
    *,
    trained_on: DatasetInfo,
    batch_size: int,
) -> Score:
    """Scores ``model`` on a split of the dataset in ``directory``.

    Args:
        model: takes `read_sequences`'s features.
        directory: of a dataset whose spec is that of ``trained_on``.
        split: which of its splits.
        trained_on: the dataset whose train split gives the baseline.
        batch_size: sequences predicted at a time; changes nothing but speed and memory.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: when the split cannot be read.
    """
    with located_errors(directory, split):
        labels = read_labels(directory, split)
        predictions = model.predict(
            read_sequences(directory, split, batch_size=batch_size), verbose=0
        )
    return score(split, labels, predictions, trained_on)


def evaluate_run(
    run: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    split: str | None = None,
    batch_size: int = 16,
) -> Score:
    """Scores the model of a run folder on a dataset made to the same spec.

    Args:
        run: a folder that training left.
        directory: of the dataset.
        split: by default the first of ``test``, ``validation`` and ``train`` that has records.
        batch_size: sequences predicted at a time.

    Raises:
        TrainerError: when ``run`` is no run folder, or its model was made to another spec: naming each
            difference.
        DatasetInfoError, DatasetError, CorruptRecordError: when the split cannot be read.
    """
    folder, trained_on = open_run(run)
    info = DatasetInfo.load(directory)
    check_compatible(run, trained_on, info)
    return evaluate_model(
        load_model(folder.model),
        directory,
        split or default_split(info),
        trained_on=trained_on,
        batch_size=batch_size,
    )


def score(split: str, labels: Labels, predictions: Array, trained_on: DatasetInfo) -> Score:
    """Compares ``predictions`` and the baseline with the labels.

    Args:
        split: its name.
        labels: of N sequences.
        predictions: ``[N, classes or targets]``, or ``[N, T, ...]`` with labels by frame.
        trained_on: the dataset whose train split gives the baseline.
    """
    label, truth = trained_on.spec.label, labels.values[labels.valid]
    ours = _measure(label, truth, np.asarray(predictions, np.float64)[labels.valid])
    theirs = baseline_metrics(labels, trained_on)
    units = dict(zip(label.target_names, label.target_units, strict=False))
    metrics = [
        Metric(
            name=name,
            model=value,
            baseline=theirs[name],
            unit=units.get(name.rpartition("_")[0], "") if label.task == "regression" else "",
            higher_is_better=label.task != "regression" and name != "cross_entropy",
        )
        for name, value in ours.items()
    ]
    return Score(split=split, labels=len(truth), metrics=tuple(metrics))


def baseline_metrics(labels: Labels, trained_on: DatasetInfo) -> dict[str, float]:
    """By name, the metrics of answering `baseline_prediction` to every one of ``labels``."""
    truth, guess = labels.values[labels.valid], baseline_prediction(trained_on)
    return _measure(trained_on.spec.label, truth, np.broadcast_to(guess, (len(truth), len(guess))))


def baseline_prediction(trained_on: DatasetInfo) -> Array:
    """What the baseline answers to everything, ``[classes or targets]`` float64."""
    label, train = trained_on.spec.label, trained_on.splits["train"]
    if label.task == "regression":
        return np.array([target.mean for target in train.targets])
    counts = np.array(train.label_counts, np.float64)
    if label.task == "multilabel":
        return counts / train.num_records
    return counts / counts.sum()


def describe_baseline(trained_on: DatasetInfo) -> str:
    """What the baseline does, in words: ``predicting the train mean: speed 12.3 m/s``."""
    label, guess = trained_on.spec.label, baseline_prediction(trained_on)
    if label.task == "regression":
        units = label.target_units or ("",) * len(label.target_names)
        means = [
            f"{name} {mean:.4g} {unit}".rstrip()
            for name, mean, unit in zip(label.target_names, guess, units, strict=True)
        ]
        return f"predicting the train mean: {', '.join(means)}"
    if label.task == "multilabel":
        return "predicting each class as often as the train split has it"
    most = int(np.argmax(guess))
    return f"always answering {label.class_names[most]!r}, {guess[most]:.0%} of the train split"


def format_score(score: Score) -> str:
    """A table for people to read: one metric a line, model beside baseline."""
    width = max(len(metric.name) for metric in score.metrics) + 2
    title = f"{score.split}, {score.labels} labels"
    lines = [f"{title:<{max(width, 22)}}      model   baseline"]
    lines += [
        f"  {m.name:<{max(width, 22) - 2}} {m.model:10.4g} {m.baseline:10.4g} {m.unit}".rstrip()
        for m in score.metrics
    ]
    return "\n".join(lines)


def compare(score: Score) -> str:
    """The first metric in words: ``test speed_mae 0.61 m/s, the baseline's 3.10 m/s: better``."""
    first = score.metrics[0]
    verdict = "better" if first.beats_baseline else "NOT better than looking at nothing"
    return (
        f"{score.split} {first.name} {first.model:.4g} {first.unit}".rstrip()
        + f", the baseline's {first.baseline:.4g} {first.unit}".rstrip()
        + f": {verdict}"
    )


def _measure(label: LabelSpec, truth: Array, predictions: Array) -> dict[str, float]:
    """Metrics by name, of ``truth`` ``[M, ...]`` and ``predictions`` ``[M, classes or targets]``."""
    if label.task == "regression":
        errors = predictions - truth
        return {
            f"{target}_{name}": value
            for i, target in enumerate(label.target_names)
            for name, value in (
                ("mae", float(np.abs(errors[:, i]).mean())),
                ("rmse", float(np.sqrt(np.square(errors[:, i]).mean()))),
            )
        }
    if label.task == "multilabel":
        return {
            "mean_average_precision": _mean_average_precision(truth, predictions),
            "binary_accuracy": float(((predictions >= 0.5) == (truth > 0.5)).mean()),
        }
    chosen = predictions.argmax(axis=-1)
    likelihood = predictions[np.arange(len(truth)), truth]
    return {
        "accuracy": float((chosen == truth).mean()),
        # The mean over classes of the share found, which a rare class moves as much as a common one.
        "balanced_accuracy": float(np.mean([(chosen[truth == c] == c).mean() for c in set(truth)])),
        "cross_entropy": float(-np.log(np.maximum(likelihood, _LEAST_PROBABILITY)).mean()),
    }


def _mean_average_precision(truth: Array, predictions: Array) -> float:
    """The mean, over the classes that occur, of `average_precision`; NaN when none occurs."""
    present = [c for c in range(truth.shape[1]) if truth[:, c].any()]
    return float(
        np.mean([average_precision(truth[:, c], predictions[:, c]) for c in present])
        if present
        else np.nan
    )


def average_precision(truth: Array, scores: Array) -> float:
    """The area under the steps of precision over recall, ``[M]`` each; at least one ``truth`` is set.

    Equal scores are one step, so that constant scores give the share of the truth that is set.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order] > 0.5)
    last_of_score = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    precision = hits[last_of_score] / (last_of_score + 1)
    recall = hits[last_of_score] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))
