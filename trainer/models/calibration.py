"""Calibrates probabilities: fits them to labels that the model was not trained on, and tunes thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tfrecords_schema.info import SplitInfo
from tfrecords_schema.spec import LabelSpec
from trainer.models.losses import positive_weights

Array = npt.NDArray[Any]

CALIBRATION_FILE = "calibration.json"
# Below this, the logarithm of a float32 probability has no digits left.
_MIN_PROBABILITY = 1e-7
_SCALES = np.geomspace(0.05, 20, 241)
# A class with fewer labels has the threshold of all classes together.
_MIN_POSITIVES = 10


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A change of a classifier's probabilities, and the thresholds of classes for the changed ones.

    Attributes:
        scale: factor of the logarithms of probabilities, or of odds in a multi-label task: one over the
            temperature.
        biases: of each class, added to its scaled log odds; empty for none.
        thresholds: of each class, in a multi-label task; empty for 0.5.
    """

    scale: float = 1.0
    biases: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()

    def apply(self, probabilities: Any, np: Any = np) -> Any:
        """Returns calibrated probabilities, ``[..., classes]``; ``np`` is NumPy or `keras.ops`."""
        if not self.biases:
            powers = np.exp(self.scale * np.log(np.maximum(probabilities, _MIN_PROBABILITY)))
            return powers / np.sum(powers, axis=-1, keepdims=True)
        likely = np.clip(probabilities, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        odds = self.scale * (np.log(likely) - np.log(1 - likely))
        return 1 / (1 + np.exp(-odds - np.array(self.biases, dtype="float32")))


def calibrated_model(model: keras.Model, calibration: Calibration) -> keras.Model:
    """Returns ``model`` with calibrated probabilities."""
    if calibration == Calibration():
        return model
    outputs = calibration.apply(model.output, ops)
    return keras.Model(model.input, outputs, name=model.name)


def fit_calibration(
    label: LabelSpec, train: SplitInfo, truth: Array, probabilities: Array, *, class_weights: bool
) -> Calibration:
    """Returns the calibration with the lowest cross-entropy on labels, and thresholds with the best F1.

    Only one number is fitted, the scale. In a multi-label task, the biases undo what class weights do: log
    odds are scaled around those of the class's frequency in the train split. Without labels, the scale is 1.

    Args:
        label: the task, not a regression.
        train: the split that the model was trained on.
        truth: of M labels, see `trainer.evaluation.metrics.measure`.
        probabilities: ``[M, classes]``, of the model.
        class_weights: the loss had them.
    """
    finite = np.isfinite(probabilities).all(axis=-1)
    truth, probabilities = truth[finite], probabilities[finite]
    priors = trained = np.zeros(0)
    if label.task == "multilabel":
        share = np.array(train.label_counts) / max(train.num_records, 1)
        share = np.clip(share, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        priors = trained = np.log(share) - np.log(1 - share)
        trained = priors + np.log(positive_weights(train)) if class_weights else priors

    def make(scale: float) -> Calibration:
        return Calibration(scale=float(scale), biases=tuple((priors - scale * trained).tolist()))

    def loss(scale: float) -> float:
        likely = make(scale).apply(probabilities)
        if label.task == "multilabel":
            likely = np.where(truth > 0.5, likely, 1 - likely)
        else:
            likely = np.take_along_axis(likely, truth[:, None], axis=1)
        return float(-np.log(np.maximum(likely, _MIN_PROBABILITY)).mean())

    if not len(truth):
        return make(1.0)
    found = make(min(_SCALES, key=loss))
    if label.task == "classification":
        return found
    likely, present = found.apply(probabilities), truth > 0.5
    common = best_threshold(present.ravel(), likely.ravel())
    thresholds = [
        best_threshold(own, scores) if own.sum() >= _MIN_POSITIVES else common
        for own, scores in zip(present.T, likely.T, strict=True)
    ]
    return Calibration(scale=found.scale, biases=found.biases, thresholds=tuple(thresholds))


def best_threshold(truth: Array, scores: Array) -> float:
    """Returns the threshold of ``scores``, ``[M]``, with the highest F1, between two; 0.5 if none is set."""
    if not truth.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ordered = np.append(scores[order], 0.0)
    last = ordered[:-1] > ordered[1:]  # equal scores are answered alike
    last[-1] = True
    hits = truth[order].cumsum()
    f1 = np.where(last, 2 * hits / (np.arange(1, len(order) + 1) + truth.sum()), 0.0)
    place = int(f1.argmax())
    return float((ordered[place] + ordered[place + 1]) / 2)
