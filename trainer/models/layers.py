"""Keras layers for sequences of frames, which serialize: `keras.models.load_model` needs this module."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import trainer.models.losses  # noqa: F401  (compiled models name them)
from trainer.data.parsed_records import VALID_FRAMES

# Measured by `benchmarks/trainer.py`: inputs of more values are faster step by step, on CPUs.
_MAX_FOLDED_VALUES = 1_500_000
_MAX_REPEATED_LAYERS = 32
_USUAL_BATCH = 16  # if the number of sequences is not known
_LUMA = (0.299, 0.587, 0.114)
_CHROMA_SCALE = 0.3
_MIN_DEVIATION = 4.0  # levels of a pixel: the noise of a dark or uniform clip is no texture


@keras.saving.register_keras_serializable(package="reelbeam")
class SequenceModel(keras.Model):
    """A model of sequences. Without its input ``valid_frames``, no frame is padding.

    Inputs are given by name. The name may be left out if there is only one beside ``valid_frames``:
    ``model.predict(frames)``, with ``frames`` of ``[B, T, height, width, channels]`` uint8.
    """

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the outputs for ``inputs``; see `keras.Model`."""
        expected = self.input if isinstance(self.input, dict) else {}
        features = [name for name in expected if name != VALID_FRAMES]
        if len(features) == 1 and not isinstance(inputs, dict):
            inputs = {features[0]: inputs}
        if isinstance(inputs, dict) and features and inputs.keys() == set(features) < set(expected):
            values, steps = inputs[features[0]], expected[features[0]].shape[1]
            first_values = (slice(None), *[0] * (len(values.shape) - 1))
            full = np.full_like if isinstance(values, np.ndarray) else ops.full_like
            inputs = {**inputs, VALID_FRAMES: full(values[first_values], steps, dtype="int64")}
        return super().__call__(inputs, *args, **kwargs)


@keras.saving.register_keras_serializable(package="reelbeam")
class TimeDistributed(keras.layers.TimeDistributed):
    """`keras.layers.TimeDistributed` with time folded into the batch.

    Keras 3 calls the wrapped layer once for each time step when the number of steps is static: the graph
    grows with the sequence, and every step is a small batch. Here ``[batch, time, ...]`` becomes
    ``[batch * time, ...]``, the layer is called once, and its output is unfolded. Weights, config, masks
    and outputs are Keras's own. A length that is not static is left to Keras, and so is training a small
    network on large inputs without a GPU, where that is faster.

    Example: 8 RGB frames of 48x64, each to 10 features::

        cnn = keras.Sequential([keras.layers.Conv2D(10, 3), keras.layers.GlobalAveragePooling2D()])
        TimeDistributed(cnn)(keras.Input((8, 48, 64, 3))).shape  # (None, 8, 10)

    Seeing all frames at once has two consequences. Batch normalisation *in training* takes its moments
    over batch and time, and moves its averages once per step, as Keras 2 did; Keras 3 does so for each
    frame index in turn. Layers that must see one step after the other get that from Keras: those that keep
    state from call to call (``stateful``), and dropout with a ``noise_shape`` that counts the batch.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Applies the layer to ``inputs``, ``[batch, time, ...]``; ``mask`` is ``[batch, time, ...]``."""
        steps = inputs.shape[1]
        if mask is not None:
            pairs = zip(mask.shape[:2], inputs.shape[:2], strict=False)
            differs = any(None not in pair and pair[0] != pair[1] for pair in pairs)
            if differs or len(mask.shape) < 2:
                raise ValueError(
                    f"TimeDistributed got a mask of shape {tuple(mask.shape)}, which is incompatible with "
                    f"the input of shape {tuple(inputs.shape)}: give one of [batch, time, ...]"
                )
        is_dynamic = steps is None or (mask is not None and mask.shape[1] is None)
        if is_dynamic or any(map(_needs_single_steps, self.layer._flatten_layers())):
            return super().call(inputs, training=training, mask=mask)

        if training and self._is_faster_by_step(inputs.shape):
            return super().call(inputs, training=training, mask=mask)
        kwargs: dict[str, Any] = {}
        if mask is not None and self.layer._call_has_mask_arg:
            kwargs["mask"] = ops.reshape(mask, (-1, *ops.shape(mask)[2:]))
        if self.layer._call_has_training_arg:
            kwargs["training"] = training
        outputs = self.layer.call(ops.reshape(inputs, (-1, *ops.shape(inputs)[2:])), **kwargs)
        return ops.reshape(outputs, (-1, steps, *ops.shape(outputs)[1:]))

    def _is_faster_by_step(self, shape: tuple[int | None, ...]) -> bool:
        """Returns True if training on CPUs gains by the small tensors of single steps, which fit into caches.

        Each step repeats the graph, so the network must be small. Batch normalisation sees all steps.
        """
        values = math.prod(_USUAL_BATCH if size is None else size for size in shape)
        parts = self.layer._flatten_layers()
        return (
            values > _MAX_FOLDED_VALUES
            and len(parts) <= _MAX_REPEATED_LAYERS
            and not any(isinstance(part, keras.layers.BatchNormalization) for part in parts)
            and not tf.config.list_logical_devices("GPU")
        )


