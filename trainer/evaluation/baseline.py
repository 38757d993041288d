"""The baseline, a predictor that ignores its input, which any model must beat.

It answers the class frequencies of the train split (so, always the most frequent class) or its mean, and is
scored by the same functions as a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import format_target
from trainer.evaluation.metrics import add_offsets

Array = npt.NDArray[Any]


def baseline_prediction(trained_on: DatasetInfo) -> Array:
    """Returns the baseline's constant answer, ``[classes or targets]`` float64."""
    label, train = trained_on.spec.label, trained_on.splits["train"]
    if label.task == "regression":
        return add_offsets(label, np.array([target.mean for target in train.targets]))
    counts = np.array(train.label_counts, np.float64)
    return counts / (train.num_records if label.task == "multilabel" else counts.sum())


def baseline_answers(trained_on: DatasetInfo, count: int) -> Array:
    """Returns `baseline_prediction` for each of ``count`` labels, ``[count, classes or targets]``."""
    guess = baseline_prediction(trained_on)
    return np.broadcast_to(guess, (count, len(guess)))


def describe_baseline(trained_on: DatasetInfo) -> str:
    """Returns the baseline in words, such as ``predicting the train mean: speed 12.3 m/s``."""
    label, guess = trained_on.spec.label, baseline_prediction(trained_on)
    if label.task == "regression":
        units = label.target_units or ("",) * len(label.target_names)
        means = [
            f"{name} {format_target(mean - offset, offset, 4)} {unit}".rstrip()
            for name, mean, unit, offset in zip(
                label.target_names, guess, units, label.offsets, strict=True
            )
        ]
        return f"predicting the train mean: {', '.join(means)}"
    if label.task == "multilabel":
        return "predicting each class with its frequency in the train split"
    best = int(np.argmax(guess))
    return f"always answering {label.class_names[best]!r}, {guess[best]:.0%} of the train split"
