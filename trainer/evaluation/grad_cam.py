"""Shows which places of the frames an answer depends on."""

from __future__ import annotations

from typing import Any

import cv2
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema.spec import SequenceSpec
from trainer.data.parsed_records import IMAGE
from trainer.models.backbones import POOLING
from trainer.models.network import FRAME_FEATURES, FROZEN_FEATURES, HEAD, output_name

_MAX_TARGETS = 3
_TINY = 1e-30  # added to probabilities, whose logarithm must be finite
_HEAT_SHARE = 0.5  # of the colours in a picture


class GradCam:
    """Grad-CAM of a model that `trainer.models.network.build_model` built for ``spec``.

    The feature maps before a frame's pooling are weighed by the mean gradient of the answer: Selvaraju et
    al., *Grad-CAM* (2017). The answer is the log odds of the predicted class, or in a multi-label task of all
    classes above 0.5, else of the most probable one; what lowers it is left out. For targets, of which the
    first three are added, what lowers a value counts like what raises it.
    """

    def __init__(self, model: keras.Model, spec: SequenceSpec):
        frozen, head, trained = _parts(model)
        last = frozen if trained is None else trained
        before = frozen.output if trained is not None and frozen is not None else last.input
        network, self._pooling = last.layer, last.layer.layers[-1]
        self._before = keras.Model(model.input, before)
        self._maps = keras.Model(network.inputs, self._pooling.input)
        self._others = [name for name in head.input if name not in (IMAGE, FROZEN_FEATURES)]
        features = head.input[FROZEN_FEATURES] if trained is None else trained.output
        output = head.get_layer(output_name(spec)).output
        inputs = [*(head.input[name] for name in self._others), features]
        self._after = keras.Model(inputs, output)
        self._task = spec.label.task

    def heat(self, features: dict[str, Any]) -> npt.NDArray[np.float32]:
        """Returns the heat of a sequence's feature maps, ``[T, height, width]`` from 0 to 1.

        ``features`` are the model's inputs by name, of one sequence. The heat is 0 everywhere if no map
        matters.
        """
        maps = self._maps(self._before(features)[0])
        heat = np.zeros(maps.shape[:3], np.float32)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(maps)
            others = [tf.convert_to_tensor(features[name]) for name in self._others]
            answer = self._after([*others, self._pooling(maps)[None]])
            scores = self._scores(tf.reshape(answer, (-1, answer.shape[-1])))
        for score in scores:
            weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
            own = tf.reduce_sum(weights * maps, axis=-1).numpy()
            heat += np.abs(own) if self._task == "regression" else np.maximum(own, 0)
        return heat / max(heat.max(), np.float32(_TINY))

    def _scores(self, answers: tf.Tensor) -> list[tf.Tensor]:
        """Returns what the gradients are of, for answers ``[1 or T, classes or targets]``."""
        if self._task == "regression":
            return tf.unstack(tf.reduce_sum(answers, axis=0))[:_MAX_TARGETS]
        best = tf.one_hot(
            tf.argmax(answers, axis=-1), answers.shape[-1], on_value=True, off_value=False
        )
        if self._task == "multilabel":
            chosen, against = best | (answers > 0.5), 1 - answers
        else:
            chosen, against = (
                best,
                tf.reduce_sum(tf.where(best, 0.0, answers), axis=-1, keepdims=True),
            )
        odds = tf.math.log(answers + _TINY) - tf.math.log(against + _TINY)
        return [tf.reduce_sum(tf.where(chosen, odds, 0.0))]


def grad_cam_of(model: Any, spec: SequenceSpec) -> GradCam | None:
    """Returns the Grad-CAM of a model, or None if it has no feature maps that are pooled frame by frame."""
    if spec.image is None or not isinstance(model, keras.Model):
        return None
    frozen, _, trained = _parts(model)
    layer = trained or frozen
    pooled = layer is not None and layer.layer.layers[-1].name == POOLING
    return GradCam(model, spec) if pooled else None


def heat_picture(
    frame: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Returns a frame, ``[height, width, channels]`` RGB or gray, as BGR with the heat in colours over it."""
    height, width, channels = frame.shape
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_RGB2BGR
    levels = cv2.resize(np.uint8(255 * heat), (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    return cv2.addWeighted(cv2.cvtColor(frame, code), 1 - _HEAT_SHARE, colours, _HEAT_SHARE, 0)


def _parts(model: keras.Model) -> tuple[Any, Any, Any]:
    """Returns the frozen layer of frames, the model after it, and its trained layer of frames, or None."""
    head = _layer(model, HEAD) or model
    return _layer(model, FROZEN_FEATURES), head, _layer(head, FRAME_FEATURES)


def _layer(model: keras.Model, name: str) -> Any:
    """Returns the layer of that name, or None."""
    return next((layer for layer in model.layers if layer.name == name), None)
