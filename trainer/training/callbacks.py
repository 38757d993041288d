"""Keras callbacks of a training: history, checks for NaN, checkpoints and early stopping."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from pathlib import Path
from typing import Any

import keras
from keras import ops

from tfrecords_schema.running import interruption
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.storage import replacing, write_bytes
from trainer.config.run_folder import invalid_history, read_history
from trainer.errors import TrainerError
from trainer.training.checkpoint import Progress, add_metrics, save_checkpoint
from trainer.training.distribution import has_several_hosts
from trainer.training.feeds import TrainingJob

_log = logging.getLogger(__name__)


class TrainingError(TrainerError):
    """A training that cannot continue."""


class HistoryFile(keras.callbacks.Callback):
    """Writes loss and metrics of each epoch to a CSV file as soon as they are known.

    Unlike `keras.callbacks.CSVLogger`, it counts epochs from 1, as the log does, adds their seconds, has no
    columns for a validation that did not take place, and drops the epochs that a resumed run repeats.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        self._started = 0.0
        read_history(path)  # a file that cannot be continued is reported before the work

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds a row, after those of earlier epochs."""
        seconds = round(time.monotonic() - self._started, 3)
        row = {"epoch": epoch + 1, "seconds": seconds, **(logs or {})}
        before = read_history(self._path)[:epoch]
        if any(old.keys() != row.keys() for old in before):
            raise invalid_history(self._path, f"expected the columns {', '.join(row)}")
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, row.keys())
        writer.writeheader()
        writer.writerows([*before, row])
        write_bytes(self._path, file.getvalue().encode())


class EpochLine(keras.callbacks.Callback):
    """Logs a line after each epoch: its seconds, and the loss and metrics of both splits with their units.

    Args:
        label: its metrics have the units of its targets; a loss has none.
        epochs: number of epochs of the whole training.
    """

    def __init__(self, label: LabelSpec, epochs: int):
        super().__init__()
        self._epochs = epochs
        named = zip(label.target_names, label.target_units, strict=False)  # units may be unknown
        self._units = {f"{name}_mae": unit for name, unit in named}
        if len(set(label.target_units)) == 1:
            self._units |= dict.fromkeys(("mae", "rmse", "joint_rmse"), label.target_units[0])
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the time."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the line."""
        texts: dict[str, list[str]] = {"train": [], "validation": []}
        logs = logs or {}
        for key, value in logs.items():
            # Keras's prefix, unless it belongs to the name of a target.
            name = key.removeprefix("val_") if key[len("val_") :] in logs else key
            text = f"{name} {float(value):.4g} {self._units.get(name, '')}".rstrip()
            texts["train" if name == key else "validation"].append(text)
        parts = [f"{split}: {', '.join(own)}" for split, own in texts.items() if own]
        seconds = time.monotonic() - self._began
        line = f"epoch {epoch + 1}/{self._epochs}, {seconds:.1f} s; {'; '.join(parts)}"
        _log.info("%s", line)


class StopOnNaN(keras.callbacks.Callback):
    """Raises `TrainingError` as soon as the loss or a weight is no longer finite.

    Must come before `SaveProgress`, which counts the epoch.
    """

    def __init__(self, learning_rate: float, progress: Progress):
        super().__init__()
        self._learning_rate = learning_rate
        self._progress = progress

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the mean loss of the epoch so far."""
        self._check_loss("loss", logs, f"step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the weights, and the validation loss."""
        # On CPUs, TensorFlow's relu turns NaN into 0: the loss can look sound although the network is not.
        for weight in self.model.trainable_weights:
            if not bool(ops.all(ops.isfinite(weight))):
                raise self._error(
                    f"the weights {weight.path} are not finite after epoch {epoch + 1}"
                )
        self._check_loss("val_loss", logs, "its end")

    def _check_loss(self, name: str, logs: dict[str, Any] | None, when: str) -> None:
        loss = float((logs or {}).get(name, 0.0))
        if not math.isfinite(loss):
            raise self._error(
                f"{name} became {loss} in epoch {self._progress.epoch + 1}, at {when}"
            )

    def _error(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what}, so training cannot continue. Lower --learning_rate (it was {self._learning_rate:g}) or "
            "give --clip_norm 1, and look for labels or signals that are not finite with `pipelines validate`"
        )


class SaveProgress(keras.callbacks.Callback):
    """Saves the model of the best epoch, or of the last one so far, stops early, and writes checkpoints.

    A checkpoint is written last in each epoch: a run killed between two files repeats its last epoch, with
    the same result. Within an epoch, one is written when ``minutes`` have passed since the last. The first
    epoch may have been started by an earlier run; its loss and metrics are then continued.

    An interruption that was `interruption.delayed` is raised after a step, whose checkpoint is then saved, or
    ends the training after the epoch if this was the last step.

    The model to save, ``whole``, may have more layers than the one that is trained. Training stops after
    ``patience`` epochs without a lower loss, or never if it is None.
    """

    def __init__(
        self,
        whole: keras.Model,
        job: TrainingJob,
        progress: Progress,
        *,
        patience: int | None,
        minutes: float,
    ):
        super().__init__()
        self._whole, self._job, self._progress = whole, job, progress
        self._patience = patience
        self._seconds = 60 * minutes
        self._saved_at = time.monotonic()
        self._first_step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the step at which a resumed epoch starts."""
        self._first_step = self._progress.step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves if it is time, except after the last step of an epoch."""
        if self._first_step and batch == 0:  # only now has Keras made all metrics
            add_metrics(self._job.folder.checkpoint, self.model)
        step = self._first_step + batch + 1
        if step == self._job.steps:
            return
        is_interrupted = interruption.is_received()
        # Hosts do not save within epochs: by their own clocks, they would not save at the same step.
        is_due = is_interrupted or time.monotonic() - self._saved_at >= self._seconds
        if is_due and not has_several_hosts():
            self._progress.step = step
            self._save()
        if is_interrupted:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares the epoch with the best one before it, and saves."""
        progress, skipped = self._progress, self._job.skipped
        progress.epoch, progress.step = epoch + 1, 0
        progress.waited += 1
        loss = float((logs or {})[self._job.monitor])
        if loss < progress.best:
            progress.best, progress.best_epoch, progress.waited = loss, epoch + 1, 0
        if not self._job.keeps_best or progress.best_epoch == epoch + 1:
            progress.kept_epoch = epoch + 1
            with replacing(self._job.folder.model, suffix=".keras") as partial:
                self._whole.save(partial)
        if self._patience is not None and progress.waited >= self._patience:
            self.model.stop_training = True
        progress.stopped = bool(self.model.stop_training)  # another callback may have stopped it
        self._save()
        if interruption.is_received():
            self.model.stop_training = True
        if skipped is not None and skipped.places:
            _log.info("skipped so far: %d corrupt records", len(skipped.places))

    def _save(self) -> None:
        path = self._job.folder.checkpoint
        save_checkpoint(path, self._whole, self.model, self._progress)
        self._saved_at = time.monotonic()
