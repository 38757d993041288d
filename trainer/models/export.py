"""Exports trained models as SavedModels, and loads them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock
from zipfile import ZipFile

import keras
import tensorflow as tf

from tfrecords_schema.codec import from_json, parse_json, to_json
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.storage import replacing
from trainer.config.reading import READING_FILE, Reading
from trainer.config.run_folder import RunFolder, write_json
from trainer.errors import TrainerError
from trainer.models import layers, losses  # noqa: F401 - a saved model may name their classes
from trainer.models.calibration import CALIBRATION_FILE, Calibration, calibrated_model
from trainer.models.keras_settings import own_settings
from trainer.models.network import output_name


@own_settings()
def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a ``.keras`` file, without code that it may hold. The model can predict; it is not compiled.

    Raises:
        TrainerError: if the file is damaged, or holds code.
    """
    try:
        # Keras does not compress: a file that would unpack to more could fill memory.
        size = os.path.getsize(path)
        with ZipFile(path) as file:
            if sum(member.file_size for member in file.infolist()) > size:
                raise ValueError("it would unpack to more bytes than it has")
        with _limited_weights(size):
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises anything for a damaged description of a network
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
        raise TrainerError(
            f"{path} cannot be loaded ({reason}): expected a model that `trainer` wrote. Copy it again, or "
            "train again"
        ) from error


@contextlib.contextmanager
def _limited_weights(limit: int) -> Iterator[None]:
    """Refuses layers with more than ``limit`` weights in all, before there is memory for them."""
    add, count = keras.layers.Layer.add_weight, 0

    def add_weight(layer: Any, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += math.prod(shape or ())
        if count > limit:
            raise ValueError(
                f"its layers have more weights than the {limit} bytes of the file hold"
            )
        return add(layer, shape, *args, **kwargs)

    with mock.patch.object(keras.layers.Layer, "add_weight", add_weight):
        yield


@own_settings()
def load_run(folder: RunFolder) -> tuple[keras.Model, Calibration]:
    """Returns the calibrated model of a run, and its calibration.

    Raises:
        TrainerError: if a file is damaged, or holds code.
    """
    model, calibration = load_model(folder.model), Calibration()
    if folder.calibration.is_file():  # earlier versions did not calibrate
        try:
            fields = parse_json(folder.calibration.read_bytes())
            calibration = from_json(Calibration, fields, strict=True)
        except ValueError as error:
            raise TrainerError(f"{folder.calibration} is damaged ({error}): train again") from error
    return calibrated_model(model, calibration), calibration


def export_run(folder: RunFolder, info: DatasetInfo, reading: Reading) -> keras.Model:
    """Writes the calibrated model of a run as a SavedModel, and returns it.

    Its ``serving_default`` takes the model's inputs by name (``image`` ``[B, T, height, width, channels]``
    uint8, ``valid_frames`` ``[B]`` int64, signals float32) and returns ``probabilities`` or ``targets``.
    ``assets.extra`` holds the dataset's description, for class names and units, and ``reading.json``,
    which says which frames of a record the model takes, and at which size, and ``calibration.json``, with the
    thresholds of classes. TensorFlow loads it without this package.
    """
    model, calibration = load_run(folder)
    named = keras.Model(model.input, {output_name(info.spec): model.output}, name=model.name)
    with replacing(folder.export, folder=True) as partial:
        try:
            named.export(str(partial), format="tf_saved_model", verbose=False)
        except tf.errors.OpError as error:
            raise TrainerError(f"{folder.export} cannot be written: {error.message}") from error
        extra = partial / "assets.extra"
        extra.mkdir()
        info.save(extra)
        write_json(extra / READING_FILE, reading.to_json())
        write_json(extra / CALIBRATION_FILE, to_json(calibration))
    return model
