"""Trains the network on a dataset and leaves a run folder."""

from __future__ import annotations

import csv
import logging
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfrecords_schema.info import DatasetInfo
from trainer.config import TrainingConfig
from trainer.dataset import check_trainable, default_split, has_split
from trainer.errors import TrainerError
from trainer.evaluate import (
    Score,
    baseline_metrics,
    compare,
    describe_baseline,
    evaluate_model,
    format_score,
)
from trainer.export import export_run
from trainer.losses import balanced_class_weights, make_loss
from trainer.model import build_model
from trainer.plots import plot_curves
from trainer.reader import located_errors, read_labels, read_sequences
from trainer.run_folder import RunFolder, write_json

_log = logging.getLogger(__name__)


class TrainingError(TrainerError):
    """A training that cannot go on."""


def train(
    directory: str | os.PathLike[str], folder: RunFolder, config: TrainingConfig
) -> dict[str, Score]:
    """Trains on the train split, keeps the best epoch, evaluates it and exports it.

    The best epoch is the one with the least loss on the validation split; on the train split when the
    dataset has no validation split.

    Args:
        directory: of the dataset.
        folder: where the run goes; made here.
        config: how to train.

    Returns:
        By split, the scores of the best model: on ``validation`` and ``test``, or on ``train`` when the
        dataset has neither.

    Raises:
        DatasetInfoError, DatasetError, CorruptRecordError: when the dataset cannot be trained on.
        ConfigError: when it has no images for the options.
        TrainingError: when the loss stops being a number, or memory runs out.
    """
    info = DatasetInfo.load(directory)
    config.model.check_for(info.spec)
    check_trainable(directory, info)
    scored = [s for s in ("validation", "test") if has_split(info, s)] or ["train"]
    monitor = "val_loss" if has_split(info, "validation") else "loss"
    _log_dataset(directory, info, monitor)
    baselines = _log_baseline(directory, info, scored)

    keras.utils.set_random_seed(config.seed)
    model = build_model(info, config.model)
    _compile(model, info, config)
    _log.info("model: %s parameters", f"{model.count_params():,}")
    folder.path.mkdir(parents=True, exist_ok=True)
    info.save(folder.path)
    write_json(folder.config, _describe_run(directory, config))

    best_epoch = _fit(model, directory, info, folder, config, monitor)
    best = export_run(folder, info)
    shown = baselines["validation" if has_split(info, "validation") else scored[0]]
    plot_curves(folder.history, folder.curves, baselines=_curve_baselines(info, shown))
    scores = {
        split: evaluate_model(best, directory, split, trained_on=info, batch_size=config.batch_size)
        for split in scored
    }
    write_json(
        folder.metrics,
        {
            "task": info.spec.label.task,
            "best_epoch": best_epoch,
            "best_by": monitor,
            "baseline": describe_baseline(info),
            "splits": {split: score.to_json() for split, score in scores.items()},
        },
    )
    _log_results(folder, scores, default_split(info), best_epoch)
    return scores


def _compile(model: keras.Model, info: DatasetInfo, config: TrainingConfig) -> None:
    label = info.spec.label
    metrics: list[keras.metrics.Metric] = []
    if label.task == "classification":
        metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    elif label.task == "multilabel":
        metrics = [keras.metrics.BinaryAccuracy(name="binary_accuracy")]
    elif len(label.target_names) == 1:  # A mean over targets of different units would mean nothing.
        metrics = [
            keras.metrics.MeanAbsoluteError(name="mae"),
            keras.metrics.RootMeanSquaredError(name="rmse"),
        ]
    model.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=make_loss(label, info.splits["train"], class_weights=config.class_weights),
        # Weights leave the padding out, which only labels by frame need; class weights would make another
        # accuracy of the training's than of the validation's.
        **{"weighted_metrics" if label.per_frame else "metrics": metrics},
    )


def _fit(
    model: keras.Model,
    directory: str | os.PathLike[str],
    info: DatasetInfo,
    folder: RunFolder,
    config: TrainingConfig,
    monitor: str,
) -> int:
    """Trains ``model``, leaving the best epoch in ``folder.model``; returns that epoch, counted from 1."""
    class_weights = None
    if config.class_weights and info.spec.label.task == "classification":
        class_weights = balanced_class_weights(info.splits["train"].label_counts)
    splits = ["train"]
    dataset = read_sequences(
        directory,
        "train",
        batch_size=config.batch_size,
        shuffle=True,
        shuffle_buffer=config.shuffle_buffer,
        seed=config.seed,
        sample_weights=True,
        class_weights=class_weights,
    )
    validation = None
    if has_split(info, "validation"):
        splits.append("validation")
        validation = read_sequences(
            directory, "validation", batch_size=config.batch_size, sample_weights=True
        )
    stopping = keras.callbacks.EarlyStopping(monitor, patience=config.patience)
    started = time.monotonic()
    try:
        with located_errors(directory, *splits):
            history = model.fit(
                dataset,
                validation_data=validation,
                epochs=config.epochs,
                shuffle=False,  # the reader does
                # The bar is for people; a log gets a line an epoch.
                verbose=1 if sys.stdout.isatty() else 2,
                callbacks=[
                    StopOnNaN(config.learning_rate),
                    keras.callbacks.ModelCheckpoint(
                        str(folder.model), monitor=monitor, save_best_only=True
                    ),
                    HistoryFile(folder.history),
                    stopping,
                ],
            )
    except tf.errors.ResourceExhaustedError as error:
        raise TrainingError(
            f"memory ran out with {config.batch_size} sequences a step: lower --batch_size, use fewer "
            "--filters or --pooling avg, or build smaller frames"
        ) from error
    losses = history.history[monitor]
    _log.info(
        "trained %d epochs in %.1f s%s",
        len(losses),
        time.monotonic() - started,
        f", stopped early: no better {monitor} for {config.patience} epochs"
        if stopping.stopped_epoch
        else "",
    )
    return 1 + losses.index(min(losses))


