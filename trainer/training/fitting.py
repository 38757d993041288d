"""The epochs of a training: its phases and optimizer, from wherever it stands."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import keras
import tensorflow as tf

from tfrecords_schema.info import DatasetInfo
from trainer.config.dataset import has_split
from trainer.config.run_folder import RunFolder
from trainer.config.training import Precision, TrainingConfig
from trainer.data.corrupt import SkippedRecords
from trainer.data.reader import located_errors
from trainer.models.keras_settings import own_settings
from trainer.models.losses import CountedAccuracy, make_loss
from trainer.models.network import FRAME_FEATURES
from trainer.training.callbacks import (
    HistoryFile,
    KeepBest,
    SaveWithin,
    StopOnNaN,
    TellSkipped,
    TrainingError,
)
from trainer.training.checkpoint import Progress, load_progress, restore_model, restore_optimizer
from trainer.training.distribution import check_agreed, has_several_hosts
from trainer.training.features import has_frozen_features, split_at_features
from trainer.training.feeds import Feed, epoch_records, leaves_rest, make_feed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """Epochs that are trained alike.

    Attributes:
        first, last: epochs from ``first`` up to and without ``last``, counted from 0.
        learning_rate: the highest.
        backbone: whether the last layers of the backbone are trained as well.
    """

    first: int
    last: int
    learning_rate: float
    backbone: bool


def plan_phases(config: TrainingConfig) -> list[Phase]:
    """One phase; with ``head_epochs``, these and then the rest, in which the backbone joins in."""
    if not config.head_epochs:
        return [Phase(0, config.epochs, config.learning_rate, backbone=True)]
    fine = config.fine_tune_learning_rate or config.learning_rate / 10
    return [
        Phase(0, config.head_epochs, config.learning_rate, backbone=False),
        Phase(config.head_epochs, config.epochs, fine, backbone=True),
    ]


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A training: the whole model, which of its backbone's layers are trained, and what it is told."""

    model: keras.Model
    backbone: list[keras.layers.Layer]
    info: DatasetInfo
    folder: RunFolder
    config: TrainingConfig
    progress: Progress
    skipped: SkippedRecords | None

    @property
    def steps(self) -> int:
        """Of an epoch."""
        whole, rest = divmod(epoch_records(self.info, self.config), self.config.batch_size)
        return whole + (rest > 0 and not leaves_rest(self.info, self.config))


@contextlib.contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Inside it, layers are made to compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@own_settings()
def fit(
    model: keras.Model,
    directory: str | os.PathLike[str],
    info: DatasetInfo,
    folder: RunFolder,
    config: TrainingConfig,
    skipped: SkippedRecords | None = None,
) -> Progress:
    """Trains ``model`` from the checkpoint of ``folder`` on, if it has one, to the end.

    Leaves the best epoch in ``folder.model``: the one with the least loss on the validation split, or on the
    train split when the dataset has no other. With ``skipped``, what is damaged is left out and counted.

    Raises:
        CorruptRecordError: where a record is damaged.
        TrainingError: when the loss stops being a number, memory runs out, or TensorBoard is not there.
    """
    progress = load_progress(folder.checkpoint)
    check_agreed(progress.epoch)
    # More patience may have been asked for since.
    progress.stopped = progress.stopped and progress.waited >= config.patience
    if progress.epoch or progress.step:
        restore_model(folder.checkpoint, model)
        within = f" and {progress.step} steps" if progress.step else ""
        _log.info("resumed after epoch %d%s", progress.epoch, within)
    if progress.stopped or progress.epoch >= config.epochs:
        return progress
    _check_possible(info, config)
    splits = ["train", *(["validation"] if has_split(info, "validation") else [])]
    job = _Job(
        model=model,
        backbone=_trained_backbone(model),
        info=info,
        folder=folder,
        config=config,
        progress=progress,
        skipped=skipped,
    )
    started, first = time.monotonic(), progress.epoch
    try:
        with (
            warnings.catch_warnings(),
            located_errors(directory, *splits),
            make_feed(model, directory, info, folder, config, splits, skipped) as feed,
        ):
            # Of a validation whose number of batches Keras is not told, at its end.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            for number, phase in enumerate(plan_phases(config)):
                if progress.epoch < phase.last and not progress.stopped:
                    _fit_phase(job, feed, number, phase)
    except tf.errors.ResourceExhaustedError as error:
        raise TrainingError(
            f"memory ran out with {config.batch_size} sequences a step: lower --batch_size, use a "
            "smaller --backbone, fewer --filters or --pooling avg, or build smaller frames"
        ) from error
    _log.info(
        "trained %d epochs in %.1f s%s",
        progress.epoch - first,
        time.monotonic() - started,
        f", stopped early: no better {_monitor(info)} for {config.patience} epochs"
        if progress.stopped
        else "",
    )
    return progress


