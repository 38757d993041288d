"""How much is done at a time, and the memory it takes: buffers are bounded in bytes, whatever the frames."""

from __future__ import annotations

import math

import tensorflow as tf

from tfrecords_schema.info import SplitInfo
from tfrecords_schema.machine import usable_cpus
from tfrecords_schema.spec import SequenceSpec
from trainer.data.reused_memory import SPARE_BATCHES
from trainer.data.shuffling import READ_AHEAD, Mixing, largest_records

# Bytes of finished batches that wait for the model, and batches at most.
PREFETCH_BYTES = 256 * 2**20
MOST_AHEAD = 8
# Frames that a thread holds while it changes one: decoded, resized, mirrored.
FRAMES_A_THREAD = 4


def threads() -> int:
    """Sequences decoded at a time: one for each CPU that this process may use."""
    return usable_cpus()


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """``dataset`` without TensorFlow's tuning, which has nothing to do where all numbers are said.

    It holds up the end of a dataset now and then, until it would have looked again: for up to as long as the
    whole took, or a minute. Its waiting thread may miss that it is over.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def sequence_bytes(spec: SequenceSpec, image_bytes: int = 1) -> int:
    """Bytes of a decoded sequence: of its frames, at ``image_bytes`` a value, and its signals."""
    pixels = math.prod(spec.image_shape) * image_bytes if spec.image else 0
    return pixels + 4 * spec.num_frames * sum(signal.size for signal in spec.signals)


def batches_ahead(spec: SequenceSpec, batch_size: int, image_bytes: int = 1) -> int:
    """Batches that are made ready ahead: as many as fit, at least one."""
    batch_bytes = max(1, batch_size * sequence_bytes(spec, image_bytes))
    return min(max(1, PREFETCH_BYTES // batch_bytes), MOST_AHEAD)


def batches_at_a_time(batch_size: int) -> int:
    """Batches that are made at a time, so that each thread has a sequence to decode, and one waits for it."""
    return max(2, math.ceil(2 * threads() / batch_size))


def reading_bytes(
    spec: SequenceSpec,
    contents: SplitInfo,
    mixing: Mixing,
    *,
    batch_size: int,
    image_bytes: int = 1,
) -> int:
    """What reading a shuffled split holds at most, in bytes, beside TensorFlow itself.

    Compressed records in the shuffle buffer, of open shards, and in batches that are not decoded yet; batches
    that are decoded, that wait, that is in use, and whose memory is kept; and frames that threads change.
    """
    making = batches_at_a_time(batch_size)
    waiting = READ_AHEAD * mixing.open_shards + batch_size * (making + 1) + threads()
    compressed = largest_records(contents) * (mixing.buffer + waiting)
    batches = batches_ahead(spec, batch_size, image_bytes) + making + 1 + SPARE_BATCHES
    decoded = sequence_bytes(spec, image_bytes) * batch_size * batches
    decoded += FRAMES_A_THREAD * threads() * sequence_bytes(spec) // spec.num_frames
    return math.ceil(compressed) + decoded
