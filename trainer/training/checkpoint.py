"""Saves the state of a training in one file, from which a killed training continues."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfrecords_schema.codec import from_json, parse_json
from tfrecords_schema.storage import replacing, sync
from trainer.config.run_folder import DAMAGE, RunFolder
from trainer.errors import TrainerError
from trainer.models.network import FROZEN_FEATURES

_log = logging.getLogger(__name__)

_PROGRESS = "progress"
_MAX_NAMES = 3


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        epoch: completed epochs.
        step: completed steps of the next epoch.
        best: lowest monitored loss so far.
        best_epoch: its epoch, counted from 1.
        kept_epoch: the epoch whose model is saved, counted from 1.
        waited: epochs since then.
        stopped: True if the training stopped early.
    """

    epoch: int = 0
    step: int = 0
    best: float = math.inf
    best_epoch: int = 0
    kept_epoch: int = 0
    waited: int = 0
    stopped: bool = False

    def __post_init__(self) -> None:
        if min(self.epoch, self.step, self.best_epoch, self.waited) < 0 or math.isnan(self.best):
            raise ValueError(f"expected counts that are not negative, and a loss, got {self}")


def save_checkpoint(
    path: Path, model: keras.Model, trained: keras.Model, progress: Progress
) -> None:
    """Writes weights, the states of optimizer, metrics and dropouts, and ``progress``, atomically.

    The checkpoint before it is kept as `RunFolder.previous`.

    ``trained``, which has the optimizer and the metrics, is ``model`` or the part of it that is trained.
    """
    variables = {
        **_model_variables(model),
        **_optimizer_variables(trained.optimizer, trained.trainable_variables),
        **_metric_variables(trained),
    }
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}
    arrays[_PROGRESS] = np.array(json.dumps(dataclasses.asdict(progress)))
    with replacing(path) as partial:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        sync(partial)
        previous = RunFolder(path.parent).previous
        with contextlib.suppress(FileNotFoundError):  # this is the first checkpoint
            previous.unlink(missing_ok=True)
            try:
                os.link(path, previous)
            except PermissionError:  # a disk without hard links
                path.replace(previous)


def use_sound_checkpoint(folder: RunFolder) -> None:
    """Puts the previous checkpoint in the place of one that is empty, damaged or missing, and says so.

    Raises:
        TrainerError: if there is a checkpoint, but none that can be used.
    """
    problem = _problem(folder.checkpoint)
    if problem is None or not (os.path.lexists(folder.checkpoint) or folder.previous.exists()):
        return
    if (before := _problem(folder.previous)) is not None:
        raise TrainerError(
            f"{folder.checkpoint} {problem}, and {folder.previous.name} {before}: the training cannot go on. "
            "Delete both to train from the beginning"
        )
    _log.info("%s %s: continuing from the checkpoint before it", folder.checkpoint, problem)
    folder.previous.replace(folder.checkpoint)
    sync(folder.path)


def _problem(path: Path) -> str | None:
    """Returns what is wrong with a checkpoint; reads all of it, which verifies its checksums."""
    if not path.is_file():
        return "is missing"
    if not path.stat().st_size:
        return "is empty"
    try:
        with np.load(path) as saved:
            if sum(member.file_size for member in saved.zip.infolist()) > path.stat().st_size:
                return "is damaged (it would unpack to more bytes than it has)"
            for name in saved.files:
                saved[name]
        load_progress(path)
    except DAMAGE as error:
        return f"is damaged ({error!s:.300})"
    except OSError as error:
        if error.errno != errno.EINVAL:  # which a forged position in the file gives
            raise
        return f"is damaged ({error.strerror})"
    return None


def load_progress(path: Path) -> Progress:
    """Returns the progress of the training that left ``path``; none if the file does not exist."""
    if not path.exists():
        return Progress()
    with np.load(path) as saved:
        return from_json(Progress, parse_json(str(saved[_PROGRESS])))


def restore_model(path: Path, model: keras.Model) -> None:
    """Gives ``model`` the weights of the checkpoint; raises `TrainerError` if they are another network's."""
    _restore(path, "model", _model_variables(model))


def restore_optimizer(path: Path, optimizer: Any, trainable: list[Any]) -> None:
    """Gives ``optimizer``, built for the variables ``trainable``, the state of the checkpoint."""
    _restore(path, "optimizer", _optimizer_variables(optimizer, trainable))


