"""Builds the layers that read the features of frames over time."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from trainer.config.model import ModelConfig
from trainer.models.backbones import pooling_layer
from trainer.models.layers import TimeDistributed


def read_over_time(x: Any, mask: Any, config: ModelConfig, *, by_frame: bool) -> Any:
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
    return layers.Concatenate(name="features")(parts) if len(parts) > 1 else parts[0]


def _recurrent(units: int, config: ModelConfig, **options: Any) -> keras.layers.Layer:
    options["activation"] = config.rnn_activation
    options["recurrent_dropout"] = config.recurrent_dropout
    if config.rnn == "convlstm":
        layer = layers.ConvLSTM2D(units, 3, padding="same", data_format="channels_last", **options)
    else:
        layer = {"lstm": layers.LSTM, "gru": layers.GRU}[config.rnn](units, **options)
    return layers.Bidirectional(layer, name=layer.name) if config.bidirectional else layer
