"""The folder of a run: names of its files, where a new one is made, and checks of an existing one."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from tfrecords_schema import storage
from tfrecords_schema.codec import from_json, parse_json
from tfrecords_schema.info import FILE_NAME, DatasetInfo
from tfrecords_schema.options import show, values_of
from tfrecords_schema.running.lock import LockedError, folder_lock
from tfrecords_schema.tables import shorten
from trainer.config.reading import ReadingConfig
from trainer.config.training import TrainingConfig
from trainer.errors import TrainerError

# NumPy and zipfile raise these for a damaged checkpoint.
DAMAGE = (
    *(ValueError, KeyError, EOFError, TypeError, AttributeError, MemoryError, RuntimeError),
    *(BadZipFile, zlib.error),
)
_LOCK = ".lock"
_MAX_LISTED = 2000  # characters of the options that differ
# Options that a resumed run may change: when it ends, when it is saved, and what it shows.
_MAY_CHANGE = ("epochs", "patience", "checkpoint_minutes", "progress")


class _Named:
    """Descriptor: the path of a file or folder in a run's folder."""

    def __init__(self, name: str, doc: str):
        self._name, self.__doc__ = name, doc

    def __get__(self, run: RunFolder, _cls: object = None) -> Path:
        return run.path / self._name


@dataclass(frozen=True)
class RunFolder:
    """The paths in a run's folder, which need not exist. It holds a ``dataset_info.json`` as well."""

    path: Path

    model = _Named(
        "model.keras", "Best model, which imports of `trainer.models.layers` let Keras load."
    )
    export = _Named("export", "The same as a SavedModel: uint8 frames to values in units.")
    calibration = _Named("calibration.json", "Changes of probabilities, and thresholds of classes.")
    history = _Named("history.csv", "Loss and metrics of each epoch.")
    curves = _Named("curves.png", "Plot of the history.")
    report = _Named("report.html", "Report on the errors of the model.")
    card = _Named("README.md", "Model card: data, options, scores and limits.")
    metrics = _Named("metrics.json", "Metrics by split, with the baseline's; written last.")
    checkpoint = _Named("checkpoint.npz", "State of the training, for ``--resume``.")
    previous = _Named("checkpoint.previous.npz", "The checkpoint before it, in case it is damaged.")
    tensorboard = _Named("tensorboard", "Logs for TensorBoard, with ``--tensorboard on``.")
    features = _Named(".features", "Features of a frozen backbone, during training.")
    config = _Named("config.json", "Options and library versions.")
    lock = _Named(_LOCK, "Held by the one training that writes here.")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder, and keeps other trainings out; raises `TrainerError` if one is running here."""
        storage.make_folder(self.path)
        try:
            with folder_lock(os.fspath(self.lock), os.fspath(self.path), "training"):
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError):
                        self.lock.unlink()
                        self.path.rmdir()  # if it is empty: a training that cannot start leaves nothing
        except LockedError as error:
            raise TrainerError(str(error)) from None

    def saved_progress(self) -> dict[str, Any] | None:
        """Returns the progress in the checkpoint; None without a readable one."""
        if not self.checkpoint.is_file():
            return None
        try:
            with np.load(self.checkpoint) as saved:
                progress = from_json(dict[str, Any], parse_json(str(saved["progress"])))
                return progress if {"epoch", "step"} <= progress.keys() else None
        except (OSError, *DAMAGE):
            return None


def new_run(output: str | None, dataset_name: str) -> RunFolder:
    """Returns the folder of a new run, which is not made: ``output``, or a new ``runs/NAME-TIMESTAMP``."""
    if output is None:
        name = re.sub(r"[^\w.-]+", "_", dataset_name).strip(".") or "run"
        base = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        names = itertools.chain([base], (f"{base}-{count}" for count in itertools.count(2)))
        paths = (Path("runs") / name for name in names)
        return RunFolder(next(path for path in paths if not path.exists()))
    path = Path(output)
    problem = "" if path.is_dir() or not path.exists() else "is a file"
    if path.is_dir() and not all(map(_is_temporary, os.listdir(path))):
        held = "another run" if RunFolder(path).config.exists() else "other files"
        problem = f"already holds {held}"
    if problem:
        raise TrainerError(
            f"--output {path} {problem}: expected a new or empty folder. Name another, or delete it"
        )
    return RunFolder(path)


def resumed_run(output: str | None, info: DatasetInfo, options: dict[str, Any]) -> RunFolder:
    """Returns the run to continue, of the same dataset and options, or a new one if ``output`` is empty.

    ``options`` are those of `trainer.config.training.TrainingConfig.to_json`; some of them may differ.
    """
    if output is None:
        raise TrainerError("--resume continues the run in --output. Give --output too")
    folder = RunFolder(Path(output))
    if not folder.config.is_file():
        return new_run(output, info.name)
    check_same_run(folder, info, options)
    return folder


def check_same_run(folder: RunFolder, info: DatasetInfo, options: dict[str, Any]) -> None:
    """Checks that a run in ``folder``, if there is one, has the same dataset and options."""
    if not folder.config.is_file():
        return
    differences = _differences(_load_options(folder), options)
    if (folder.path / FILE_NAME).is_file() and DatasetInfo.load(folder.path) != info:
        differences.append("another dataset, or another build of it")
    if differences:
        listed = shorten("; ".join(differences), _MAX_LISTED)
        raise TrainerError(
            f"--resume found a run with other options in {folder.path}: {listed}. "
            "Give the same options, or another --output"
        )


def _is_temporary(name: str) -> bool:
    """Returns True for what a killed training may leave before it writes its options."""
    return name == _LOCK or storage.is_partial(name)


def _differences(held: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Describes the options, at any depth, that differ from those of the run and may not."""
    found = []
    for name, value in options.items():
        if isinstance(value, dict) and isinstance(held.get(name, {}), dict):
            found += _differences(held.get(name, {}), value)
        # With a patience or without one, another epoch is kept.
        elif held.get(name) != value and (
            name not in _MAY_CHANGE or None in (held.get(name), value)
        ):
            found.append(f"{name}: {held.get(name)!r:.100} there, {value!r:.100} now")
    return found


