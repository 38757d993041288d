"""Builds the network: a TimeDistributed backbone, recurrent layers, dense layers and a head for the task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import layers, ops

from tfrecords_schema.info import DatasetInfo, TargetStatistics
from tfrecords_schema.spec import SequenceSpec
from trainer.config.model import SMALL, ModelConfig, forecast_steps
from trainer.data.parsed_records import IMAGE, VALID_FRAMES
from trainer.models.backbones import build_frame_network, l2_penalty, pooling_layer
from trainer.models.keras_settings import own_settings
from trainer.models.layers import (
    ClearPadding,
    ClipNormalization,
    FrameDifferences,
    FrameMask,
    FrozenTimeDistributed,
    OverTime,
    SequenceModel,
    StackFrames,
    TimeDistributed,
)
from trainer.models.losses import safe_std

FROZEN_FEATURES = "frozen_features"  # the layer whose output training does not change
HEAD = "head"  # the model after it
STEP_OUTPUTS = "step_outputs"  # outputs of every step, if only the last is the answer
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
    config = config.chosen_for(spec)
    inputs = _inputs(spec)
    if spec.image is None:
        return SequenceModel(inputs, _after_frames(None, inputs, info, config, None), name=_NAME)
    inputs[IMAGE] = keras.Input(spec.image_shape, dtype="uint8", name=IMAGE)
    network = build_frame_network(spec.image, config)
    x = inputs[IMAGE]
    if config.backbone == SMALL:  # others normalise pixels themselves, and take single frames
        x = _normalized_frames(x, inputs[VALID_FRAMES], info, config)
    if network.frozen is None:
        outputs = _after_frames(x, inputs, info, config, network.trained)
        return SequenceModel(inputs, outputs, name=_NAME)
    # The layers after the frozen features are a model of their own, which can be trained without frames.
    x = FrozenTimeDistributed(network.frozen, name=FROZEN_FEATURES)(x)
    head_inputs = _inputs(spec)
    features = keras.Input(x.shape[1:], dtype=x.dtype, name=FROZEN_FEATURES)
    head_inputs[FROZEN_FEATURES] = features
    outputs = _after_frames(features, head_inputs, info, config, network.trained)
    head = keras.Model(head_inputs, outputs, name=HEAD)
    others = {name: values for name, values in inputs.items() if name != IMAGE}
    return SequenceModel(inputs, head({**others, FROZEN_FEATURES: x}), name=_NAME)


def with_step_outputs(model: keras.Model) -> keras.Model:
    """Returns a model of the layers of one with ``target_replication``, which outputs every step."""
    if any(layer.name == STEP_OUTPUTS for layer in model.layers):
        return keras.Model(model.input, model.get_layer(STEP_OUTPUTS).output, name=model.name)
    head_inputs = {name: values for name, values in model.input.items() if name != IMAGE}
    head_inputs[FROZEN_FEATURES] = model.get_layer(FROZEN_FEATURES).output
    outputs = with_step_outputs(model.get_layer(HEAD))(head_inputs)
    return keras.Model(model.input, outputs, name=model.name)


def _normalized_frames(
    frames: Any, valid_frames: Any, info: DatasetInfo, config: ModelConfig
) -> Any:
    """Returns what the small backbone sees of uint8 ``frames``, ``[B, T, H, W, C]``."""
    train, spec = info.splits["train"], info.spec
    valid = FrameMask(spec.num_frames, name="valid")(valid_frames)
    moments = zip(train.pixel_mean, train.pixel_std, strict=True)
    normalize = _normalization("normalize_pixels", moments)
    if not config.sees_differences:
        return StackFrames(config.frames_at_once, name="stack_frames")(normalize(frames), valid)
    clip = ClipNormalization(name="normalize_clip")(frames, valid)
    change = FrameDifferences(name="differences")(clip[..., :1], valid)
    # Classes show in brightness and colour too; a speed does not, and drives of other light would mislead.
    pixels = clip if spec.label.task == "regression" else normalize(frames)
    return layers.Concatenate(name="frames_with_differences")([pixels, change])


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
    mask = FrameMask(spec.num_frames, name="frame_mask")(inputs[VALID_FRAMES])
    if x is not None and config.backbone != SMALL and config.sees_differences:
        changes = FrameDifferences(name="feature_differences")(x, mask)
        x = layers.Concatenate(name="features_with_differences")([x, changes])
    if config.signal_filters:
        signals = [convolve_over_time(join_signals(None, signals), mask, config)]
    x = join_signals(x, signals)
    label, decodes = spec.label, bool(config.decoder_units)
    replicates = config.target_replication > 0
    x = read_over_time(x, mask, config, by_frame=not decodes and (label.per_frame or replicates))
    forecast = forecast_steps(label) if decodes else None
    if decodes:
        x = decode_over_time(x, spec.num_frames if forecast is None else len(forecast), config)
    by_step = label.per_frame or decodes or replicates
    x = _dense_layers(x, config.dense_units, "dense", config, by_step=by_step)
    if not replicates:
        return output_layers(x, spec, train.targets, config, by_step=by_step, forecast=forecast)
    x = output_layers(x, spec, train.targets, config, by_step=True, name=STEP_OUTPUTS)
    return OverTime("last", name=output_name(spec), dtype="float32")(x, mask=mask)


def join_signals(features: Any, signals: list[Any]) -> Any:
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
    if len(parts) == 1:
        return parts[0]
    return layers.Concatenate(name="signals" if features is None else "features")(parts)


def convolve_over_time(x: Any, mask: Any, config: ModelConfig) -> Any:
    """Applies a Conv1D with ReLU for each of ``signal_filters`` to ``[B, T, size]``.

    Padding is 0 before each one, as it is beyond the ends of a sequence.
    """
    for i, filters in enumerate(config.signal_filters):
        convolution = layers.Conv1D(
            filters,
            config.kernel_size,
            padding="same",
            activation="relu",
            data_format="channels_last",
            kernel_regularizer=l2_penalty(config),
            name=_numbered("signal_conv", i),
        )
        x = convolution(ClearPadding()(x, mask=mask))
    return x


def read_over_time(x: Any, mask: Any, config: ModelConfig, *, by_frame: bool) -> Any:
    """Applies the recurrent layers and those of each step, and makes one vector of the steps, ``[B, units]``.

    ``x`` is ``[B, T, features]``, or ``[B, T, height, width, channels]`` for ``convlstm``; ``mask`` is
    ``[B, T]`` bool, False for padding. With ``by_frame``, the result is ``[B, T, units]``.
    """
    how, kind = config.steps_become, config.rnn or "lstm"
    is_recurrent = kind != "none"
    keeps_steps = by_frame or how != "last" or bool(config.step_dense_units)
    last = len(config.rnn_units) - 1
    for i, units in enumerate(config.rnn_units if is_recurrent else ()):
        name = _numbered(kind, i)
        layer = _recurrent(kind, units, config, return_sequences=keeps_steps or i < last, name=name)
        if config.bidirectional:
            layer = layers.Bidirectional(layer, name=name)
        x = layer(x, mask=mask)
        if i == last and config.rnn == "convlstm":
            pooling = pooling_layer(config)
            x = TimeDistributed(pooling, name="pooling")(x) if keeps_steps else pooling(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name=f"{name}_dropout")(x)
    x = _dense_layers(x, config.step_dense_units, "step_dense", config, by_step=True)
    if by_frame or (is_recurrent and not keeps_steps):
        return x
    if how == "flatten":
        return layers.Flatten(name="over_time")(ClearPadding()(x, mask=mask))
    return OverTime(how, name="over_time")(x, mask=mask)


def decode_over_time(x: Any, num_steps: int, config: ModelConfig) -> Any:
    """Repeats a vector and applies the decoder: ``[B, features]`` becomes ``[B, num_steps, units]``.

    Its recurrent layers are of the kind ``config.rnn``, or LSTMs if that is ``convlstm`` or ``none``.
    """
    kind = "lstm" if config.rnn in (None, "convlstm", "none") else config.rnn
    x = layers.RepeatVector(num_steps, name="repeat")(x)
    for i, units in enumerate(config.decoder_units):
        name = _numbered("decoder", i)
        x = _recurrent(kind, units, config, return_sequences=True, name=name)(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name=f"{name}_dropout")(x)
    return x


def _recurrent(kind: str, units: int, config: ModelConfig, **options: Any) -> keras.layers.Layer:
    options["activation"] = config.rnn_activation
    options["recurrent_dropout"] = config.recurrent_dropout
    options["kernel_regularizer"] = l2_penalty(config)
    if kind == "convlstm":
        return layers.ConvLSTM2D(
            units, config.kernel_size, padding="same", data_format="channels_last", **options
        )
    kinds = {"simple": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}
    return kinds[kind](units, **options)


def _dense_layers(
    x: Any, units: Sequence[int], name: str, config: ModelConfig, *, by_step: bool
) -> Any:
    for i, width in enumerate(units):
        own = _numbered(name, i)
        layer = layers.Dense(
            width, activation="relu", kernel_regularizer=l2_penalty(config), name=own
        )
        x = _over_time(layer, by_step)(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name=f"{own}_dropout")(x)
    return x


def _numbered(name: str, i: int) -> str:
    return name if i == 0 else f"{name}_{i + 1}"


def output_name(spec: SequenceSpec) -> str:
    """Returns the name of the model's output: ``probabilities`` or ``targets``."""
    return "targets" if spec.label.task == "regression" else "probabilities"


