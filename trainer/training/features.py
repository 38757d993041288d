"""Computes the output of a frozen backbone once, to be read in every epoch instead of the frames.

If the first layers of a network are frozen, a frame has the same features in every epoch. They are
computed once, kept in a file of the run folder, and the layers after them are trained on it. Weights and
losses are equal to those without the cache, up to the rounding of floats, since records come in the same
orders. Memory holds labels, signals and a batch of features. Frames must not change from epoch to epoch:
with augmentation, nothing is cached.
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
from trainer.data.shuffling import ShufflePlan, endless_epochs, interleave_shards, plan_shuffle
from trainer.models.network import FROZEN_FEATURES, HEAD

_log = logging.getLogger(__name__)

# Share of the free disk: the run writes other files, and other programs may do so too.
_MAX_DISK_SHARE = 0.5
_BATCHES_AHEAD = 2


def has_frozen_features(model: keras.Model) -> bool:
    """Returns True if ``model`` begins with layers that are not trained."""
    return any(layer.name == FROZEN_FEATURES for layer in model.layers)


def split_at_features(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Splits ``model`` into two models of its layers: frames to frozen features, and features to outputs.

    The second takes `FROZEN_FEATURES` in place of the frames. Training it trains ``model``.
    """
    features = model.get_layer(FROZEN_FEATURES).output
    return keras.Model(model.input[IMAGE], features, name="encoder"), model.get_layer(HEAD)


def feature_bytes(model: keras.Model, info: DatasetInfo, splits: list[str]) -> int:
    """Returns the bytes that the features of ``splits`` take on disk."""
    _, *shape = model.get_layer(FROZEN_FEATURES).output.shape
    records = sum(info.splits[split].num_records for split in splits)
    return records * int(np.prod(shape)) * np.dtype(np.float32).itemsize


def fits_on_disk(needed: int, folder: Path) -> bool:
    """Returns True if ``needed`` bytes leave enough of the disk of ``folder`` free."""
    return needed < _MAX_DISK_SHARE * shutil.disk_usage(folder).free


@dataclass(frozen=True, kw_only=True)
class CachedSplit:
    """The features of one split, and the rest of its elements.

    Attributes:
        features: ``[N, T, ...]`` float32, on disk.
        rest: the elements of `trainer.data.reader.read_sequences` without their frames, over N.
        shard_records: number of records in each shard.
        plan: of shuffling them.
    """

    features: npt.NDArray[np.float32]
    rest: Any
    shard_records: tuple[int, ...]
    plan: ShufflePlan

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Returns each record once, in stored order."""
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
        """Returns the batches of endless epochs, in the orders of `read_sequences` with the same options."""
        counts = np.array(self.shard_records, np.int64)
        starts = np.cumsum(counts) - counts

        def read_epoch(epoch_seed: tf.Tensor, skipped_steps: tf.Tensor) -> tf.data.Dataset:
            records = interleave_shards(
                (starts, counts),
                lambda start, count: tf.data.Dataset.range(start, start + count),
                self.plan,
                epoch_seed,
            )
            records = records.shuffle(self.plan.buffer, seed=epoch_seed)
            return records.batch(batch_size, drop_remainder=drop_remainder).skip(skipped_steps)

        return self._gathered(endless_epochs(read_epoch, seed, first_epoch, first_step))

    def _gathered(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Maps batches of indices to batches of records."""
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
    """Computes the features of each split, in files of ``folder`` that are removed afterwards.

    Args:
        encoder: the first model of `split_at_features`.
        directory: of the dataset.
        reads: by split, options of `read_sequences`.
        folder: made here, and removed.
        shuffle_buffer: records shuffled at a time; None for the default.
    """
    info = DatasetInfo.load(directory)
    encode = tf.function(
        lambda frames: encoder(frames, training=False),
        input_signature=[tf.TensorSpec(encoder.input.shape, tf.uint8)],
    )
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed run
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
    """Writes the features of ``dataset`` to ``file``; returns them and the rest of its elements."""
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
