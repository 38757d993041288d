"""Losses and accuracy of the tasks: weighted means over labels that are not padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tfrecords_schema.info import SplitInfo
from tfrecords_schema.spec import LabelSpec
from trainer.config.training import TrainingConfig

# A smaller standard deviation is a rounding error; dividing by it would magnify noise.
_MIN_STD = 1e-6
# Smaller likelihoods are raised to this, since the logarithm of 0 is infinite.
_MIN_LIKELIHOOD = 1e-7


class _MeanOverLabels(keras.losses.Loss):
    """A weighted sum of losses, divided by the number of labels with a weight above 0, which padding has not.

    Dividing by the sum of the weights instead would undo most of the effect of class weights: a batch without
    a rare class would count as much as any other.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "reduction": "mean_with_sample_weight"})

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the loss of ``[..., classes or targets]`` with weights ``[...]``, a scalar."""
        mean = super().__call__(y_true, y_pred, sample_weight)
        if sample_weight is None:
            return mean
        weights = ops.cast(sample_weight, mean.dtype)
        return mean * ops.sum(weights) / ops.maximum(ops.sum(ops.sign(weights)), 1)


@keras.saving.register_keras_serializable(package="reelbeam")
class ClassCrossentropy(_MeanOverLabels, keras.losses.SparseCategoricalCrossentropy):
    """Cross-entropy of one class out of several; class weights are part of the sample weights.

    ``smoothing`` is the share of each label that all classes have in equal parts.
    """

    def __init__(self, smoothing: float = 0.0, name: str = "crossentropy", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses of classes ``[...]`` and probabilities ``[..., classes]``, as ``[...]``."""
        losses = super().call(y_true, y_pred)
        if not self.smoothing:
            return losses
        spread = -ops.mean(ops.log(ops.maximum(y_pred, _MIN_LIKELIHOOD)), axis=-1)
        return (1 - self.smoothing) * losses + self.smoothing * spread

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "smoothing": self.smoothing}


@keras.saving.register_keras_serializable(package="reelbeam")
class CountedAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy over the labels with a weight above 0, all of which count alike.

    Training accuracy, with class weights, is then comparable to validation accuracy.
    """

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch."""
        counted = None if sample_weight is None else ops.sign(sample_weight)
        return super().update_state(y_true, y_pred, counted)


@keras.saving.register_keras_serializable(package="reelbeam")
class TargetError(keras.metrics.MeanAbsoluteError):
    """Mean absolute error of one of several targets, by its index, in its unit."""

    def __init__(self, index: int, name: str = "mae", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.index = index

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch."""
        own = slice(self.index, self.index + 1)
        return super().update_state(y_true[..., own], y_pred[..., own], sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "index": self.index}


@keras.saving.register_keras_serializable(package="reelbeam")
class StandardizedMeanSquaredError(_MeanOverLabels):
    """Mean squared error in units of ``std``, the standard deviation of each target; or another ``kind``.

    Targets of different units contribute alike, and predicting the mean of the train split scores 1. Errors
    are weighed by their true values if there are ``bins``, of `balanced_target_bins`; values beyond these
    have the weight of the nearest bin.
    """

    def __init__(
        self,
        std: Sequence[float],
        kind: str = "mse",
        bins: Sequence[tuple[float, float, list[float]]] = (),
        name: str = "standardized_mse",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.std, self.kind, self.bins = [float(s) for s in std], kind, list(bins)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the errors of ``[..., targets]``, ``[...]``."""
        error = ops.abs((y_true - y_pred) / ops.array(self.std, y_pred.dtype))
        if self.kind == "huber":
            error = ops.where(error < 1, ops.square(error) / 2, error - 1 / 2)
        elif self.kind == "mse":
            error = ops.square(error)
        if self.bins:
            low, high, weights = (
                ops.array(part, y_pred.dtype) for part in zip(*self.bins, strict=True)
            )
            count = weights.shape[-1]
            place = ops.clip((y_true - low) / (high - low) * count, 0, count - 1)
            chosen = ops.one_hot(ops.cast(place, "int32"), count, dtype=weights.dtype)
            error *= ops.sum(chosen * weights, axis=-1)
        return ops.mean(error, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "std": self.std, "kind": self.kind, "bins": self.bins}


@keras.saving.register_keras_serializable(package="reelbeam")
class WeightedBinaryCrossentropy(_MeanOverLabels):
    """Binary cross-entropy with a weight for present labels of each class; absent labels have weight 1.

    ``smoothing`` is the share of each label that present and absent have in equal parts.
    """

    def __init__(
        self,
        positive_weights: Sequence[float],
        smoothing: float = 0.0,
        name: str = "weighted_crossentropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing
        self.positive_weights = [float(w) for w in positive_weights]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses of labels and probabilities, ``[..., classes]`` each, as ``[...]``."""
        weights = ops.array(self.positive_weights, y_pred.dtype)
        likelihood = ops.clip(y_pred, _MIN_LIKELIHOOD, 1 - _MIN_LIKELIHOOD)
        y_true = (1 - self.smoothing) * y_true + self.smoothing / 2
        present = weights * y_true * ops.log(likelihood)
        absent = (1 - y_true) * ops.log(1 - likelihood)
        return -ops.mean(present + absent, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"positive_weights": self.positive_weights, "smoothing": self.smoothing}
        return {**super().get_config(), **own}


def safe_std(std: float) -> float:
    """Returns ``std``, or 1 if it is too small to divide by."""
    return std if std > _MIN_STD else 1.0


def make_loss(
    label: LabelSpec,
    train: SplitInfo,
    config: TrainingConfig,
    bins: Sequence[tuple[float, float, list[float]]] = (),
) -> keras.losses.Loss:
    """Returns the loss of a task. A classification has its class weights in the sample weights instead.

    ``bins`` are those of targets, see `balanced_target_bins`.
    """
    if label.task == "regression":
        stds = [safe_std(target.std) for target in train.targets]
        return StandardizedMeanSquaredError(stds, config.loss, bins)
    if label.task == "multilabel":
        ones = [1.0] * label.num_classes
        weights = positive_weights(train) if config.class_weights else ones
        return WeightedBinaryCrossentropy(weights, config.label_smoothing)
    return ClassCrossentropy(config.label_smoothing)


def balanced_class_weights(counts: Sequence[int]) -> list[float]:
    """Returns weights that give all classes the same total and a mean of 1: ``[2/3, 2]`` for ``[30, 10]``."""
    occurring = sum(count > 0 for count in counts)
    return [sum(counts) / (occurring * count) if count else 1.0 for count in counts]


def balanced_target_bins(
    values: npt.NDArray[Any], count: int
) -> list[tuple[float, float, list[float]]]:
    """Returns a lowest value, a highest value, and weights for each target of ``[M, targets]``.

    The weights are those of ``count`` bins of equal width. All bins that hold values get the same total, and
    the mean over the M labels is 1. Other bins have the weight 1.
    """
    found = []
    for column in values.T:
        low, high = column.min(), column.max()
        high = high if high > low else low + 1
        # As the loss computes it: values at the edges of bins are counted where they are looked up.
        places = np.clip((column - low) / (high - low) * count, 0, count - 1).astype(int)
        counts = np.bincount(places, minlength=count)
        found.append((float(low), float(high), balanced_class_weights(counts.tolist())))
    return found


def positive_weights(train: SplitInfo) -> list[float]:
    """Returns each class's absences over presences in a multi-label split: 3 for one in 10 of 40."""
    return [
        (train.num_records - count) / count if 0 < count < train.num_records else 1.0
        for count in train.label_counts
    ]