def _needs_single_steps(layer: keras.layers.Layer) -> bool:
    noise_shape = getattr(layer, "noise_shape", None)
    return getattr(layer, "stateful", False) or bool(noise_shape and noise_shape[0] is not None)


@keras.saving.register_keras_serializable(package="reelbeam")
class FrozenTimeDistributed(TimeDistributed):
    """`TimeDistributed` of a frozen layer, always in inference mode: its output for a frame never changes."""

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.trainable = False

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Applies the layer to ``inputs``, ``[batch, time, ...]``."""
        return super().call(inputs, training=False, mask=mask)


@keras.saving.register_keras_serializable(package="reelbeam")
class Preprocess(keras.layers.Layer):
    """The preprocessing of a network of `keras.applications`, by the name of its module, for uint8 frames.

    Example: ``Preprocess("vgg16")`` turns ``[..., 1]`` gray or ``[..., 3]`` RGB into BGR minus ImageNet's
    mean, ``[..., 3]``.
    """

    def __init__(self, module: str, **kwargs: Any):
        # Half precision could not tell all levels of a pixel apart.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.module = module

    def call(self, frames: Any) -> Any:
        """Scales ``frames``, ``[..., channels]``."""
        pixels = ops.cast(frames, "float32")
        if frames.shape[-1] == 1:
            pixels = ops.repeat(pixels, 3, axis=-1)
        module = getattr(keras.applications, self.module)
        return module.preprocess_input(pixels, data_format="channels_last")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns ``input_shape`` with 3 channels."""
        return (*input_shape[:-1], 3)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "module": self.module}


@keras.saving.register_keras_serializable(package="reelbeam")
class StackFrames(keras.layers.Layer):
    """Stacks each frame with the frames before it: ``[B, T, H, W, C]`` to ``[B, T, H, W, count * C]``.

    Convolutions can then detect motion. The first frames, which have too few before them, are stacked as the
    first one that has enough, so that every position shows motion.

    Example: ``StackFrames(2)`` of frames 0, 1, 2 makes the pairs (0, 1), (0, 1) and (1, 2).
    """

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.count = count

    def call(self, inputs: Any, valid: Any = None) -> Any:
        """Stacks ``inputs``, ``[B, T, H, W, C]``, along the channels, the oldest frame first.

        ``valid``, ``[B, T]`` bool, is False for padding, which the first frame replaces.
        """
        steps = inputs.shape[1]
        if valid is not None:
            inputs = ops.where(valid[:, :, None, None, None], inputs, inputs[:, :1])
        delays = range(self.count - 1, -1, -1)
        newest = [min(max(step, self.count - 1), steps - 1) for step in range(steps)]
        moved = ([max(step - delay, 0) for step in newest] for delay in delays)
        return ops.concatenate([ops.take(inputs, frames, axis=1) for frames in moved], axis=-1)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...], **_shapes: Any
    ) -> tuple[int | None, ...]:
        """Returns ``input_shape`` with ``count`` times the channels."""
        channels = input_shape[-1]
        return (*input_shape[:-1], None if channels is None else self.count * channels)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable(package="reelbeam")
class ClipNormalization(keras.layers.Layer):
    """Luma and chroma in standard deviations of the luma of their clip, ``[B, T, H, W, C]``.

    Clips look alike at any exposure and contrast. Padding does not count. RGB becomes the luma and its
    differences from red and blue, made small, since few datasets have all colours that will come.
    """

    def __init__(self, **kwargs: Any):
        # Half precision could not tell all levels of a pixel apart.
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs: Any, valid: Any) -> Any:
        """Normalises ``inputs``, from 0 to 255; ``valid``, ``[B, T]`` bool, is False for padding."""
        pixels = ops.cast(inputs, "float32")
        luma = pixels if pixels.shape[-1] == 1 else ops.dot(pixels, ops.array(_LUMA)[:, None])
        weights = ops.cast(valid, "float32")
        weights = weights / ops.sum(weights, axis=1, keepdims=True)

        def mean(values: Any) -> Any:
            by_frame = ops.mean(values, axis=(2, 3, 4))
            return ops.sum(by_frame * weights, axis=1)[:, None, None, None, None]

        level = mean(luma)
        parts = [luma - level]
        if pixels.shape[-1] == 3:
            parts.append(_CHROMA_SCALE * (pixels[..., ::2] - luma))
        deviation = ops.sqrt(mean(ops.square(luma - level))) + _MIN_DEVIATION
        return ops.concatenate(parts, axis=-1) / deviation

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...], **_shapes: Any
    ) -> tuple[int | None, ...]:
        """Returns ``input_shape``."""
        return input_shape


