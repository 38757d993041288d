"""Keras layers for sequences of frames, which serialize: `keras.models.load_model` needs this module."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

import trainer.models.losses  # noqa: F401  (compiled models name them)


@keras.saving.register_keras_serializable(package="reelbeam")
class TimeDistributed(keras.layers.TimeDistributed):
    """`keras.layers.TimeDistributed` with time folded into the batch.

    Keras 3 calls the wrapped layer once for each time step when the number of steps is static: the graph
    grows with the sequence, and every step is a small batch. Here ``[batch, time, ...]`` becomes
    ``[batch * time, ...]``, the layer is called once, and its output is unfolded. Weights, config, masks
    and outputs are Keras's own. A length that is not static is left to Keras.

    Example: 8 RGB frames of 48x64, each to 10 features::

        cnn = keras.Sequential([keras.layers.Conv2D(10, 3), keras.layers.GlobalAveragePooling2D()])
        TimeDistributed(cnn)(keras.Input((8, 48, 64, 3))).shape  # (None, 8, 10)

    Seeing all frames at once has two consequences. Batch normalisation *in training* takes its moments
    over batch and time, and moves its averages once per step, as Keras 2 did; Keras 3 does so for each
    frame index in turn. A layer that keeps state between calls sees one call instead of ``time`` calls.
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
        if steps is None or (mask is not None and mask.shape[1] is None):
            return super().call(inputs, training=training, mask=mask)
        kwargs: dict[str, Any] = {}
        if mask is not None and self.layer._call_has_mask_arg:
            kwargs["mask"] = ops.reshape(mask, (-1, *ops.shape(mask)[2:]))
        if self.layer._call_has_training_arg:
            kwargs["training"] = training
        outputs = self.layer.call(ops.reshape(inputs, (-1, *ops.shape(inputs)[2:])), **kwargs)
        return ops.reshape(outputs, (-1, steps, *ops.shape(outputs)[1:]))


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

    Convolutions can then detect motion. The first frame stands in for missing earlier frames.

    Example: ``StackFrames(2)`` of frames 0, 1, 2 makes the pairs (0, 0), (0, 1) and (1, 2).
    """

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.count = count

    def call(self, inputs: Any) -> Any:
        """Stacks ``inputs``, ``[B, T, H, W, C]``, along the channels, the oldest frame first."""
        steps = inputs.shape[1]
        delayed = [inputs]
        for _ in range(self.count - 1):
            before = delayed[0]
            delayed.insert(0, ops.concatenate([before[:, :1], before[:, : steps - 1]], axis=1))
        return ops.concatenate(delayed, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns ``input_shape`` with ``count`` times the channels."""
        channels = input_shape[-1]
        return (*input_shape[:-1], None if channels is None else self.count * channels)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "count": self.count}


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
