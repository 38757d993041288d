"""Trains a Keras CNN-LSTM on the datasets that `pipelines` builds.

The trainer learns everything it needs to know about a dataset (shapes, task, class names, units, statistics)
from the folder's ``dataset_info.json``. Its reader and layers are useful in any ``model.fit``::

    from trainer import Augmentation, Clips, TimeDistributed, read_sequences

Importing this package, `trainer.cli` or `trainer.config` does not import TensorFlow; the first use of a
name below does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.config.clips import Augmentation as Augmentation
    from trainer.config.clips import Clips as Clips
    from trainer.config.model import ModelConfig as ModelConfig
    from trainer.config.run_folder import RunFolder as RunFolder
    from trainer.config.training import TrainingConfig as TrainingConfig
    from trainer.data.cached_frames import cached_bytes as cached_bytes
    from trainer.data.cached_frames import cached_frames as cached_frames
    from trainer.data.corrupt import SkippedRecords as SkippedRecords
    from trainer.data.corrupt import located_errors as located_errors
    from trainer.data.labels import read_labels as read_labels
    from trainer.data.read_options import Loading as Loading
    from trainer.data.read_options import Outputs as Outputs
    from trainer.data.read_options import Shuffle as Shuffle
    from trainer.data.reader import read_sequences as read_sequences
    from trainer.evaluation.evaluate import evaluate_run as evaluate_run
    from trainer.models.backbones import build_frame_network as build_frame_network
    from trainer.models.export import load_model as load_model
    from trainer.models.layers import ClearPadding as ClearPadding
    from trainer.models.layers import FrameMask as FrameMask
    from trainer.models.layers import OverTime as OverTime
    from trainer.models.layers import StackFrames as StackFrames
    from trainer.models.layers import TimeDistributed as TimeDistributed
    from trainer.models.network import build_model as build_model
    from trainer.models.network import convolve_over_time as convolve_over_time
    from trainer.models.network import decode_over_time as decode_over_time
    from trainer.models.network import join_signals as join_signals
    from trainer.models.network import output_layers as output_layers
    from trainer.models.network import read_over_time as read_over_time
    from trainer.models.run import Run as Run
    from trainer.models.run import load_run as load_run
    from trainer.training.train import train as train

_NAMES = {
    "trainer.config.clips": "Augmentation Clips",
    "trainer.config.model": "ModelConfig",
    "trainer.config.run_folder": "RunFolder",
    "trainer.config.training": "TrainingConfig",
    "trainer.data.cached_frames": "cached_bytes cached_frames",
    "trainer.data.corrupt": "SkippedRecords located_errors",
    "trainer.data.labels": "read_labels",
    "trainer.data.read_options": "Loading Outputs Shuffle",
    "trainer.data.reader": "read_sequences",
    "trainer.evaluation.evaluate": "evaluate_run",
    "trainer.models.export": "load_model",
    "trainer.models.backbones": "build_frame_network",
    "trainer.models.layers": "ClearPadding FrameMask OverTime StackFrames TimeDistributed",
    "trainer.models.network": "build_model convolve_over_time decode_over_time join_signals "
    "output_layers read_over_time",
    "trainer.models.run": "Run load_run",
    "trainer.training.train": "train",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
