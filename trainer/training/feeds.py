"""Provides the batches of a training: decoded from the records, or features of them computed once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from trainer.config.clips import Augmentation, default_augmentation
from trainer.config.dataset import Datasets, has_split
from trainer.config.run_folder import RunFolder
from trainer.config.training import TrainingConfig
from trainer.data.cached_frames import cached_frames
from trainer.data.corrupt import SkippedRecords
from trainer.data.labels import read_labels
from trainer.data.parsed_records import VALID_FRAMES
from trainer.data.read_options import Loading, Outputs, Shuffle
from trainer.data.reader import read_sequences
from trainer.data.shuffling import epoch_size
from trainer.models.losses import balanced_class_weights, balanced_target_bins
from trainer.models.network import FROZEN_FEATURES, with_step_outputs
from trainer.training.distribution import has_several_hosts
from trainer.training.features import computed_features, has_frozen_features, split_at_features

_log = logging.getLogger(__name__)

# Share of the free disk: the run writes other files, and other programs may do so too.
_MAX_DISK_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A dataset, the options of a training on it, and the folder it writes to.

    Attributes:
        directory: of the dataset.
        info: its description.
        folder: of the run.
        config: options.
        skipped: counts corrupt records, which are skipped; None stops at the first.
        callbacks: of the user.
    """

    directory: Datasets
    info: DatasetInfo
    folder: RunFolder
    config: TrainingConfig
    skipped: SkippedRecords | None = None
    callbacks: tuple[keras.callbacks.Callback, ...] = ()

    @property
    def splits(self) -> list[str]:
        """``train``, and ``validation`` if the dataset has one."""
        return ["train", *(["validation"] if has_split(self.info, "validation") else [])]

    @property
    def monitor(self) -> str:
        """Name of the loss that epochs are compared by."""
        return "val_loss" if "validation" in self.splits else "loss"

    @property
    def augmentation(self) -> Augmentation | None:
        """The random changes of the sequences; those by default only if no frozen features are cached."""
        if self.config.reading.augment is not None or self.config.model.pretrained:
            return self.config.reading.augmentation
        return default_augmentation(self.info)

    @property
    def keeps_best(self) -> bool:
        """True if the best epoch is kept, False if the last."""
        return self.config.patience is not None

    @functools.cached_property
    def target_bins(self) -> list[tuple[float, float, list[float]]]:
        """The weights of targets by their value; none without ``target_weights``."""
        config = self.config
        if config.target_weights is None:
            return []
        clips = config.reading.validation(self.info).clips
        labels = read_labels(self.directory, "train", clips=clips, ignore_errors=self.skipped)
        return balanced_target_bins(labels.values[labels.valid], config.target_weights)

    @property
    def epoch_size(self) -> int:
        """Sequences per epoch."""
        balances = self.config.reading.balance_classes
        return epoch_size(self.info.splits["train"], balance_classes=balances)

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(self.epoch_size, self.config.batch_size)
        return whole + (rest > 0 and not self.drops_remainder)

    @property
    def drops_remainder(self) -> bool:
        """True if epochs leave out a last batch of fewer sequences than there are replicas.

        A replica without a sequence would have NaN gradients.
        """
        whole, rest = divmod(self.epoch_size, self.config.batch_size)
        return whole > 0 and 0 < rest < tf.distribute.get_strategy().num_replicas_in_sync


@dataclass(frozen=True, kw_only=True)
class TrainingFeed:
    """A model and the batches it is fitted to.

    Attributes:
        model: the whole model, or its trainable head if frozen features are cached.
        train: maps the order of endless epochs to their batches.
        validation: batches; None without a validation split.
    """

    model: keras.Model
    train: Callable[[Shuffle], tf.data.Dataset]
    validation: tf.data.Dataset | None


@contextlib.contextmanager
def make_feed(model: keras.Model, job: TrainingJob) -> Iterator[TrainingFeed]:
    """Provides the batches to fit ``model`` to.

    They are decoded frames, or cached features if the backbone is frozen and its features fit on the disk.
    """
    info, config, reading = job.info, job.config, job.config.reading
    outputs = Outputs(image_size=reading.image_size, sample_weights=True)
    evaluated = {"clips": reading.validation(info).clips, "outputs": outputs}
    trained_on = {"clips": reading.training_clips(info), "outputs": outputs}
    is_classification = info.spec.label.task == "classification"
    if config.class_weights and is_classification and not reading.balance_classes:
        weights = balanced_class_weights(info.splits["train"].label_counts)
        trained_on["outputs"] = dataclasses.replace(outputs, class_weights=weights)
    options = {"train": trained_on, "validation": evaluated}
    reads: dict[str, dict[str, Any]] = {
        split: {"batch_size": config.batch_size, **options[split]} for split in job.splits
    }

    if _caches_features(model, job):
        encoder, head = split_at_features(model)
        with computed_features(encoder, job.directory, reads, job.folder.features) as cached:
            yield TrainingFeed(
                model=_fitted(head, job),
                train=lambda order: _with_step_labels(
                    cached["train"].endless_epochs(
                        config.batch_size, config.seed, order, drop_remainder=job.drops_remainder
                    ),
                    job,
                ),
                validation=_with_step_labels(
                    cached["validation"].batches(config.batch_size), job, "validation"
                )
                if "validation" in cached
                else None,
            )
    else:
        yield _frame_feed(model, job, reads)


