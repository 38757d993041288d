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
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema.info import SplitInfo
from tfrecords_schema.storage import remove_folder
from trainer.config.dataset import Datasets, load_dataset
from trainer.data.buffers import without_autotune
from trainer.data.parsed_records import IMAGE, VALID_FRAMES
from trainer.data.read_options import Shuffle
from trainer.data.reader import read_sequences
from trainer.data.shuffling import endless_epochs, interleave_shards, plan_shuffle
from trainer.models.network import FROZEN_FEATURES, HEAD

_log = logging.getLogger(__name__)

_BATCHES_AHEAD = 2


def has_frozen_features(model: keras.Model) -> bool:
    """Returns True if ``model`` begins with layers that are not trained."""
    return any(layer.name == FROZEN_FEATURES for layer in model.layers)


def split_at_features(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Splits ``model`` into two models of its layers: frames to frozen features, and features to outputs.

    The first takes `IMAGE` and `VALID_FRAMES`.

    The second takes `FROZEN_FEATURES` in place of the frames. Training it trains ``model``.
    """
    features = model.get_layer(FROZEN_FEATURES).output
    frames = {name: model.input[name] for name in (IMAGE, VALID_FRAMES)}
    return keras.Model(frames, features, name="encoder"), model.get_layer(HEAD)


@dataclass(frozen=True, kw_only=True)
class CachedSplit:
    """The features of one split, and the rest of its elements.

    Attributes:
        features: ``[N, T, ...]`` float32, on disk.
        rest: the elements of `trainer.data.reader.read_sequences` without their frames, over N.
        contents: description of the split.
    """

    features: npt.NDArray[np.float32]
    rest: Any
    contents: SplitInfo

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Returns each record once, in stored order."""
        return self._gathered(tf.data.Dataset.range(len(self.features)).batch(batch_size))

    def endless_epochs(
        self, batch_size: int, seed: int, order: Shuffle, *, drop_remainder: bool = False
    ) -> tf.data.Dataset:
        """Returns the batches of endless epochs, in the orders of `read_sequences` with the same options."""
        counts = np.array([shard.records for shard in self.contents.shards], np.int64)
        starts = np.cumsum(counts) - counts
        plan = plan_shuffle(self.contents, order.buffer)

        def read_epoch(epoch_seed: tf.Tensor, skipped_steps: tf.Tensor) -> tf.data.Dataset:
            records = interleave_shards(
                (starts, counts),
                lambda start, count: tf.data.Dataset.range(start, start + count),
                plan,
                epoch_seed,
            )
            records = records.shuffle(plan.buffer, seed=epoch_seed)
            return records.batch(batch_size, drop_remainder=drop_remainder).skip(skipped_steps)

        first = order.first_epoch or 0
        return self._gathered(endless_epochs(read_epoch, seed, first, order.first_step))

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
    directory: Datasets,
    reads: dict[str, dict[str, Any]],
    folder: Path,
) -> Iterator[dict[str, CachedSplit]]:
    """Computes the features of each split once: those of a frozen encoder are the same in every epoch.

    Args:
        encoder: the frozen part of the model, from images to features.
        directory: of the dataset.
        reads: options of `read_sequences` by split, which read each record once.
        folder: for the files of features; made here, and removed afterwards.
    """
    info = load_dataset(directory)
    encode = tf.function(
        lambda frames: tf.cast(encoder(frames, training=False), tf.float32),
        input_signature=[
            {name: tf.TensorSpec(x.shape, x.dtype, name) for name, x in encoder.input.items()}
        ],
    )

    def compute(split: str, options: dict[str, Any]) -> CachedSplit:
        contents, file = info.splits[split], folder / f"{split}.npy"
        shape = (contents.num_records, *encoder.output.shape[1:])
        features = np.lib.format.open_memmap(file, "w+", np.float32, shape)
        rest, done = [], 0
        for inputs, *labels in read_sequences(directory, split, **options):
            batch = encode({name: inputs[name] for name in encoder.input}).numpy()
            del inputs[IMAGE]
            features[done : done + len(batch)] = batch
            done += len(batch)
            rest.append((inputs, *labels))
        features.flush()
        return CachedSplit(
            features=np.load(file, mmap_mode="r"),
            rest=tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *rest),
            contents=contents,
        )

    remove_folder(folder)  # left by a killed run
    folder.mkdir(parents=True)
    started = time.monotonic()
    try:
        splits = {split: compute(split, options) for split, options in reads.items()}
        _log.info(
            "frozen features: computed once, in %.1f s, %.1f MiB in %s until the training ends",
            time.monotonic() - started,
            sum(split.features.nbytes for split in splits.values()) / 2**20,
            folder,
        )
        yield splits
    finally:
        remove_folder(folder)
