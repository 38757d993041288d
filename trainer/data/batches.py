"""Records of a split, wherever they come from, to batches of what a model is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from trainer.data import buffers
from trainer.data.cached_frames import CachedFrames
from trainer.data.corrupt import SkippedRecords, single, skip_undecodable, sound_records
from trainer.data.elements import Elements, parse_record
from trainer.data.shuffling import Mixing, as_written, balance, mix_shards


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where records come from: files, files of which some are damaged, or frames decoded before.

    Attributes:
        paths: of the shards.
        read: shards to their records, `trainer.data.remote_records.record_reader`.
        info: of the dataset.
        cache: frames decoded before, or None.
        skipped: counts what is damaged, where that is skipped.
        class_counts: records of each class, where classes are balanced; else empty.
    """

    paths: list[str]
    read: Callable[[Any], tf.data.Dataset]
    info: DatasetInfo
    cache: CachedFrames | None
    skipped: SkippedRecords | None
    class_counts: tuple[int, ...]

    def stored(self) -> tf.data.Dataset:
        """The records in stored order."""
        if self.cache is not None:
            return tf.data.Dataset.range(len(self.cache))
        if self.skipped is not None:
            return tf.data.Dataset.from_tensor_slices(self.paths).flat_map(as_written(self._open))
        return self.read(self.paths)

    def mixed(self, mixing: Mixing, seed: Any) -> tf.data.Dataset:
        """The records shuffled."""
        return mix_shards(
            self.paths if self.cache is None else self.cache.shards,
            self._open,
            mixing=mixing,
            seed=seed,
            thinned=lambda records: self._balanced(records, seed),
        )

    def parse(self, stored: Any) -> dict[str, Any]:
        """One of the records."""
        if self.cache is not None:
            return self.cache.gather(stored)
        return parse_record(stored, self.info)

    def _open(self, *shard: tf.Tensor) -> tf.data.Dataset:
        if self.cache is not None:
            start, count = shard
            return tf.data.Dataset.range(start, start + count)
        if self.skipped is not None:
            return sound_records(shard[0], self.skipped)
        return self.read(*shard)

    def _balanced(self, records: tf.data.Dataset, seed: Any) -> tf.data.Dataset:
        if not self.class_counts:
            return records
        return balance(records, self._class_of, self.class_counts, seed)

    def _class_of(self, stored: Any) -> tf.Tensor:
        if self.cache is not None:
            return self.cache.gather(stored, frames=False)[keys.LABEL_INDEX]
        context, _ = tf.io.parse_single_sequence_example(
            stored, context_features={keys.LABEL_INDEX: tf.io.FixedLenFeature((), tf.int64)}
        )
        return context[keys.LABEL_INDEX]


def make_batches(
    records: tf.data.Dataset,
    source: Source,
    elements: Elements,
    seed: Any,
    size: int,
    batch_size: int,
    drop_remainder: bool,
    input_context: tf.distribute.InputContext | None,
    left_out: Any,
) -> tf.data.Dataset:
    """Records as batches: what is random gets its seeds, hosts their part, and sequences their clips.

    The first ``left_out`` of the batches are passed over.
    """
    joined, count = records, elements.clips.count if elements.clips is not None else 1
    if input_context is not None:
        _check_shared(batch_size, count, input_context)
    if elements.random:
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        joined = tf.data.Dataset.zip(records, seeds.batch(2, drop_remainder=True))
    if input_context is not None:
        if drop_remainder:
            size -= size % batch_size
            joined = joined.take(size)
        joined = _own_part(joined, size, batch_size, input_context)
        first, end = share(
            batch_size, input_context.num_input_pipelines, input_context.input_pipeline_id
        )
        batch_size = end - first
    if count > 1 and source.skipped is None:
        joined = joined.flat_map(
            lambda *part: tf.data.Dataset.range(count).map(lambda number: (*part, number))
        )

    def make(stored: Any, *rest: tf.Tensor) -> Any:
        named = iter(rest)
        drawn = next(named) if elements.random else None
        return elements.from_record(source.parse(stored), drawn, next(named, 0))

    def make_all(stored: Any, *rest: tf.Tensor) -> Any:
        # All clips of a sequence, or none where one has a damaged frame: whoever averages over them counts.
        clips = [make(stored, *rest, number) for number in range(count)]
        return elements.with_pixels(tf.nest.map_structure(lambda *each: tf.stack(each), *clips))

    def add_pixels(*batch: Any) -> Any:
        kept = None if source.cache is None else source.cache.all_frames
        return elements.with_pixels(single(batch), kept)

    if source.skipped is not None:
        made = skip_undecodable(
            joined, make_all, source.skipped, parallel=buffers.threads()
        ).unbatch()
    else:
        made = joined.map(as_written(make), num_parallel_calls=buffers.threads())
    batches = made.batch(batch_size, drop_remainder=drop_remainder).skip(left_out)
    if input_context is not None:
        batches = _split(batches, _replicas(input_context))
    if source.skipped is not None or elements.spec.image is None:
        return batches
    parallel = buffers.batches_at_a_time(batch_size)
    return batches.map(as_written(add_pixels), num_parallel_calls=parallel)


def _replicas(context: tf.distribute.InputContext) -> int:
    """Devices of a host."""
    return context.num_replicas_in_sync // context.num_input_pipelines


def _check_shared(batch_size: int, clips: int, context: tf.distribute.InputContext) -> None:
    if batch_size < context.num_replicas_in_sync:
        raise ValueError(
            f"batch_size must be at least the {context.num_replicas_in_sync} replicas, got {batch_size}"
        )
    if clips > 1:
        raise ValueError("several clips a sequence go without input_context")


def share(count: Any, parts: int, part: int) -> tuple[Any, Any]:
    """Where one of ``parts`` parts of ``count`` things begins and ends; they differ by one at most.

    More things never make a part smaller. ``count`` may be a tensor.
    """
    each, rest = count // parts, count % parts
    # Numbers stay numbers where a graph is made.
    least = min if isinstance(count, int) else tf.minimum
    begins = [each * p + least(rest, p) for p in (part, part + 1)]
    return begins[0], begins[1]


def _own_part(
    elements: tf.data.Dataset, size: int, batch_size: int, context: tf.distribute.InputContext
) -> tf.data.Dataset:
    """Of each batch of all hosts together, the part of one of them, before it is decoded."""

    def is_own(place: tf.Tensor, _: Any) -> tf.Tensor:
        step, place = place // batch_size, place % batch_size
        together = tf.minimum(size - step * batch_size, batch_size)
        first, end = share(together, context.num_input_pipelines, context.input_pipeline_id)
        return (place >= first) & (place < end)

    return elements.enumerate().filter(as_written(is_own)).map(lambda _, element: element)


def _split(batches: tf.data.Dataset, parts: int) -> tf.data.Dataset:
    """Each batch as ``parts`` batches, one for each device of a host."""
    if parts == 1:
        return batches

    def split(*batch: Any) -> tf.data.Dataset:
        count = tf.shape(tf.nest.flatten(batch)[0], tf.int64)[0]

        def cut(part: tf.Tensor) -> Any:
            first, end = share(count, parts, part)
            return single(tf.nest.map_structure(lambda values: values[first:end], batch))

        return tf.data.Dataset.range(parts).map(as_written(cut))

    return batches.flat_map(as_written(split))
