"""Where the batches of a training come from: the records, or features of them that were computed once."""

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
from trainer.config.run_folder import RunFolder
from trainer.config.training import TrainingConfig
from trainer.data.cached_frames import cached_frames
from trainer.data.corrupt import SkippedRecords
from trainer.data.reader import Loading, Outputs, Shuffle, read_sequences
from trainer.data.shuffling import epoch_size
from trainer.models.losses import balanced_class_weights
from trainer.training.distribution import shared
from trainer.training.features import (
    computed_features,
    feature_bytes,
    has_frozen_features,
    room_for,
    split_at_features,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What is trained on what.

    Attributes:
        model: to train; the whole one, or what follows its frozen features.
        train: the first epoch, and how many of its steps to leave out, to batches without end.
        validation: batches; None without a validation split.
    """

    model: keras.Model
    train: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset | None


@contextlib.contextmanager
def make_feed(
    model: keras.Model,
    directory: str | os.PathLike[str],
    info: DatasetInfo,
    folder: RunFolder,
    config: TrainingConfig,
    splits: list[str],
    skipped: SkippedRecords | None = None,
) -> Iterator[Feed]:
    """What ``model`` is trained on: frames, or where it is safe and worth it, cached features.

    Args:
        model: the whole one.
        directory: of the dataset.
        info: of the dataset.
        folder: of the run.
        config: what is asked for.
        splits: ``train``, and ``validation`` where there is one.
        skipped: counts what is damaged, which is left out; None stops at it.
    """
    asked, class_weights = config.reading, None
    if (
        config.class_weights
        and info.spec.label.task == "classification"
        and not asked.balance_classes
    ):
        class_weights = balanced_class_weights(info.splits["train"].label_counts)
    reads: dict[str, dict[str, Any]] = {
        split: {
            "batch_size": config.batch_size,
            "clips": asked.validation(info).clips,
            "outputs": Outputs(image_size=asked.image_size, sample_weights=True),
        }
        for split in splits
    }
    reads["train"] |= {
        "clips": asked.training_clips(info),
        "outputs": dataclasses.replace(reads["train"]["outputs"], class_weights=class_weights),
    }
    if not _worth_caching(model, info, folder, config, splits):
        for split in splits:
            cache = None
            if asked.cache_frames:
                kept = None if asked.cache_frames == "memory" else asked.cache_frames
                cache = cached_frames(directory, split, folder=kept)
            reads[split]["loading"] = Loading(
                cache=cache,
                ignore_errors=skipped or False,
                drop_remainder=split == "train" and leaves_rest(info, config),
            )
        reads["train"] |= {"seed": config.seed, "augment": asked.augmentation}

        def read(split: str, *, loading: Loading, **options: Any) -> Any:
            return shared(
                lambda host: read_sequences(
                    directory,
                    split,
                    loading=dataclasses.replace(loading, input_context=host),
                    **options,
                )
            )

        yield Feed(
            model=model,
            train=lambda first_epoch, first_step: read(
                "train",
                shuffle=Shuffle(
                    buffer=asked.shuffle_buffer,
                    balance_classes=asked.balance_classes,
                    first_epoch=first_epoch,
                    first_step=first_step,
                ),
                **reads["train"],
            ),
            validation=read("validation", **reads["validation"])
            if "validation" in splits
            else None,
        )
        return
    encoder, head = split_at_features(model)
    with computed_features(
        encoder, directory, reads, folder.features, shuffle_buffer=asked.shuffle_buffer
    ) as cached:
        yield Feed(
            model=head,
            train=lambda first_epoch, first_step: cached["train"].endless_epochs(
                config.batch_size,
                config.seed,
                first_epoch,
                first_step,
                drop_remainder=leaves_rest(info, config),
            ),
            validation=cached["validation"].batches(config.batch_size)
            if "validation" in splits
            else None,
        )


def _worth_caching(
    model: keras.Model,
    info: DatasetInfo,
    folder: RunFolder,
    config: TrainingConfig,
    splits: list[str],
) -> bool:
    if not has_frozen_features(model) or config.epochs == 1:
        return False
    asked, clips = config.reading, config.reading.training_clips(info)
    if asked.augment or asked.balance_classes or (clips is not None and clips.at == "random"):
        _log.info("frozen features: computed in every epoch, since no two epochs are the same")
        return False
    if asked.ignore_errors:
        _log.info("frozen features: computed in every epoch, since damaged records are left out")
        return False
    if config.cache_features == "off":
        _log.info("frozen features: computed in every epoch, as --cache_features off asks")
        return False
    needed = feature_bytes(model, info, splits)
    if not room_for(needed, folder.path):
        _log.info(
            "frozen features: computed in every epoch, for want of %.0f MiB on the disk of %s",
            needed / 2**20,
            folder.path,
        )
        return False
    return True


def epoch_records(info: DatasetInfo, config: TrainingConfig) -> int:
    """Sequences that are trained on in an epoch."""
    return epoch_size(info.splits["train"], balance_classes=config.reading.balance_classes)


def leaves_rest(info: DatasetInfo, config: TrainingConfig) -> bool:
    """Whether an epoch goes without a last batch of fewer records than there are replicas.

    Those that got none would have gradients that are no numbers.
    """
    whole, rest = divmod(epoch_records(info, config), config.batch_size)
    return whole > 0 and 0 < rest < tf.distribute.get_strategy().num_replicas_in_sync
