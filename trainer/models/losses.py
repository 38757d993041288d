"""What a task is trained with: each loss is the mean over what is not padding, times its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfrecords_schema.info import SplitInfo
from tfrecords_schema.spec import LabelSpec

# Below this a measured spread is rounding, and dividing by it would only magnify noise.
_LEAST_STD = 1e-6
# No prediction is taken for surer than this, as its logarithm would be infinite.
_LEAST_LIKELIHOOD = 1e-7


class _MeanOverLabels(keras.losses.Loss):
    """A loss summed with its weights and divided by the number of labels that weigh anything.

    Frames of padding weigh 0 and do not thin out the mean. Dividing by the sum of the weights instead would
    undo most of what class weights do: a batch with no rare class in it would count as much as ever.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "reduction": "mean_with_sample_weight"})

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """``[..., classes or targets]`` and weights ``[...]`` to a number."""
        mean = super().__call__(y_true, y_pred, sample_weight)
        if sample_weight is None:
            return mean
        weights = ops.cast(sample_weight, mean.dtype)
        return mean * ops.sum(weights) / ops.maximum(ops.sum(ops.sign(weights)), 1)


@keras.saving.register_keras_serializable(package="reelbeam")
class ClassCrossentropy(_MeanOverLabels, keras.losses.SparseCategoricalCrossentropy):
    """Cross-entropy of one class out of several; class weights come with the samples."""

    def __init__(self, name: str = "crossentropy", **kwargs: Any):
        super().__init__(name=name, **kwargs)


@keras.saving.register_keras_serializable(package="reelbeam")
class CountedAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy over the labels that weigh anything, each as much as any other.

    So that an accuracy while training, with class weights, means what it means in validation.
    """

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Takes a batch in."""
        counted = None if sample_weight is None else ops.sign(sample_weight)
        return super().update_state(y_true, y_pred, counted)


@keras.saving.register_keras_serializable(package="reelbeam")
class StandardizedMeanSquaredError(_MeanOverLabels):
    """Mean squared error in units of each target's standard deviation.

    Targets of different units then weigh alike, and predicting the mean of the train split scores 1.

    Args:
        std: of each target, in its unit.
    """

    def __init__(self, std: Sequence[float], name: str = "standardized_mse", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.std = [float(s) for s in std]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """``[..., targets]`` twice to ``[...]``."""
        return ops.mean(ops.square((y_true - y_pred) / ops.array(self.std, y_pred.dtype)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "std": self.std}


@keras.saving.register_keras_serializable(package="reelbeam")
class WeightedBinaryCrossentropy(_MeanOverLabels):
    """Binary cross-entropy in which the presence of a class weighs as much as its absence.

    Args:
        positive_weights: by class, what a present label weighs; an absent one weighs 1.
    """

    def __init__(
        self, positive_weights: Sequence[float], name: str = "weighted_crossentropy", **kwargs: Any
    ):
        super().__init__(name=name, **kwargs)
        self.positive_weights = [float(w) for w in positive_weights]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """``[..., classes]`` of 0 and 1, and of probabilities, to ``[...]``."""
        weights = ops.array(self.positive_weights, y_pred.dtype)
        likelihood = ops.clip(y_pred, _LEAST_LIKELIHOOD, 1 - _LEAST_LIKELIHOOD)
        present = weights * y_true * ops.log(likelihood)
        absent = (1 - y_true) * ops.log(1 - likelihood)
        return -ops.mean(present + absent, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "positive_weights": self.positive_weights}


def safe_std(std: float) -> float:
    """``std``, or 1 where there is no spread to divide by."""
    return std if std > _LEAST_STD else 1.0


def make_loss(label: LabelSpec, train: SplitInfo, *, class_weights: bool) -> keras.losses.Loss:
    """The loss of a task; a classification's class weights come with its samples instead."""
    if label.task == "regression":
        return StandardizedMeanSquaredError([safe_std(target.std) for target in train.targets])
    if label.task == "multilabel":
        ones = [1.0] * label.num_classes
        return WeightedBinaryCrossentropy(positive_weights(train) if class_weights else ones)
    return ClassCrossentropy()


def balanced_class_weights(counts: Sequence[int]) -> list[float]:
    """Weights under which each class that occurs has the same total, and the mean weight is 1.

    Example: counts of 30 and 10 weigh 2/3 and 2.
    """
    occurring = sum(count > 0 for count in counts)
    return [sum(counts) / (occurring * count) if count else 1.0 for count in counts]


def positive_weights(train: SplitInfo) -> list[float]:
    """By class of a multi-label split, absences over presences.

    Example: a class in 10 of 40 records weighs 3.
    """
    return [
        (train.num_records - count) / count if 0 < count < train.num_records else 1.0
        for count in train.label_counts
    ]