def _check_possible(info: DatasetInfo, config: TrainingConfig) -> None:
    if config.tensorboard and find_spec("tensorboard") is None:
        raise TrainingError(
            "--tensorboard on needs TensorBoard, which is not installed: pip install tensorboard"
        )
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if min(config.batch_size, info.splits["train"].num_records) < replicas:
        raise TrainingError(
            f"each of {replicas} replicas needs at least one sequence of a batch of {config.batch_size}: "
            "raise --batch_size, or give --distribute off"
        )


def _fit_phase(job: _Job, feed: Feed, number: int, phase: Phase) -> None:
    folder, config, progress = job.folder, job.config, job.progress
    for layer in job.backbone:
        layer.trainable = phase.backbone
    _compile(feed.model, job, phase)
    if progress.epoch > phase.first or progress.step:
        restore_optimizer(folder.checkpoint, feed.model.optimizer)
    else:
        progress.waited = 0
    progress.phase = number
    if config.head_epochs:
        which = "with the last layers of the backbone" if phase.backbone else "without the backbone"
        _log.info("epochs %d to %d: %s", progress.epoch + 1, phase.last, which)
    callbacks: list[keras.callbacks.Callback] = [
        StopOnNaN(phase.learning_rate),
        HistoryFile(folder.history),
        KeepBest(
            job.model,
            folder,
            monitor=_monitor(job.info),
            # What trains the head only is followed by more, whether it gets better or not.
            patience=config.patience if phase.last == config.epochs else None,
            progress=progress,
        ),
    ]
    if job.skipped is not None:
        callbacks.append(TellSkipped(job.skipped))
    if config.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(str(folder.tensorboard)))
    # Hosts, each with a clock of its own, would not save at the same step.
    minutes = 0 if has_several_hosts() else config.checkpoint_minutes
    if minutes or progress.step:
        saving = SaveWithin(
            job.model, folder, minutes or math.inf, steps=job.steps, progress=progress
        )
        callbacks.append(saving)
    if progress.step:
        # The rest of an epoch has fewer steps than the next ones.
        _run_epochs(job, feed, callbacks, progress.epoch + 1)
    if progress.epoch < phase.last and not progress.stopped:
        _run_epochs(job, feed, callbacks, phase.last)


def _run_epochs(
    job: _Job, feed: Feed, callbacks: list[keras.callbacks.Callback], last: int
) -> None:
    progress = job.progress
    feed.model.fit(
        feed.train(progress.epoch, progress.step),
        validation_data=feed.validation,
        steps_per_epoch=job.steps - progress.step,
        initial_epoch=progress.epoch,
        epochs=last,
        shuffle=False,  # the reader does
        # The bar is for people; a log gets a line an epoch.
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=callbacks,
    )


def _monitor(info: DatasetInfo) -> str:
    return "val_loss" if has_split(info, "validation") else "loss"


def _trained_backbone(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of the backbone that are meant to be trained, at some time."""

    def leaves(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
        for inner in layer.layers if isinstance(layer, keras.Model) else ():
            yield from leaves(inner)
        if not isinstance(layer, keras.Model) and layer.weights and layer.trainable:
            yield layer

    after_frames = split_at_features(model)[1] if has_frozen_features(model) else model
    return [
        leaf
        for layer in after_frames.layers
        if layer.name == FRAME_FEATURES
        for leaf in leaves(layer.layer)
    ]


def _compile(model: keras.Model, job: _Job, phase: Phase) -> None:
    info, config = job.info, job.config
    label = info.spec.label
    metrics: list[keras.metrics.Metric] = []
    if label.task == "classification":
        metrics = [CountedAccuracy(name="accuracy")]
    elif label.task == "multilabel":
        metrics = [keras.metrics.BinaryAccuracy(name="binary_accuracy")]
    elif len(label.target_names) == 1:  # A mean over targets of different units would mean nothing.
        metrics = [
            keras.metrics.MeanAbsoluteError(name="mae"),
            keras.metrics.RootMeanSquaredError(name="rmse"),
        ]
    model.compile(
        optimizer=make_optimizer(config, phase, job.steps),
        loss=make_loss(label, info.splits["train"], class_weights=config.class_weights),
        jit_compile={"auto": "auto", "on": True, "off": False}[config.xla],
        weighted_metrics=metrics,  # padding weighs nothing
    )
    model.optimizer.build(model.trainable_variables)


def make_optimizer(config: TrainingConfig, phase: Phase, steps: int) -> keras.optimizers.Optimizer:
    """Adam with the learning rates of a phase of ``steps`` steps an epoch."""
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
    return keras.optimizers.Adam(rate, global_clipnorm=config.clip_norm)
