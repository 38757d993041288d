"""Parses records into tensors, and takes their labels and weights from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.parse import parse_adopted, parse_sequence
from tfrecords_schema.spec import SequenceSpec

# Names of the features beside the signals' own.
IMAGE = "image"
VALID_FRAMES = "valid_frames"
PADDING_MASK = "padding_mask"
_NAMED_CLASSES = {
    keys.LABEL_INDEX: keys.LABEL_STRING,
    keys.FRAME_LABEL_INDEX: keys.FRAME_LABEL_STRING,
}
METADATA = {
    "id": keys.EXAMPLE_ID,
    "source": keys.MEDIA_ID,
    "group": keys.GROUP_ID,
    "timestamps": keys.IMAGE_TIMESTAMP,
}


def parse_record(
    serialized: tf.Tensor, info: DatasetInfo, *, frames: bool = True, by_name: bool = False
) -> Any:
    """Parses a record, ``[]`` string, built or adopted, into the tensors of its spec.

    ``by_name`` takes indices of classes from their names, for records of several datasets.
    """
    parse = parse_adopted if info.adopted else parse_sequence
    parsed = parse(serialized, info.spec, frames=frames)
    names = info.spec.label.class_names
    for index, name in _NAMED_CLASSES.items():
        if by_name and name in parsed:
            parsed[index] = _find_classes(parsed[name], names)
        elif index in parsed:
            parsed[index] = _check_range("class index", parsed[index], 0, len(names) - 1)
            if name in parsed:
                parsed[index] = _check_names(parsed[index], parsed[name], names)
    valid = parsed[keys.VALID_FRAMES]
    parsed[keys.VALID_FRAMES] = _check_range(keys.VALID_FRAMES, valid, 1, info.spec.num_frames)
    for key, values in parsed.items():
        if values.dtype == tf.float32:
            finite = tf.reduce_all(tf.math.is_finite(values))
            parsed[key] = _checked(values, finite, f"{key} that is not finite")
    return parsed


def _checked(values: tf.Tensor, holds: tf.Tensor, fault: str) -> tf.Tensor:
    """Returns ``values``; raises an error at run time unless ``holds``, ``[]`` bool."""
    # The functions of tf.debugging take several times as long.
    checked = tf.raw_ops.Assert(condition=holds, data=[f"a record has {fault}"])
    with tf.control_dependencies([checked]):
        return tf.identity(values)


def _check_range(name: str, values: tf.Tensor, low: int, high: int) -> tf.Tensor:
    """Returns ``values``, int64 in any shape, which must be ``low`` to ``high``."""
    in_range = tf.reduce_all((values >= low) & (values <= high))
    return _checked(values, in_range, f"a {name} that is not {low} to {high}")


def _check_names(indices: tf.Tensor, names: tf.Tensor, class_names: Sequence[str]) -> tf.Tensor:
    """Returns ``indices`` of classes, which must have these ``names``."""
    sides = (tf.gather(_to_constant(class_names), indices), names)
    expected, held = (tf.strings.reduce_join(side, separator="\0") for side in sides)
    return _checked(indices, tf.equal(expected, held), "other class names than its indices say")


def _to_constant(class_names: Sequence[str]) -> tf.Tensor:
    return tf.constant([name.encode("utf-8", "surrogateescape") for name in class_names])


def _find_classes(names: tf.Tensor, class_names: Sequence[str]) -> tf.Tensor:
    """Returns the index of each class in ``class_names``, int64 in the shape of ``names``."""
    matches = tf.equal(names[..., tf.newaxis], _to_constant(class_names))
    found = tf.reduce_all(tf.reduce_any(matches, axis=-1))
    indices = tf.argmax(tf.cast(matches, tf.int32), axis=-1)
    return _checked(indices, found, "a class that dataset_info.json lacks")


def labels_of(parsed: dict[str, Any], spec: SequenceSpec) -> tf.Tensor:
    """Returns the labels of a parsed record, in the shape that `read_sequences` documents."""
    label = spec.label
    if label.task == "regression":
        return parsed[keys.FRAME_LABEL_VALUE if label.per_frame else keys.LABEL_VALUE]
    if label.per_frame:
        return parsed[keys.FRAME_LABEL_INDEX]
    if label.task == "classification":
        return parsed[keys.LABEL_INDEX]
    # One mark per class, however many labels the record has; classes without one are below zero.
    indices = parsed[keys.LABEL_INDEX]
    marks = tf.ones_like(indices, tf.float32)
    return tf.maximum(tf.math.unsorted_segment_max(marks, indices, label.num_classes), 0.0)


def weights_of(
    parsed: dict[str, Any],
    labels: tf.Tensor,
    spec: SequenceSpec,
    class_weights: Sequence[float] | None = None,
) -> tf.Tensor:
    """Returns the weights of a parsed record: ``[]``, or ``[T]`` with labels by frame, 0 for padding."""
    weights = tf.constant(1.0)
    if spec.label.per_frame:
        weights = tf.sequence_mask(parsed[keys.VALID_FRAMES], spec.num_frames, tf.float32)
    if class_weights is not None:
        weights *= tf.gather(tf.constant(class_weights, tf.float32), labels)
    return weights
