"""Reads a dataset folder as a `tf.data.Dataset` of batches, for anyone's ``model.fit``.

Example::

    train = read_sequences("dataset", "train", batch_size=16, shuffle=True, seed=0)
    features, labels = next(iter(train))
    features["image"].shape  # (16, 8, 180, 320, 3), uint8

Shapes, the number of batches and the task come from ``dataset_info.json``. Records are shuffled while they
are still compressed, so a large buffer is cheap; they are parsed and decoded in parallel.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo, SplitInfo
from tfrecords_schema.parse import parse_and_decode, parse_sequence
from tfrecords_schema.records import CorruptRecordError, read_file
from tfrecords_schema.spec import SequenceSpec, signal_floats_key
from trainer.dataset import DatasetError, shard_paths, split_contents
from trainer.storage import record_reader

# Names of the features beside the signals' own.
IMAGE = "image"
VALID_FRAMES = "valid_frames"

_SHUFFLE_BYTES = 256 * 2**20
# What TensorFlow raises for a damaged file, a record that lacks a key, a frame that does not decode, or
# another number of records than promised.
_DAMAGE_ERRORS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
)
# More epochs than anyone trains: seeds of runs are this far apart, so that no two runs share orders.
_EPOCHS = 2**30
# Files open at once. More mix better, and each costs a read buffer.
_OPEN_SHARDS = 16


def read_sequences(
    directory: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int,
    shuffle: bool = False,
    shuffle_buffer: int | None = None,
    seed: int | None = None,
    first_epoch: int | None = None,
    drop_remainder: bool = False,
    sample_weights: bool = False,
    class_weights: Sequence[float] | None = None,
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
    where batches are prefetched to a GPU: TensorFlow forgets it, and Keras learns it in the first epoch.

    Args:
        directory: a dataset folder.
        split: ``train``, ``validation``, ``test``, or another that the dataset has.
        batch_size: sequences a batch.
        shuffle: in another order each epoch. Otherwise records come in the order they are stored.
        shuffle_buffer: records shuffled at a time; by default as many as fit in 256 MiB.
        seed: makes the shuffled orders repeatable.
        first_epoch: makes the dataset endless: this epoch, the next, and so on, each in an order that its
            number and ``seed`` decide, for ``fit(steps_per_epoch=...)`` of a run that may be resumed.
        drop_remainder: leave out a last batch that is not full.
        sample_weights: add the weights.
        class_weights: one for each class, in label order; implies ``sample_weights``.

    Raises:
        DatasetInfoError: when the folder is not a complete dataset.
        DatasetError: when the split is absent or empty, or a shard is missing or of another size.
        ValueError: for options that contradict each other or the dataset.

    While reading, a damaged record is a `tf.errors.OpError` that does not know its file;
    `located_errors` makes it an error that does.
    """
    info = DatasetInfo.load(directory)
    spec = info.spec
    _check_options(spec, batch_size, shuffle_buffer, sample_weights, class_weights)
    if first_epoch is not None and (not shuffle or seed is None):
        raise ValueError("first_epoch goes with shuffle and a seed")
    contents = split_contents(info, directory, split)
    paths = shard_paths(directory, info, split)

    def to_element(serialized: tf.Tensor) -> Any:
        parsed = parse_and_decode(serialized, spec)
        features = _features(parsed, spec)
        if spec.label.task == "none":
            return features
        labels = _labels(parsed, spec)
        if not sample_weights and class_weights is None:
            return features, labels
        return features, labels, _weights(features[VALID_FRAMES], labels, spec, class_weights)

    def to_batches(records: tf.data.Dataset) -> tf.data.Dataset:
        return (
            records.apply(tf.data.experimental.assert_cardinality(contents.num_records))
            .map(_as_written(to_element), num_parallel_calls=tf.data.AUTOTUNE)
            .batch(batch_size, drop_remainder=drop_remainder)
        )

    if shuffle:
        mixed = functools.partial(
            mix_shards,
            paths,
            record_reader(directory),
            buffer=shuffle_records(contents, shuffle_buffer),
        )
        if first_epoch is None:
            dataset = to_batches(mixed(seed=seed))
        else:
            dataset = endless_epochs(lambda s: to_batches(mixed(seed=s)), seed, first_epoch)
    else:
        dataset = to_batches(record_reader(directory)(paths))
    options = tf.data.Options()
    options.deterministic = seed is not None or not shuffle
    # Hosts share each batch. Were they to share the files, their epochs would not end together.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return _prefetched(dataset.with_options(options))


