"""The exported model in TensorFlow, and Beam's way to it: the only module of `pipelines` that imports it.

Records are parsed and decoded by the code that reads them for training, so the model sees the same pixels.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# Its notes on the machine say nothing of the user's footage; what really fails is raised in Python as well.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler

from pipelines.errors import UserError
from pipelines.prediction import sequences
from pipelines.prediction.sequences import Answer, Prediction, SegmentEnd
from pipelines.scratch import scratch_folder
from tfrecords_schema import spec as keys
from tfrecords_schema import storage
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.parse import parse_and_decode
from tfrecords_schema.spec import LabelSpec, SequenceSpec
from tfrecords_schema.store_clients import is_url

_IMAGE, _VALID_FRAMES = "image", "valid_frames"  # inputs, beside the signals
_OUTPUTS = ("probabilities", "targets")


class ServedModel:
    """A SavedModel as `trainer` exports it, ready to answer.

    Args:
        path: of its folder.
        spec: of the records it takes, without labels.
        label: what it was trained to say.

    Raises:
        UserError: when it cannot be loaded, or takes or returns something else.
    """

    def __init__(self, path: str, spec: SequenceSpec, label: LabelSpec):
        self._spec, self._label = spec, label
        try:
            # Kept, since a signature does not keep alive what it belongs to.
            self._loaded = tf.saved_model.load(_local(path))
            self._signature = self._loaded.signatures["serving_default"]
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[:1]
            raise UserError(
                f"--model {path} cannot be loaded ({''.join(reason)}): export it again with `trainer`"
            ) from error
        self._check(path)
        self._answer = tf.function(
            self._compute, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )

    def predict(self, records: Sequence[bytes]) -> list[Answer]:
        """What the model answers to each of ``records``."""
        if not records:
            return []
        answered = {
            name: tensor.numpy() for name, tensor in self._answer(tf.constant(records)).items()
        }
        steps, by_frame = self._spec.num_frames, self._label.per_frame
        values = answered["values"].reshape(len(records), steps if by_frame else 1, -1)
        answers = []
        for i, valid in enumerate(answered["valid_frames"].tolist()):
            times = answered["times"][i].tolist()
            kept = values[i, : valid if by_frame else 1]
            answers.append(
                Answer(
                    start=times[0],
                    end=times[valid - 1],
                    times=tuple(times[:valid]) if by_frame else (),
                    values=tuple(kept.ravel().tolist()),
                )
            )
        return answers

    def _compute(self, records: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = self._inputs(records)
        times = inputs.pop(keys.IMAGE_TIMESTAMP)
        (values,) = self._signature(**inputs).values()
        return {"values": values, "times": times, "valid_frames": inputs[_VALID_FRAMES]}

    def _inputs(self, records: tf.Tensor) -> dict[str, tf.Tensor]:
        """The model's inputs, ``[B, ...]`` each, and the frames' times, ``[B, T]``."""
        spec = self._spec

        def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
            parsed = parse_and_decode(record, spec)
            features = {
                keys.IMAGE_TIMESTAMP: parsed[keys.IMAGE_TIMESTAMP],
                _VALID_FRAMES: parsed[keys.VALID_FRAMES],
            }
            if spec.image is not None:
                features[_IMAGE] = parsed["image"]
            for signal in spec.signals:
                features[signal.name] = parsed[keys.signal_floats_key(signal.name)]
            return features

        specs = {
            keys.IMAGE_TIMESTAMP: tf.TensorSpec([spec.num_frames], tf.int64),
            **self._expected_inputs(),
        }
        return tf.map_fn(parse, records, fn_output_signature=specs)

    def _expected_inputs(self) -> dict[str, tf.TensorSpec]:
        """Of one sequence, without the batch's dimension."""
        spec = self._spec
        expected = {_VALID_FRAMES: tf.TensorSpec([], tf.int64)}
        if spec.image is not None:
            expected[_IMAGE] = tf.TensorSpec(spec.image_shape, tf.uint8)
        for signal in spec.signals:
            expected[signal.name] = tf.TensorSpec([spec.num_frames, signal.size], tf.float32)
        return expected

    def _check(self, path: str) -> None:
        _, inputs = self._signature.structured_input_signature
        outputs: Mapping[str, Any] = self._signature.structured_outputs
        expected = self._expected_inputs()
        size = len(self._label.class_names or self._label.target_names)
        shape = (self._spec.num_frames, size) if self._label.per_frame else (size,)
        fits = (
            inputs.keys() == expected.keys()
            and all(_fits(inputs[name], own) for name, own in expected.items())
            and len(outputs) == 1
            and set(outputs) <= set(_OUTPUTS)
            and all(tuple(out.shape[1:]) == shape for out in outputs.values())
        )
        if not fits:
            raise UserError(
                f"--model {path} must take {_say(expected)} and return {' or '.join(_OUTPUTS)} of shape "
                f"{shape}, as its dataset_info.json says, but takes {_say(inputs)} and returns "
                f"{_say(outputs)}: export it again with `trainer`"
            )


def _local(path: str) -> str:
    """The folder at ``path``, or its copy on this machine when it is on an object store."""
    if not is_url(path):
        return path
    copy = scratch_folder("model")
    for name in storage.find_below(path):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        storage.download(storage.join(path, name), copy / name)
    return str(copy)


def _fits(given: tf.TensorSpec, expected: tf.TensorSpec) -> bool:
    return given.dtype == expected.dtype and given.shape[1:].is_compatible_with(expected.shape)


def _say(tensors: Mapping[str, Any]) -> str:
    return ", ".join(f"{n} {t.shape} {t.dtype.name}" for n, t in sorted(tensors.items()))


@functools.cache
def load_model(path: str, spec: SequenceSpec, label: LabelSpec) -> ServedModel:
    """The model, loaded once a process."""
    return ServedModel(path, spec, label)


class ServedModelHandler(ModelHandler[sequences.Sequence | SegmentEnd, Any, ServedModel]):
    """`RunInference` with an exported model: takes batches that are made already; ends of segments pass."""

    def __init__(self, path: str, info: DatasetInfo, spec: SequenceSpec):
        super().__init__()
        self._path = path
        self._label = info.spec.label
        self._spec = spec

    def load_model(self) -> ServedModel:
        """See `load_model`."""
        return load_model(self._path, self._spec, self._label)

    def run_inference(
        self,
        batch: Sequence[sequences.Sequence | SegmentEnd],
        model: ServedModel,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterator[Prediction | SegmentEnd]:
        """Yields a prediction for each sequence, and each end of a segment as it is."""
        records = [item.record for item in batch if isinstance(item, sequences.Sequence)]
        answers = iter(model.predict(records))
        for item in batch:
            if isinstance(item, SegmentEnd):
                yield item
            else:
                yield Prediction(place=item.place, answer=next(answers))

    def should_skip_batching(self) -> bool:
        """Batches of one chunk only: an answer's last digits may depend on what else is in the batch."""
        return True

    def get_num_bytes(self, batch: Iterable[sequences.Sequence | SegmentEnd]) -> int:
        """Bytes of the records."""
        return sum(len(item.record) for item in batch if isinstance(item, sequences.Sequence))

    def get_metrics_namespace(self) -> str:
        """Where Beam shows how long the model takes."""
        return "reelbeam"