@keras.saving.register_keras_serializable(package="reelbeam")
class FrameDifferences(keras.layers.Layer):
    """The change of each frame, or of its features, from the one before: ``[B, T, ...]`` to the same shape.

    The first has none before it and gets the change to the second. It is 0 at padding, and everywhere if
    there is only one frame.
    """

    def call(self, inputs: Any, valid: Any) -> Any:
        """Subtracts along the time; ``valid``, ``[B, T]`` bool, is False for padding."""
        if inputs.shape[1] == 1:
            return ops.zeros_like(inputs)
        known = ops.reshape(valid[:, 1:], (-1, inputs.shape[1] - 1, *[1] * (len(inputs.shape) - 2)))
        change = ops.where(known, inputs[:, 1:] - inputs[:, :-1], ops.zeros((), inputs.dtype))
        return ops.concatenate([change[:, :1], change], axis=1)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...], **_shapes: Any
    ) -> tuple[int | None, ...]:
        """Returns ``input_shape``."""
        return input_shape


@keras.saving.register_keras_serializable(package="reelbeam")
class FrameMask(keras.layers.Layer):
    """The mask of frames that are not padding: ``[batch]`` int to ``[batch, num_frames]`` bool.

    Example: ``FrameMask(4)`` turns 3 into ``[True, True, True, False]``.
    """

    def __init__(self, num_frames: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_frames = num_frames

    def call(self, valid_frames: Any) -> Any:
        """Returns the mask of ``valid_frames``, ``[batch]`` int."""
        positions = ops.arange(self.num_frames, dtype=valid_frames.dtype)
        return positions[None, :] < valid_frames[:, None]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_frames": self.num_frames}


@keras.saving.register_keras_serializable(package="reelbeam")
class ClearPadding(keras.layers.Layer):
    """Sets masked steps of ``[B, T, ...]`` to 0. The mask is ``[B, T]`` bool, False for padding."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Returns None: later layers may use all steps."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns ``inputs`` with 0 in padding."""
        if mask is None:
            return inputs
        return ops.where(ops.reshape(mask, (*ops.shape(mask), *[1] * (inputs.ndim - 2))), inputs, 0)


@keras.saving.register_keras_serializable(package="reelbeam")
class OverTime(keras.layers.Layer):
    """Turns the steps of ``[B, T, F]`` into one vector ``[B, F]``; masked steps have no effect.

    ``how`` is ``first``, ``last``, ``mean``, ``max``, or ``attention``: a mean whose weights are the softmax
    over time of one trained score per step, ``tanh(x W + b)``.
    """

    def __init__(self, how: str, **kwargs: Any):
        super().__init__(**kwargs)
        if how not in ("first", "last", "mean", "max", "attention"):
            raise ValueError(f"expected first, last, mean, max or attention, got {how!r}")
        self.how, self.supports_masking = how, True
        self.score = keras.layers.Dense(1, activation="tanh") if how == "attention" else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights of the score."""
        if self.score is not None:
            self.score.build(input_shape)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the vectors of ``inputs``, ``[B, T, F]``, with a mask of ``[B, T]`` bool."""
        if mask is None:
            mask = ops.ones_like(inputs[..., 0], dtype="bool")
        if self.how == "first":
            return inputs[:, 0]
        if self.how == "max":
            return ops.max(ops.where(mask[..., None], inputs, -float("inf")), axis=1)
        if self.score is not None:
            scores = ops.cast(self.score(inputs)[..., 0], "float32")
            weights = ops.softmax(ops.where(mask, scores, -1e9), axis=-1)
        else:
            weights = ops.cast(mask, "float32")
            if self.how == "last":
                following = ops.concatenate(
                    [weights[:, 1:], ops.zeros_like(weights[:, :1])], axis=1
                )
                weights *= 1 - following
            weights /= ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1)
        return ops.sum(inputs * ops.cast(weights, inputs.dtype)[..., None], axis=1)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Returns None: there are no steps any more."""

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "how": self.how}
