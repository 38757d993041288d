"""Describes sequences for the page, and lays the frames of each side by side in a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.show import format_value
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.reading.dataset import SequenceSplit
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.report.filmstrips import choose_frames, encode_jpeg, shrink
from tfrecords_schema.spec import LabelSpec, format_target

_MAX_FRAMES = 16
_MAX_HEIGHT, _MAX_WIDTH = 120, 160
_DIGITS = 4


def choose_sequences(info: DatasetInfo, most: int) -> dict[str, list[int]]:
    """Returns indices of sequences by split: all, or about ``most`` spread evenly over the dataset."""
    step = max(1.0, sum(split.num_records for split in info.splits.values()) / most)
    return {
        name: [int(number * step) for number in range(int(np.ceil(split.num_records / step)))]
        for name, split in info.splits.items()
    }


def describe_sequence(split: SequenceSplit, index: int) -> tuple[dict[str, Any], bytes | None]:
    """Returns what the page says of a sequence, as JSON, and its picture as JPEG; None if it is damaged."""
    path, start, end = split.offsets.span(index)
    said: dict[str, Any] = {"split": split.split, "shard": path, "start": start, "end": end}
    try:
        sequence = split[index]
    except CorruptRecordError as error:
        return said | {"damage": error.reason}, None
    valid = int(sequence["valid_frames"])
    chosen = choose_frames(len(sequence["frames"]), _MAX_FRAMES)
    said |= {
        "metadata": {name: format_value(value) for name, value in sequence["metadata"].items()},
        "frames": chosen,
        "seconds": [int(sequence["timestamps"][frame]) / 1e6 for frame in chosen],
        "valid": valid,
    }
    if "label" in sequence:
        said |= _describe_label(sequence["label"], split.info.spec.label, chosen, valid)
    small = [shrink(frame, _MAX_HEIGHT, _MAX_WIDTH) for frame in sequence["frames"][chosen]]
    picture = np.hstack(small)
    return said, encode_jpeg(picture[..., ::-1] if picture.ndim == 3 else picture)


def _describe_label(
    label: NDArray[Any], spec: LabelSpec, chosen: list[int], valid: int
) -> dict[str, Any]:
    """Returns the classes by index, or the targets, their means over frames; and labels of chosen frames.

    Args:
        label: of the sequence, in the form of `tfrecords_schema.open_dataset`.
        spec: what labels mean.
        chosen: frames on the page.
        valid: number of frames without padding.
    """
    if spec.task == "multilabel":
        return {"classes": np.flatnonzero(label).tolist()}
    rows = np.atleast_1d(label)[:valid] if spec.per_frame else np.atleast_1d(label)[None]
    if spec.task == "classification":
        said: dict[str, Any] = {"classes": np.unique(rows).tolist()}
        texts = [spec.class_names[row] for row in np.ravel(label)]
    else:
        means = rows.mean(0, dtype=np.float64)
        said = {"targets": means.tolist(), "text": _describe_targets(means, spec)}
        texts = [_describe_targets(row, spec) for row in np.atleast_2d(label)]
    return said | ({"labels": [texts[frame] for frame in chosen]} if spec.per_frame else {})


def _describe_targets(values: NDArray[Any], spec: LabelSpec) -> str:
    """Returns stored targets in words: ``speed 12.3 m/s, heading 80 deg``."""
    units = spec.target_units or ("",) * len(spec.target_names)
    columns = zip(spec.target_names, values.tolist(), spec.offsets, units, strict=True)
    texts = (
        f"{name} {format_target(value, offset, _DIGITS)} {unit}".rstrip()
        for name, value, offset, unit in columns
    )
    return ", ".join(texts)
