"""Runs an exported model in TensorFlow, from Beam: the only module of `pipelines` that imports TensorFlow.

It decodes the records to the same pixels as the trainer's reader; tests compare the two.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfrecords_schema.running.terminal import without_notes_of_tensorflow

# TensorFlow's notes on the machine do not concern the user's footage; real failures are raised in Python.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

with without_notes_of_tensorflow():
    import tensorflow as tf

from apache_beam.ml.inference.base import ModelHandler

from pipelines.errors import UserError
from pipelines.prediction.export_info import Export
from pipelines.prediction.model_input import Reading
from pipelines.prediction.sequences import Answer, Item
from tfrecords_schema import spec as keys
from tfrecords_schema import storage
from tfrecords_schema.examples import SequenceRecord, decode_record, encode_record
from tfrecords_schema.fake import fake_record
from tfrecords_schema.parse import parse_and_decode
from tfrecords_schema.resizing import resize_frame
from tfrecords_schema.running.scratch import scratch_folder
from tfrecords_schema.spec import LabelSpec, SequenceSpec

_IMAGE, _VALID_FRAMES = "image", "valid_frames"  # inputs, beside the signals
_PADDED = "padded"  # the signature that takes all inputs
_OUTPUTS = ("probabilities", "targets")


class ServedModel:
    """A SavedModel as `trainer` exports it, loaded from the folder ``path``.

    It takes the part ``reading`` of records of ``spec``, and predicts the classes or targets of ``label``.

    Raises:
        UserError: if it cannot be loaded, or its inputs or outputs do not fit its description.
    """

    def __init__(self, path: str, spec: SequenceSpec, label: LabelSpec, reading: Reading):
        self._spec, self._label, self._reading = spec, label, reading
        self._model_spec = reading.seen(spec)
        try:
            # Kept, because a signature does not keep its model alive.
            with storage.local_copy(path, scratch=scratch_folder("model")) as folder:
                self._loaded = tf.saved_model.load(folder)
            signatures = self._loaded.signatures  # older exports have one, which takes all inputs
            self._signature = signatures.get(_PADDED) or signatures["serving_default"]
            self._check(path)
            signature = [tf.TensorSpec([None], tf.string)]
            self._answer = tf.function(self._compute, input_signature=signature, autograph=False)
            # A graph that fails does so before any work.
            self.predict([encode_record(fake_record(spec, 0), spec)])
        except UserError:
            raise
        except Exception as error:  # TensorFlow raises anything for a damaged graph
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"--model {path} cannot be loaded ({reason:.300}): check that it is a folder that "
                "`trainer` exported, or export it again"
            ) from error

    def predict(self, records: Sequence[bytes]) -> list[Answer]:
        """Returns the model's answer for each record."""
        if not records:
            return []
        wholes = [decode_record(record, self._spec) for record in records]
        clips = [self._reading.clips(whole) for whole in wholes]
        if self._reading.num_frames is not None:
            stored = self._reading.clip_spec(self._spec)
            records = [encode_record(clip, stored) for parts in clips for clip in parts]
        values = self._answer(tf.constant(records)).numpy()
        means = values.reshape(len(wholes), self._reading.count, -1).mean(axis=1)
        return [
            self._to_answer(whole, parts[0], mean)
            for whole, parts, mean in zip(wholes, clips, means, strict=True)
        ]

    def _to_answer(self, whole: SequenceRecord, clip: SequenceRecord, values: Any) -> Answer:
        """Returns the answer for a record, from the output for its clip or the mean of several."""
        times: tuple[int, ...] = ()
        if self._label.per_frame:
            times = tuple(clip.timestamps[: clip.valid_frames])
            values = values.reshape(len(clip.timestamps), -1)[: clip.valid_frames]
        return Answer(
            start=whole.start_timestamp,
            end=whole.timestamps[whole.valid_frames - 1],
            times=times,
            values=tuple(values.ravel().tolist()),
        )

    def _compute(self, records: tf.Tensor) -> tf.Tensor:
        """Parses B serialized records, and returns the model's output for them, ``[B, ...]``."""
        record_spec, model_spec = self._reading.clip_spec(self._spec), self._model_spec

        def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
            parsed = parse_and_decode(record, record_spec)
            features = {_VALID_FRAMES: parsed[keys.VALID_FRAMES]}
            if model_spec.image is not None:
                features[_IMAGE] = _resized(parsed["image"], model_spec)
            for signal in model_spec.signals:
                features[signal.name] = parsed[keys.signal_floats_key(signal.name)]
            return features

        inputs = tf.map_fn(parse, records, fn_output_signature=self._expected_inputs())
        (values,) = self._signature(**inputs).values()
        return values

    def _expected_inputs(self) -> dict[str, tf.TensorSpec]:
        """Returns the specs of one sequence's inputs, without the batch dimension."""
        spec = self._model_spec
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
        shape = (self._model_spec.num_frames, size) if self._label.per_frame else (size,)
        fits = (
            inputs.keys() == expected.keys()
            and all(
                inputs[name].dtype == own.dtype
                and inputs[name].shape[1:].is_compatible_with(own.shape)
                for name, own in expected.items()
            )
            and len(outputs) == 1
            and set(outputs) <= set(_OUTPUTS)
            and all(tuple(out.shape[1:]) == shape for out in outputs.values())
        )
        if not fits:
            raise UserError(
                f"--model {path} must take {_describe(expected)} and return {' or '.join(_OUTPUTS)} of shape "
                f"{shape}, as its dataset_info.json and reading.json say, but takes {_describe(inputs)} and "
                f"returns {_describe(outputs)}: export it again with `trainer`"
            )


