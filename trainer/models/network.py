"""Builds the network: a TimeDistributed backbone, recurrent layers, dense layers and a head for the task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import layers

from tfrecords_schema.info import DatasetInfo, TargetStatistics
from tfrecords_schema.spec import SequenceSpec
from trainer.config.model import SMALL, ModelConfig
from trainer.data.parsed_records import IMAGE, VALID_FRAMES
from trainer.models.backbones import build_frame_network, pooling_layer
from trainer.models.keras_settings import own_settings
from trainer.models.layers import FrameMask, FrozenTimeDistributed, StackFrames, TimeDistributed
from trainer.models.losses import safe_std

FROZEN_FEATURES = "frozen_features"  # the layer whose output training does not change
HEAD = "head"  # the model after it
FRAME_FEATURES = "frame_features"  # the trained part of the backbone

_NAME = "cnn_lstm"


@own_settings()
def build_model(info: DatasetInfo, config: ModelConfig) -> keras.Model:
    """Builds the untrained network for a dataset, initialised from Keras's global seed.

    It includes all preprocessing, and takes the features of `trainer.data.reader.read_sequences` by name.
    For B sequences of T frames the output is, in float32: classification ``[B, num_classes]`` probabilities;
    multilabel the same, independent of each other; regression ``[B, targets]`` in the targets' units; and
    ``[B, T, ...]`` with labels by frame.

    Raises:
        TrainerError: if the backbone cannot take the frames, or its weights are not available.
    """
    spec = info.spec
    inputs = _inputs(spec)
    if spec.image is None:
        return keras.Model(inputs, _after_frames(None, inputs, info, config, None), name=_NAME)
    inputs[IMAGE] = keras.Input(spec.image_shape, dtype="uint8", name=IMAGE)
    x = inputs[IMAGE]
    if config.backbone == SMALL:  # others normalise pixels themselves, and take single frames
        train = info.splits["train"]
        moments = zip(train.pixel_mean, train.pixel_std, strict=True)
        x = _normalization("normalize_pixels", moments)(x)
        x = StackFrames(config.frames_at_once, name="stack_frames")(x)
    network = build_frame_network(spec.image, config)
    if network.frozen is None:
        outputs = _after_frames(x, inputs, info, config, network.trained)
        return keras.Model(inputs, outputs, name=_NAME)
    # The layers after the frozen features are a model of their own, which can be trained without frames.
    x = FrozenTimeDistributed(network.frozen, name=FROZEN_FEATURES)(x)
    head_inputs = _inputs(spec)
    features = keras.Input(x.shape[1:], dtype=x.dtype, name=FROZEN_FEATURES)
    head_inputs[FROZEN_FEATURES] = features
    outputs = _after_frames(features, head_inputs, info, config, network.trained)
    head = keras.Model(head_inputs, outputs, name=HEAD)
    others = {name: values for name, values in inputs.items() if name != IMAGE}
    return keras.Model(inputs, head({**others, FROZEN_FEATURES: x}), name=_NAME)


def _inputs(spec: SequenceSpec) -> dict[str, Any]:
    """Returns all inputs but the frames."""
    inputs = {VALID_FRAMES: keras.Input((), dtype="int64", name=VALID_FRAMES)}
    for signal in spec.signals:
        inputs[signal.name] = keras.Input(
            (spec.num_frames, signal.size), dtype="float32", name=signal.name
        )
    return inputs


def _after_frames(
    x: Any,
    inputs: dict[str, Any],
    info: DatasetInfo,
    config: ModelConfig,
    trained: keras.Model | None,
) -> Any:
    """Returns the outputs, given ``x`` ``[B, T, ...]`` (None without images) and the other inputs.

    ``trained``, the trained part of the backbone if there is one, is applied to each frame of ``x`` first.
    """
    spec, train = info.spec, info.splits["train"]
    if trained is not None:
        x = TimeDistributed(trained, name=FRAME_FEATURES)(x)
    signals = []
    for signal in spec.signals:
        moments = [(value.mean, value.std) for value in train.signals[signal.name]]
        signals.append(_normalization(f"normalize_{signal.name}", moments)(inputs[signal.name]))
    x = _join_signals(x, signals)
    mask = FrameMask(spec.num_frames, name="frame_mask")(inputs[VALID_FRAMES])
    x = _read_over_time(x, mask, config, by_frame=spec.label.per_frame)
    for i, units in enumerate(config.dense_units):
        name = "dense" if i == 0 else f"dense_{i + 1}"
        x = _over_time(layers.Dense(units, activation="relu", name=name), spec)(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name=f"{name}_dropout")(x)
    return _head(x, spec, train.targets)


def _join_signals(features: Any, signals: list[Any]) -> Any:
    """Joins signals, ``[B, T, size]`` each, to the features of the frames, at each position of a feature map.

    Without images ``features`` is None; ``signals`` may be empty.
    """
    if features is not None and len(features.shape) == 5:
        _, steps, height, width, _ = features.shape
        signals = [
            layers.UpSampling3D((1, height, width), data_format="channels_last")(
                layers.Reshape((steps, 1, 1, signal.shape[-1]))(signal)
            )
            for signal in signals
        ]
    parts = [*([] if features is None else [features]), *signals]
    return layers.Concatenate(name="features")(parts) if len(parts) > 1 else parts[0]


def _read_over_time(x: Any, mask: Any, config: ModelConfig, *, by_frame: bool) -> Any:
    """Applies the recurrent layers, or an average in place of them; gives ``[B, units]``.

    ``x`` is ``[B, T, features]``, or ``[B, T, height, width, channels]`` for ``convlstm``; ``mask`` is
    ``[B, T]`` bool, False for padding. If each frame has a label, the result is ``[B, T, units]``.
    """
    if config.rnn == "none":
        average = layers.GlobalAveragePooling1D(data_format="channels_last", name="average")
        return x if by_frame else average(x, mask=mask)
    last = len(config.rnn_units) - 1
    for i, units in enumerate(config.rnn_units):
        name = config.rnn if i == 0 else f"{config.rnn}_{i + 1}"
        layer = _recurrent(units, config, return_sequences=by_frame or i < last, name=name)
        x = layer(x, mask=mask)
        if i == last and config.rnn == "convlstm":
            pooling = pooling_layer(config)
            x = TimeDistributed(pooling, name="pooling")(x) if by_frame else pooling(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name=f"{name}_dropout")(x)
    return x


def _recurrent(units: int, config: ModelConfig, **options: Any) -> keras.layers.Layer:
    options["activation"] = config.rnn_activation
    options["recurrent_dropout"] = config.recurrent_dropout
    if config.rnn == "convlstm":
        layer = layers.ConvLSTM2D(units, 3, padding="same", data_format="channels_last", **options)
    else:
        layer = {"lstm": layers.LSTM, "gru": layers.GRU}[config.rnn](units, **options)
    return layers.Bidirectional(layer, name=layer.name) if config.bidirectional else layer


def output_name(spec: SequenceSpec) -> str:
    """Returns the name of the model's output: ``probabilities`` or ``targets``."""
    return "targets" if spec.label.task == "regression" else "probabilities"


