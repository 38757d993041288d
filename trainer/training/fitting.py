"""Fits a model in phases, from wherever the training was left."""

from __future__ import annotations

import contextlib
import logging
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import keras
import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.running import interruption
from tfrecords_schema.storage import make_folder
from trainer.config.training import Precision, TrainingConfig
from trainer.data.corrupt import located_errors
from trainer.data.read_options import Shuffle
from trainer.models.keras_settings import own_settings
from trainer.models.losses import CountedAccuracy, TargetError, make_loss
from trainer.models.network import FRAME_FEATURES
from trainer.training.callbacks import (
    EpochLine,
    HistoryFile,
    SaveProgress,
    StopOnNaN,
    TrainingError,
)
from trainer.training.checkpoint import (
    Progress,
    load_progress,
    restore_model,
    restore_optimizer,
    use_sound_checkpoint,
)
from trainer.training.distribution import check_same_progress
from trainer.training.features import has_frozen_features, split_at_features
from trainer.training.feeds import TrainingFeed, TrainingJob, make_feed

_log = logging.getLogger(__name__)

_ON_INTERRUPTION = (
    "interrupted: the training stops after this step, or after the validation that has begun, and saves what "
    "it has. Press Ctrl-C again to stop at once"
)


@dataclass(frozen=True)
class Phase:
    """Epochs that are trained in the same way.

    Attributes:
        first, last: epochs from ``first`` up to but not including ``last``, counted from 0.
        learning_rate: the highest.
        trains_backbone: train the last layers of the backbone as well.
    """

    first: int
    last: int
    learning_rate: float
    trains_backbone: bool


def plan_phases(config: TrainingConfig) -> list[Phase]:
    """Returns one phase; with ``head_epochs``, one that trains only the head, and one that trains both."""
    rate = config.learning_rate
    if not config.head_epochs:
        return [Phase(first=0, last=config.epochs, learning_rate=rate, trains_backbone=True)]
    fine = config.fine_tune_learning_rate or rate / 10
    head, end = config.head_epochs, config.epochs
    return [
        Phase(first=0, last=head, learning_rate=rate, trains_backbone=False),
        Phase(first=head, last=end, learning_rate=fine, trains_backbone=True),
    ]


@contextlib.contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Makes layers that are created inside it compute in ``precision``."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@own_settings()
def fit(model: keras.Model, job: TrainingJob) -> Progress:
    """Trains ``model``, the whole one, to the end, from the checkpoint of its run if there is one.

    Saves the best epoch, by ``job.monitor``, or the last, in ``job.folder.model``.

    Raises:
        CorruptRecordError: if a record is corrupt.
        TrainingError: if the loss is no longer finite, memory runs out, or TensorBoard is not installed.
    """
    folder, config = job.folder, job.config
    use_sound_checkpoint(folder)
    progress = load_progress(folder.checkpoint)
    check_same_progress(progress.epoch)
    # The resumed run may have more patience.
    progress.stopped = progress.stopped and progress.waited >= (config.patience or math.inf)
    if progress.step and progress.step >= job.steps:
        raise TrainingError(
            f"{folder.checkpoint} was written after step {progress.step} of an epoch, and an epoch has "
            f"{job.steps} steps: it belongs to another training. Train again in another --output"
        )
    if progress.epoch or progress.step:
        restore_model(folder.checkpoint, model)
        within = f" and {progress.step} steps" if progress.step else ""
        _log.info("resumed after epoch %d%s", progress.epoch, within)
    if progress.stopped or progress.epoch >= config.epochs:
        return progress
    backbone = _trained_backbone(model)
    started, first = time.monotonic(), progress.epoch
    try:
        with (
            warnings.catch_warnings(),
            located_errors(job.directory, *job.splits),
            make_feed(model, job) as feed,
        ):
            # Keras warns at the end of a validation whose number of batches is unknown.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            for phase in plan_phases(config):
                if progress.epoch < phase.last and not progress.stopped:
                    for layer in backbone:
                        layer.trainable = phase.trains_backbone
                    _fit_phase(model, feed, job, progress, phase)
    except tf.errors.ResourceExhaustedError as error:
        raise TrainingError(
            f"memory ran out with {config.batch_size} sequences per step: lower --batch_size, use a "
            "smaller --backbone, fewer --filters or --pooling avg, or build smaller frames"
        ) from error
    why = ""
    if progress.epoch < config.epochs:
        why = ", stopped by a callback"
        if progress.waited >= (config.patience or math.inf):
            why = f", stopped early: no better {job.monitor} for {config.patience} epochs"
    count, seconds = progress.epoch - first, time.monotonic() - started
    _log.info("trained %d epochs in %.1f s%s", count, seconds, why)
    return progress


