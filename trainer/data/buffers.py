"""Bounds on the memory of reading: how many batches are made and kept at a time."""

from __future__ import annotations

import math

import tensorflow as tf

from tfrecords_schema.info import SplitInfo
from tfrecords_schema.machine import usable_cpus
from tfrecords_schema.spec import SequenceSpec
from trainer.data.reused_memory import MAX_SPARE_BATCHES
from trainer.data.shuffling import READ_AHEAD, ShufflePlan, max_record_bytes

# Finished batches that wait for the model: at most this many bytes and batches, at least one batch.
PREFETCH_BYTES = 256 * 2**20
MAX_BATCHES_AHEAD = 8
# Frames that a thread holds while it transforms one: decoded, resized, mirrored.
_FRAMES_PER_THREAD = 4


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns ``dataset`` with TensorFlow's tuning off; every number of threads and batches is given anyway.

    The tuning thread may miss that a dataset has ended, and hold it open for up to a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def sequence_bytes(spec: SequenceSpec, image_bytes: int = 1) -> int:
    """Returns the bytes of a decoded sequence and its signals, at ``image_bytes`` per value of a pixel."""
    pixels = math.prod(spec.image_shape) * image_bytes if spec.image else 0
    return pixels + 4 * spec.num_frames * sum(signal.size for signal in spec.signals)


def batches_ahead(spec: SequenceSpec, batch_size: int, image_bytes: int = 1) -> int:
    """Returns the number of batches to prefetch: as many as fit, at least one."""
    batch_bytes = max(1, batch_size * sequence_bytes(spec, image_bytes))
    return min(max(1, PREFETCH_BYTES // batch_bytes), MAX_BATCHES_AHEAD)


def parallel_batches(batch_size: int) -> int:
    """Returns the number of batches to make at a time: each thread decodes one sequence, and one waits."""
    return max(2, math.ceil(2 * usable_cpus() / batch_size))


def reading_bytes(
    spec: SequenceSpec,
    contents: SplitInfo,
    plan: ShufflePlan,
    *,
    batch_size: int,
    image_bytes: int = 1,
) -> int:
    """Returns the most bytes that reading a shuffled split holds, beside TensorFlow itself."""
    parallel = parallel_batches(batch_size)
    # Compressed records wait in open shards and in batches not yet decoded. Decoded batches are being made,
    # prefetched, in use, or kept as spare memory. Threads hold the frames that they transform.
    waiting = READ_AHEAD * plan.open_shards + batch_size * (parallel + 1) + usable_cpus()
    compressed = max_record_bytes(contents) * (plan.buffer + waiting)
    batches = batches_ahead(spec, batch_size, image_bytes) + parallel + 1 + MAX_SPARE_BATCHES
    decoded = sequence_bytes(spec, image_bytes) * batch_size * batches
    decoded += _FRAMES_PER_THREAD * usable_cpus() * sequence_bytes(spec) // spec.num_frames
    return math.ceil(compressed) + decoded