def _head(x: Any, spec: SequenceSpec, targets: Sequence[TargetStatistics]) -> Any:
    label, name = spec.label, output_name(spec)

    def dense(units: int, **kwargs: Any) -> Any:
        # Outputs are float32 even if the other layers compute in half precision.
        return _over_time(layers.Dense(units, dtype="float32", **kwargs), spec)(x)

    if label.task == "classification":
        return dense(label.num_classes, activation="softmax", name=name)
    if label.task == "multilabel":
        return dense(label.num_classes, activation="sigmoid", name=name)
    moments = [(target.mean, target.std) for target in targets]
    return _normalization(name, moments, invert=True)(dense(len(targets), name="standardized"))


def _over_time(layer: Any, spec: SequenceSpec) -> Any:
    if not spec.label.per_frame:
        return layer
    return TimeDistributed(layer, name=layer.name, dtype=layer.dtype_policy)


def _normalization(
    name: str, moments: Iterable[tuple[float, float]], *, invert: bool = False
) -> Any:
    """Returns the layer that subtracts the mean and divides by the standard deviation; or inverts that."""
    mean, std = zip(*moments, strict=True)
    return layers.Normalization(
        axis=-1,
        mean=list(mean),
        variance=[safe_std(s) ** 2 for s in std],
        invert=invert,
        name=name,
        # Half precision would round the levels of pixels and the values of targets.
        dtype="float32",
    )
