"""Decodes the frames of a split once, and keeps them in memory or in a file for every epoch."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.example_pb2 import SequenceExample
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.machine import usable_cpus, usable_memory
from tfrecords_schema.reading.frames import Frames
from tfrecords_schema.spec import ImageSpec
from tfrecords_schema.storage import replacing
from trainer.config.dataset import DatasetError, Datasets, load_dataset, split_contents
from trainer.data.buffers import without_autotune
from trainer.data.corrupt import located_errors
from trainer.data.parsed_records import parse_record
from trainer.data.pixels import FrameReader
from trainer.data.shuffling import do_not_convert
from trainer.data.stored_records import StoredRecords

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CachedFrames:
    """The decoded frames of a split. Its records are indices of sequences, ``[]`` int64.

    Attributes:
        frames: ``[N, T, height, width, channels]`` uint8, in stored order.
        rest: ``[N]`` string, the records without their frames.
        shard_records: number of records in each shard.
        info: description of the dataset.
        by_name: see `StoredRecords`.
    """

    frames: npt.NDArray[np.uint8]
    rest: tf.Tensor
    shard_records: tuple[int, ...]
    info: DatasetInfo
    by_name: bool = False
    skipped: ClassVar[None] = None

    @property
    def shards(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Index of the first record of each shard, and the number of its records."""
        counts = np.array(self.shard_records, np.int64)
        return np.cumsum(counts) - counts, counts

    @property
    def all_frames(self) -> Frames:
        """Frames of all sequences, one after the other: ``[N * T, height, width, channels]``."""
        return self.frames.reshape(-1, *self.frames.shape[2:])

    def in_order(self) -> tf.data.Dataset:
        """Returns the records in stored order."""
        return tf.data.Dataset.range(len(self.frames))

    def open_shard(self, start: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
        """Returns the records of one of `shards`."""
        return tf.data.Dataset.range(start, start + count)

    def parse(self, index: tf.Tensor, *, frames: bool = True) -> dict[str, Any]:
        """Returns a parsed record with indices into `all_frames` in place of encoded frames."""
        record = tf.gather(self.rest, index)
        parsed = parse_record(record, self.info, frames=False, by_name=self.by_name)
        if frames:
            steps = self.info.spec.num_frames
            parsed[keys.IMAGE_ENCODED] = index * steps + tf.range(steps, dtype=tf.int64)
        return parsed


def cached_bytes(info: DatasetInfo, split: str) -> int:
    """Returns the bytes that the decoded frames of a split take."""
    return info.splits[split].num_records * int(np.prod(info.spec.image_shape))


def cached_frames(
    directory: Datasets, split: str, *, folder: str | os.PathLike[str] | None = None
) -> CachedFrames:
    """Decodes all frames of a split. Logs first how much room they take.

    Worth it if training waits for decoding and the frames fit: they take ten to thirty times the room of
    their JPEGs. Clips, augmentation, orders and pixels are the same as without a cache. Only in adopted
    datasets, frames are resized before they are cropped, not after.

    Example::

        cache = cached_frames("dataset", "train", folder="/fast/disk")
        train = read_sequences("dataset", "train", batch_size=16, loading=Loading(cache=cache))

    Args:
        directory: a dataset folder, or several.
        split: one of its splits.
        folder: keeps them in a file here, which the next call for the same records finds. None keeps them in
            memory.

    Raises:
        DatasetInfoError, DatasetError: see `read_sequences`; and without frames or room for them.
        CorruptRecordError: if a record is corrupt.
    """
    info = load_dataset(directory)
    contents = split_contents(info, directory, split)
    if info.spec.image is None:
        raise DatasetError(f"{directory} has no images: there is nothing to cache")
    stored = StoredRecords(directory, info, split)
    shape = (contents.num_records, *info.spec.image_shape)
    # Adopted records may be adopted again with another spec, and give other frames then.
    identity = [shape, info.adopted, info.spec.image, *(shard.sha256 for shard in contents.shards)]
    digest = hashlib.sha256(repr(identity).encode())
    file = None if folder is None else Path(folder) / f"{split}-{digest.hexdigest()[:16]}.npy"
    needed = cached_bytes(info, split)
    with located_errors(directory, split):
        if file is not None and file.is_file():
            _log.info("decoded frames of %s: found in %s, %.0f MiB", split, file, needed / 2**20)
            records = without_autotune(stored.in_order()).as_numpy_iterator()
            frames, rest = _load(file, shape), [_without_frames(record) for record in records]
        else:
            _check_room(needed, file)
            place = file or "memory"
            _log.info("decoded frames of %s: %.0f MiB in %s", split, needed / 2**20, place)
            frames, rest = _decode(stored, info.spec.image, shape, file)
    return CachedFrames(
        frames=frames,
        rest=tf.constant(rest),
        shard_records=tuple(shard.records for shard in contents.shards),
        info=info,
        by_name=stored.by_name,
    )


def _load(file: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    try:
        frames = np.load(file, mmap_mode="r")
        found = f"{frames.dtype} of {frames.shape}"
    except (ValueError, EOFError) as error:
        found = str(error)
    if found != f"uint8 of {shape}":
        raise DatasetError(f"{file} must hold uint8 of {shape}, found {found}: delete it")
    return frames


def _decode(
    stored: StoredRecords, image: ImageSpec, shape: tuple[int, ...], file: Path | None
) -> tuple[npt.NDArray[np.uint8], list[bytes]]:
    """Returns the frames, in ``file`` if there is one, and the records without them."""
    if file is None:
        frames = np.empty(shape, np.uint8)
        return frames, _decode_into(frames, stored, image)
    with replacing(file) as partial:
        frames = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        rest = _decode_into(frames, stored, image)
        frames.flush()
    return np.load(file, mmap_mode="r"), rest


def _decode_into(frames: Any, stored: StoredRecords, image: ImageSpec) -> list[bytes]:
    """Fills ``frames``, and returns the records without them."""

    def encoded(serialized: tf.Tensor) -> Any:
        return serialized, stored.parse(serialized)[keys.IMAGE_ENCODED]

    batches = (
        stored.in_order()
        .apply(tf.data.experimental.assert_cardinality(len(frames)))
        .map(do_not_convert(encoded), num_parallel_calls=usable_cpus())
        .batch(2 * usable_cpus())
        .prefetch(1)
        .apply(without_autotune)
    )
    reader = FrameReader(stored=image, wanted=image, adopted=stored.info.adopted)
    rest: list[bytes] = []
    for serialized, files in batches.as_numpy_iterator():
        frames[len(rest) : len(rest) + len(files)] = reader.read(files)
        rest += map(_without_frames, serialized)
    return rest


def _without_frames(serialized: bytes) -> bytes:
    example = SequenceExample.FromString(serialized)
    del example.feature_lists.feature_list[keys.IMAGE_ENCODED]
    return example.SerializeToString()


def _check_room(needed: int, file: Path | None) -> None:
    """Checks that ``needed`` bytes fit into memory, or on the disk of ``file``."""
    if file is None:
        free, where = usable_memory(), "in memory"
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        free, where = shutil.disk_usage(file.parent).free, f"on the disk of {file.parent}"
    if needed > free:
        raise DatasetError(
            f"the decoded frames take {needed / 2**20:.0f} MiB, and {free / 2**20:.0f} MiB are free "
            f"{where}: read them from the records, or cache smaller frames"
        )