def add_metrics(path: Path, trained: keras.Model) -> None:
    """Adds the metrics of the checkpoint's epoch to those of ``trained``. All of them are sums."""
    variables = _metric_variables(trained)
    current = {name: keras.ops.convert_to_numpy(v) for name, v in variables.items()}
    _restore(path, "metric", variables)
    for name, variable in variables.items():
        # Not assign_add: TensorFlow can only set a sum over devices.
        variable.assign(keras.ops.convert_to_numpy(variable) + current[name])


def stable_paths(paths: Sequence[str]) -> list[str]:
    """Returns unique paths of a network's variables that are equal in every process.

    Keras numbers unnamed layers by process: the first convolution is ``conv2d`` in a new process, and
    ``conv2d_4`` after another network. Here the numbers of each kind begin at 0.

    Example: ``stable_paths(["conv2d_4/kernel", "conv2d_5/kernel", "head/kernel", "head/kernel"])`` is
    ``["conv2d/kernel", "conv2d_1/kernel", "head/kernel", "head/kernel#2"]``.
    """
    split = [path.split("/") for path in paths]
    for depth in range(max(map(len, split), default=0)):
        kinds: defaultdict[tuple[str, ...], list[tuple[int, list[str]]]] = defaultdict(list)
        for parts in split:
            if depth < len(parts):
                found = re.fullmatch(r"(.+)_(\d+)", parts[depth])
                base, number = (found[1], int(found[2])) if found else (parts[depth], 0)
                kind = (*parts[:depth], base)
                kinds[kind].append((number, parts))
        for (*_, base), numbered in kinds.items():
            lowest = min(number for number, _ in numbered)
            for number, parts in numbered:
                parts[depth] = f"{base}_{number - lowest}" if number > lowest else base
    seen: Counter[str] = Counter()
    unique = []
    for name in map("/".join, split):
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique


def _model_variables(model: keras.Model) -> dict[str, Any]:
    """Returns the variables that training changes. The others are rebuilt from the same seed and files."""
    layers = [layer for layer in model.layers if layer.name == FROZEN_FEATURES]
    frozen = {id(variable) for layer in layers for variable in layer.variables}
    changing = [variable for variable in model.variables if id(variable) not in frozen]
    return _by_path("model", changing)


def _optimizer_variables(optimizer: Any, trainable: list[Any]) -> dict[str, Any]:
    """Returns the optimizer's variables. Keras names their slots ``adam/conv2d_4_kernel_momentum``."""
    stable = stable_paths([variable.path for variable in trainable])
    names = {v.path.replace("/", "_"): path for v, path in zip(trainable, stable, strict=True)}
    paths = []
    for variable in optimizer.variables:
        slot = variable.path.rpartition("/")[2]
        raw = max((name for name in names if slot.startswith(f"{name}_")), key=len, default=None)
        paths.append(slot if raw is None else f"{names[raw]}/{slot[len(raw) + 1 :]}")
    return _by_path("optimizer", optimizer.variables, paths)


def _metric_variables(trained: keras.Model) -> dict[str, Any]:
    return _by_path("metric", [v for metric in trained.metrics for v in metric.variables])


def _by_path(part: str, variables: list[Any], paths: list[str] | None = None) -> dict[str, Any]:
    names = stable_paths(paths or [variable.path for variable in variables])
    return {f"{part}/{name}": v for name, v in zip(names, variables, strict=True)}


def _restore(path: Path, part: str, variables: dict[str, Any]) -> None:
    with np.load(path) as saved:
        values = {name: saved[name] for name in saved.files if name.startswith(f"{part}/")}
    reshaped = [
        f"{name} {values[name].shape}, expected {tuple(variable.shape)}"
        for name, variable in variables.items()
        if name in values and values[name].shape != tuple(variable.shape)
    ]
    differences = {
        "missing": [name for name in variables if name not in values],
        "unexpected": [name for name in values if name not in variables],
        "other shapes": reshaped,
    }
    if any(differences.values()):
        said = "; ".join(f"{kind}: {_some(names)}" for kind, names in differences.items() if names)
        raise TrainerError(
            f"{path} is the checkpoint of another network ({said}). Use the versions of the libraries that "
            "config.json beside it names, or train again in another --output"
        )
    for name, variable in variables.items():
        variable.assign(values[name])


def _some(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
