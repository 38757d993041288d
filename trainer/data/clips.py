"""Which frames of a record are read: arithmetic on indices, before anything is decoded."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.spec import SequenceSpec
from trainer.config.clips import Clips


def choose_frames(valid: tf.Tensor, clips: Clips, number: Any, chance: Any) -> Any:
    """The frames of one clip.

    Args:
        valid: ``[]`` int64; frames of the sequence from this index on are padding.
        clips: what is asked for.
        number: ``[]`` int64, which of ``clips.count``.
        chance: ``[]`` float32 from 0 to below 1, that places a random clip.

    Returns:
        Indices, ``[num_frames]`` int64, and how many of these are not of padding, ``[]`` int64.
    """
    room = tf.maximum(valid - clips.span, 0)
    if clips.at == "random":
        start = tf.cast(chance * tf.cast(room + 1, tf.float32), tf.int64)
    elif clips.at == "first":
        start = tf.zeros_like(room)
    elif clips.at == "center":
        start = room // 2
    elif clips.at == "last":
        start = room
    else:
        # Rounded halves up, in integers: the same on every machine.
        gaps = max(clips.at - 1, 1)
        start = (2 * number * room + gaps) // (2 * gaps) if clips.at > 1 else room // 2
    # A float of 24 bits rounds up to the end of a long range.
    start = tf.minimum(start, room)
    indices = start + tf.range(clips.num_frames, dtype=tf.int64) * clips.frame_step
    return indices, tf.reduce_sum(tf.cast(indices < valid, tf.int64))


def jitter_frames(indices: tf.Tensor, valid: tf.Tensor, most: int, chances: Any) -> tf.Tensor:
    """Frames up to ``most`` earlier or later, in order, none of them padding that was not.

    Args:
        indices: ``[n]`` int64.
        valid: ``[]`` int64, of the sequence.
        most: frames.
        chances: ``[n]`` float32 from 0 to below 1.
    """
    moved = indices + tf.cast(chances * (2 * most + 1), tf.int64) - most
    moved = tf.clip_by_value(moved, 0, tf.maximum(valid - 1, 0))
    return tf.sort(tf.where(indices < valid, moved, indices))


def reverse_frames(indices: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """The first ``valid`` of ``indices`` in reverse; the padding stays at the end."""
    places = tf.range(tf.size(indices, tf.int64), dtype=tf.int64)
    return tf.gather(indices, tf.where(places < valid, valid - 1 - places, places))


def take_frames(
    parsed: dict[str, Any], spec: SequenceSpec, indices: tf.Tensor, valid: tf.Tensor
) -> dict[str, Any]:
    """A parsed record with these of its frames, in this order; ``valid`` of them are not padding."""
    by_frame = {feature.key for feature in spec.feature_lists()} | {"image"}
    taken = {
        key: tf.gather(value, indices) if key in by_frame else value
        for key, value in parsed.items()
    }
    return {**taken, keys.VALID_FRAMES: valid}


def take_clip(
    parsed: dict[str, Any], spec: SequenceSpec, clips: Clips, number: Any = 0, chance: Any = 0.0
) -> dict[str, Any]:
    """A parsed record with the frames of one clip; see `choose_frames`."""
    number = tf.cast(number, tf.int64)
    indices, kept = choose_frames(parsed[keys.VALID_FRAMES], clips, number, chance)
    return take_frames(parsed, spec, indices, kept)
