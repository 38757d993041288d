"""Records that are damaged: where they are, or reading on without them."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import (
    FRAMING_BYTES,
    CorruptRecordError,
    masked_crc32c,
    read_file,
)
from tfrecords_schema.spec import IMAGE_ENCODED
from trainer.config.dataset import shard_paths
from trainer.data.elements import parse_record
from trainer.data.pixels import FrameError, FrameReader
from trainer.data.shuffling import as_written

_log = logging.getLogger(__name__)

# What TensorFlow raises for a damaged file, a record that lacks a key, a frame that does not decode, or
# another number of records than promised; and what such a frame is where Python reads it.
_DAMAGE_ERRORS = (
    FrameError,
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
)
_STORE_ERROR = re.compile(
    r"(StorageError|PermissionError|FileNotFoundError): \[Errno \d+\] (?P<reason>.*://.*)"
)
_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")


@contextlib.contextmanager
def located_errors(directory: str | os.PathLike[str], *splits: str) -> Iterator[None]:
    """Inside it, TensorFlow's error for a damaged record becomes one that names file and byte.

    Example::

        with located_errors("dataset", "train", "validation"):
            model.fit(train, validation_data=validation)

    Raises:
        CorruptRecordError: where a record of ``splits`` is damaged. An error that has nothing to do with the
            records is left as it is.
        OSError: where an object store failed, or refused access, while a shard was streamed.
    """
    try:
        yield
    except tf.errors.UnknownError as error:
        # TensorFlow has no other way of saying what a stream in Python raised.
        if said := _STORE_ERROR.search(error.message):
            raise OSError(said["reason"]) from error
        raise
    except _DAMAGE_ERRORS:
        info = DatasetInfo.load(directory)
        for split in splits:
            _check_records(directory, info, split)
        raise


def _check_records(directory: str | os.PathLike[str], info: DatasetInfo, split: str) -> None:
    """Reads every record of a split as training does, and raises for the first that is damaged."""
    parse = tf.function(lambda serialized: parse_record(serialized, info))
    image = info.spec.image
    reader = image and FrameReader(stored=image, wanted=image, adopted=info.adopted)
    paths = shard_paths(directory, info, split)
    for path, shard in zip(paths, info.splits[split].shards, strict=True):
        offset = count = 0
        for count, record in enumerate(read_file(path), start=1):  # noqa: B007
            offset = record.offset
            try:
                parsed = parse(tf.constant(record.data))
                if reader:
                    reader.read(parsed[IMAGE_ENCODED].numpy()[np.newaxis])
            except (tf.errors.OpError, ValueError) as error:
                reason = getattr(error, "message", str(error)).splitlines()[0]
                raise CorruptRecordError(path, offset, reason) from error
        if count != shard.records:
            raise CorruptRecordError(
                path,
                offset,
                f"it is the last of {count}, and dataset_info.json says {shard.records}",
            )


class SkippedRecords:
    """Counts what `trainer.data.reader.read_sequences` skips when it is given as ``ignore_errors``.

    Attributes:
        count: damaged places that were passed over, once for each time they were read.
        places: file and byte of each different one, in the order in which they were met.
    """

    def __init__(self) -> None:
        self.count = 0
        self.places: list[tuple[str, int]] = []
        self._lock = threading.Lock()

    def to_json(self) -> dict[str, Any]:
        """``{"places": [{"file": "train-00000-of-00002.tfrecord", "byte": 5120}]}``."""
        places = [{"file": os.path.basename(file), "byte": byte} for file, byte in self.places]
        return {"places": places}

    def add(self, file: str, offset: int, reason: str) -> None:
        """Counts one; the first time, a warning names it."""
        with self._lock:
            self.count += 1
            if (file, offset) in self.places:
                return
            self.places.append((file, offset))
        _log.warning("skipped: %s: corrupt record at byte %d: %s", file, offset, reason)


def read_sound_records(path: str, skipped: SkippedRecords) -> Iterator[tuple[int, bytes]]:
    """Offset and data of every record whose checksums hold, up to the end of the file at ``path``.

    A record with another checksum is left out; after a length that cannot be believed, reading goes on at the
    next place that has one which can.
    """
    if not os.path.getsize(path):
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        offset = 0
        while offset < len(data):
            length = _length_at(data, offset)
            end = offset + FRAMING_BYTES + (length or 0)
            if length is None or end > len(data):
                skipped.add(path, offset, "its length is damaged, or the file is cut short")
                offset = _next_record(data, offset + 1)
                continue
            content = data[offset + _HEADER.size : end - _CRC.size]
            if masked_crc32c(content) == _CRC.unpack_from(data, end - _CRC.size)[0]:
                yield offset, content
            else:
                skipped.add(path, offset, "the data's checksum does not match")
            offset = end


def _length_at(data: mmap.mmap, offset: int) -> int | None:
    """The length of the record at ``offset``; None where its checksum does not hold."""
    if offset + _HEADER.size > len(data):
        return None
    length, checksum = _HEADER.unpack_from(data, offset)
    return length if masked_crc32c(data[offset : offset + 8]) == checksum else None


def _next_record(data: mmap.mmap, start: int) -> int:
    """The first place from ``start`` on with a length and its checksum; the end where there is none."""
    # No record has 4 GiB, so the upper half of every length is four zeros, which images hardly have.
    zeros = data.find(bytes(4), start + 4)
    while zeros >= 0:
        if _length_at(data, zeros - 4) is not None:
            return zeros - 4
        zeros = data.find(bytes(4), zeros + 1)
    return len(data)


def sound_records(path: tf.Tensor, skipped: SkippedRecords) -> tf.data.Dataset:
    """The sound records of a shard: each its ``record``, ``file`` and ``offset``."""

    def read(file: bytes) -> Iterator[dict[str, Any]]:
        for offset, data in read_sound_records(os.fsdecode(file), skipped):
            yield {"record": data, "file": file, "offset": offset}

    signature = {
        "record": tf.TensorSpec((), tf.string),
        "file": tf.TensorSpec((), tf.string),
        "offset": tf.TensorSpec((), tf.int64),
    }
    return tf.data.Dataset.from_generator(read, output_signature=signature, args=(path,))


def skip_undecodable(
    records: tf.data.Dataset,
    make: Callable[..., Any],
    skipped: SkippedRecords,
    *,
    parallel: int,
) -> tf.data.Dataset:
    """``make`` of each element, without those of which it fails.

    Args:
        records: elements of `sound_records`, with whatever else ``make`` takes after them.
        make: a serialized record, and the rest of the element, to what is read.
        skipped: counts.
        parallel: elements made at a time; their order stays.
    """

    def attempt(source: Any, *rest: Any) -> tf.data.Dataset:
        file, offset = source["file"], source["offset"]
        made = tf.data.Dataset.from_tensors((source["record"], *rest)).map(as_written(make))
        empty = tf.nest.map_structure(
            lambda spec: tf.zeros(spec.shape, spec.dtype), made.element_spec
        )
        failed = tf.data.Dataset.from_tensors((False, file, offset, empty))
        return (
            made.map(lambda *element: (True, file, offset, single(element)))
            .ignore_errors()
            .concatenate(failed)
            .take(1)
        )

    def count(file: bytes, offset: int) -> bool:
        skipped.add(os.fsdecode(file), int(offset), "a key is missing, or a frame does not decode")
        return False

    def is_sound(sound: tf.Tensor, file: tf.Tensor, offset: tf.Tensor, _: Any) -> tf.Tensor:
        counted = lambda: tf.ensure_shape(tf.numpy_function(count, [file, offset], tf.bool), ())  # noqa: E731
        return tf.cond(sound, lambda: True, counted)

    attempts = records.interleave(
        as_written(attempt), cycle_length=parallel, num_parallel_calls=parallel, deterministic=True
    )
    return attempts.filter(as_written(is_sound)).map(lambda _, __, ___, made: made)


def single(element: tuple[Any, ...]) -> Any:
    """An element of a dataset, of what a map over it is given: the parts of a tuple, and a dict as it is."""
    return element if len(element) > 1 else element[0]