def _frame_feed(
    model: keras.Model, job: TrainingJob, reads: dict[str, dict[str, Any]]
) -> TrainingFeed:
    """Returns the feed of decoded frames, read with the options ``reads`` of each split."""
    reading, seed, caches = job.config.reading, job.config.seed, {}
    if reading.cache_frames:
        folder = None if reading.cache_frames == "memory" else reading.cache_frames
        caches = {split: cached_frames(job.directory, split, folder=folder) for split in job.splits}

    augment = job.augmentation
    if reading.augment is None and job.info.spec.image is not None:
        which = "flip=0.5, which changes no label here" if augment else "none"
        _log.info("augmentation: %s. --augment chooses another", which)

    def read(split: str, **options: Any) -> Any:
        def read_share(context: tf.distribute.InputContext | None) -> tf.data.Dataset:
            loading = Loading(
                cache=caches.get(split),
                ignore_errors=job.skipped or False,
                drop_remainder=split == "train" and job.drops_remainder,
                input_context=context,
            )
            batches = read_sequences(
                job.directory, split, **reads[split], **options, loading=loading
            )
            return _with_step_labels(batches, job, split)

        # On one host, each device gets its share of batches that are read once.
        if not has_several_hosts():
            return read_share(None)
        return tf.distribute.get_strategy().distribute_datasets_from_function(read_share)

    return TrainingFeed(
        model=_fitted(model, job),
        train=lambda order: read("train", shuffle=order, seed=seed, augment=augment),
        validation=read("validation") if "validation" in job.splits else None,
    )


def _fitted(model: keras.Model, job: TrainingJob) -> keras.Model:
    return with_step_outputs(model) if job.config.model.target_replication else model


def _with_step_labels(
    batches: tf.data.Dataset, job: TrainingJob, split: str = "train"
) -> tf.data.Dataset:
    """Gives every step the label of its sequence, if the model is fitted to all of them.

    Weights make the loss that of the last step, in training with the share of ``target_replication`` of the
    mean loss of all steps. They compensate that losses are divided by the number of steps with a weight.
    """
    share = job.config.model.target_replication
    if not share:
        return batches

    def repeat(inputs: Any, labels: tf.Tensor, weights: tf.Tensor) -> Any:
        steps = next(values.shape[1] for values in inputs.values() if values.shape.rank > 1)
        valid = tf.cast(inputs[VALID_FRAMES], tf.int32)
        step_weights = tf.one_hot(valid - 1, steps)
        if split == "train":
            mask = tf.sequence_mask(valid, steps, tf.float32)
            means = mask / tf.reduce_sum(mask, axis=1, keepdims=True)
            step_weights = share * means + (1 - share) * step_weights
        step_weights *= tf.reduce_mean(tf.reduce_sum(tf.sign(step_weights), axis=1))
        labels = tf.repeat(labels[:, None], steps, axis=1)
        return inputs, labels, weights[:, None] * step_weights

    return batches.map(repeat)


def _caches_features(model: keras.Model, job: TrainingJob) -> bool:
    """Returns True if frozen features are computed once. Logs why not."""
    if not has_frozen_features(model) or job.config.epochs == 1:
        return False
    reading, clips = job.config.reading, job.config.reading.training_clips(job.info)
    records = sum(job.info.splits[split].num_records for split in job.splits)
    _, *shape = model.get_layer(FROZEN_FEATURES).output.shape
    needed = records * math.prod(shape) * np.dtype(np.float32).itemsize
    if job.augmentation or reading.balance_classes or (clips is not None and clips.at == "random"):
        reason = "since epochs differ"
    elif reading.ignore_errors:
        reason = "since corrupt records are skipped"
    elif job.config.cache_features == "off":
        reason = "as --cache_features off asks"
    elif needed >= _MAX_DISK_SHARE * shutil.disk_usage(job.folder.path).free:
        reason = f"for want of {needed / 2**20:.0f} MiB on the disk of {job.folder.path}"
    else:
        return True
    _log.info("frozen features: computed in every epoch, %s", reason)
    return False
