"""Turns the records of one split into batches, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.machine import usable_cpus
from trainer.data import buffers
from trainer.data.cached_frames import CachedFrames
from trainer.data.corrupt import SkippedRecords, skip_undecodable, sound_records, unwrap
from trainer.data.elements import ElementBuilder
from trainer.data.parsed_records import parse_record
from trainer.data.shuffling import ShufflePlan, do_not_convert, shuffle_shards, subsample_classes


@dataclass(frozen=True, kw_only=True)
class SplitRecords:
    """The records of one split: from its shards, without corrupt ones, or from decoded frames.

    Attributes:
        paths: of the shards.
        read: opens shards, see `trainer.data.remote_records.record_reader`.
        info: description of the dataset.
        cache: decoded frames, or None.
        skipped: counts corrupt records, which are skipped; None stops at them.
        class_counts: records of each class if classes are balanced, else empty.
    """

    paths: list[str]
    read: Callable[[Any], tf.data.Dataset]
    info: DatasetInfo
    cache: CachedFrames | None
    skipped: SkippedRecords | None
    class_counts: tuple[int, ...]

    def in_order(self) -> tf.data.Dataset:
        """Returns the records in stored order."""
        if self.cache is not None:
            return tf.data.Dataset.range(len(self.cache))
        if self.skipped is not None:
            return tf.data.Dataset.from_tensor_slices(self.paths).flat_map(
                do_not_convert(self._open_shard)
            )
        return self.read(self.paths)

    def shuffled(self, plan: ShufflePlan, seed: Any) -> tf.data.Dataset:
        """Returns the records in the order that ``plan`` and ``seed`` decide, classes balanced."""

        def balance(records: tf.data.Dataset) -> tf.data.Dataset:
            if not self.class_counts:
                return records
            return subsample_classes(records, self._class_of, self.class_counts, seed)

        shards = self.paths if self.cache is None else self.cache.shards
        return shuffle_shards(shards, self._open_shard, plan=plan, seed=seed, transform=balance)

    def parse(self, record: Any) -> dict[str, Any]:
        """Parses one of the records."""
        if self.cache is not None:
            return self.cache.gather(record)
        return parse_record(record, self.info)

    def _open_shard(self, *shard: tf.Tensor) -> tf.data.Dataset:
        if self.cache is not None:
            start, count = shard
            return tf.data.Dataset.range(start, start + count)
        if self.skipped is not None:
            return sound_records(shard[0], self.skipped)
        return self.read(*shard)

    def _class_of(self, record: Any) -> tf.Tensor:
        if self.cache is not None:
            return self.cache.gather(record, frames=False)[keys.LABEL_INDEX]
        context, _ = tf.io.parse_single_sequence_example(
            record, context_features={keys.LABEL_INDEX: tf.io.FixedLenFeature((), tf.int64)}
        )
        return context[keys.LABEL_INDEX]


@dataclass(frozen=True, kw_only=True)
class BatchSteps:
    """The steps from records to batches.

    Until elements are built, each step maps dicts to dicts: ``record``, then ``seed`` if anything is
    random, and ``clip``, the index of the clip within its sequence, if there are several.

    Attributes:
        split: the records.
        elements: builds an element from a record.
        batch_size: sequences per batch, of all hosts together.
        epoch_size: records per epoch.
        drop_remainder: leave out a last batch that is not full.
        host: the part of each batch that this host reads; None reads all of it.
    """

    split: SplitRecords
    elements: ElementBuilder
    batch_size: int
    epoch_size: int
    drop_remainder: bool
    host: tf.distribute.InputContext | None

    def __post_init__(self) -> None:
        if self.host is None:
            return
        if self.batch_size < (replicas := self.host.num_replicas_in_sync):
            raise ValueError(
                f"batch_size must be at least the {replicas} replicas, got {self.batch_size}"
            )
        if self.elements.clips_per_sequence > 1:
            raise ValueError(
                "several clips per sequence cannot be combined with input_context: take one clip"
            )

    def make_batches(
        self, records: tf.data.Dataset, seed: Any, skipped_steps: Any = 0
    ) -> tf.data.Dataset:
        """Returns the batches of one epoch, without the first ``skipped_steps``."""
        return (
            records.apply(self.assert_size)
            .apply(lambda records: self.add_seeds(records, seed))
            .apply(self.keep_own_share)
            .apply(self.add_clip_indices)
            .apply(self.build_elements)
            .batch(self._own_batch_size(), drop_remainder=self.drop_remainder)
            .skip(skipped_steps)
            .apply(self.split_by_replica)
            .apply(self.decode_pixels)
        )

    def assert_size(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Makes reading fail if the number of records is not ``epoch_size``, unless some are skipped."""
        if self.split.skipped is not None:
            return records
        return records.apply(tf.data.experimental.assert_cardinality(self.epoch_size))

    def add_seeds(self, records: tf.data.Dataset, seed: Any) -> tf.data.Dataset:
        """Gives each record a seed of its own, ``[2]`` int64, if its element depends on one."""
        if not self.elements.random:
            return tf.data.Dataset.zip({"record": records})
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        return tf.data.Dataset.zip({"record": records, "seed": seeds.batch(2, drop_remainder=True)})

    def keep_own_share(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Keeps the records of this host in each batch, before they are decoded."""
        if self.host is None:
            return records
        hosts, host, size = (
            self.host.num_input_pipelines,
            self.host.input_pipeline_id,
            self.epoch_size,
        )
        if self.drop_remainder:
            size -= size % self.batch_size
            records = records.take(size)

        def is_own(position: tf.Tensor, _: Any) -> tf.Tensor:
            step, position = position // self.batch_size, position % self.batch_size
            in_batch = tf.minimum(size - step * self.batch_size, self.batch_size)
            first, end = share(in_batch, hosts, host)
            return (position >= first) & (position < end)

        return records.enumerate().filter(do_not_convert(is_own)).map(lambda _, record: record)

    def add_clip_indices(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Repeats each record for each of its clips. Clips of skipped records are built together instead."""
        count = self.elements.clips_per_sequence
        if count == 1 or self.split.skipped is not None:
            return records

        def repeat(record: dict[str, Any]) -> tf.data.Dataset:
            return tf.data.Dataset.range(count).map(lambda clip: {**record, "clip": clip})

        return records.flat_map(repeat)

    def build_elements(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Builds the element of each record. Pixels are decoded here only if corrupt records are skipped."""

        def build(record: dict[str, Any]) -> Any:
            parsed = self.split.parse(record["record"])
            return self.elements.build(parsed, record.get("seed"), record.get("clip", 0))

        def build_clips(record: dict[str, Any]) -> Any:
            # All clips of a sequence or none, since answers to them are averaged.
            clips = [
                build({**record, "clip": clip}) for clip in range(self.elements.clips_per_sequence)
            ]
            stacked = tf.nest.map_structure(lambda *each: tf.stack(each), *clips)
            return self.elements.decode_pixels(stacked)

        if self.split.skipped is None:
            return records.map(do_not_convert(build), num_parallel_calls=usable_cpus())
        return skip_undecodable(records, build_clips, self.split.skipped).unbatch()

    def split_by_replica(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Splits each batch of this host into one batch per device."""
        if self.host is None:
            return batches
        parts = self.host.num_replicas_in_sync // self.host.num_input_pipelines
        if parts == 1:
            return batches

        def split(*batch: Any) -> tf.data.Dataset:
            count = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]

            def cut(part: tf.Tensor) -> Any:
                first, end = share(count, parts, part)
                return unwrap(tf.nest.map_structure(lambda values: values[first:end], batch))

            return tf.data.Dataset.range(parts).map(do_not_convert(cut))

        return batches.flat_map(do_not_convert(split))

    def decode_pixels(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Decodes the frames of each batch, unless `build_elements` has."""
        if self.split.skipped is not None or self.elements.spec.image is None:
            return batches
        cached = None if self.split.cache is None else self.split.cache.all_frames

        def decode(*batch: Any) -> Any:
            return self.elements.decode_pixels(unwrap(batch), cached)

        parallel = buffers.parallel_batches(self._own_batch_size())
        return batches.map(do_not_convert(decode), num_parallel_calls=parallel)

    def _own_batch_size(self) -> int:
        if self.host is None:
            return self.batch_size
        first, end = share(
            self.batch_size, self.host.num_input_pipelines, self.host.input_pipeline_id
        )
        return end - first


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