def open_run(run: str | os.PathLike[str]) -> tuple[RunFolder, DatasetInfo]:
    """Returns the folder of a finished run, and the description of the dataset that it was trained on."""
    folder = RunFolder(Path(run))
    if not folder.model.is_file() or not (folder.path / FILE_NAME).is_file():
        found = "no such folder" if not folder.path.is_dir() else "a folder without both"
        raise TrainerError(
            f"{run} is not the folder of a run: expected {folder.model.name} and {FILE_NAME} in it, "
            f"found {found}. Give the --output of a `trainer --tfrecords` run"
        )
    return folder, DatasetInfo.load(folder.path)


def saved_values(run: str) -> dict[str, Any]:
    """Returns the flags of the training in a folder, with their values."""
    folder = RunFolder(Path(run))
    if not folder.config.is_file():
        raise TrainerError(
            f"--resume {run}: expected the folder of a training that was begun, found no "
            f"{folder.config.name} in it"
        )
    fields = _load_options(folder)
    place = fields.pop("tfrecords", None)
    fields.pop("versions", None)
    try:
        values = values_of(from_json(TrainingConfig, fields, strict=True))
        return {
            "tfrecords": from_json(list[str], [place] if isinstance(place, str) else place),
            **values,
        }
    except ValueError as error:
        raise _invalid_config(folder, error) from error


def reading_of(folder: RunFolder) -> ReadingConfig:
    """Returns the options by which a run read its dataset."""
    fields = _load_options(folder).get("reading", {})
    try:
        return from_json(ReadingConfig, fields, strict=True)
    except ValueError as error:
        raise _invalid_config(folder, error) from error


def options_of_run(folder: RunFolder) -> dict[str, str]:
    """Returns the options of a run by name, as they are typed."""

    def flat(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for name, value in fields.items():
            if isinstance(value, dict):
                yield from flat(value)
            else:
                yield name, show(tuple(value) if isinstance(value, list) else value)

    return dict(flat(_load_options(folder)))


def _load_options(folder: RunFolder) -> dict[str, Any]:
    """Returns the options of a run, from its ``config.json``."""
    try:
        return from_json(dict[str, Any], parse_json(storage.read_bytes(folder.config)))
    except (OSError, ValueError) as error:
        raise _invalid_config(folder, error) from error


def _invalid_config(folder: RunFolder, reason: object) -> TrainerError:
    return TrainerError(
        f"{folder.config} does not say how the run was trained ({reason}): expected the file that "
        "training wrote. Train again"
    )


def read_history(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a ``history.csv``, all numbers; none if the file does not exist yet.

    Raises:
        TrainerError: if it holds something else.
    """
    if not path.exists():
        return []
    try:
        text = storage.read_bytes(path).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        for row in rows:
            int(row["epoch"])
            list(map(float, row.values()))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise invalid_history(path, f"{type(error).__name__}: {error}") from error
    return rows


def invalid_history(path: Path, reason: str) -> TrainerError:
    """Returns the error for a ``history.csv`` that cannot be continued."""
    return TrainerError(
        f"{path} is not the history of this training ({reason:.300}): expected the file that training wrote. "
        "Delete it to continue without the rows of earlier epochs"
    )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes ``value`` as indented JSON, atomically."""
    storage.write_bytes(path, json.dumps(value, indent=2).encode() + b"\n")
