"""Chooses which frames of a record are read: arithmetic on indices, before anything is decoded."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.clip_positions import clip_start
from tfrecords_schema.spec import SequenceSpec
from trainer.config.clips import Clips


def choose_frames(valid: tf.Tensor, clips: Clips, clip: Any, number: Any) -> Any:
    """Returns the indices of a clip's frames, ``[num_frames]`` int64, and how many are not padding, ``[]``.

    Frames of the sequence from index ``valid``, ``[]`` int64, on are padding. ``clip`` is below
    ``clips.count``; ``number``, ``[]`` float32 from 0 to below 1, places a random clip.
    """
    room = tf.maximum(valid - clips.span, 0)
    if clips.at == "random":
        start = tf.cast(number * tf.cast(room + 1, tf.float32), tf.int64)
        # A float of 24 bits rounds up to the end of a long range.
        start = tf.minimum(start, room)
    else:
        start = clip_start(room, clips.at, clip)
    indices = start + tf.range(clips.num_frames, dtype=tf.int64) * clips.frame_step
    return indices, tf.reduce_sum(tf.cast(indices < valid, tf.int64))


def jitter_frames(indices: tf.Tensor, valid: tf.Tensor, maximum: int, numbers: Any) -> tf.Tensor:
    """Returns indices, ``[n]``, up to ``maximum`` earlier or later, in order, by random ``numbers``, ``[n]``.

    Only padding, frames from ``valid`` on, stays or becomes padding.
    """
    moved = indices + tf.cast(numbers * (2 * maximum + 1), tf.int64) - maximum
    moved = tf.clip_by_value(moved, 0, tf.maximum(valid - 1, 0))
    return tf.sort(tf.where(indices < valid, moved, indices))


def reverse_frames(indices: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Returns ``indices`` with the first ``valid`` of them reversed; padding stays at the end."""
    positions = tf.range(tf.size(indices, tf.int64), dtype=tf.int64)
    return tf.gather(indices, tf.where(positions < valid, valid - 1 - positions, positions))


def take_frames(
    parsed: dict[str, Any], spec: SequenceSpec, indices: tf.Tensor, valid: tf.Tensor
) -> dict[str, Any]:
    """Returns a parsed record with these frames in this order, of which ``valid`` are not padding."""
    by_frame = {feature.key for feature in spec.feature_lists()}
    taken = {
        key: tf.gather(value, indices) if key in by_frame else value
        for key, value in parsed.items()
    }
    return {**taken, keys.VALID_FRAMES: valid}
