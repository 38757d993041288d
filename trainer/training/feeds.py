"""Provides the batches of a training: decoded from the records, or features of them computed once."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from trainer.config.dataset import has_split
from trainer.config.run_folder import RunFolder
from trainer.config.training import TrainingConfig
from trainer.data.cached_frames import cached_frames
from trainer.data.corrupt import SkippedRecords
from trainer.data.reader import Loading, Outputs, Shuffle, read_sequences
from trainer.data.shuffling import epoch_size
from trainer.models.losses import balanced_class_weights
from trainer.training.distribution import distribute_batches
from trainer.training.features import (
    computed_features,
    feature_bytes,
    fits_on_disk,
    has_frozen_features,
    split_at_features,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A dataset, the options of a training on it, and the folder it writes to.

    Attributes:
        directory: of the dataset.
        info: its description.
        folder: of the run.
        config: options.
        skipped: counts corrupt records, which are skipped; None stops at the first.
    """

    directory: str | os.PathLike[str]
    info: DatasetInfo
    folder: RunFolder
    config: TrainingConfig
    skipped: SkippedRecords | None = None

    @property
    def splits(self) -> list[str]:
        """``train``, and ``validation`` if the dataset has one."""
        return ["train", *(["validation"] if has_split(self.info, "validation") else [])]

    @property
    def monitor(self) -> str:
        """Name of the loss that epochs are compared by."""
        return "val_loss" if "validation" in self.splits else "loss"

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
        train: maps the first epoch, and how many of its steps to leave out, to endless batches.
        validation: batches; None without a validation split.
    """

    model: keras.Model
    train: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset | None


@contextlib.contextmanager
def make_feed(model: keras.Model, job: TrainingJob) -> Iterator[TrainingFeed]:
    """Provides the batches to fit ``model`` to.

    They are decoded frames, or cached features if the backbone is frozen and its features fit on the disk.
    """
    info, config, reading = job.info, job.config, job.config.reading
    class_weights = None
    if (
        config.class_weights
        and info.spec.label.task == "classification"
        and not reading.balance_classes
    ):
        class_weights = balanced_class_weights(info.splits["train"].label_counts)
    outputs = Outputs(image_size=reading.image_size, sample_weights=True)
    reads: dict[str, dict[str, Any]] = {
        split: {
            "batch_size": config.batch_size,
            "clips": reading.validation(info).clips,
            "outputs": outputs,
        }
        for split in job.splits
    }
    reads["train"] |= {
        "clips": reading.training_clips(info),
        "outputs": dataclasses.replace(outputs, class_weights=class_weights),
    }
    if not _caches_features(model, job):
        yield _frame_feed(model, job, reads)
        return
    encoder, head = split_at_features(model)
    with computed_features(
        encoder, job.directory, reads, job.folder.features, shuffle_buffer=reading.shuffle_buffer
    ) as cached:
        yield TrainingFeed(
            model=head,
            train=lambda first_epoch, first_step: cached["train"].endless_epochs(
                config.batch_size,
                config.seed,
                first_epoch,
                first_step,
                drop_remainder=job.drops_remainder,
            ),
            validation=cached["validation"].batches(config.batch_size)
            if "validation" in job.splits
            else None,
        )


def _frame_feed(
    model: keras.Model, job: TrainingJob, reads: dict[str, dict[str, Any]]
) -> TrainingFeed:
    """Returns the feed of decoded frames, read with the options ``reads`` of each split."""
    reading, caches = job.config.reading, {}
    if reading.cache_frames:
        folder = None if reading.cache_frames == "memory" else reading.cache_frames
        caches = {split: cached_frames(job.directory, split, folder=folder) for split in job.splits}

    def read(split: str, **options: Any) -> Any:
        loading = Loading(
            cache=caches.get(split),
            ignore_errors=job.skipped or False,
            drop_remainder=split == "train" and job.drops_remainder,
        )
        return distribute_batches(
            lambda context: read_sequences(
                job.directory,
                split,
                **reads[split],
                **options,
                loading=dataclasses.replace(loading, input_context=context),
            )
        )

    def read_train(first_epoch: int, first_step: int) -> Any:
        order = Shuffle(
            buffer=reading.shuffle_buffer,
            balance_classes=reading.balance_classes,
            first_epoch=first_epoch,
            first_step=first_step,
        )
        return read("train", shuffle=order, seed=job.config.seed, augment=reading.augmentation)

    return TrainingFeed(
        model=model,
        train=read_train,
        validation=read("validation") if "validation" in job.splits else None,
    )


def _caches_features(model: keras.Model, job: TrainingJob) -> bool:
    """Returns True if frozen features are computed once. Logs why not."""
    if not has_frozen_features(model) or job.config.epochs == 1:
        return False
    reading, clips = job.config.reading, job.config.reading.training_clips(job.info)
    needed = feature_bytes(model, job.info, job.splits)
    if reading.augment or reading.balance_classes or (clips is not None and clips.at == "random"):
        reason = "since epochs differ"
    elif reading.ignore_errors:
        reason = "since corrupt records are skipped"
    elif job.config.cache_features == "off":
        reason = "as --cache_features off asks"
    elif not fits_on_disk(needed, job.folder.path):
        reason = f"for want of {needed / 2**20:.0f} MiB on the disk of {job.folder.path}"
    else:
        return True
    _log.info("frozen features: computed in every epoch, %s", reason)
    return False
