"""Draws the random changes of a sequence, which all its frames share, and changes its labels and signals."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, signal_floats_key
from trainer.config.clips import Augmentation

# Luma and the two axes of the colour plane (YIQ), in which hue is an angle.
_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32
)
_FROM_YIQ = np.linalg.inv(_TO_YIQ).astype(np.float32)
_LUMA = _TO_YIQ[:1]
_GRAY = 127.5


RandomNumbers = namedtuple(
    "RandomNumbers",
    "clip_start size top left flip brightness contrast saturation hue reverse jitter",
)
"""The random numbers of a sequence, float32 from 0 to below 1: scalars, and ``jitter`` ``[T]``."""


def draw_numbers(seed: tf.Tensor, num_frames: int) -> RandomNumbers:
    """Returns the numbers that ``seed``, ``[2]`` int64, decides for a sequence of ``num_frames``."""
    scalars = len(RandomNumbers._fields) - 1
    drawn = tf.random.stateless_uniform([scalars + num_frames], seed)
    return RandomNumbers._make([*tf.unstack(drawn[:scalars]), drawn[scalars:]])


def crop_window(min_area: float, image: ImageSpec, numbers: RandomNumbers) -> tf.Tensor:
    """Returns the part of each frame to keep, ``[4]`` int32: top, left, height, width in pixels.

    It keeps the frame's proportions and at least the share ``min_area`` of its area.
    """
    side = tf.sqrt(min_area + (1 - min_area) * numbers.size)
    height = tf.cast(tf.math.ceil(side * image.height), tf.int32)
    width = tf.cast(tf.math.ceil(side * image.width), tf.int32)

    def origin(number: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.cast(number * tf.cast(room + 1, tf.float32), tf.int32), room)

    top = origin(numbers.top, image.height - height)
    left = origin(numbers.left, image.width - width)
    return tf.stack([top, left, height, width])


def colour_matrix(augmentation: Augmentation, numbers: RandomNumbers) -> tf.Tensor:
    """Returns the change of colours, ``m`` ``[3, 4]`` float32: RGB becomes ``m[:, :3] @ rgb + m[:, 3]``."""

    def offset_up_to(maximum: float, number: tf.Tensor) -> tf.Tensor:
        return (2 * number - 1) * maximum

    def factor_up_to(maximum: float, number: tf.Tensor) -> tf.Tensor:
        return tf.pow(1 + maximum, 2 * number - 1)

    angle = offset_up_to(augmentation.hue, numbers.hue) * 2 * np.pi
    cosine, sine, zero, one = tf.cos(angle), tf.sin(angle), tf.zeros(()), tf.ones(())
    turn = tf.stack([[one, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]])
    matrix = _FROM_YIQ @ turn @ _TO_YIQ
    saturation = factor_up_to(augmentation.saturation, numbers.saturation)
    luma = tf.tile(_LUMA, [3, 1])
    matrix = (luma + saturation * (tf.eye(3) - luma)) @ matrix
    contrast = factor_up_to(augmentation.contrast, numbers.contrast)
    brightness = offset_up_to(augmentation.brightness, numbers.brightness) * 255
    offset = _GRAY * (1 - contrast) + brightness
    return tf.concat([contrast * matrix, tf.fill([3, 1], offset)], axis=1)


def mirror_values(
    parsed: dict[str, Any], info: DatasetInfo, augmentation: Augmentation, flipped: Any
) -> dict[str, Any]:
    """Returns a parsed record with the targets, signals and classes of its mirror image if ``flipped``."""
    mirrored, label = info.mirrored or (), info.spec.label
    changed = dict(parsed)

    def negate(key: str, signs: list[float]) -> None:
        if key in parsed and -1.0 in signs:
            changed[key] = tf.where(flipped, parsed[key] * tf.constant(signs), parsed[key])

    targets = [-1.0 if name in mirrored else 1.0 for name in label.target_names]
    negate(keys.LABEL_VALUE, targets)
    negate(keys.FRAME_LABEL_VALUE, targets)
    for signal in info.spec.signals:
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
