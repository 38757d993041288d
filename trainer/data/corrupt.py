"""Locates corrupt records, or reads on without them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfrecords_schema.examples import decode_record
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.machine import usable_cpus
from tfrecords_schema.reading.frames import FrameError
from tfrecords_schema.records import (
    MAX_RECORD_BYTES,
    CorruptRecordError,
    StoredRecord,
    read_file,
    scan_file,
)
from tfrecords_schema.spec import IMAGE_ENCODED, SpecError
from trainer.config.dataset import (
    Datasets,
    has_mixed_indices,
    load_dataset,
    select_records,
    shard_paths,
)
from trainer.data.parsed_records import parse_record
from trainer.data.pixels import FrameReader
from trainer.data.shuffling import do_not_convert

_log = logging.getLogger(__name__)

# TensorFlow raises these for a corrupt file, a missing key, a frame that does not decode, or a wrong number
# of records. Python raises the first for such a frame.
_CORRUPTION_ERRORS = (
    FrameError,
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
)
_STORE_ERROR = re.compile(
    r"(StorageError|PermissionError|FileNotFoundError): \[Errno \d+\] (?P<reason>.*://.*)"
)


@contextlib.contextmanager
def located_errors(directory: Datasets, *splits: str) -> Iterator[None]:
    """Turns TensorFlow's error for a corrupt record into one that names file and byte.

    Example::

        with located_errors("dataset", "train", "validation"):
            model.fit(train, validation_data=validation)

    Raises:
        CorruptRecordError: if a record of ``splits`` is corrupt. Errors with other causes pass unchanged.
        OSError: if an object store fails, or refuses access, while a shard is streamed.
    """
    try:
        yield
    except tf.errors.UnknownError as error:
        # TensorFlow passes on what a Python stream raised only as text.
        if found := _STORE_ERROR.search(error.message):
            raise OSError(found["reason"]) from error
        raise
    except _CORRUPTION_ERRORS:
        info = load_dataset(directory)
        for split in splits:
            _check_records(directory, info, split)
        raise


def _check_records(directory: Datasets, info: DatasetInfo, split: str) -> None:
    """Raises an error that locates the first record of a split that training cannot read."""
    by_name = has_mixed_indices(directory)
    parse = tf.function(lambda serialized: parse_record(serialized, info, by_name=by_name))
    image = info.spec.image
    reader = image and FrameReader(stored=image, wanted=image, adopted=info.adopted)
    paths = shard_paths(directory, info, split)
    for place, (path, shard) in enumerate(zip(paths, info.splits[split].shards, strict=True)):
        offset = count = 0
        records = select_records(directory, split, place, read_file(path, info.max_record_bytes))
        for count, record in enumerate(records, start=1):  # noqa: B007
            offset = record.offset
            try:
                parsed = parse(tf.constant(record.data))
                if reader:
                    reader.read(parsed[IMAGE_ENCODED].numpy()[np.newaxis])
            except (tf.errors.OpError, ValueError) as error:
                reason = getattr(error, "message", str(error)).splitlines()[0]
                if not (info.adopted or by_name):
                    try:
                        decode_record(record.data, info.spec)  # says more than TensorFlow
                    except SpecError as found:
                        reason = str(found)
                raise CorruptRecordError(path, offset, f"{reason:.1000}") from error
        if count != shard.records:
            reason = (
                f"the shard ends after {count} records, but dataset_info.json says {shard.records}"
            )
            raise CorruptRecordError(path, offset, reason)


class SkippedRecords:
    """Counts the corrupt records that `trainer.data.reader.read_sequences` skips, as its ``ignore_errors``.

    Attributes:
        count: corrupt records skipped, each counted every time it was read.
        places: file and byte of each distinct one, in the order they were found.
    """

    def __init__(self) -> None:
        self.count = 0
        self.places: list[tuple[str, int]] = []
        self._known: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def to_json(self) -> dict[str, Any]:
        """Returns ``{"places": [{"file": "train-00000-of-00002.tfrecord", "byte": 5120}]}``."""
        places = [{"file": os.path.basename(file), "byte": byte} for file, byte in self.places]
        return {"places": places}

    def add(self, file: str, offset: int, reason: str) -> None:
        """Counts one, and logs a warning the first time."""
        with self._lock:
            self.count += 1
            if (file, offset) in self._known:
                return
            self._known.add((file, offset))
            self.places.append((file, offset))
        _log.warning("skipped: %s: corrupt record at byte %d: %s", file, offset, reason)


def read_sound_records(
    path: str, skipped: SkippedRecords, max_bytes: int = MAX_RECORD_BYTES
) -> Iterator[StoredRecord]:
    """Yields the records of the file at ``path`` whose checksums match, and counts the others."""
    for found in scan_file(path, max_bytes):
        if isinstance(found, StoredRecord):
            yield found
        else:
            skipped.add(found.file, found.offset, found.reason)


def skip_undecodable(
    records: tf.data.Dataset, build: Callable[..., Any], skipped: SkippedRecords
) -> tf.data.Dataset:
    """Returns ``build`` of each element, without those for which it fails. Their order stays.

    Elements are tuples that begin with a record of `StoredRecords`.
    """

    def add(file: bytes, offset: int) -> bool:
        skipped.add(
            os.fsdecode(file), int(offset), "it does not match its spec, or a frame does not decode"
        )
        return False

    def attempt(record: dict[str, Any], *rest: Any) -> tf.data.Dataset:
        built = tf.data.Dataset.from_tensors((record, *rest)).map(do_not_convert(build))

        def count(*_: Any) -> tf.Tensor:
            counted = tf.numpy_function(add, [record["file"], record["offset"]], tf.bool)
            return tf.ensure_shape(counted, ())

        # Read only if nothing was built; it counts the record and is empty.
        failed = tf.data.Dataset.from_tensors(
            tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), built.element_spec)
        )
        counted = failed.filter(do_not_convert(count))
        return built.ignore_errors().concatenate(counted).take(1)

    parallel = usable_cpus()
    return records.interleave(
        do_not_convert(attempt),
        cycle_length=parallel,
        num_parallel_calls=parallel,
        deterministic=True,
    )
