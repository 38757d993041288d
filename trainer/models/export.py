"""Exports trained models as SavedModels, and loads them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from zipfile import ZipFile

import keras
import tensorflow as tf

from tfrecords_schema.codec import from_json, parse_json, to_json
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.storage import open_stream, read_bytes, replacing
from trainer.config.reading import READING_FILE, Reading
from trainer.config.run_folder import RunFolder, write_json
from trainer.data.parsed_records import VALID_FRAMES
from trainer.errors import TrainerError
from trainer.models import losses  # noqa: F401 - a saved model may name its classes
from trainer.models.calibration import CALIBRATION_FILE, Calibration, calibrated_model
from trainer.models.keras_settings import own_settings
from trainer.models.layers import SequenceModel
from trainer.models.network import output_name

PADDED = "padded"  # signature of a SavedModel that takes valid_frames


@own_settings()
def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a ``.keras`` file, without code that it may hold. The model can predict; it is not compiled.

    Raises:
        TrainerError: if the file is damaged, or holds code.
    """
    try:
        # Keras does not compress: a file that would unpack to more could fill memory.
        size = os.path.getsize(path)
        with open_stream(path) as stream, ZipFile(stream) as file:
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
def load_calibrated(folder: RunFolder) -> tuple[SequenceModel, Calibration]:
    """Returns the calibrated model of a run, and its calibration.

    Raises:
        TrainerError: if a file is damaged, or holds code.
    """
    model, calibration = load_model(folder.model), Calibration()
    if folder.calibration.is_file():  # earlier versions did not calibrate
        try:
            fields = parse_json(read_bytes(folder.calibration))
            calibration = from_json(Calibration, fields, strict=True)
        except ValueError as error:
            raise TrainerError(f"{folder.calibration} is damaged ({error}): train again") from error
    outputs = calibrated_model(model, calibration).output
    return SequenceModel(model.input, outputs, name=model.name), calibration


def serving_model(model: SequenceModel, info: DatasetInfo) -> keras.Model:
    """Returns a model of the same layers without the input ``valid_frames``: no frame is padding.

    Its output is named; see `output_name`.
    """
    inputs = {
        name: keras.Input(values.shape[1:], dtype=values.dtype, name=name)
        for name, values in model.input.items()
        if name != VALID_FRAMES
    }
    return keras.Model(inputs, {output_name(info.spec): model(inputs)}, name=model.name)


@own_settings()
def export_run(
    folder: RunFolder, info: DatasetInfo, reading: Reading, output: Path | None = None
) -> keras.Model:
    """Writes the calibrated model of a run as a SavedModel, by default in the run, and returns it.

    Its ``serving_default`` takes the model's inputs by name (``image`` ``[B, T, height, width, channels]``
    uint8, signals float32), without padding, and returns ``probabilities`` or ``targets``. The signature
    ``padded`` takes ``valid_frames`` ``[B]`` int64 as well.
    ``assets.extra`` holds the dataset's description, for class names and units, and ``reading.json``,
    which says which frames of a record the model takes, and at which size, and ``calibration.json``, with the
    thresholds of classes. TensorFlow loads it without this package.
    """
    model, calibration = load_calibrated(folder)
    output = output or folder.export
    archive = keras.export.ExportArchive()
    named = keras.Model(model.input, {output_name(info.spec): model.output}, name=model.name)
    specs = {
        name: tf.TensorSpec(values.shape, values.dtype, name=name)
        for name, values in model.input.items()
    }
    padded = archive.track_and_add_endpoint(PADDED, named, [specs])
    del specs[VALID_FRAMES]

    def serve(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = tf.shape(next(iter(inputs.values())))[:1]
        steps = tf.constant(reading.seen(info).spec.num_frames, tf.int64)
        return padded({**inputs, VALID_FRAMES: tf.fill(batch, steps)})

    traced = tf.function(serve, input_signature=[specs], autograph=False)
    traced.get_concrete_function()
    for name in ("serve", "serving_default"):  # for Keras, and for all others
        archive.add_endpoint(name, traced)
    with replacing(output, folder=True) as partial:
        try:
            archive.write_out(str(partial), verbose=False)
        except tf.errors.OpError as error:
            raise TrainerError(f"{output} cannot be written: {error.message}") from error
        extra = partial / "assets.extra"
        extra.mkdir()
        info.save(extra)
        write_json(extra / READING_FILE, reading.to_json())
        write_json(extra / CALIBRATION_FILE, to_json(calibration))
    return model
