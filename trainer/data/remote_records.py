"""Streams records of shards on an object store, since TensorFlow's own readers do not open ``s3://``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfrecords_schema.paths import is_url
from tfrecords_schema.records import read_file


def record_reader(directory: str | os.PathLike[str]) -> Callable[[Any], tf.data.Dataset]:
    """Returns a function that opens shards of the dataset in ``directory``, like `tf.data.TFRecordDataset`.

    It takes a path, a list of paths or a string tensor, and gives records, ``[]`` string. Shards on an object
    store are streamed: a few blocks of some MiB are held at a time, and nothing on disk.
    """
    return _stream if is_url(directory) else tf.data.TFRecordDataset


def _stream(paths: Any) -> tf.data.Dataset:
    urls = tf.data.Dataset.from_tensor_slices(tf.reshape(tf.convert_to_tensor(paths), [-1]))
    record = tf.TensorSpec([], tf.string)
    return urls.flat_map(
        lambda url: tf.data.Dataset.from_generator(_records, args=(url,), output_signature=record)
    )


def _records(url: bytes) -> Iterator[bytes]:
    for record in read_file(url.decode()):
        yield record.data
