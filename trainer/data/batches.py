"""Turns the records of one split into batches, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfrecords_schema.machine import usable_cpus
from trainer.data import buffers
from trainer.data.cached_frames import CachedFrames
from trainer.data.corrupt import skip_undecodable
from trainer.data.elements import ElementBuilder
from trainer.data.shuffling import do_not_convert
from trainer.data.stored_records import StoredRecords


@dataclass(frozen=True, kw_only=True)
class BatchSteps:
    """The steps from records to batches.

    Until elements are built, datasets hold tuples: a record, and a seed if anything is random.

    Attributes:
        records: of the split, or decoded frames in their place.
        batch_size: sequences per batch, of all hosts together.
        epoch_size: records per epoch.
        drop_remainder: leave out a last batch that is not full.
        host: the part of each batch that this host reads.
    """

    records: StoredRecords | CachedFrames
    elements: ElementBuilder
    batch_size: int
    epoch_size: int
    drop_remainder: bool
    host: tf.distribute.InputContext

    def __post_init__(self) -> None:
        replicas = self.host.num_replicas_in_sync
        if self.batch_size < replicas:
            raise ValueError(
                f"batch_size must be at least the {replicas} replicas, got {self.batch_size}"
            )
        if replicas > 1 and self.elements.clips_per_sequence > 1:
            raise ValueError(
                "several clips per sequence cannot be combined with input_context: take one clip"
            )

    def make_batches(
        self, records: tf.data.Dataset, seed: Any, skipped_steps: Any = 0
    ) -> tf.data.Dataset:
        """Returns the batches of one epoch, without the first ``skipped_steps``."""
        if self.records.skipped is None:
            records = records.apply(tf.data.experimental.assert_cardinality(self.epoch_size))
        parts: tuple[tf.data.Dataset, ...] = (records,)
        if self.elements.random:
            seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
            parts = (records, seeds.batch(2, drop_remainder=True))
        records = self._keep_own_share(tf.data.Dataset.zip(parts))
        first, end = self._own_share(self.batch_size)
        batches = self._build_elements(records)
        batches = batches.batch(end - first, drop_remainder=self.drop_remainder).skip(skipped_steps)
        batches = self._split_by_replica(batches)
        if self.records.skipped is not None:  # elements are decoded already
            return batches
        decode = do_not_convert(lambda *batch: self.elements.decode_pixels(_unwrap(batch)))
        return batches.map(decode, num_parallel_calls=buffers.parallel_batches(end - first))

    def _own_share(self, count: Any) -> tuple[Any, Any]:
        return share(count, self.host.num_input_pipelines, self.host.input_pipeline_id)

    def _keep_own_share(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Keeps the records of this host in each batch, before they are decoded."""
        if self.host.num_input_pipelines == 1:
            return records
        size = self.epoch_size
        if self.drop_remainder:
            size -= size % self.batch_size
            records = records.take(size)

        def is_own(position: tf.Tensor, _: Any) -> tf.Tensor:
            step, position = position // self.batch_size, position % self.batch_size
            in_batch = tf.minimum(size - step * self.batch_size, self.batch_size)
            first, end = self._own_share(in_batch)
            return (position >= first) & (position < end)

        return records.enumerate().filter(do_not_convert(is_own)).map(lambda _, record: record)

    def _build_elements(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Builds the elements of each record: all its clips or none, since their predictions are averaged.

        To skip corrupt records, pixels are decoded here, where a failure drops the whole record. Otherwise
        they are decoded later, a batch at a time.
        """
        skipped, count = self.records.skipped, self.elements.clips_per_sequence

        def build(record: Any, seed: Any = None) -> Any:
            parsed = self.records.parse(record)
            elements = [self.elements.build(parsed, seed, clip) for clip in range(count)]
            if skipped is None and count == 1:
                return elements[0]
            stacked = tf.nest.map_structure(lambda *each: tf.stack(each), *elements)
            return stacked if skipped is None else self.elements.decode_pixels(stacked)

        if skipped is not None:
            return skip_undecodable(records, build, skipped).unbatch()
        built = records.map(do_not_convert(build), num_parallel_calls=usable_cpus())
        return built if count == 1 else built.unbatch()

    def _split_by_replica(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Splits each batch of this host into one batch per device."""
        parts = self.host.num_replicas_in_sync // self.host.num_input_pipelines
        if parts == 1:
            return batches

        def split(*batch: Any) -> tf.data.Dataset:
            count = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]

            def cut(part: tf.Tensor) -> Any:
                first, end = share(count, parts, part)
                return _unwrap(tf.nest.map_structure(lambda values: values[first:end], batch))

            return tf.data.Dataset.range(parts).map(do_not_convert(cut))

        return batches.flat_map(do_not_convert(split))


def _unwrap(parts: tuple[Any, ...]) -> Any:
    """Returns the element that a dataset passes to a function as ``*parts``: a tuple, or its only part."""
    return parts if len(parts) > 1 else parts[0]


def share(count: Any, parts: int, part: int) -> tuple[Any, Any]:
    """Returns the first index and the end of one of ``parts`` shares of ``count`` items.

    Shares differ by one at most, and a larger ``count``, which may be a tensor, makes no share smaller.

    Example: ``[share(7, 3, part) for part in range(3)]`` is ``[(0, 3), (3, 5), (5, 7)]``.
    """
    each, rest = count // parts, count % parts
    # Numbers stay numbers while a graph is built.
    minimum = min if isinstance(count, int) else tf.minimum
    bounds = [each * p + minimum(rest, p) for p in (part, part + 1)]
    return bounds[0], bounds[1]
