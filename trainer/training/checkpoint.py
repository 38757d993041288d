"""Where a training stands, in one file, so that it can go on after it was killed."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from trainer.errors import TrainerError
from trainer.models.network import FROZEN_FEATURES

_PROGRESS = "progress"


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: epochs that are complete.
        step: steps of the next one that are done.
        phase: which phase the last of them belongs to, from 0.
        best: the least monitored loss so far.
        best_epoch: when it was, counted from 1.
        waited: epochs since then.
        stopped: whether the training stopped early.
    """

    epoch: int = 0
    step: int = 0
    phase: int = 0
    best: float = math.inf
    best_epoch: int = 0
    waited: int = 0
    stopped: bool = False


def save_checkpoint(
    path: Path, model: keras.Model, trained: keras.Model, progress: Progress
) -> None:
    """Writes weights, the states of optimizer, metrics and dropouts, and ``progress``, atomically.

    Args:
        path: of the file.
        model: the whole one.
        trained: what is trained of it, with the optimizer and the metrics.
        progress: of the training.
    """
    numpy = keras.ops.convert_to_numpy
    arrays: dict[str, Any] = {_PROGRESS: np.array(json.dumps(dataclasses.asdict(progress)))}
    arrays |= {f"model_{i}": numpy(v) for i, v in enumerate(_changing(model))}
    arrays |= {f"optimizer_{i}": numpy(v) for i, v in enumerate(trained.optimizer.variables)}
    arrays |= {f"metric_{i}": numpy(v) for i, v in enumerate(_of_metrics(trained))}
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
    temporary.replace(path)


def load_progress(path: Path) -> Progress:
    """How far the training came that left ``path``; nowhere when there is no such file."""
    if not path.exists():
        return Progress()
    with np.load(path) as held:
        return Progress(**json.loads(str(held[_PROGRESS])))


def restore_model(path: Path, model: keras.Model) -> None:
    """Gives ``model`` the weights of the checkpoint."""
    _restore(path, "model", _changing(model))


def restore_optimizer(path: Path, optimizer: Any) -> None:
    """Gives ``optimizer``, which is built, the state of the checkpoint."""
    _restore(path, "optimizer", optimizer.variables)


def add_metrics(path: Path, trained: keras.Model) -> None:
    """Adds to the metrics of ``trained``, which are all sums, what the checkpoint had of its epoch."""
    variables = _of_metrics(trained)
    seen = [keras.ops.convert_to_numpy(variable) for variable in variables]
    _restore(path, "metric", variables)
    for variable, value in zip(variables, seen, strict=True):
        # Not assign_add: of a sum over devices, TensorFlow knows only how to set it.
        variable.assign(keras.ops.convert_to_numpy(variable) + value)


def _of_metrics(trained: keras.Model) -> list[Any]:
    return [variable for metric in trained.metrics for variable in metric.variables]


def _changing(model: keras.Model) -> list[Any]:
    """The variables that training changes; the others are rebuilt from the same seed and files."""
    frozen = {
        id(variable)
        for layer in model.layers
        if layer.name == FROZEN_FEATURES
        for variable in layer.variables
    }
    return [variable for variable in model.variables if id(variable) not in frozen]


def _restore(path: Path, part: str, variables: list[Any]) -> None:
    with np.load(path) as held:
        names = [name for name in held.files if name.startswith(f"{part}_")]
        values = [held[f"{part}_{i}"] for i in range(len(names))]
    if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
        raise TrainerError(
            f"{path} holds the {part} of another network: the library versions of config.json may have been "
            "others; train anew in another --output"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
