"""The output of a frozen backbone, computed once and read in every epoch instead of the frames.

A network whose backbone is frozen (or its first layers are) gives the same features for a frame whenever it
sees it. They are computed once, kept in a file of the run folder, and the layers after them trained on that.
Weights and losses come out as they would without, up to the rounding of floats: records come in the same
orders. Memory holds labels and signals, and a batch of features at a time. Nothing may change a frame from
one epoch to the next: with augmentation, nothing is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from trainer.data.buffers import without_autotune
from trainer.data.reader import IMAGE, read_sequences
from trainer.data.shuffling import ShufflePlan, endless_epochs, plan_shuffle, shuffle_shards
from trainer.models.network import FROZEN_FEATURES, HEAD

_log = logging.getLogger(__name__)

# Of the free disk: the run has other files to write, and may not be alone.
_MOST_OF_THE_DISK = 0.5
_BATCHES_AHEAD = 2


def has_frozen_features(model: keras.Model) -> bool:
    """Whether ``model`` begins with layers that are not trained."""
    return any(layer.name == FROZEN_FEATURES for layer in model.layers)


def split_at_features(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """``model`` as two of the same layers: frames to frozen features, and those to its output.

    The second takes `FROZEN_FEATURES` where ``model`` takes the frames; to train it trains ``model``.
    """
    features = model.get_layer(FROZEN_FEATURES).output
    return keras.Model(model.input[IMAGE], features, name="encoder"), model.get_layer(HEAD)


def feature_bytes(model: keras.Model, info: DatasetInfo, splits: list[str]) -> int:
    """What the features of ``splits`` take on disk."""
    _, *shape = model.get_layer(FROZEN_FEATURES).output.shape
    records = sum(info.splits[split].num_records for split in splits)
    return records * int(np.prod(shape)) * np.dtype(np.float32).itemsize


def room_for(needed: int, folder: Path) -> bool:
    """Whether the disk of ``folder`` holds ``needed`` bytes with room to spare."""
    return needed < _MOST_OF_THE_DISK * shutil.disk_usage(folder).free


@dataclass(frozen=True, kw_only=True)
class CachedSplit:
    """The features of one split, and what else its records hold.

    Attributes:
        features: ``[N, T, ...]`` float32, on disk.
        rest: the elements of `trainer.data.reader.read_sequences` without their frames, over N.
        shard_records: how many of the N are in each shard, in order.
        plan: how they are shuffled.
    """

    features: npt.NDArray[np.float32]
    rest: Any
    shard_records: tuple[int, ...]
    plan: ShufflePlan

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Each record once, in stored order."""
        return self._gathered(tf.data.Dataset.range(len(self.features)).batch(batch_size))

    def endless_epochs(
        self,
        batch_size: int,
        seed: int,
        first_epoch: int,
        first_step: int,
        *,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """In the orders of `read_sequences` with the same options."""
        counts = np.array(self.shard_records, np.int64)
        starts = np.cumsum(counts) - counts

        def epoch(epoch_seed: tf.Tensor, left_out: tf.Tensor) -> tf.data.Dataset:
            records = shuffle_shards(
                (starts, counts),
                lambda start, count: tf.data.Dataset.range(start, start + count),
                plan=self.plan,
                seed=epoch_seed,
            )
            return records.batch(batch_size, drop_remainder=drop_remainder).skip(left_out)

        return self._gathered(endless_epochs(epoch, seed, first_epoch, first_step))

    def _gathered(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Batches of indices as batches of records."""
        frozen_shape = self.features.shape[1:]

        def read(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            return np.asarray(self.features[indices])

        def gather(indices: tf.Tensor) -> Any:
            features = tf.numpy_function(read, [indices], tf.float32, stateful=False)
            features = tf.ensure_shape(features, (None, *frozen_shape))
            inputs, *labels = tf.nest.map_structure(lambda v: tf.gather(v, indices), self.rest)
            return {**inputs, FROZEN_FEATURES: features}, *labels

        options = tf.data.Options()
        options.deterministic = True
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        return without_autotune(batches.map(gather).prefetch(_BATCHES_AHEAD).with_options(options))


@contextlib.contextmanager
def computed_features(
    encoder: keras.Model,
    directory: str | os.PathLike[str],
    reads: dict[str, dict[str, Any]],
    folder: Path,
    *,
    shuffle_buffer: int | None,
) -> Iterator[dict[str, CachedSplit]]:
    """The features of each split, in files of ``folder`` that are gone afterwards.

    Args:
        encoder: the first of `split_at_features`.
        directory: of the dataset.
        reads: by split, the options that `read_sequences` is given for it.
        folder: made here, and removed.
        shuffle_buffer: records shuffled at a time, if asked for.
    """
    info = DatasetInfo.load(directory)
    encode = tf.function(
        lambda frames: encoder(frames, training=False),
        input_signature=[tf.TensorSpec(encoder.input.shape, tf.uint8)],
    )
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    started = time.monotonic()
    try:
        splits = {}
        for split, options in reads.items():
            contents = info.splits[split]
            features, rest = _compute(
                encode,
                read_sequences(directory, split, **options),
                folder / f"{split}.npy",
                (contents.num_records, *encoder.output.shape[1:]),
            )
            splits[split] = CachedSplit(
                features=features,
                rest=rest,
                shard_records=tuple(shard.records for shard in contents.shards),
                plan=plan_shuffle(contents, shuffle_buffer),
            )
        total = sum(split.features.nbytes for split in splits.values())
        _log.info(
            "frozen features: computed once, in %.1f s, %.1f MiB in %s until the training ends",
            time.monotonic() - started,
            total / 2**20,
            folder,
        )
        yield splits
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compute(
    encode: Callable[[tf.Tensor], tf.Tensor],
    dataset: tf.data.Dataset,
    file: Path,
    shape: tuple[int, ...],
) -> tuple[npt.NDArray[np.float32], Any]:
    """The features of ``dataset`` in ``file``, and the rest of its elements."""
    features = np.lib.format.open_memmap(file, "w+", np.float32, shape)
    rest, done = [], 0
    for inputs, *labels in dataset:
        batch = tf.cast(encode(inputs.pop(IMAGE)), tf.float32).numpy()
        features[done : done + len(batch)] = batch
        done += len(batch)
        rest.append((inputs, *labels))
    features.flush()
    return np.load(file, mmap_mode="r"), tf.nest.map_structure(
        lambda *values: tf.concat(values, axis=0), *rest
    )
