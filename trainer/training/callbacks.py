"""What happens at the end of each step and epoch of a training."""

from __future__ import annotations

import csv
import logging
import math
import time
from pathlib import Path
from typing import Any

import keras
from keras import ops

from trainer.config.run_folder import RunFolder
from trainer.data.corrupt import SkippedRecords
from trainer.errors import TrainerError
from trainer.training.checkpoint import Progress, add_metrics, save_checkpoint

_log = logging.getLogger(__name__)


class TrainingError(TrainerError):
    """A training that cannot go on."""


class HistoryFile(keras.callbacks.Callback):
    """Writes loss and metrics of each epoch to a CSV file as soon as they are known.

    Unlike `keras.callbacks.CSVLogger`, it counts epochs from 1, as the log does, adds their seconds, has no
    columns for a validation that did not take place, and drops the epochs that a resumed run does again.
    """

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds a line, after those of the epochs before."""
        seconds = round(time.monotonic() - self._started, 3)
        row = {"epoch": epoch + 1, "seconds": seconds, **(logs or {})}
        before = read_history(self._path)[:epoch]
        with self._path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row.keys())
            writer.writeheader()
            writer.writerows([*before, row])


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows of a ``history.csv``; none when there is no file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
            f"{self._learning_rate:g}) or give --clip_norm 1, and look for labels or signals that are not "
            "finite with `pipelines validate`"
        )


class TellSkipped(keras.callbacks.Callback):
    """Says after each epoch how many damaged places have been left out so far."""

    def __init__(self, skipped: SkippedRecords):
        super().__init__()
        self._skipped = skipped

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Says it, if there are any."""
        if self._skipped.places:
            _log.info("skipped so far: %d damaged places", len(self._skipped.places))


class KeepBest(keras.callbacks.Callback):
    """Saves the best epoch's model, stops when none gets better, and writes a checkpoint of every epoch.

    All in one, and the checkpoint last: a run killed between any two files does its last epoch again, and
    comes to the same.

    Args:
        whole: the model to save, which may have more layers than the one that is trained.
        folder: of the run.
        monitor: the loss to compare epochs by.
        patience: epochs without a better one after which training stops; None never stops.
        progress: of the training so far, which is kept up to date.
    """

    def __init__(
        self,
        whole: keras.Model,
        folder: RunFolder,
        *,
        monitor: str,
        patience: int | None,
        progress: Progress,
    ):
        super().__init__()
        self._whole = whole
        self._folder = folder
        self._monitor = monitor
        self._patience = patience
        self._progress = progress

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares the epoch with the best before it."""
        progress = self._progress
        progress.epoch, progress.step = epoch + 1, 0
        progress.waited += 1
        loss = float((logs or {})[self._monitor])
        if loss < progress.best:
            progress.best, progress.best_epoch, progress.waited = loss, epoch + 1, 0
            temporary = self._folder.path / ".unfinished.keras"
            self._whole.save(temporary)
            temporary.replace(self._folder.model)
        if self._patience is not None and progress.waited >= self._patience:
            progress.stopped = self.model.stop_training = True
        save_checkpoint(self._folder.checkpoint, self._whole, self.model, progress)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Removes what a run that was killed may have left."""
        (self._folder.path / ".unfinished.keras").unlink(missing_ok=True)


class SaveWithin(keras.callbacks.Callback):
    """Writes a checkpoint within epochs as well, when so many minutes have passed since the last one.

    The first epoch may have been begun by the run that is resumed; its loss and metrics go on then.

    Args:
        whole: the model to save.
        folder: of the run.
        minutes: between checkpoints.
        steps: of an epoch.
        progress: of the training so far, which is kept up to date.
    """

    def __init__(
        self,
        whole: keras.Model,
        folder: RunFolder,
        minutes: float,
        *,
        steps: int,
        progress: Progress,
    ):
        super().__init__()
        self._whole = whole
        self._folder = folder
        self._seconds = 60 * minutes
        self._steps = steps
        self._progress = progress
        self._saved = time.monotonic()
        self._begun = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers how far an epoch has come that was begun before."""
        self._begun = self._progress.step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves when it is time, but for an epoch's last step, after which it is saved anyway."""
        if self._begun and batch == 0:  # only now has Keras made all metrics
            add_metrics(self._folder.checkpoint, self.model)
        step = self._begun + batch + 1
        if step < self._steps and time.monotonic() - self._saved >= self._seconds:
            self._progress.step = step
            save_checkpoint(self._folder.checkpoint, self._whole, self.model, self._progress)
            self._saved = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts from here: the end of an epoch is saved by others."""
        self._saved = time.monotonic()