class HistoryFile(keras.callbacks.Callback):
    """Writes loss and metrics of each epoch to a CSV file as soon as they are known.

    Unlike `keras.callbacks.CSVLogger`, it counts epochs from 1, as the log does, adds their seconds, and has
    no columns for a validation that did not take place.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds a line, and the header before the first."""
        seconds = round(time.monotonic() - self._started, 3)
        row = {"epoch": epoch + 1, "seconds": seconds, **(logs or {})}
        with self._path.open("w" if epoch == 0 else "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row.keys())
            if epoch == 0:
                writer.writeheader()
            writer.writerow(row)


class StopOnNaN(keras.callbacks.Callback):
    """Ends the training with an explanation once the loss or a weight is no finite number any more."""

    def __init__(self, learning_rate: float):
        super().__init__()
        self._learning_rate = learning_rate
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch, for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the mean loss of the epoch so far."""
        self._check_loss("loss", logs, f"step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the weights, and the loss by which the best epoch is chosen."""
        # On CPUs, TensorFlow's relu makes 0 of NaN: the loss can look sound with a network that is not.
        for weight in self.model.trainable_weights:
            if not bool(ops.all(ops.isfinite(weight))):
                raise self._error(
                    f"the weights {weight.path} are not finite after epoch {epoch + 1}"
                )
        self._check_loss("val_loss", logs, "its end")

    def _check_loss(self, name: str, logs: dict[str, Any] | None, when: str) -> None:
        loss = float((logs or {}).get(name, 0.0))
        if not math.isfinite(loss):
            raise self._error(f"{name} became {loss} in epoch {self._epoch + 1}, at {when}")

    def _error(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what}, so nothing more can be learned: lower --learning_rate (it was "
            f"{self._learning_rate:g}), and look for labels or signals that are not finite with "
            "`pipelines validate`"
        )


def _log_dataset(directory: str | os.PathLike[str], info: DatasetInfo, monitor: str) -> None:
    spec, label = info.spec, info.spec.label
    shape = "signals only" if spec.image is None else "x".join(map(str, spec.image_shape))
    signals = f", signals {', '.join(s.name for s in spec.signals)}" if spec.signals else ""
    names = label.class_names or label.target_names
    _log.info("dataset: %s (%s), %s%s", directory, info.name, shape, signals)
    _log.info(
        "task: %s%s of %d: %s%s",
        label.task,
        " by frame" if label.per_frame else "",
        len(names),
        ", ".join(names[:10]),
        ", ..." if len(names) > 10 else "",
    )
    records = ", ".join(f"{name} {split.num_records}" for name, split in info.splits.items())
    _log.info("records: %s", records)
    if monitor == "loss":
        _log.info("no validation split: the best epoch is the one with the least TRAINING loss")


def _log_baseline(
    directory: str | os.PathLike[str], info: DatasetInfo, splits: list[str]
) -> dict[str, dict[str, float]]:
    """Says what any model must beat; returns the baseline's metrics by split."""
    _log.info("BASELINE any model must beat: %s", describe_baseline(info))
    baselines = {}
    for split in splits:
        with located_errors(directory, split):
            baselines[split] = baseline_metrics(read_labels(directory, split), info)
        _log.info(
            "  on %s: %s",
            split,
            ", ".join(f"{name} {value:.4g}" for name, value in baselines[split].items()),
        )
    return baselines


def _curve_baselines(info: DatasetInfo, metrics: dict[str, float]) -> dict[str, float]:
    """The baseline's metrics under the names they have while training."""
    targets = info.spec.label.target_names
    prefix = f"{targets[0]}_" if len(targets) == 1 else ""
    return {name.removeprefix(prefix): value for name, value in metrics.items()}


def _describe_run(directory: str | os.PathLike[str], config: TrainingConfig) -> dict[str, Any]:
    return {
        "tfrecords": str(directory),
        **config.to_json(),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def _log_results(
    folder: RunFolder, scores: dict[str, Score], telling: str, best_epoch: int
) -> None:
    _log.info("\nbest epoch: %d", best_epoch)
    for score in scores.values():
        _log.info("%s", format_score(score))
    if "test" not in scores:
        _log.info(
            "no test split: evaluated on %s, which %s, so expect worse of new footage",
            telling,
            "chose the best epoch" if telling == "validation" else "the model was trained on",
        )
    _log.info(
        "\nmodel       %s\nSavedModel  %s\nhistory     %s\ncurves      %s\nmetrics     %s",
        folder.model,
        folder.export,
        folder.history,
        folder.curves,
        folder.metrics,
    )
    _log.info("%s", compare(scores[telling]))
