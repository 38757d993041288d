"""The order in which records are read: all shards in turn, through a buffer, epoch after epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfrecords_schema.info import SplitInfo

# Bytes of compressed records that are shuffled at a time, and that open shards may hold.
SHUFFLE_BYTES = 256 * 2**20
OPEN_BYTES = 128 * 2**20
# Files open at once. More mix better, and each costs a read buffer.
MOST_OPEN = 64
# TensorFlow reads two records ahead in each open shard, and opens up to twice as many in advance.
READ_AHEAD = 6
# More epochs than anyone trains: seeds of runs are this far apart, so that no two runs share orders.
_EPOCHS = 2**30


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How records are shuffled while they are still compressed.

    Attributes:
        open_shards: shards that are read in turn.
        buffer: records shuffled at a time.
    """

    open_shards: int
    buffer: int


def plan_mixing(contents: SplitInfo, buffer: int | None = None) -> Mixing:
    """As much as memory is for it, by the size of the records of a split.

    Args:
        contents: of the split.
        buffer: records shuffled at a time, if that is asked for; no more than there are.
    """
    record_bytes = largest_records(contents)
    if buffer is None:
        buffer = max(1, math.floor(SHUFFLE_BYTES / record_bytes))
    most = max(2, math.floor(OPEN_BYTES / (READ_AHEAD * record_bytes)))
    return Mixing(
        open_shards=min(len(contents.shards), most, MOST_OPEN),
        buffer=min(buffer, contents.num_records),
    )


def largest_records(contents: SplitInfo) -> float:
    """Bytes of a record, on average, in the shard where they are largest."""
    return max([s.bytes / s.records for s in contents.shards if s.records] + [1.0])


def mix_shards(
    shards: Any,
    open_shard: Callable[..., tf.data.Dataset],
    *,
    mixing: Mixing,
    seed: Any,
    thinned: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda records: records,
) -> tf.data.Dataset:
    """What the shards hold, shuffled.

    Whatever the shards hold, equal numbers of records, ``mixing`` and ``seed`` give equal orders.

    Args:
        shards: a sequence, or a tuple of sequences, with an element for each shard.
        open_shard: such an element to the records of that shard.
        mixing: how.
        seed: an int, an int64 tensor, or None for an order that cannot be repeated.
        thinned: what becomes of the records before they are shuffled.
    """
    opened = tf.data.Dataset.from_tensor_slices(shards)
    count = len(shards[0] if isinstance(shards, tuple) else shards)
    records = opened.shuffle(count, seed=seed).interleave(
        as_written(open_shard), cycle_length=mixing.open_shards, num_parallel_calls=tf.data.AUTOTUNE
    )
    return thinned(records).shuffle(mixing.buffer, seed=seed)


def endless_epochs(
    epoch: Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset],
    seed: int | None,
    first_epoch: int,
    first_step: int = 0,
) -> tf.data.Dataset:
    """``epoch(seed of its own, steps to leave out)`` for each epoch from ``first_epoch`` on, in turn."""
    base = (seed or 0) * _EPOCHS
    numbers = tf.data.Dataset.range(base + first_epoch, base + _EPOCHS)

    def seeded(number: tf.Tensor) -> tf.data.Dataset:
        # Without the global seed in it; and TensorFlow compares tensors as numbers where that is 0.
        tf.compat.v1.get_default_graph().seed = 1
        left_out = tf.where(number == base + first_epoch, tf.constant(first_step, tf.int64), 0)
        return epoch(number, left_out)

    return numbers.flat_map(as_written(seeded))


def balanced_size(counts: Sequence[int]) -> int:
    """Records of each class in an epoch of `balance`: together as many as there are, rounded down."""
    return sum(counts) // sum(count > 0 for count in counts)


def balance(
    records: tf.data.Dataset,
    class_of: Callable[[tf.Tensor], tf.Tensor],
    counts: Sequence[int],
    seed: Any,
) -> tf.data.Dataset:
    """As many records of each class as of any other: rare ones several times, common ones now and then.

    Of a class with n records, each comes m / n times, rounded so that they come m times together; which ones
    come once more than others is another matter each epoch.

    Args:
        records: in any order.
        class_of: a record to its class, ``[]`` int64.
        counts: records of each class.
        seed: of the epoch, or None.
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

    def count_up(seen: tf.Tensor, record: tf.Tensor) -> Any:
        label = class_of(record)
        before = seen[label] * size + offsets[label]
        copies = (before + size) // numbers[label] - before // numbers[label]
        return seen + tf.one_hot(label, len(counts), dtype=tf.int64), (record, copies)

    def repeated(record: tf.Tensor, copies: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(record).repeat(copies)

    start = tf.zeros([len(counts)], tf.int64)
    return records.scan(start, as_written(count_up)).flat_map(repeated)


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` without AutoGraph, which would take a second to rewrite what branches on no tensor."""
    return tf.autograph.experimental.do_not_convert(function)