def output_layers(
    x: Any,
    spec: SequenceSpec,
    targets: Sequence[TargetStatistics],
    config: ModelConfig,
    *,
    by_step: bool,
    forecast: Sequence[Sequence[int]] | None = None,
    name: str = "",
) -> Any:
    """Returns the outputs of the task for ``x``: ``[B, features]``, or with ``by_step`` ``[B, T, features]``.

    ``forecast`` says which targets a step writes; their outputs are ``[B, targets]`` in the spec's order.
    """
    label, name = spec.label, name or output_name(spec)

    def dense(units: int, **kwargs: Any) -> Any:
        # Outputs are float32 even if the other layers compute in half precision.
        penalty = l2_penalty(config)
        layer = layers.Dense(units, dtype="float32", kernel_regularizer=penalty, **kwargs)
        return _over_time(layer, by_step)(x)

    if label.task == "classification":
        return dense(label.num_classes, activation="softmax", name=name)
    if label.task == "multilabel":
        return dense(label.num_classes, activation="sigmoid", name=name)
    moments = [(target.mean, target.std) for target in targets]
    standardized = dense(len(forecast[0] if forecast else targets), name="standardized")
    if forecast:
        order = [index for step in forecast for index in step]
        standardized = layers.Reshape((len(order),), dtype="float32")(standardized)
        standardized = ops.take(standardized, [order.index(i) for i in range(len(order))], axis=-1)
    return _normalization(name, moments, invert=True)(standardized)


def _over_time(layer: Any, by_step: bool) -> Any:
    if not by_step:
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
