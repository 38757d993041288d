"""Opens the shards of a split as datasets of records, local ones and those on an object store."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.paths import is_url
from tfrecords_schema.records import check_lengths, read_file
from trainer.config.dataset import (
    Datasets,
    Selection,
    folders_of,
    has_mixed_indices,
    shard_paths,
)
from trainer.data.corrupt import SkippedRecords, read_sound_records
from trainer.data.parsed_records import parse_record
from trainer.data.shuffling import do_not_convert

_check_lengths = functools.lru_cache(maxsize=1 << 12)(check_lengths)  # in the first epoch only


@dataclass(frozen=True)
class StoredRecords:
    """The records of a split: ``[]`` string, or with `skipped` dicts of ``record``, ``file`` and ``offset``.

    Attributes:
        skipped: counts corrupt records, which are skipped; None stops at the first.
        shards: paths, in order; for a selection, the number of records before each as well.
        by_name: indices of classes differ between several datasets, so names decide.
    """

    directory: Datasets
    info: DatasetInfo
    split: str
    skipped: SkippedRecords | None = None
    shards: Any = field(init=False)
    by_name: bool = field(init=False)

    def __post_init__(self) -> None:
        shards: Any = shard_paths(self.directory, self.info, self.split)
        if self._masks:
            counts = np.array(list(map(len, self._masks)), np.int64)
            shards = (shards, counts.cumsum() - counts)
        object.__setattr__(self, "shards", shards)
        object.__setattr__(self, "by_name", has_mixed_indices(self.directory))

    def in_order(self) -> tf.data.Dataset:
        """Returns the records in stored order."""
        shards = tf.data.Dataset.from_tensor_slices(self.shards)
        return shards.flat_map(do_not_convert(self.open_shard))

    @property
    def _masks(self) -> list[Any]:
        parts = self.directory.parts if isinstance(self.directory, Selection) else {}
        return [mask for _, mask in parts.get(self.split, ())]

    def open_shard(self, path: tf.Tensor, first: Any = None) -> tf.data.Dataset:
        """Returns the records of one of `shards`."""
        records = self._open(path)
        if first is None:
            return records
        mask = np.concatenate(self._masks)
        kept, places = tf.constant(mask), tf.data.Dataset.range(first, len(mask))
        numbered = tf.data.Dataset.zip((places, records))
        own = numbered.filter(do_not_convert(lambda place, _: kept[place]))
        return own.map(do_not_convert(lambda _, record: record))

    def _open(self, path: tf.Tensor) -> tf.data.Dataset:
        """Returns all records of a file.

        TensorFlow's own reader neither opens ``s3://`` nor continues after damage. Here, a few blocks of some
        MiB are held at a time, and nothing on disk.
        """
        skipped = self.skipped
        limit = self.info.max_record_bytes
        if skipped is None and not any(map(is_url, folders_of(self.directory))):
            check = functools.partial(_check_lengths, max_bytes=limit)
            path = tf.numpy_function(check, [path], tf.string, stateful=False)
            return tf.data.TFRecordDataset(path)

        def read(file: bytes) -> Iterator[dict[str, Any]]:
            name = os.fsdecode(file)
            found = (
                read_file(name, limit)
                if skipped is None
                else read_sound_records(name, skipped, limit)
            )
            for offset, data in found:
                yield {"record": data, "file": file, "offset": offset}

        signature = {
            "record": tf.TensorSpec((), tf.string),
            "file": tf.TensorSpec((), tf.string),
            "offset": tf.TensorSpec((), tf.int64),
        }
        records = tf.data.Dataset.from_generator(read, output_signature=signature, args=(path,))
        return records.map(lambda found: found["record"]) if skipped is None else records

    def parse(self, record: Any, *, frames: bool = True) -> dict[str, Any]:
        """Returns a record of this split as `parse_record` does."""
        serialized = record if self.skipped is None else record["record"]
        return parse_record(serialized, self.info, frames=frames, by_name=self.by_name)
