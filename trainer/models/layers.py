"""Keras layers for sequences of frames: they serialize, and are useful in any model.

A saved model that holds them is loaded by `keras.models.load_model` once this module was imported; an
exported SavedModel needs nothing of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

import trainer.models.losses  # noqa: F401  (a model that was compiled names them)


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

    Two things follow from seeing all frames at once. Batch normalisation *in training* takes its moments over
    batch and time, and moves its averages once a step, as Keras 2 did, where Keras 3 does so for each
    frame index in turn. And a layer that keeps state over calls sees one call, not ``time`` of them.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Applies the layer to ``inputs``, ``[batch, time, ...]``; ``mask`` is ``[batch, time, ...]``."""
        steps = inputs.shape[1]
        if mask is not None and _contradicts(mask.shape, inputs.shape):
            raise ValueError(
                f"TimeDistributed got a mask of shape {tuple(mask.shape)}, which is incompatible with the "
                f"input of shape {tuple(inputs.shape)}: give one of [batch, time, ...]"
            )
        # Shapes that are not known yet are left to Keras.
        if steps is None or not _fits(mask, inputs):
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
    """`TimeDistributed` of a layer that is not trained, always in inference mode.

    Neither its batch normalisation nor its dropout then know whether the model around it is being trained,
    and its output for a frame never changes.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.trainable = False

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Applies the layer to ``inputs``, ``[batch, time, ...]``."""
        return super().call(inputs, training=False, mask=mask)


@keras.saving.register_keras_serializable(package="reelbeam")
class Preprocess(keras.layers.Layer):
    """What a network of `keras.applications` expects of frames: uint8 RGB or gray, to its own scale.

    Example: ``Preprocess("vgg16")`` of ``[..., 1]`` gray or ``[..., 3]`` RGB is BGR less the mean of
    ImageNet, ``[..., 3]``.

    Args:
        module: of `keras.applications`, whose ``preprocess_input`` it is.
    """

    def __init__(self, module: str, **kwargs: Any):
        # In half precision, the levels of a pixel would no longer be distinct.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.module = module

    def call(self, frames: Any) -> Any:
        """Scales ``frames``, ``[..., channels]``."""
        pixels = ops.cast(frames, "float32")
        if frames.shape[-1] == 1:
            pixels = ops.repeat(pixels, 3, axis=-1)
        return getattr(keras.applications, self.module).preprocess_input(
            pixels, data_format="channels_last"
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The same, with 3 channels."""
        return (*input_shape[:-1], 3)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "module": self.module}


def _contradicts(mask: Sequence[int | None], inputs: Sequence[int | None]) -> bool:
    """Returns whether a mask is for another batch or time than the inputs', as far as they are known."""
    pairs = zip(mask[:2], inputs[:2], strict=False)
    return len(mask) < 2 or any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _fits(mask: Any, inputs: Any) -> bool:
    """Whether batch and time of ``mask`` are those of ``inputs``, as far as they are known."""
    if mask is None:
        return True
    (mask_batch, *mask_time), (batch, steps) = mask.shape[:2], inputs.shape[:2]
    return mask_time == [steps] and (None in (mask_batch, batch) or mask_batch == batch)


@keras.saving.register_keras_serializable(package="reelbeam")
class StackFrames(keras.layers.Layer):
    """Puts each frame behind the ones before it: ``[B, T, H, W, C]`` to ``[B, T, H, W, count * C]``.

    A convolution then sees what moved between frames, which it cannot see in one. Where there is no frame
    before, the first one is repeated.

    Example: ``StackFrames(2)`` of frames 0, 1, 2 makes the pairs (0, 0), (0, 1) and (1, 2).
    """

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.count = count

    def call(self, inputs: Any) -> Any:
        """Stacks ``inputs``, ``[B, T, H, W, C]``, along their channels, the oldest frame first."""
        steps = inputs.shape[1]
        delayed = [inputs]
        for _ in range(self.count - 1):
            before = delayed[0]
            delayed.insert(0, ops.concatenate([before[:, :1], before[:, : steps - 1]], axis=1))
        return ops.concatenate(delayed, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The same, with ``count`` times the channels."""
        channels = input_shape[-1]
        return (*input_shape[:-1], None if channels is None else self.count * channels)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable(package="reelbeam")
class FrameMask(keras.layers.Layer):
    """Which frames are real: ``valid_frames`` ``[batch]`` int to ``[batch, num_frames]`` bool.

    Example: ``FrameMask(4)`` makes ``[True, True, True, False]`` of 3.
    """

    def __init__(self, num_frames: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_frames = num_frames

    def call(self, valid_frames: Any) -> Any:
        """The mask of ``valid_frames``, ``[batch]`` int."""
        positions = ops.arange(self.num_frames, dtype=valid_frames.dtype)
        return positions[None, :] < valid_frames[:, None]

    def compute_output_spec(self, valid_frames: Any) -> Any:
        """``[batch, num_frames]`` bool."""
        return keras.KerasTensor((valid_frames.shape[0], self.num_frames), dtype="bool")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "num_frames": self.num_frames}