def check_possible(
    info: DatasetInfo, config: TrainingConfig, strategy: tf.distribute.Strategy | None
) -> None:
    """Checks, before anything is written, that the machine has what the training needs.

    Raises:
        TrainingError: if TensorBoard is not installed, or there are more replicas than sequences of a batch.
    """
    if config.tensorboard and find_spec("tensorboard") is None:
        raise TrainingError(
            "--tensorboard on needs TensorBoard, which is not installed: pip install tensorboard"
        )
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    sequences = min(config.batch_size, info.splits["train"].num_records)
    if sequences < replicas:
        raise TrainingError(
            f"each of {replicas} replicas needs at least one sequence of a batch, and one holds {sequences}: "
            "raise --batch_size, or give --distribute off"
        )
    if config.batch_size % replicas:
        _log.info(
            "note: %d replicas share batches of %d unevenly, so that sequences of smaller shares weigh more; "
            "--batch_size %d is even",
            *(replicas, config.batch_size, config.batch_size // replicas * replicas),
        )


def _fit_phase(
    whole: keras.Model, feed: TrainingFeed, job: TrainingJob, progress: Progress, phase: Phase
) -> None:
    """Trains ``feed.model``, a part of ``whole`` or all of it, to the end of ``phase``."""
    folder, config, model = job.folder, job.config, feed.model
    _compile(model, job, phase)
    if progress.epoch > phase.first or progress.step:
        restore_optimizer(folder.checkpoint, model.optimizer, model.trainable_variables)
    else:
        progress.waited = 0
    if config.head_epochs:
        which = (
            "with the last layers of the backbone"
            if phase.trains_backbone
            else "without the backbone"
        )
        _log.info("epochs %d to %d: %s", progress.epoch + 1, phase.last, which)
    callbacks: list[keras.callbacks.Callback] = [
        *job.callbacks,
        StopOnNaN(phase.learning_rate, progress),
        HistoryFile(folder.history),
        SaveProgress(
            whole,
            job,
            progress,
            # The head's epochs are followed by others, better or not.
            patience=config.patience if phase.last == config.epochs else None,
            minutes=config.checkpoint_minutes or math.inf,
        ),
    ]
    if config.tensorboard:
        for part in ("train", "validation"):
            make_folder(folder.tensorboard / part, inside=folder.path)
        callbacks.append(keras.callbacks.TensorBoard(str(folder.tensorboard)))
    if config.progress == "lines":  # last, as a line says that the epoch is saved
        callbacks.append(EpochLine(job.info.spec.label, config.epochs))
    reading = config.reading
    while progress.epoch < phase.last and not progress.stopped:
        order = Shuffle(
            buffer=reading.shuffle_buffer,
            balance_classes=reading.balance_classes,
            first_epoch=progress.epoch,
            first_step=progress.step,
        )
        with interruption.delayed(_ON_INTERRUPTION):
            model.fit(
                feed.train(order),
                validation_data=feed.validation,
                steps_per_epoch=job.steps - progress.step,
                initial_epoch=progress.epoch,
                # The rest of an epoch has fewer steps than the next epochs, so it is a call of its own.
                epochs=progress.epoch + 1 if progress.step else phase.last,
                shuffle=False,  # the reader shuffles
                verbose=1 if config.progress == "bar" else 0,
                callbacks=callbacks,
            )


def freeze_batch_norm(model: keras.Model) -> None:
    """Leaves all batch normalisation of ``model`` as it is, also inside the layers that wrap others."""
    layers: list[Any] = list(model.layers)
    while layers:
        layer = layers.pop()
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
        layers += getattr(layer, "layers", [])
        layers += [layer.layer] if isinstance(layer, keras.layers.Wrapper) else []


def _trained_backbone(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of the backbone that are trained in some phase."""
    after_frames = split_at_features(model)[1] if has_frozen_features(model) else model
    layers = [layer.layer for layer in after_frames.layers if layer.name == FRAME_FEATURES]
    found = []
    while layers:
        layer = layers.pop()
        if isinstance(layer, keras.Model):
            layers += layer.layers
        elif layer.weights and layer.trainable:
            found.append(layer)
    return found


def _compile(model: keras.Model, job: TrainingJob, phase: Phase) -> None:
    info, config = job.info, job.config
    label = info.spec.label
    metrics: list[keras.metrics.Metric] = []
    if label.task == "classification":
        metrics = [CountedAccuracy(name="accuracy")]
    elif label.task == "multilabel":
        metrics = [keras.metrics.BinaryAccuracy(name="binary_accuracy")]
    elif len(label.target_names) == 1:
        metrics = [
            keras.metrics.MeanAbsoluteError(name="mae"),
            keras.metrics.RootMeanSquaredError(name="rmse"),
        ]
    else:
        metrics = [
            TargetError(index, name=f"{name}_mae") for index, name in enumerate(label.target_names)
        ]
        if label.has_one_unit:  # a mean over targets of different units means nothing
            metrics.append(keras.metrics.RootMeanSquaredError(name="joint_rmse"))
    model.compile(
        optimizer=make_optimizer(config, phase, job.steps),
        loss=make_loss(label, info.splits["train"], config, job.target_bins),
        jit_compile={"auto": "auto", "on": True, "off": False}[config.xla],
        weighted_metrics=metrics,  # padding weighs 0
    )
    model.optimizer.build(model.trainable_variables)


def make_optimizer(config: TrainingConfig, phase: Phase, steps: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer with the learning rates of ``phase``, of ``steps`` steps per epoch."""
    rate: Any = phase.learning_rate
    warmup = config.warmup_epochs * steps
    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            (phase.last - phase.first) * steps - warmup,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    elif warmup:
        rate = keras.optimizers.schedules.PolynomialDecay(0.0, warmup, rate)
    options: dict[str, Any] = {"global_clipnorm": config.clip_norm}
    if config.weight_decay is not None:
        options["weight_decay"] = config.weight_decay
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, **options)
    kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
    return kinds[config.optimizer](rate, **options)
