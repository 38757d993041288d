"""Random changes of a sequence, the same for all its frames, and what they do to its labels and signals.

What a sequence gets is decided by one vector of random numbers: equal numbers, equal changes. What they do to
pixels is the business of `trainer.data.pixels`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, SequenceSpec, signal_floats_key
from trainer.config.clips import Augmentation

# Luma and the two axes of the colour plane (YIQ), in which hue is an angle.
_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32
)
_FROM_YIQ = np.linalg.inv(_TO_YIQ).astype(np.float32)
_LUMA = _TO_YIQ[:1]
_GRAY = 127.5


class Chances(NamedTuple):
    """The random numbers of a sequence, float32 from 0 to below 1: a scalar each, and one a frame."""

    place: tf.Tensor
    size: tf.Tensor
    top: tf.Tensor
    left: tf.Tensor
    flip: tf.Tensor
    brightness: tf.Tensor
    contrast: tf.Tensor
    saturation: tf.Tensor
    hue: tf.Tensor
    reverse: tf.Tensor
    jitter: tf.Tensor


def draw_chances(seed: tf.Tensor, num_frames: int) -> Chances:
    """What ``seed``, ``[2]`` int64, decides for a sequence."""
    scalars = len(Chances._fields) - 1
    drawn = tf.random.stateless_uniform([scalars + num_frames], seed)
    return Chances._make([*tf.unstack(drawn[:scalars]), drawn[scalars:]])


def draw_window(augmentation: Augmentation, image: ImageSpec, chances: Chances) -> Any:
    """The part of each frame that is kept, ``[4]`` int32: top, left, height, width; None for all of it."""
    if augmentation.crop == 1:
        return None
    side = tf.sqrt(augmentation.crop + (1 - augmentation.crop) * chances.size)
    height = tf.cast(tf.math.ceil(side * image.height), tf.int32)
    width = tf.cast(tf.math.ceil(side * image.width), tf.int32)

    def origin(chance: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.cast(chance * tf.cast(room + 1, tf.float32), tf.int32), room)

    return tf.stack(
        [
            origin(chances.top, image.height - height),
            origin(chances.left, image.width - width),
            height,
            width,
        ]
    )


def colour_map(augmentation: Augmentation, chances: Chances) -> tf.Tensor:
    """The change of colours, ``[3, 4]`` float32: a pixel ``rgb`` becomes ``m[:, :3] @ rgb + m[:, 3]``."""

    def spread(chance: tf.Tensor, most: float) -> tf.Tensor:
        return (2 * chance - 1) * most

    def factor(chance: tf.Tensor, most: float) -> tf.Tensor:
        return tf.pow(1 + most, 2 * chance - 1)

    angle = spread(chances.hue, augmentation.hue) * 2 * np.pi
    cosine, sine, zero, one = tf.cos(angle), tf.sin(angle), tf.zeros(()), tf.ones(())
    turn = tf.stack([[one, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]])
    matrix = _FROM_YIQ @ turn @ _TO_YIQ
    saturation = factor(chances.saturation, augmentation.saturation)
    luma = tf.tile(_LUMA, [3, 1])
    matrix = (luma + saturation * (tf.eye(3) - luma)) @ matrix
    contrast = factor(chances.contrast, augmentation.contrast)
    brightness = spread(chances.brightness, augmentation.brightness) * 255
    offset = _GRAY * (1 - contrast) + brightness
    return tf.concat([contrast * matrix, tf.fill([3, 1], offset)], axis=1)


def mirror_values(
    parsed: dict[str, Any],
    spec: SequenceSpec,
    info: DatasetInfo,
    augmentation: Augmentation,
    flipped: Any,
) -> dict[str, Any]:
    """A parsed record whose targets, signals and classes are those of its mirror image, where ``flipped``."""
    mirrored, label = info.mirrored or (), spec.label
    changed = dict(parsed)

    def negate(key: str, signs: list[float]) -> None:
        if key in parsed and -1.0 in signs:
            changed[key] = tf.where(flipped, parsed[key] * tf.constant(signs), parsed[key])

    targets = [-1.0 if name in mirrored else 1.0 for name in label.target_names]
    negate(keys.LABEL_VALUE, targets)
    negate(keys.FRAME_LABEL_VALUE, targets)
    for signal in spec.signals:
        sign = -1.0 if signal.name in mirrored else 1.0
        negate(signal_floats_key(signal.name), [sign] * signal.size)
    if augmentation.mirrored_classes:
        pairs = dict(augmentation.mirrored_classes)
        pairs |= {second: first for first, second in pairs.items()}
        other = [label.class_names.index(pairs.get(name, name)) for name in label.class_names]
        for key in (keys.LABEL_INDEX, keys.FRAME_LABEL_INDEX):
            if key in parsed:
                swapped = tf.gather(tf.constant(other, tf.int64), parsed[key])
                changed[key] = tf.where(flipped, swapped, parsed[key])
    return changed
