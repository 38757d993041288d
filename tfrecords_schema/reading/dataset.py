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

from tfrecords_schema.example_pb2 import SequenceExample
from tfrecords_schema.examples import context_of, decode_record, encode_record, parse_example
from tfrecords_schema.foreign.records import complete_record
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.paths import StrPath
from tfrecords_schema.reading.frames import FrameError, Frames, decode_frame
from tfrecords_schema.reading.offsets import RecordOffsets, load_offsets
from tfrecords_schema.records import CorruptRecordError, read_records
from tfrecords_schema.resizing import resize_frame
from tfrecords_schema.spec import ImageSpec, SequenceSpec, SpecError
from tfrecords_schema.storage import read_range


@dataclass(frozen=True, eq=False)
class SequenceSplit(Sequence[dict[str, Any]]):
    """The sequences of a split, decoded when they are asked for; see `open_dataset`.

    Threads may share it, forked processes inherit it, and others receive it pickled: no file stays open.
    Slices are not supported.
    """

    directory: StrPath
    info: DatasetInfo
    split: str

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.directory, self.info, self.split)

    @functools.cached_property
    def offsets(self) -> RecordOffsets:
        """The places of the records, found when they are first needed."""
        # Workers read in parallel; OpenCV's own threads would only compete, and do not survive a fork.
        cv2.setNumThreads(1)
        return load_offsets(self.directory, self.info, self.split)

    def __len__(self) -> int:
        return self.offsets.bounds[-1]

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:  # type: ignore[override]
        """Returns a sequence; raises CorruptRecordError if it cannot be read."""
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"{self.split} has {len(self)} sequences, got index {place}")
        path, start, end = self.offsets.span(place % len(self))
        data = read_range(path, start, end)
        try:
            (record,) = read_records(io.BytesIO(data), path, self.info.max_record_bytes)
            return _decode(record.data, self.info, f"{os.path.basename(path)}@{start}")
        except (CorruptRecordError, SpecError, FrameError) as error:
            raise CorruptRecordError(path, start, getattr(error, "reason", str(error))) from error

    def intact(
        self, indices: Iterable[int] | None = None, damaged: list[CorruptRecordError] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yields the sequences that can be read; logs each of the others, and appends it to ``damaged``."""
        for index in range(len(self)) if indices is None else indices:
            try:
                element = self[index]
            except CorruptRecordError as error:
                logging.getLogger(__name__).warning("%s: skipped", error)
                if damaged is not None:
                    damaged.append(error)
                continue
            yield element


def _decode(data: bytes, info: DatasetInfo, place: str) -> dict[str, Any]:
    spec, label, others = info.spec, info.spec.label, {}
    if info.adopted:
        example = parse_example(data)
        others = _own_context(example, spec)
        record = complete_record(example, spec, dataset_name=info.name, place=place)
        encode_record(record, spec)  # checks that nothing is missing
    else:
        record = decode_record(data, spec)
    element: dict[str, Any] = {
        "valid_frames": np.int64(record.valid_frames),
        "timestamps": np.array(record.timestamps, np.int64),
        "signals": {name: _floats(values) for name, values in record.signals.items()},
        "metadata": context_of(record, spec) | others,
    }
    if spec.image is not None:
        element["frames"] = _decode_frames(record.frames, spec.image, info.adopted)
    if label.task == "multilabel":
        marks = np.isin(np.arange(label.num_classes), record.label_indices)
        element["label"] = marks.astype(np.float32)
    elif label.task == "regression":
        element["label"] = _floats(record.frame_label_values or record.label_values)
    elif label.task == "classification":
        each = np.array(record.frame_label_indices or record.label_indices, np.int64)
        element["label"] = each if label.per_frame else each[0]
    return element


def _floats(values: Sequence[Any]) -> npt.NDArray[np.float32]:
    array = np.array(values, np.float32)
    if not np.isfinite(array).all():
        raise SpecError("targets and signals must be finite")
    return array


def _own_context(example: SequenceExample, spec: SequenceSpec) -> dict[str, Any]:
    """Returns the keys in the context of a record of another program that ours do not have."""
    ours, found = {feature.key for feature in spec.context_features()}, {}
    for key, feature in example.context.feature.items():
        if key not in ours and not key.startswith("clip/label/"):
            held = [*feature.int64_list.value, *feature.float_list.value]
            held += [v.decode("utf-8", "surrogateescape") for v in feature.bytes_list.value]
            found[key] = held[0] if len(held) == 1 else held
    return found


def _decode_frames(encoded: Sequence[bytes], image: ImageSpec, adopted: bool) -> Frames:
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
    """Opens a dataset, local or on an object store, for random access without TensorFlow.

    Example: 16 RGB frames of 180x320 in two classes::

        sequence = open_dataset("dataset")["train"][0]
        sequence["frames"].shape  # (16, 180, 320, 3)
        sequence["label"], sequence["metadata"]["example/id"]  # 0, "run/a.mp4@2000000"

    A sequence of T frames holds:

    - ``frames``: ``[T, height, width, channels]`` uint8, RGB or gray, unless records hold no images;
    - ``valid_frames``: int64; frames from this index on are padding;
    - ``timestamps``: ``[T]`` int64, microseconds in the source;
    - ``label``: in the form that `trainer.read_sequences` lists; left out if there are none;
    - ``signals``: by name, ``[T, size]`` float32;
    - ``metadata``: the context of the record by its keys, without labels: text, int or float.

    Raises:
        DatasetInfoError: if the folder is no complete dataset.
    """
    info = DatasetInfo.load(directory)
    return _Splits({split: SequenceSplit(directory, info, split) for split in info.splits})
