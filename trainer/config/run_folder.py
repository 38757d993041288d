"""The folder a run leaves: what its files are called, where a new one goes, and what may be read as one.

    model.keras          the best model, for Keras (import `trainer.models.layers` before loading it)
    export/              the same as a SavedModel, for anyone: uint8 frames in, units out
    checkpoint.npz       where the training stands, for `trainer --resume`
    history.csv          loss and metrics of each epoch
    curves.png           the same, drawn
    report.html          where the model errs, to be looked at
    metrics.json         metrics by split, beside the baseline's; written last
    config.json          the options of the run and the versions of the libraries
    dataset_info.json    the dataset it was trained on

No TensorFlow here, so that a wrong folder is refused at once.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfrecords_schema.info import FILE_NAME, DatasetInfo
from trainer.config.reading import ReadingConfig
from trainer.errors import TrainerError

# Options that a resumed run may change: they decide when it ends and is saved, not how it goes.
_MAY_CHANGE = ("epochs", "patience", "checkpoint_minutes")


@dataclass(frozen=True)
class RunFolder:
    """The paths in a run's folder; the folder itself need not exist."""

    path: Path

    @property
    def model(self) -> Path:
        """The best model as ``.keras``."""
        return self.path / "model.keras"

    @property
    def export(self) -> Path:
        """The SavedModel's folder."""
        return self.path / "export"

    @property
    def history(self) -> Path:
        """Loss and metrics of each epoch, CSV."""
        return self.path / "history.csv"

    @property
    def curves(self) -> Path:
        """Their plot, PNG."""
        return self.path / "curves.png"

    @property
    def report(self) -> Path:
        """Where the model errs, HTML."""
        return self.path / "report.html"

    @property
    def metrics(self) -> Path:
        """Metrics by split, JSON."""
        return self.path / "metrics.json"

    @property
    def checkpoint(self) -> Path:
        """Where the training stands."""
        return self.path / "checkpoint.npz"

    @property
    def tensorboard(self) -> Path:
        """The logs for TensorBoard, with ``--tensorboard on``."""
        return self.path / "tensorboard"

    @property
    def features(self) -> Path:
        """The features of a frozen backbone, while training."""
        return self.path / ".features"

    @property
    def config(self) -> Path:
        """The options and versions, JSON."""
        return self.path / "config.json"


def new_run(output: str | None, dataset_name: str) -> RunFolder:
    """Where a new run goes: ``output``, or ``runs/NAME-TIMESTAMP`` in the working folder.

    Nothing is written.

    Raises:
        TrainerError: when ``output`` is a file or a folder that holds anything.
    """
    if output is None:
        name = re.sub(r"[^\w.-]+", "_", dataset_name).strip(".") or "run"
        base = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        path = Path("runs") / base
        count = 1
        while path.exists():
            count += 1
            path = Path("runs") / f"{base}-{count}"
        return RunFolder(path)
    path = Path(output)
    if path.exists() and not path.is_dir():
        raise TrainerError(
            f"--output {path} is a file: expected a new or empty folder, name another"
        )
    if path.is_dir() and any(path.iterdir()):
        held = "another run" if RunFolder(path).config.exists() else "other files"
        raise TrainerError(
            f"--output {path} already holds {held}: expected a new or empty folder, "
            "name another or delete it"
        )
    return RunFolder(path)


def resumed_run(output: str | None, info: DatasetInfo, options: dict[str, Any]) -> RunFolder:
    """The run to go on with: one of the same dataset and options, or a new one where nothing was left.

    Args:
        output: the folder.
        info: the dataset it must have been trained on.
        options: what it must have been told, `trainer.config.training.TrainingConfig.to_json`; but for the
            epochs, the patience and the minutes between checkpoints, which may change.

    Raises:
        TrainerError: naming each difference; and when the folder is no run's, or its ``config.json`` cannot
            be understood.
    """
    if output is None:
        raise TrainerError("--resume goes on with the run in --output: give that too")
    folder = RunFolder(Path(output))
    if not folder.config.is_file():
        return new_run(output, info.name)
    held = _told(folder)
    differences = [
        f"{name}: {held_value!r} there, {value!r} now"
        for name, held_value, value in _differing(held, options)
        if name not in _MAY_CHANGE
    ]
    if (folder.path / FILE_NAME).is_file() and DatasetInfo.load(folder.path) != info:
        differences.append("another dataset, or another build of it")
    if differences:
        raise TrainerError(
            f"--resume finds a run with other options in {output}: {'; '.join(differences)}; "
            "give the same ones, or another --output"
        )
    return folder


def _differing(held: dict[str, Any], options: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The options that differ, of the model as well: name, what is held, what is asked for."""
    found = []
    for name, value in options.items():
        if isinstance(value, dict) and isinstance(held.get(name, {}), dict):
            found += _differing(held.get(name, {}), value)
        elif held.get(name) != value:
            found.append((name, held.get(name), value))
    return found


def open_run(run: str | os.PathLike[str]) -> tuple[RunFolder, DatasetInfo]:
    """A run's folder, and the dataset it was trained on.

    Raises:
        TrainerError: when the folder is not one that training left.
    """
    folder = RunFolder(Path(run))
    if not folder.model.is_file() or not (folder.path / FILE_NAME).is_file():
        found = "no such folder" if not folder.path.is_dir() else "a folder without both"
        raise TrainerError(
            f"{run} is not the folder of a run: expected {folder.model.name} and {FILE_NAME} in it, "
            f"found {found}; give the --output of a `trainer --tfrecords` run"
        )
    return folder, DatasetInfo.load(folder.path)


def reading_of(folder: RunFolder) -> ReadingConfig:
    """What of its dataset a run was told to read.

    Raises:
        TrainerError: when its ``config.json`` is missing or cannot be understood.
    """
    options = _told(folder).get("reading", {})
    try:
        lists = {name: tuple(v) for name, v in options.items() if isinstance(v, list)}
        return ReadingConfig(**{**options, **lists})
    except (ValueError, TypeError, AttributeError) as error:
        raise _not_told(folder, error) from error


def _told(folder: RunFolder) -> dict[str, Any]:
    """What a run was told, as its ``config.json`` holds it."""
    try:
        options = json.loads(folder.config.read_bytes())
    except (OSError, ValueError) as error:
        raise _not_told(folder, error) from error
    if not isinstance(options, dict):
        raise _not_told(folder, f"it holds a {type(options).__name__}")
    return options


def _not_told(folder: RunFolder, reason: object) -> TrainerError:
    return TrainerError(
        f"{folder.config} does not say how the run was trained ({reason}): expected the file that "
        "training wrote, train again"
    )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes ``value`` as indented JSON, atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
