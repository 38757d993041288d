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
METADATA = {
    "id": keys.EXAMPLE_ID,
    "source": keys.MEDIA_ID,
    "group": keys.GROUP_ID,
    "timestamps": keys.IMAGE_TIMESTAMP,
}


def parse_record(serialized: tf.Tensor, info: DatasetInfo, *, frames: bool = True) -> Any:
    """Parses a record, ``[]`` string, built or adopted, into the tensors of its spec."""
    parse = parse_adopted if info.adopted else parse_sequence
    return parse(serialized, info.spec, frames=frames)


def labels_of(parsed: dict[str, Any], spec: SequenceSpec) -> tf.Tensor:
    """Returns the labels of a parsed record, in the shape that `read_sequences` documents."""
    label = spec.label
    if label.task == "regression":
        return parsed[keys.FRAME_LABEL_VALUE if label.per_frame else keys.LABEL_VALUE]
    if label.per_frame:
        return parsed[keys.FRAME_LABEL_INDEX]
    if label.task == "classification":
        return parsed[keys.LABEL_INDEX]
    # A sum, since the maximum over no classes is minus infinity.
    marks = tf.reduce_sum(tf.one_hot(parsed[keys.LABEL_INDEX], label.num_classes), axis=0)
    return tf.minimum(marks, 1.0)


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
