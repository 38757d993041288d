"""Random access to the sequences of a dataset, as NumPy arrays, for any framework."""

from __future__ import annotations

import functools
import io
import logging
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import cv2
import numpy as np
import numpy.typing as npt

from tfrecords_schema.examples import SequenceRecord, context_of, decode_record
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.paths import StrPath
from tfrecords_schema.reading.frames import FrameError, Frames, decode_frame
from tfrecords_schema.reading.offsets import RecordOffsets, load_offsets
from tfrecords_schema.records import CorruptRecordError, read_records
from tfrecords_schema.resizing import resize_frame
from tfrecords_schema.spec import ImageSpec, SpecError
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
            return self._element(record.data)
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

    def _element(self, data: bytes) -> dict[str, Any]:
        spec = self.info.spec
        record = decode_record(data, spec)
        element: dict[str, Any] = {
            "valid_frames": np.int64(record.valid_frames),
            "timestamps": np.array(record.timestamps, np.int64),
            "signals": {
                signal.name: _floats(record.signals[signal.name], signal.name)
                for signal in spec.signals
            },
            "metadata": context_of(record, spec),
        }
        if spec.image is not None:
            element["frames"] = _decode_frames(record.frames, spec.image, self.info.adopted)
        if spec.label.task != "none":
            element["label"] = self._label(record)
        return element

    def _label(self, record: SequenceRecord) -> Any:
        label = self.info.spec.label
        if label.task == "regression":
            return _floats(
                record.frame_label_values if label.per_frame else record.label_values, "a target"
            )
        if label.task == "multilabel":
            marks = np.zeros(label.num_classes, np.float32)
            marks[list(record.label_indices)] = 1
            return marks
        if label.per_frame:
            return np.array(record.frame_label_indices, np.int64)
        return np.int64(record.label_indices[0])


def _floats(values: Sequence[Any], name: str) -> npt.NDArray[np.float32]:
    floats = np.array(values, np.float32)
    if not np.isfinite(floats).all():
        raise SpecError(f"{name} must be finite")
    return floats


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