def _resized(frames: tf.Tensor, spec: SequenceSpec) -> tf.Tensor:
    """Returns frames at the size of ``spec``, resized by the same code as for training."""
    if tuple(frames.shape) == spec.image_shape:
        return frames
    _, height, width, _ = spec.image_shape

    def resize(frames: Any) -> Any:
        return np.stack([resize_frame(frame, (height, width)) for frame in frames])

    resized = tf.numpy_function(resize, [frames], tf.uint8, stateful=False)
    return tf.ensure_shape(resized, spec.image_shape)


def _describe(tensors: Mapping[str, Any]) -> str:
    return ", ".join(f"{n} {t.shape} {t.dtype.name}" for n, t in sorted(tensors.items()))


_load_once = functools.cache(ServedModel)


class ServedModelHandler(ModelHandler[Item, Item, ServedModel]):
    """Lets `RunInference` use an exported model; takes ready batches and passes ends of segments on."""

    def __init__(self, export: Export):
        super().__init__()
        self._model = (export.path, export.spec, export.info.spec.label, export.reading)

    def load_model(self) -> ServedModel:
        """Returns the model, which is loaded once per process."""
        return _load_once(*self._model)

    def run_inference(
        self,
        batch: Sequence[Item],
        model: ServedModel,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterator[Item]:
        """Yields each item, with its answer in place of the sequence if it is one."""
        answers = iter(model.predict(_records(batch)))
        for item in batch:
            is_sequence = isinstance(item.content, bytes)
            yield dataclasses.replace(item, content=next(answers)) if is_sequence else item

    def should_skip_batching(self) -> bool:
        """Returns True: an answer's last digits may depend on the other sequences in its batch."""
        return True

    def get_num_bytes(self, batch: Sequence[Item]) -> int:
        """Returns the size of the batch's records in bytes."""
        return sum(map(len, _records(batch)))

    def get_metrics_namespace(self) -> str:
        """Returns the namespace of Beam's metrics about the model."""
        return "reelbeam"


def _records(batch: Sequence[Item]) -> list[bytes]:
    return [item.content for item in batch if isinstance(item.content, bytes)]
