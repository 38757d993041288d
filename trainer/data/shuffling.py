"""Orders records: all shards in turn, through a shuffle buffer, epoch after epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfrecords_schema.info import SplitInfo

# AutoGraph would take a second to convert functions that branch on no tensor.
do_not_convert = tf.autograph.experimental.do_not_convert

# Bytes of compressed records in the shuffle buffer, and in open shards.
SHUFFLE_BYTES = 256 * 2**20
OPEN_BYTES = 128 * 2**20
# More open shards mix better, and each costs a read buffer.
MAX_OPEN_SHARDS = 64
# TensorFlow reads two records ahead in each open shard, and opens up to twice as many in advance.
READ_AHEAD = 6
# Seeds of runs are this far apart, more epochs than a run has, so that no two runs share an order.
_EPOCHS = 2**30


@dataclass(frozen=True, kw_only=True)
class ShufflePlan:
    """Numbers of shards that are read in turn, and of records in the shuffle buffer, still compressed."""

    open_shards: int
    buffer: int


def plan_shuffle(contents: SplitInfo, buffer: int | None = None) -> ShufflePlan:
    """Returns the plan for a split: as many shards, and by default records, as their memory holds."""
    record_bytes = max_record_bytes(contents)
    if buffer is None:
        buffer = max(1, int(SHUFFLE_BYTES / record_bytes))
    max_open = max(2, int(OPEN_BYTES / (READ_AHEAD * record_bytes)))
    return ShufflePlan(
        open_shards=min(len(contents.shards), max_open, MAX_OPEN_SHARDS),
        buffer=min(buffer, contents.num_records),
    )


def max_record_bytes(contents: SplitInfo) -> float:
    """Returns the mean bytes per record in the shard with the largest records."""
    return max([s.bytes / s.records for s in contents.shards if s.records] + [1.0])


def interleave_shards(
    shards: Any, open_shard: Callable[..., tf.data.Dataset], plan: ShufflePlan, seed: Any
) -> tf.data.Dataset:
    """Returns the records of the shards, which are read in turn; a shuffle buffer must follow.

    The order depends only on the number of records per shard, ``plan`` and ``seed``, an int or an int64
    tensor; with None, it cannot be repeated. ``open_shard`` maps an element of ``shards``, a sequence or a
    tuple of sequences, to the records of the shard.
    """
    opened = tf.data.Dataset.from_tensor_slices(shards)
    return opened.shuffle(opened.cardinality(), seed=seed).interleave(
        do_not_convert(open_shard),
        cycle_length=plan.open_shards,
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def endless_epochs(
    epoch: Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset],
    seed: int | None,
    first_epoch: int,
    first_step: int = 0,
) -> tf.data.Dataset:
    """Returns ``epoch(seed, skipped_steps)`` of each epoch from ``first_epoch`` on, one after the other."""
    base = (seed or 0) * _EPOCHS
    numbers = tf.data.Dataset.range(base + first_epoch, base + _EPOCHS)

    def seeded(number: tf.Tensor) -> tf.data.Dataset:
        # Keeps the global seed out of it. Not 0, with which TensorFlow would compare a tensor as a number.
        tf.compat.v1.get_default_graph().seed = 1
        skipped = tf.where(number == base + first_epoch, tf.constant(first_step, tf.int64), 0)
        return epoch(number, skipped)

    return numbers.flat_map(do_not_convert(seeded))


def balanced_size(counts: Sequence[int]) -> int:
    """Returns the records of each class in a balanced epoch, which keeps about its size."""
    return sum(counts) // sum(count > 0 for count in counts)


def epoch_size(contents: SplitInfo, *, balance_classes: bool) -> int:
    """Returns the number of records in an epoch of a split."""
    if not balance_classes:
        return contents.num_records
    counts = contents.label_counts
    return sum(count > 0 for count in counts) * balanced_size(counts)


def subsample_classes(
    records: tf.data.Dataset,
    class_of: Callable[[tf.Tensor], tf.Tensor],
    counts: Sequence[int],
    seed: Any,
) -> tf.data.Dataset:
    """Returns equally many records of each class: repeats those of rare classes, drops some of common ones.

    With m = `balanced_size`, each of the n records of a class comes m / n times, rounded up or down so that
    the class comes m times. The seed decides which ones are rounded up. ``class_of`` maps a record to its
    class, ``[]`` int64, and ``counts`` holds the number of records of each class.
    """
    size = balanced_size(counts)
    numbers = tf.constant([max(count, 1) for count in counts], tf.int64)
    base = tf.cast(0 if seed is None else seed, tf.int64)
    chances = (
        tf.random.uniform([len(counts)])
        if seed is None
        else tf.random.stateless_uniform([len(counts)], tf.stack([base, base + 1]))
    )
    offsets = tf.cast(chances * tf.cast(numbers, tf.float32), tf.int64)

    def count_copies(seen: tf.Tensor, record: tf.Tensor) -> Any:
        label = class_of(record)
        before = seen[label] * size + offsets[label]
        copies = (before + size) // numbers[label] - before // numbers[label]
        return seen + tf.one_hot(label, len(counts), dtype=tf.int64), (record, copies)

    def repeat(record: tf.Tensor, copies: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(record).repeat(copies)

    start = tf.zeros([len(counts)], tf.int64)
    return records.scan(start, do_not_convert(count_copies)).flat_map(repeat)