def mix_shards(
    shards: Any, open_shard: Callable[..., tf.data.Dataset], *, buffer: int, seed: Any
) -> tf.data.Dataset:
    """What the shards hold, shuffled: all shards in turn, and ``buffer`` of their records at a time.

    Whatever the shards hold, equal numbers of records, ``buffer`` and ``seed`` give equal orders.

    Args:
        shards: a sequence, or a tuple of sequences, with an element for each shard.
        open_shard: such an element to the records of that shard.
        buffer: records shuffled at a time.
        seed: an int, an int64 tensor, or None for an order that cannot be repeated.
    """
    opened = tf.data.Dataset.from_tensor_slices(shards)
    count = len(shards[0] if isinstance(shards, tuple) else shards)
    return (
        opened.shuffle(count, seed=seed)
        .interleave(
            open_shard,
            cycle_length=min(count, _OPEN_SHARDS),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .shuffle(buffer, seed=seed)
    )


def endless_epochs(
    epoch: Callable[[tf.Tensor], tf.data.Dataset], seed: int | None, first_epoch: int
) -> tf.data.Dataset:
    """``epoch(seed of its own)`` for each epoch from ``first_epoch`` on, one after the other."""
    base = (seed or 0) * _EPOCHS
    numbers = tf.data.Dataset.range(base + first_epoch, base + _EPOCHS)

    def seeded(number: tf.Tensor) -> tf.data.Dataset:
        # Without the global seed in it; and TensorFlow compares tensors as numbers where that is 0.
        tf.compat.v1.get_default_graph().seed = 1
        return epoch(number)

    return numbers.flat_map(_as_written(seeded))


def shuffle_records(contents: SplitInfo, asked: int | None) -> int:
    """How many records of a split are shuffled at a time; ``asked`` wins, if they are as many."""
    record_bytes = max(contents.num_bytes / contents.num_records, 1.0)
    wanted = asked if asked is not None else max(1, math.floor(_SHUFFLE_BYTES / record_bytes))
    return min(wanted, contents.num_records)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """All labels of a split, in stored order.

    Attributes:
        values: ``[N, ...]``, shaped as `read_sequences` shapes them.
        valid: bool, ``[N]``, or ``[N, T]`` with labels by frame: which of them count.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


def read_labels(directory: str | os.PathLike[str], split: str) -> Labels:
    """The labels of a split without decoding its frames; raises what `read_sequences` raises."""
    info = DatasetInfo.load(directory)
    spec = info.spec
    if spec.label.task == "none":
        raise DatasetError(f"{directory} has no labels: build it with labels")

    def to_labels(serialized: tf.Tensor) -> Any:
        parsed = parse_sequence(serialized, spec)
        labels = _labels(parsed, spec)
        return labels, _weights(parsed[keys.VALID_FRAMES], labels, spec, None)

    dataset = (
        record_reader(directory)(shard_paths(directory, info, split))
        .map(_as_written(to_labels), num_parallel_calls=tf.data.AUTOTUNE)
        .batch(1024)
    )
    batches = list(dataset.as_numpy_iterator())
    return Labels(
        values=np.concatenate([values for values, _ in batches]),
        valid=np.concatenate([weights for _, weights in batches]) > 0,
    )


@contextlib.contextmanager
def located_errors(directory: str | os.PathLike[str], *splits: str) -> Iterator[None]:
    """Inside it, TensorFlow's error for a damaged record becomes one that names file and byte.

    Example::

        with located_errors("dataset", "train", "validation"):
            model.fit(train, validation_data=validation)

    Raises:
        CorruptRecordError: where a record of ``splits`` is damaged. An error that has nothing to do with the
            records is left as it is.
    """
    try:
        yield
    except _DAMAGE_ERRORS:
        info = DatasetInfo.load(directory)
        for split in splits:
            _check_records(directory, info, split)
        raise


def _check_records(directory: str | os.PathLike[str], info: DatasetInfo, split: str) -> None:
    """Reads every record of a split as training does, and raises for the first that is damaged."""
    decode = tf.function(lambda serialized: parse_and_decode(serialized, info.spec))
    paths = shard_paths(directory, info, split)
    for path, shard in zip(paths, info.splits[split].shards, strict=True):
        offset = count = 0
        for count, record in enumerate(read_file(path), start=1):  # noqa: B007
            offset = record.offset
            try:
                decode(tf.constant(record.data))
            except tf.errors.OpError as error:
                reason = error.message.splitlines()[0]
                raise CorruptRecordError(path, offset, reason) from error
        if count != shard.records:
            raise CorruptRecordError(
                path,
                offset,
                f"it is the last of {count}, and dataset_info.json says {shard.records}",
            )


def _check_options(
    spec: SequenceSpec,
    batch_size: int,
    shuffle_buffer: int | None,
    sample_weights: bool,
    class_weights: Sequence[float] | None,
) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if shuffle_buffer is not None and shuffle_buffer < 1:
        raise ValueError(f"shuffle_buffer must be at least 1, got {shuffle_buffer}")
    if (sample_weights or class_weights is not None) and spec.label.task == "none":
        raise ValueError("there is nothing to weigh in a dataset without labels")
    if class_weights is not None and (
        spec.label.task != "classification" or len(class_weights) != spec.label.num_classes
    ):
        raise ValueError(
            f"class_weights go with a classification of as many classes, got {len(class_weights)} for "
            f"task {spec.label.task!r} with {spec.label.num_classes} classes"
        )
    for signal in spec.signals:
        if signal.name == VALID_FRAMES:
            raise DatasetError(
                f"a signal named {VALID_FRAMES!r} hides the feature of that name: "
                "build the dataset with another name for it"
            )


def _features(parsed: dict[str, Any], spec: SequenceSpec) -> dict[str, tf.Tensor]:
    features = {VALID_FRAMES: parsed[keys.VALID_FRAMES]}
    if spec.image is not None:
        features[IMAGE] = parsed["image"]
    for signal in spec.signals:
        features[signal.name] = parsed[signal_floats_key(signal.name)]
    return features


def _labels(parsed: dict[str, Any], spec: SequenceSpec) -> tf.Tensor:
    label = spec.label
    if label.task == "regression":
        return parsed[keys.FRAME_LABEL_VALUE if label.per_frame else keys.LABEL_VALUE]
    if label.per_frame:
        return parsed[keys.FRAME_LABEL_INDEX]
    if label.task == "classification":
        return parsed[keys.LABEL_INDEX]
    # A sum, since the maximum over no classes at all is minus infinity.
    marks = tf.reduce_sum(tf.one_hot(parsed[keys.LABEL_INDEX], label.num_classes), axis=0)
    return tf.minimum(marks, 1.0)


def _weights(
    valid_frames: tf.Tensor,
    labels: tf.Tensor,
    spec: SequenceSpec,
    class_weights: Sequence[float] | None,
) -> tf.Tensor:
    """Of one record: ``[]``, or ``[T]`` with labels by frame."""
    weights = tf.constant(1.0)
    if spec.label.per_frame:
        weights = tf.sequence_mask(valid_frames, spec.num_frames, tf.float32)
    if class_weights is not None:
        weights *= tf.gather(tf.constant(class_weights, tf.float32), labels)
    return weights


def _as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` without AutoGraph, which would take a second to rewrite what branches on no tensor."""
    return tf.autograph.experimental.do_not_convert(function)


def _prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The next batches are made ready meanwhile: in the GPU's memory when all of a batch goes there."""
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) == 1 and not tf.distribute.has_strategy():
        return dataset.prefetch(tf.data.AUTOTUNE).apply(
            tf.data.experimental.prefetch_to_device(gpus[0].name)
        )
    return dataset.prefetch(tf.data.AUTOTUNE)
