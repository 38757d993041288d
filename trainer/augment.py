"""Random changes of a sequence, the same for all its frames, and what they do to its labels and signals.

What a sequence gets is decided by one vector of random numbers: equal numbers, equal changes. Parts of frames
are decoded as such (`tfrecords_schema.parse.decode_frames`); resizing, mirroring and colours are OpenCV's,
which does the three in a third of the time of decoding, where TensorFlow's operations would take four times
that time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.resizing import resize_frame
from tfrecords_schema.spec import ImageSpec, SequenceSpec, signal_floats_key
from trainer.reading import Augmentation

# Luma and the two axes of the colour plane (YIQ), in which hue is an angle.
_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32
)
_FROM_YIQ = np.linalg.inv(_TO_YIQ).astype(np.float32)
_LUMA = _TO_YIQ[:1]
_GRAY = 127.5
# A map of three equal channels and one, to that of one channel and one.
_OF_GRAY = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)

# Bytes, at multiples of which TensorFlow's tensors begin.
_ALIGNMENT = 64

Frames = npt.NDArray[np.uint8]


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


def transform_frames(
    frames: Sequence[tf.Tensor],
    image: ImageSpec,
    *,
    window: tf.Tensor | None = None,
    flipped: tf.Tensor | None = None,
    colours: tf.Tensor | None = None,
) -> tf.Tensor:
    """Frames cut, resized, mirrored and recoloured: ``[T, height, width, channels]`` uint8.

    Args:
        frames: T of them, ``[h, w, channels]`` uint8.
        image: what they become: its height and width.
        window: the part of them that is wanted, `draw_window`; None for all of it.
        flipped: ``[]`` bool, or None for no.
        colours: `colour_map`, or None for none.
    """
    # Sequences are transformed in parallel already; OpenCV's own threads would only wait for each other.
    cv2.setNumThreads(1)
    size = (image.height, image.width)
    transformed = tf.numpy_function(
        functools.partial(
            _transform, size=size, cut=window is not None, recolour=colours is not None
        ),
        [
            tf.zeros(4, tf.int32) if window is None else window,
            tf.constant(False) if flipped is None else flipped,
            tf.zeros((3, 4)) if colours is None else colours,
            *frames,
        ],
        tf.uint8,
        stateful=False,
    )
    return tf.ensure_shape(transformed, (len(frames), *size, image.channels))


def _transform(
    window: npt.NDArray[np.int32],
    flipped: np.bool_,
    colours: npt.NDArray[np.float32],
    *frames: Frames,
    size: tuple[int, int],
    cut: bool,
    recolour: bool,
) -> Frames:
    if cut:
        top, left, height, width = window
        frames = tuple(frame[top : top + height, left : left + width] for frame in frames)
    height, width, channels = frames[0].shape
    steps: list[Callable[[Frames, Frames | None], Frames]] = []
    if (height, width) != size:
        steps.append(lambda frame, to: resize_frame(frame, size, to))
    if flipped:
        steps.append(lambda frame, to: cv2.flip(frame, 1, dst=to))
    if recolour:
        # Gray is where the three channels meet.
        matrix = colours if channels == 3 else colours[:1] @ _OF_GRAY
        steps.append(lambda frame, to: cv2.transform(frame, matrix, dst=to))
    transformed = _aligned((len(frames), *size, channels))
    # A frame goes through all steps while it is in the cache, and the last writes it where it belongs.
    for target, frame in zip(transformed, frames, strict=True):
        for step in steps[:-1]:
            frame = step(frame, None)
        if steps:
            steps[-1](frame, target)
        else:
            target[:] = frame
    return transformed


def _aligned(shape: tuple[int, ...]) -> Frames:
    """An array that TensorFlow takes as it is: it copies those that begin elsewhere."""
    count = math.prod(shape)
    memory = np.empty(count + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + count].reshape(shape)


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
