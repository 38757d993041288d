"""The network: TimeDistributed convolutions, an LSTM, dense layers and a head for the task.

Every preparation of the inputs is inside, and outputs are in the targets' units, so that whoever loads the
model passes frames as they are decoded, uint8, and reads metres per second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from tfrecords_schema.info import DatasetInfo, TargetStatistics
from tfrecords_schema.spec import ImageSpec, SequenceSpec
from trainer.config import ModelConfig
from trainer.errors import TrainerError
from trainer.layers import FrameMask, StackFrames, TimeDistributed
from trainer.reader import IMAGE, VALID_FRAMES

# Below this a measured spread is rounding, and dividing by it would only magnify noise.
_LEAST_STD = 1e-6


def build_model(info: DatasetInfo, config: ModelConfig) -> keras.Model:
    """The untrained network for a dataset, initialised from Keras's global seed.

    Inputs are the features of `trainer.reader.read_sequences`, by the same names. For B sequences of T frames
    the output is, in float32: classification ``[B, num_classes]`` probabilities; multilabel the same, each by
    itself; regression ``[B, targets]`` in the targets' units; and ``[B, T, ...]`` with labels by frame.

    Raises:
        TrainerError: when the frames are too small for so many blocks, or the dataset has nothing to learn.
    """
    spec, train = info.spec, info.splits["train"]
    valid_frames = keras.Input((), dtype="int64", name=VALID_FRAMES)
    inputs = {VALID_FRAMES: valid_frames}
    parts = []
    if spec.image is not None:
        image = keras.Input(spec.image_shape, dtype="uint8", name=IMAGE)
        inputs[IMAGE] = image
        pixels = _normalization("normalize_pixels", train.pixel_mean, train.pixel_std)(image)
        stacked = StackFrames(config.stack_frames, name="stack_frames")(pixels)
        cnn = _frame_cnn(spec.image, config)
        parts.append(TimeDistributed(cnn, name="frame_features")(stacked))
    for signal in spec.signals:
        values = keras.Input((spec.num_frames, signal.size), name=signal.name)
        inputs[signal.name] = values
        moments = train.signals[signal.name]
        parts.append(
            _normalization(
                f"normalize_{signal.name}", [m.mean for m in moments], [m.std for m in moments]
            )(values)
        )
    joined = layers.Concatenate(name="features")(parts) if len(parts) > 1 else parts[0]

    mask = FrameMask(spec.num_frames, name="frame_mask")(valid_frames)
    x = layers.LSTM(config.lstm_units, return_sequences=spec.label.per_frame, name="lstm")(
        joined, mask=mask
    )
    if config.dropout:
        x = layers.Dropout(config.dropout, name="lstm_dropout")(x)
    if config.dense_units:
        x = _over_time(layers.Dense(config.dense_units, activation="relu", name="dense"), spec)(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="dense_dropout")(x)
    return keras.Model(inputs, _head(x, spec, train.targets), name="cnn_lstm")


def output_name(spec: SequenceSpec) -> str:
    """What the model's output is called: ``probabilities`` or ``targets``."""
    return "targets" if spec.label.task == "regression" else "probabilities"


def _frame_cnn(image: ImageSpec, config: ModelConfig) -> keras.Sequential:
    """One frame and those stacked on it, ``[height, width, channels]`` float32, to a vector of features."""
    most = int(math.log2(min(image.height, image.width)))
    if len(config.filters) > most:
        raise TrainerError(
            f"{len(config.filters)} convolution blocks halve frames of {image.height}x{image.width} "
            f"to nothing: give at most {most} --filters, or build larger frames"
        )
    channels = image.channels * config.stack_frames
    blocks: list[Any] = [keras.Input((image.height, image.width, channels))]
    for filters in config.filters:
        # The bias would be cancelled by batch normalisation's own.
        blocks.append(layers.Conv2D(filters, 3, padding="same", use_bias=not config.batch_norm))
        if config.batch_norm:
            blocks.append(layers.BatchNormalization())
        blocks += [layers.ReLU(), layers.MaxPooling2D()]
    blocks.append(layers.GlobalAveragePooling2D() if config.pooling == "avg" else layers.Flatten())
    return keras.Sequential(blocks, name="cnn")


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
