"""Exports trained models to one file for ONNX Runtime or LiteRT, after comparing it there with Keras."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from zipfile import ZipFile, ZipInfo

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfrecords_schema import storage
from tfrecords_schema.codec import to_json
from tfrecords_schema.info import DatasetInfo
from trainer.config.flags import PortableFormat
from trainer.config.reading import Reading
from trainer.config.run_folder import RunFolder
from trainer.data.parsed_records import VALID_FRAMES
from trainer.errors import TrainerError
from trainer.models.calibration import Calibration
from trainer.models.export import load_calibrated
from trainer.models.keras_settings import own_settings
from trainer.models.layers import SequenceModel
from trainer.models.network import output_name

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]

METADATA_FILE = "metadata.json"  # in the ZIP archive at the end of a .tflite
_TOLERANCE = 1e-4
_TRIED = 3  # sequences that are compared


@own_settings()
def export_portable(
    folder: RunFolder,
    info: DatasetInfo,
    reading: Reading,
    file_format: PortableFormat,
    output: str | os.PathLike[str],
) -> str:
    """Writes the calibrated model of a run as one file, if it answers as Keras does.

    The file takes frames and signals by name, without padding: ONNX any number of sequences, LiteRT one. It
    includes all preprocessing; `describe_model` is in its metadata.

    Returns:
        A line that describes the file.

    Raises:
        TrainerError: if a package of the extra ``export`` is missing, the network cannot be converted, or the
            answers differ by more than 1e-4. The file is then not written.
    """
    model, calibration = load_calibrated(folder)
    seen = reading.seen(info)
    _make_convertible(model)
    inputs = _example_inputs(model, seen)
    expected = model.predict(dict(inputs), verbose=0)
    metadata = describe_model(seen, calibration)
    convert, load = (_to_onnx, _load_onnx) if file_format == "onnx" else (_to_litert, _load_litert)
    try:
        with _quiet():
            data = convert(model, output_name(info.spec), metadata)
            answers = load(data)(inputs)
        if answers.shape != expected.shape:  # TensorFlow 2.19 drops an axis of some
            raise ValueError(f"answers have shape {answers.shape}, expected {expected.shape}")
    except ImportError as error:
        raise TrainerError(
            f"--format {file_format} needs a package that is not installed ({error}): "
            "pip install 'reelbeam[export]'"
        ) from error
    except Exception as error:  # converters and runtimes raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
        raise TrainerError(
            f"the network in {folder.path} cannot be converted to {file_format} ({reason}). Use the "
            f"SavedModel in {folder.export}, a later TensorFlow, or train without the layer that it names"
        ) from error
    difference = np.max(np.abs(answers - expected) / np.maximum(1, np.abs(expected)))
    if not difference <= _TOLERANCE:
        raise TrainerError(
            f"{output} is not written: the converted network answers by {difference:.2g} differently than "
            f"Keras, expected at most {_TOLERANCE:g}. Use the SavedModel in {folder.export}"
        )
    storage.write_bytes(output, data)
    shapes = ", ".join(f"{name} {values.shape[1:]}" for name, values in inputs.items())
    return (
        f"{output}: {shapes} to {output_name(info.spec)} {expected.shape[1:]}; differs from Keras by at "
        f"most {difference:.2g}"
    )


def describe_model(seen: DatasetInfo, calibration: Calibration) -> dict[str, Any]:
    """Returns what a user of a model must know, as JSON, for the dataset as the model sees it."""
    spec, build = seen.spec, seen.build_options
    return {
        **to_json(spec.label),
        "label_at": build.label_at,
        "angle_columns": list(build.angle_columns),
        "num_frames": spec.num_frames,
        "frame_rate": spec.frame_rate,
        "colorspace": None if spec.image is None else spec.image.colorspace,
        "resize": build.resize,
        "signals": [to_json(signal) for signal in spec.signals],
        "thresholds": list(calibration.thresholds),
        "temperature": 1 / calibration.scale if calibration.scale else None,
    }


def _make_convertible(model: keras.Model) -> None:
    """Makes layers compute in float32, and recurrent ones without a loop: loops are not converted."""
    for layer in model._flatten_layers():
        if layer.compute_dtype in ("float16", "bfloat16"):
            layer.dtype_policy = "float32"
        if isinstance(layer, keras.layers.RNN):
            layer.unroll = True


def _example_inputs(model: keras.Model, seen: DatasetInfo) -> dict[str, Array]:
    """Returns sequences of noise: frames of several contrasts, and signals like those of the train split."""
    random, spec, inputs = np.random.default_rng(0), seen.spec, {}
    if spec.image is not None:
        noise = random.random((_TRIED, *spec.image_shape))
        tops = np.linspace(64, 256, _TRIED).reshape(-1, 1, 1, 1, 1)
        inputs["image"] = (noise * tops).astype(np.uint8)
    for signal in spec.signals:
        moments = seen.splits["train"].signals[signal.name]
        noise = random.normal(size=(_TRIED, spec.num_frames, signal.size))
        values = noise * [value.std for value in moments] + [value.mean for value in moments]
        inputs[signal.name] = values.astype(np.float32)
    return inputs


def _trace(model: SequenceModel, output: str, batch: int | None) -> Any:
    """Returns the function of frames and signals, by name, to the named output of ``batch`` sequences."""
    specs = {
        name: tf.TensorSpec((batch, *values.shape[1:]), values.dtype, name=name)
        for name, values in model.input.items()
        if name != VALID_FRAMES
    }
    function = tf.function(lambda inputs: {output: model(inputs, training=False)}, autograph=False)
    return function.get_concrete_function(specs)


def _to_onnx(model: SequenceModel, output: str, metadata: Mapping[str, Any]) -> bytes:
    import onnx
    import tf2onnx

    # Constants of layers are captured like variables; tf2onnx would make them inputs of the model.
    frozen = convert_variables_to_constants_v2(_trace(model, output, None))
    names = {values.name: values.name.split(":")[0] for values in frozen.inputs}
    names[frozen.outputs[0].name] = output
    made, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name=model.name,
        input_names=[values.name for values in frozen.inputs],
        output_names=[frozen.outputs[0].name],
        tensors_to_rename=names,
    )
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in metadata.items()
    }
    onnx.helper.set_model_props(made, texts)
    return made.SerializeToString()


def _load_onnx(data: bytes) -> Callable[[Inputs], Array]:
    from onnxruntime import InferenceSession

    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))[0]


def _to_litert(model: SequenceModel, output: str, metadata: Mapping[str, Any]) -> bytes:
    function, owner = _trace(model, output, 1), tf.Module()
    owner.variables_ = [variable.value for variable in model.variables]  # others convert to zeros
    data = tf.lite.TFLiteConverter.from_concrete_functions([function], owner).convert()
    # Files that belong to a model are in a ZIP archive behind it, as in the models of TensorFlow Hub.
    file = io.BytesIO()
    file.write(data)
    with ZipFile(file, "a") as archive:
        archive.writestr(ZipInfo(METADATA_FILE), json.dumps(metadata, indent=2))
    return file.getvalue()


def _load_litert(data: bytes) -> Callable[[Inputs], Array]:
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_content=data).get_signature_runner()

    def answer(inputs: Inputs) -> Array:
        count = len(next(iter(inputs.values())))
        parts = ({name: v[i : i + 1] for name, v in inputs.items()} for i in range(count))
        return np.concatenate([next(iter(run(**part).values())) for part in parts])

    return answer


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides the notes of converters; what fails is raised."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx", "absl")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
