"""Reads a dataset folder as a `tf.data.Dataset` of batches, for any ``model.fit``.

Records are shuffled while they are still compressed, so a large buffer is cheap. They are parsed and decoded
in parallel, in bounded memory (`trainer.data.buffers`).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from trainer.config.clips import Augmentation, Clips
from trainer.config.dataset import Datasets, load_dataset, split_contents
from trainer.data import buffers
from trainer.data.batches import BatchSteps
from trainer.data.corrupt import SkippedRecords
from trainer.data.elements import ElementBuilder
from trainer.data.read_options import Loading, Outputs, Shuffle
from trainer.data.shuffling import (
    endless_epochs,
    epoch_size,
    interleave_shards,
    plan_shuffle,
    subsample_classes,
)
from trainer.data.stored_records import StoredRecords


def read_sequences(
    directory: Datasets,
    split: str,
    *,
    batch_size: int,
    shuffle: bool | Shuffle = False,
    seed: int | None = None,
    clips: Clips | None = None,
    augment: Augmentation | None = None,
    outputs: Outputs = Outputs(),  # noqa: B008 (frozen)
    loading: Loading = Loading(),  # noqa: B008 (frozen)
) -> tf.data.Dataset:
    """Reads one split as batches.

    Elements are ``(features, labels)``; ``features`` alone if the dataset has no labels; and
    ``(features, labels, weights)`` if ``outputs`` asks for weights. With B sequences of T frames:

    - ``features["image"]``: ``[B, T, height, width, channels]`` uint8, unless records hold no images;
    - ``features["valid_frames"]``: ``[B]`` int64; frames from this index on are padding;
    - ``features[NAME]``: ``[B, T, size]`` float32 for each input signal;
    - ``labels``: classification ``[B]`` int64; multilabel ``[B, num_classes]`` float32 of 0 and 1; regression
      ``[B, targets]`` float32 in the targets' units; with labels by frame, ``[B, T]`` int64 and
      ``[B, T, targets]`` float32;
    - ``weights``: float32, ``[B]``, or ``[B, T]`` with labels by frame, where padding weighs 0.

    All dimensions but B are static, and B is too with ``drop_remainder``. The cardinality is known, except
    if batches are prefetched to a GPU (TensorFlow forgets it, and Keras learns it in the first epoch) or
    corrupt records are skipped.

    Example: 8 frames of each sequence, at half of their size, from another place each epoch::

        read_sequences(
            *("dataset", "train"), batch_size=16, shuffle=Shuffle(balance_classes=True), seed=0,
            clips=Clips(num_frames=8), outputs=Outputs(image_size=(90, 160)),
        )

    Args:
        directory: a dataset folder, or several, whose classes are united (docs/growing.md).
        split: ``train``, ``validation``, ``test``, or another that the dataset has.
        batch_size: sequences per batch; of all replicas together, with ``input_context``.
        shuffle: read in another order each epoch; a `Shuffle` holds details. False reads in stored order.
        seed: makes shuffled orders, and everything else that is random, repeatable.
        clips: part of each sequence to read, chosen before anything is decoded; T is its number of frames.
        augment: random changes.
        outputs: form of the frames, and further features and weights.
        loading: decoded frames to read from, corrupt records, the share of a host.

    Raises:
        DatasetInfoError: if the folder is not a complete dataset.
        DatasetError: if the split is absent or empty, or a shard is missing or of another size.
        ValueError: if options contradict each other or the dataset.

    While reading, a corrupt record is a `tf.errors.OpError` that does not name its file;
    `located_errors` makes it an error that does.
    """
    order = shuffle if isinstance(shuffle, Shuffle) else Shuffle() if shuffle else None
    balances = order is not None and order.balance_classes
    info = load_dataset(directory)
    cache = loading.cache
    elements = ElementBuilder(
        info=info,
        clips=clips,
        augment=augment,
        outputs=outputs,
        cached=None if cache is None else cache.all_frames,
    )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    skipped = SkippedRecords() if loading.ignore_errors is True else loading.ignore_errors or None
    if order is not None:
        _check_order(order, info, seed, skipped)
    contents = split_contents(info, directory, split)
    stored = StoredRecords(directory, info, split, skipped)
    records = stored if cache is None else cache
    steps = BatchSteps(
        records=records,
        elements=elements,
        batch_size=batch_size,
        epoch_size=epoch_size(contents, balance_classes=balances),
        drop_remainder=loading.drop_remainder,
        host=loading.input_context or tf.distribute.InputContext(),
    )
    if order is None:
        dataset = steps.make_batches(records.in_order(), seed)
    else:
        plan = plan_shuffle(contents, order.buffer)

        def class_of(record: Any) -> tf.Tensor:
            return records.parse(record, frames=False)[keys.LABEL_INDEX]

        def read_epoch(epoch_seed: Any, skipped_steps: Any = 0) -> tf.data.Dataset:
            opened = interleave_shards(records.shards, records.open_shard, plan, epoch_seed)
            if balances:
                opened = subsample_classes(opened, class_of, contents.label_counts, epoch_seed)
            shuffled = opened.shuffle(plan.buffer, seed=epoch_seed)
            return steps.make_batches(shuffled, epoch_seed, skipped_steps)

        if order.first_epoch is None:
            dataset = read_epoch(seed)
        else:
            dataset = endless_epochs(read_epoch, seed, order.first_epoch, order.first_step)
    dataset = dataset.with_options(_dataset_options(loading, order is None or seed is not None))
    image_bytes = tf.as_dtype(outputs.image_dtype).size
    ahead = buffers.batches_ahead(elements.spec, batch_size, image_bytes)
    dataset = buffers.without_autotune(dataset).prefetch(ahead)
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) == 1 and not tf.distribute.has_strategy():
        return dataset.apply(tf.data.experimental.prefetch_to_device(gpus[0].name))
    return dataset


def _check_order(
    order: Shuffle, info: DatasetInfo, seed: int | None, skipped: SkippedRecords | None
) -> None:
    if order.first_epoch is not None and seed is None:
        raise ValueError("first_epoch needs a seed, which decides the orders: give one")
    label = info.spec.label
    if order.balance_classes and (label.task != "classification" or label.per_frame):
        by_frame = " by frame" if label.per_frame else ""
        raise ValueError(
            f"balance_classes needs one class per sequence, got task {label.task!r}{by_frame}: leave it out"
        )
    if order.balance_classes and skipped is not None:
        raise ValueError("ignore_errors cannot be combined with balance_classes: leave one out")


def _dataset_options(loading: Loading, repeatable: bool) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = repeatable if loading.deterministic is None else loading.deterministic
    # The seeds of endless epochs are functions of the epoch: a saved iterator need not hold them.
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    # Hosts share each batch. If they shared files instead, their epochs would not end together.
    policy = tf.data.experimental.AutoShardPolicy
    options.experimental_distribute.auto_shard_policy = (
        policy.DATA if loading.input_context is None else policy.OFF
    )
    return options
