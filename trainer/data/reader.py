"""Reads a dataset folder as a `tf.data.Dataset` of batches, for anyone's ``model.fit``.

Example::

    train = read_sequences("dataset", "train", batch_size=16, shuffle=True, seed=0)
    features, labels = next(iter(train))
    features["image"].shape  # (16, 8, 180, 320, 3), uint8

Shapes, the number of batches and the task come from ``dataset_info.json``. Records are shuffled while they
are still compressed, so a large buffer is cheap; they are parsed and decoded in parallel, in no more memory
than `trainer.data.buffers` says.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.store_clients import is_url
from trainer.config.clips import Augmentation, Clips
from trainer.config.dataset import shard_paths, split_contents
from trainer.data import buffers
from trainer.data.batches import Source, make_batches
from trainer.data.cached_frames import CachedFrames
from trainer.data.corrupt import SkippedRecords, located_errors
from trainer.data.elements import IMAGE, VALID_FRAMES, Elements, ImageDtype
from trainer.data.labels import Labels, read_labels
from trainer.data.remote_records import record_reader
from trainer.data.shuffling import balanced_size, endless_epochs, plan_mixing

__all__ = [
    "IMAGE",
    "VALID_FRAMES",
    "Augmentation",
    "Clips",
    "Labels",
    "SkippedRecords",
    "located_errors",
    "read_labels",
    "read_sequences",
]


def read_sequences(
    directory: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int,
    shuffle: bool = False,
    shuffle_buffer: int | None = None,
    seed: int | None = None,
    first_epoch: int | None = None,
    first_step: int = 0,
    drop_remainder: bool = False,
    deterministic: bool | None = None,
    clips: Clips | None = None,
    augment: Augmentation | None = None,
    image_size: tuple[int, int] | None = None,
    image_dtype: ImageDtype = "uint8",
    padding_mask: bool = False,
    metadata: bool = False,
    sample_weights: bool = False,
    class_weights: Sequence[float] | None = None,
    balance_classes: bool = False,
    cache: CachedFrames | None = None,
    ignore_errors: bool | SkippedRecords = False,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Batches of one split.

    Elements are ``(features, labels)``; ``features`` alone when the dataset has no labels; and
    ``(features, labels, weights)`` when weights are asked for. With B sequences of T frames:

    - ``features["image"]``: ``[B, T, height, width, channels]`` uint8, unless records hold no images;
    - ``features["valid_frames"]``: ``[B]`` int64; frames from this index on are padding;
    - ``features[NAME]``: ``[B, T, size]`` float32 for each input signal;
    - ``labels``: classification ``[B]`` int64; multilabel ``[B, num_classes]`` float32 of 0 and 1; regression
      ``[B, targets]`` float32 in the targets' units; with labels by frame, ``[B, T]`` int64 and
      ``[B, T, targets]`` float32;
    - ``weights``: float32, ``[B]``, or ``[B, T]`` with labels by frame, where padding weighs 0.

    All dimensions but B are static, and B is too with ``drop_remainder``. The cardinality is known, except
    where batches are prefetched to a GPU (TensorFlow forgets it, and Keras learns it in the first epoch) and
    with ``ignore_errors``.

    Args:
        directory: a dataset folder.
        split: ``train``, ``validation``, ``test``, or another that the dataset has.
        batch_size: sequences a batch; of all replicas together, with ``input_context``.
        shuffle: in another order each epoch. Otherwise records come in the order they are stored.
        shuffle_buffer: records shuffled at a time; by default as many as fit in 256 MiB.
        seed: makes the shuffled orders, and what else is random, repeatable.
        first_epoch: makes the dataset endless: this epoch, the next, and so on, each in an order that its
            number and ``seed`` decide, for ``fit(steps_per_epoch=...)`` of a run that may be resumed.
        first_step: batches of the first of these epochs to leave out, for a run that is resumed within it.
        drop_remainder: leave out a last batch that is not full.
        deterministic: whether equal seeds give equal batches, with any number of threads. By default, with a
            seed or without shuffling they do.
        clips: a part of each sequence, chosen before anything is decoded; T is its number of frames.
        augment: random changes.
        image_size: height and width that frames are resized to.
        image_dtype: ``uint8``, 0 to 255; or ``float32``, 0 to 1.
        padding_mask: add ``features["padding_mask"]``, ``[B, T]`` bool: False where padding is.
        metadata: add ``features["id"]``, ``["source"]`` and ``["group"]``, ``[B]`` string, and
            ``["timestamps"]``, ``[B, T]`` int64 microseconds.
        sample_weights: add the weights.
        class_weights: one for each class, in label order; implies ``sample_weights``.
        balance_classes: as many sequences of each class as of any other, by repeating those of rare classes
            and leaving out some of common ones; together about as many as there are.
        cache: decoded frames to read instead of the records', from
            `trainer.data.cached_frames.cached_frames`.
        ignore_errors: leave out what is damaged, instead of stopping; a `SkippedRecords` counts. Of
            several clips a sequence, all are left out or none.
        input_context: gives this host its part of each batch, for
            ``strategy.distribute_datasets_from_function``; a last batch that is not full is shared as well.

    Raises:
        DatasetInfoError: when the folder is not a complete dataset.
        DatasetError: when the split is absent or empty, or a shard is missing or of another size.
        ValueError: for options that contradict each other or the dataset.

    While reading, a damaged record is a `tf.errors.OpError` that does not know its file;
    `located_errors` makes it an error that does.
    """
    info = DatasetInfo.load(directory)
    elements = Elements(
        info=info,
        clips=clips,
        augment=augment,
        image_size=image_size,
        image_dtype=image_dtype,
        padding_mask=padding_mask,
        metadata=metadata,
        sample_weights=sample_weights,
        class_weights=class_weights,
    )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if shuffle_buffer is not None and shuffle_buffer < 1:
        raise ValueError(f"shuffle_buffer must be at least 1, got {shuffle_buffer}")
    if first_epoch is not None and (not shuffle or seed is None):
        raise ValueError("first_epoch goes with shuffle and a seed")
    if first_step and first_epoch is None:
        raise ValueError("first_step goes with first_epoch")
    if balance_classes:
        _check_balance(info, shuffle)
    if ignore_errors and (cache is not None or balance_classes or input_context is not None):
        raise ValueError(
            "ignore_errors goes without cache, balance_classes and input_context, which count on all records"
        )
    if ignore_errors and is_url(directory):
        raise ValueError(f"ignore_errors goes with local files, got {directory}: copy them first")
    contents = split_contents(info, directory, split)
    if ignore_errors is True:
        ignore_errors = SkippedRecords()
    source = Source(
        paths=shard_paths(directory, info, split),
        read=record_reader(directory),
        info=info,
        cache=cache,
        skipped=ignore_errors or None,
        class_counts=contents.label_counts if balance_classes else (),
    )
    size = contents.num_records
    if balance_classes:
        size = sum(count > 0 for count in contents.label_counts) * balanced_size(
            contents.label_counts
        )

    def to_batches(records: tf.data.Dataset, epoch_seed: Any, left_out: Any = 0) -> tf.data.Dataset:
        if source.skipped is None:
            records = records.apply(tf.data.experimental.assert_cardinality(size))
        return make_batches(
            records,
            source,
            elements,
            epoch_seed,
            size,
            batch_size,
            drop_remainder,
            input_context,
            left_out,
        )

    mixing = plan_mixing(contents, shuffle_buffer)
    if not shuffle:
        dataset = to_batches(source.stored(), seed)
    elif first_epoch is None:
        dataset = to_batches(source.mixed(mixing, seed), seed)
    else:
        dataset = endless_epochs(
            lambda s, left_out: to_batches(source.mixed(mixing, s), s, left_out),
            seed,
            first_epoch,
            first_step,
        )
    options = tf.data.Options()
    options.deterministic = (
        deterministic if deterministic is not None else seed is not None or not shuffle
    )
    # The seeds that an endless dataset makes on its way are functions of the epoch: no state is lost when an
    # iterator is saved without them.
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    # Hosts share each batch. Were they to share the files, their epochs would not end together.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
        if input_context is None
        else tf.data.experimental.AutoShardPolicy.OFF
    )
    ahead = buffers.batches_ahead(elements.spec, batch_size, tf.as_dtype(image_dtype).size)
    return _prefetched(buffers.untuned(dataset.with_options(options)), ahead)


def _check_balance(info: DatasetInfo, shuffle: bool) -> None:
    label = info.spec.label
    if label.task != "classification" or label.per_frame or not shuffle:
        by_frame = " by frame" if label.per_frame else ""
        raise ValueError(
            "balance_classes goes with shuffle and a class for each sequence, got task "
            f"{label.task!r}{by_frame} and shuffle={shuffle}"
        )


def _prefetched(dataset: tf.data.Dataset, ahead: int) -> tf.data.Dataset:
    """The next batches are made ready meanwhile: in the GPU's memory when all of a batch goes there."""
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) == 1 and not tf.distribute.has_strategy():
        return dataset.prefetch(ahead).apply(tf.data.experimental.prefetch_to_device(gpus[0].name))
    return dataset.prefetch(ahead)
