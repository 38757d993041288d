"""Random access to the sequences of a dataset, as NumPy arrays, for any framework."""

from __future__ import annotations

import functools
import io
import logging
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import cv2
import numpy as np
import numpy.typing as npt

from tfrecords_schema import spec as keys
from tfrecords_schema.example_pb2 import SequenceExample
from tfrecords_schema.examples import SequenceRecord, context_of, decode_record, parse_example
from tfrecords_schema.foreign.records import complete_record
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.paths import StrPath
from tfrecords_schema.reading.frames import FrameError, Frames, decode_frame
from tfrecords_schema.reading.offsets import RecordOffsets, load_offsets
from tfrecords_schema.records import CorruptRecordError, read_records
from tfrecords_schema.resizing import resize_frame
from tfrecords_schema.spec import ImageSpec, SequenceSpec, SpecError
from tfrecords_schema.storage import read_range

_log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False, eq=False)
class SequenceSplit(Sequence[dict[str, Any]]):
    """The sequences of a split, decoded when they are asked for; see `open_dataset`.

    Threads may share it, forked processes inherit it, and others receive it pickled: no file stays open.
    Slices are not supported.

    Attributes:
        directory: folder of the dataset.
        info: its description.
        split: such as ``train``.
    """

    directory: StrPath
    info: DatasetInfo
    split: str

    def __repr__(self) -> str:
        spec = self.info.spec
        shape = f", frames {spec.image_shape} uint8" if spec.image else ""
        return f"<{self.split} of {self.directory}: {len(self)} sequences{shape}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.directory, self.info, self.split)

    @functools.cached_property
    def offsets(self) -> RecordOffsets:
        """The places of the records, read when they are first needed."""
        # Workers read in parallel; OpenCV's own threads would only compete, and do not survive a fork.
        cv2.setNumThreads(1)
        return load_offsets(self.directory, self.info, self.split)

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:  # type: ignore[override]
        """Returns a sequence; raises CorruptRecordError if it cannot be read."""
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"{self.split} has {len(self)} sequences, got index {place}")
        path, start, end = self.offsets.span(place % len(self))
        data = read_range(path, start, end)
        try:
            (record,) = read_records(io.BytesIO(data), path, self.info.max_record_bytes)
            return self._element(record.data, f"{os.path.basename(path)}@{start}")
        except CorruptRecordError as error:
            raise CorruptRecordError(path, start + error.offset, error.reason) from None
        except (SpecError, FrameError) as error:
            raise CorruptRecordError(path, start, str(error)) from error

    def intact(
        self,
        indices: Iterable[int] | None = None,
        damaged: list[CorruptRecordError] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yields the sequences that can be read; logs each of the others, and appends it to ``damaged``."""
        for index in range(len(self)) if indices is None else indices:
            try:
                element = self[index]
            except CorruptRecordError as error:
                _log.warning("%s: skipped", error)
                if damaged is not None:
                    damaged.append(error)
                continue
            yield element

    def _element(self, data: bytes, place: str) -> dict[str, Any]:
        spec, others = self.info.spec, {}
        if self.info.adopted:
            example = parse_example(data)
            others = _own_context(example, spec)
            name = self.info.name
            record = complete_record(example, spec, dataset_name=name, place=place)
        else:
            record = decode_record(data, spec)
        length, valid = spec.num_frames, record.valid_frames
        element: dict[str, Any] = {
            "valid_frames": _array([valid], keys.VALID_FRAMES, np.int64, 1)[0],
            "timestamps": _array(record.timestamps, keys.IMAGE_TIMESTAMP, np.int64, length),
            "signals": {
                own.name: _array(record.signals[own.name], own.name, np.float32, length, own.size)
                for own in spec.signals
            },
            "metadata": context_of(record, spec) | others,
        }
        if spec.image is not None:
            element["frames"] = _decode_frames(record.frames, spec.image, self.info.adopted)
        if spec.label.task != "none":
            element["label"] = self._label(record)
        return element

    def _label(self, record: SequenceRecord) -> Any:
        label, length = self.info.spec.label, self.info.spec.num_frames
        if label.task == "regression":
            values = record.frame_label_values if label.per_frame else record.label_values
            shape = (length, len(label.target_names))
            return _array(values, keys.LABEL_VALUE, np.float32, *shape[not label.per_frame :])
        if label.task == "multilabel":
            marks = np.zeros(label.num_classes, np.float32)
            marks[list(record.label_indices)] = 1
            return marks
        if label.per_frame:
            return _array(record.frame_label_indices, keys.FRAME_LABEL_INDEX, np.int64, length)
        return _array(record.label_indices, keys.LABEL_INDEX, np.int64, 1)[0]


def _array(values: Sequence[Any], name: str, dtype: Any, *shape: int) -> npt.NDArray[Any]:
    """Returns finite values in an array of ``shape``."""
    widths = {len(row) for row in values} if len(shape) == 2 else ()
    if len(values) != shape[0] or any(width != shape[1] for width in widths):
        raise SpecError(f"{name} must have the shape {shape}, got {len(values)} rows of {widths}")
    array = np.array(values, dtype)
    if not np.isfinite(array).all():
        raise SpecError(f"{name} must be finite")
    return array


def _own_context(example: SequenceExample, spec: SequenceSpec) -> dict[str, Any]:
    """Returns the keys in the context of a record of another program that ours do not have."""
    ours, found = {feature.key for feature in spec.context_features()}, {}
    for key, feature in example.context.feature.items():
        kind = feature.WhichOneof("kind")
        if key in ours or kind is None or key.startswith("clip/label/"):
            continue
        values = list(getattr(feature, kind).value)
        if kind == "bytes_list":
            values = [value.decode("utf-8", "surrogateescape") for value in values]
        found[key] = values[0] if len(values) == 1 else values
    return found


def _decode_frames(encoded: Sequence[bytes], image: ImageSpec, adopted: bool) -> Frames:
    """Returns frames, ``[T, height, width, channels]``; those of another size are resized."""
    frames = np.empty((len(encoded), *image.shape), np.uint8)
    for data, target in zip(encoded, frames, strict=True):
        frame = decode_frame(data, image, target, adopted=adopted)
        if frame.shape != target.shape:
            resize_frame(frame, (image.height, image.width), target)
        elif frame is not target:
            target[...] = frame
    return frames


class _Splits(dict[str, SequenceSplit]):
    def __missing__(self, split: str) -> SequenceSplit:
        raise KeyError(f"expected one of the splits {', '.join(self)}, got {split!r}")


def open_dataset(directory: StrPath) -> dict[str, SequenceSplit]:
    """Opens a dataset for random access, without TensorFlow.

    Example: a dataset of 16 RGB frames of 180x320 in two classes, with one signal::

        dataset = open_dataset("dataset")
        len(dataset["train"])  # 1234
        sequence = dataset["train"][0]
        sequence["frames"].shape  # (16, 180, 320, 3)
        sequence["label"], sequence["metadata"]["example/id"]  # 0, "run/a.mp4@2000000"

    A sequence of T frames holds:

    - ``frames``: ``[T, height, width, channels]`` uint8, RGB or gray, unless records hold no images;
    - ``valid_frames``: int64; frames from this index on are padding;
    - ``timestamps``: ``[T]`` int64, microseconds in the source;
    - ``label``: classification int64; multilabel ``[num_classes]`` float32 of 0 and 1; regression
      ``[targets]`` float32 as stored; by frame ``[T]`` int64 and ``[T, targets]`` float32; left out if the
      dataset has no labels;
    - ``signals``: by name, ``[T, size]`` float32;
    - ``metadata``: the context of the record by its keys, without labels: text, int or float.

    Args:
        directory: folder of a dataset, local or on an object store.

    Returns:
        The splits by name.

    Raises:
        DatasetInfoError: if the folder is no complete dataset.
    """
    info = DatasetInfo.load(directory)
    return _Splits({split: SequenceSplit(directory, info, split) for split in info.splits})
