"""The checks of one record that look at its labels and signals."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipelines.validation.findings import Check, Problem, check, error
from pipelines.validation.views import RecordView, to_text, value_columns
from tfrecords_schema import spec as keys
from tfrecords_schema.decode import parse_example
from tfrecords_schema.spec import SpecError


@check(
    "labels.classes",
    reason="Readers take the class from the index, people from the string; where they differ, "
    "one of them is wrong about the record.",
    remedy="Build the dataset again: class names and indices must come from the same "
    "dataset_info.json.",
)
def labels_classes(record: RecordView) -> Iterator[Problem]:
    """Class indices are in range, and the strings are the names of these classes."""
    names = record.spec.label.class_names
    pairs = (
        (record.context.get(keys.LABEL_INDEX), record.context.get(keys.LABEL_STRING), "label"),
        (record.context.get(keys.LABEL_INDEX), record.context.get(keys.LABEL_TEXT), "label text"),
        (
            record.column(keys.FRAME_LABEL_INDEX),
            record.column(keys.FRAME_LABEL_STRING),
            "label of frames",
        ),
    )
    for indices, strings, what in pairs:
        for index in dict.fromkeys(indices or ()):
            if index not in range(len(names)) and what != "label text":
                yield error(f"{what}: class index must be 0 to {len(names) - 1}, got {index}")
        if indices is None or strings is None:
            continue
        wanted = [names[index] if index in range(len(names)) else None for index in indices]
        got = [to_text(string) for string in strings]
        if len(got) != len(wanted):
            yield error(f"{what}: {len(wanted)} indices need as many strings, got {len(got)}")
        elif None not in wanted and got != wanted:
            place = next(i for i, (a, b) in enumerate(zip(wanted, got, strict=True)) if a != b)
            yield error(
                f"{what}: class {indices[place]} is {wanted[place]!r}, and the record says {got[place]!r}"
            )
    if record.spec.label.task == "multilabel":
        indices = record.context.get(keys.LABEL_INDEX) or []
        if len(set(indices)) != len(indices):
            yield error(f"label: a class is named twice: {indices}")


@check(
    "labels.finite",
    reason="One NaN or infinity makes the loss NaN, and every weight after it.",
    remedy="Remove or repair these rows in the manifest or telemetry and build again.",
)
def labels_finite(record: RecordView) -> Iterator[Problem]:
    """Targets, signals and the frame rate are finite numbers."""
    for name, rows in value_columns(record).items():
        bad = [i for i, value in enumerate(rows) if not math.isfinite(value)]
        if bad:
            place = f" of frame {bad[0]}" if len(rows) > 1 else ""
            yield error(f"{name}{place} must be finite, got {rows[bad[0]]}")
    rate = record.value(keys.FRAME_RATE)
    if rate is not None and not (math.isfinite(rate) and rate >= 0):
        yield error(f"{keys.FRAME_RATE} must be finite and not negative, got {rate}")


@check(
    "labels.frames",
    reason="Labels and signals by frame are paired with frames by their place; one too few or too "
    "many, and each belongs to another frame than it says.",
    remedy="Build the dataset again; look whether what wrote it left out a frame or a row.",
)
def labels_frames(record: RecordView) -> Iterator[Problem]:
    """There are as many labels and signals by frame as frames."""
    if not record.problems:
        return  # all are as many as the spec says
    try:
        lists = parse_example(record.data).feature_lists.feature_list
    except SpecError:
        return
    frames = keys.IMAGE_TIMESTAMP if record.spec.image is None else keys.IMAGE_ENCODED
    for feature in record.spec.feature_lists():
        if frames in lists and feature.key in lists and feature.key != keys.IMAGE_TIMESTAMP:
            count, wanted = len(lists[feature.key].feature), len(lists[frames].feature)
            if count != wanted:
                yield error(f"{wanted} frames need as many of {feature.key}, got {count}")


LABEL_CHECKS: tuple[Check[RecordView], ...] = (labels_classes, labels_finite, labels_frames)
