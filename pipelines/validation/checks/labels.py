"""The checks of a record's labels and signals."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipelines.validation.findings import Problem, check, error
from pipelines.validation.views import RecordView, to_text
from tfrecords_schema import spec as keys
from tfrecords_schema.examples import parse_example
from tfrecords_schema.spec import SpecError


@check(
    reason="Readers take the class from the index, people from the string. If they differ, one of "
    "them is wrong.",
    remedy="Build the dataset again. Class names and indices must come from the same "
    "dataset_info.json.",
)
def labels_classes(record: RecordView) -> Iterator[Problem]:
    """Class indices are in range, and the strings are the names of these classes."""
    names = record.spec.label.class_names
    indices = record.context.get(keys.LABEL_INDEX)
    by_frame = record.column(keys.FRAME_LABEL_INDEX)
    for what, own in (("label", indices), ("label of frames", by_frame)):
        for index in dict.fromkeys(own or ()):
            if index not in range(len(names)):
                yield error(f"{what}: class index must be 0 to {len(names) - 1}, got {index}")
    for what, own, strings in (
        ("label", indices, record.context.get(keys.LABEL_STRING)),
        ("label text", indices, record.context.get(keys.LABEL_TEXT)),
        ("label of frames", by_frame, record.column(keys.FRAME_LABEL_STRING)),
    ):
        if own is None or strings is None:
            continue
        if len(strings) != len(own):
            yield error(f"{what}: {len(own)} indices need as many strings, got {len(strings)}")
            continue
        pairs = [
            (i, to_text(s)) for i, s in zip(own, strings, strict=True) if i in range(len(names))
        ]
        wrong = next((pair for pair in pairs if names[pair[0]] != pair[1]), None)
        if wrong and len(pairs) == len(own):
            index, string = wrong
            yield error(
                f"{what}: class {index} is {names[index]!r}, but the record says {string!r}"
            )
    if record.spec.label.task == "multilabel" and len(set(indices or ())) != len(indices or ()):
        yield error(f"label: a class occurs twice: {indices}")


@check(
    reason="One NaN or infinity makes the loss NaN, and every weight after it.",
    remedy="Remove or repair these rows in the manifest or telemetry and build again.",
)
def labels_finite(record: RecordView) -> Iterator[Problem]:
    """Targets, signals and the frame rate are finite numbers."""
    for name, values in record.value_columns.items():
        wrong = next((i for i, value in enumerate(values) if not math.isfinite(value)), None)
        if wrong is not None:
            place = f" of frame {wrong}" if len(values) > 1 else ""
            yield error(f"{name}{place} must be finite, got {values[wrong]}")
    rate = record.value(keys.FRAME_RATE)
    if rate is not None and not (math.isfinite(rate) and rate >= 0):
        yield error(f"{keys.FRAME_RATE} must be finite and not negative, got {rate}")


@check(
    reason="Labels and signals by frame belong to the frame with the same index. If one is "
    "missing, all after it belong to the wrong frame.",
    remedy="Build the dataset again. Check if the program that wrote it left out a frame or a row.",
)
def labels_frames(record: RecordView) -> Iterator[Problem]:
    """There are as many labels and signals by frame as frames."""
    if not record.problems:
        return  # all lists have the length of the spec
    try:
        lists = parse_example(record.data).feature_lists.feature_list
    except SpecError:
        return
    frames = keys.IMAGE_TIMESTAMP if record.spec.image is None else keys.IMAGE_ENCODED
    for feature in record.spec.feature_lists():
        if frames in lists and feature.key in lists and feature.key != keys.IMAGE_TIMESTAMP:
            count, wanted = len(lists[feature.key].feature), len(lists[frames].feature)
            if count != wanted:
                yield error(f"{wanted} frames need as many values of {feature.key}, got {count}")
