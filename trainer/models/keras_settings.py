"""Replaces the user's Keras settings while this package builds, trains and applies models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from trainer.errors import TrainerError

_OURS: dict[str, Any] = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "max_epochs": None,
    "max_steps_per_epoch": None,
}


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Sets Keras's settings to this package's inside the context, and to the user's afterwards.

    Keras takes those from ``~/.keras/keras.json`` and the environment, some only when a layer is made.
    A precision that was set by ``keras.config.set_dtype_policy`` is kept.
    """
    if keras.config.backend() != "tensorflow":
        raise TrainerError(
            f"Keras runs on {keras.config.backend()}, and the trainer's models need TensorFlow: set "
            "KERAS_BACKEND=tensorflow before Keras is imported"
        )
    # Versions of 2024 have no limits of epochs.
    names = [name for name in _OURS if hasattr(keras.config, f"set_{name}")]
    before = {name: getattr(keras.config, name)() for name in names}
    policy = keras.config.dtype_policy()
    for name in names:
        getattr(keras.config, f"set_{name}")(_OURS[name])
    if policy.name == before["floatx"]:  # no other policy was set
        keras.config.set_dtype_policy(_OURS["floatx"])
    try:
        yield
    finally:
        for name, value in before.items():
            getattr(keras.config, f"set_{name}")(value)
        keras.config.set_dtype_policy(policy)
