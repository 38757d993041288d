"""The network: a TimeDistributed backbone, recurrent layers, dense layers and a head for the task.

Every preparation of the inputs is inside, and outputs are in the targets' units, so that whoever loads the
model passes frames as they are decoded, uint8, and reads metres per second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from tfrecords_schema.info import DatasetInfo, SplitInfo, TargetStatistics
from tfrecords_schema.spec import ImageSpec, SequenceSpec
from trainer.backbones import build_frame_network
from trainer.config import SMALL, ModelConfig
from trainer.layers import FrameMask, FrozenTimeDistributed, StackFrames, TimeDistributed
from trainer.reader import IMAGE, VALID_FRAMES
from trainer.temporal import add_signals, read_over_time

FROZEN_FEATURES = "frozen_features"  # the layer whose output no training changes

# Below this a measured spread is rounding, and dividing by it would only magnify noise.
_LEAST_STD = 1e-6


def build_model(info: DatasetInfo, config: ModelConfig) -> keras.Model:
    """The untrained network for a dataset, initialised from Keras's global seed.

    Inputs are the features of `trainer.reader.read_sequences`, by the same names. For B sequences of T frames
    the output is, in float32: classification ``[B, num_classes]`` probabilities; multilabel the same, each by
    itself; regression ``[B, targets]`` in the targets' units; and ``[B, T, ...]`` with labels by frame.

    Raises:
        TrainerError: when the backbone cannot take the frames, or its weights cannot be had.
    """
    spec, train = info.spec, info.splits["train"]
    inputs = {VALID_FRAMES: keras.Input((), dtype="int64", name=VALID_FRAMES)}
    parts = []
    if spec.image is not None:
        inputs[IMAGE] = keras.Input(spec.image_shape, dtype="uint8", name=IMAGE)
        parts.append(_frame_features(inputs[IMAGE], spec.image, train, config))
    for signal in spec.signals:
        values = inputs[signal.name] = keras.Input((spec.num_frames, signal.size), name=signal.name)
        mean = [moments.mean for moments in train.signals[signal.name]]
        std = [moments.std for moments in train.signals[signal.name]]
        parts.append(_normalization(f"normalize_{signal.name}", mean, std)(values))
    x = add_signals(parts[0], parts[1:]) if len(parts) > 1 else parts[0]

    mask = FrameMask(spec.num_frames, name="frame_mask")(inputs[VALID_FRAMES])
    x = read_over_time(x, mask, config, by_frame=spec.label.per_frame)
    for i, units in enumerate(config.dense_units):
        name = "dense" if i == 0 else f"dense_{i + 1}"
        x = _over_time(layers.Dense(units, activation="relu", name=name), spec)(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name=f"{name}_dropout")(x)
    return keras.Model(inputs, _head(x, spec, train.targets), name="cnn_lstm")


def output_name(spec: SequenceSpec) -> str:
    """What the model's output is called: ``probabilities`` or ``targets``."""
    return "targets" if spec.label.task == "regression" else "probabilities"


def _frame_features(frames: Any, image: ImageSpec, train: SplitInfo, config: ModelConfig) -> Any:
    """``[B, T, height, width, channels]`` uint8 to the features of each frame, or their maps."""
    x = frames
    if config.backbone == SMALL:
        x = _normalization("normalize_pixels", train.pixel_mean, train.pixel_std)(x)
        x = StackFrames(config.frames_at_once, name="stack_frames")(x)
    network = build_frame_network(image, config)
    if network.frozen is not None:
        x = FrozenTimeDistributed(network.frozen, name=FROZEN_FEATURES)(x)
    if network.trained is not None:
        x = TimeDistributed(network.trained, name="frame_features")(x)
    return x


def _head(x: Any, spec: SequenceSpec, targets: Sequence[TargetStatistics]) -> Any:
    label, name = spec.label, output_name(spec)
    if label.task == "classification":
        return _over_time(layers.Dense(label.num_classes, activation="softmax", name=name), spec)(x)
    if label.task == "multilabel":
        return layers.Dense(label.num_classes, activation="sigmoid", name=name)(x)
    x = _over_time(layers.Dense(len(label.target_names), name="standardized"), spec)(x)
    return _normalization(name, [t.mean for t in targets], [t.std for t in targets], invert=True)(x)


def _over_time(layer: Any, spec: SequenceSpec) -> Any:
    if not spec.label.per_frame:
        return layer
    return TimeDistributed(layer, name=layer.name)


def _normalization(
    name: str, mean: Sequence[float], std: Sequence[float], *, invert: bool = False
) -> Any:
    """Subtracts the mean and divides by the standard deviation along the last axis; or undoes it."""
    return layers.Normalization(
        axis=-1, mean=list(mean), variance=[safe_std(s) ** 2 for s in std], invert=invert, name=name
    )


def safe_std(std: float) -> float:
    """``std``, or 1 where there is no spread to divide by."""
    return std if std > _LEAST_STD else 1.0
