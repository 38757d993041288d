"""Reads records of other programs as ours: maps their keys, and completes what they lack.

An ``Example`` is read as a ``SequenceExample`` without feature lists, which has the same bytes.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from tfrecords_schema import spec as keys
from tfrecords_schema.example_pb2 import Feature, SequenceExample
from tfrecords_schema.examples import SequenceRecord, parse_example
from tfrecords_schema.natural_order import natural_key
from tfrecords_schema.spec import SequenceSpec, SpecError

FIELDS = {
    "image": keys.IMAGE_ENCODED,
    "label": keys.LABEL_INDEX,
    "text": keys.LABEL_STRING,
    "value": keys.LABEL_VALUE,
    "time": keys.IMAGE_TIMESTAMP,
    "group": keys.GROUP_ID,
    "source": keys.MEDIA_ID,
    "id": keys.EXAMPLE_ID,
}
"""Short names of our keys in a map; other keys are named in full."""

# By whether a label belongs to the whole record, the key that holds it per frame.
_BY_FRAME = {
    keys.LABEL_INDEX: keys.FRAME_LABEL_INDEX,
    keys.LABEL_STRING: keys.FRAME_LABEL_STRING,
    keys.LABEL_VALUE: keys.FRAME_LABEL_VALUE,
}
_CONTEXT = re.compile(r"(example|clip)/.+|image/(frame_rate|valid_frames)")
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG")


@dataclass(frozen=True, kw_only=True)
class KeyMap:
    """The keys of other records that hold what ours do.

    Example: ``KeyMap(keys={"image/encoded": "blob/*", "clip/label/index": "y"}, first_label=1)``.

    Attributes:
        keys: theirs by ours. ``*`` stands for the numbers of numbered keys, which hold one frame each. Empty
            if theirs are ours.
        shape: frames, height, width and channels of raw uint8 pixels, RGB or gray, for records that hold
            pixels and not encoded images.
        shape_key: their key that holds this shape.
        first_label: the index of their first class: 1 if they count from one.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    shape_key: str = ""
    first_label: int = 0

    def apply(self, data: bytes) -> SequenceExample:
        """Returns a serialized record under our keys. Its images are encoded, and have a step each.

        Raises:
            SpecError: if a key is missing, or its values are not what our key holds.
        """
        theirs = parse_example(data)
        ours = SequenceExample()
        if not self.keys:
            ours.CopyFrom(theirs)
            if keys.IMAGE_ENCODED in ours.context.feature:
                _copy(ours, keys.IMAGE_ENCODED, ours.context.feature.pop(keys.IMAGE_ENCODED), None)
        for key, name in self.keys.items():
            values, steps = _find(theirs, name)
            _copy(ours, key, values, steps)
        self._count_labels_from_zero(ours)
        shape = self.shape
        if self.shape_key:
            held, _ = _find(theirs, self.shape_key)
            shape = tuple(held.int64_list.value if held else ())
        if shape:
            _encode_pixels(ours, shape)
        return ours

    def _count_labels_from_zero(self, example: SequenceExample) -> None:
        labels, lists = [], example.feature_lists.feature_list
        if keys.FRAME_LABEL_INDEX in lists:  # looking it up would make it
            labels += lists[keys.FRAME_LABEL_INDEX].feature
        if keys.LABEL_INDEX in example.context.feature:
            labels.append(example.context.feature[keys.LABEL_INDEX])
        for label in labels:
            numbers = [*label.float_list.value, *label.int64_list.value]
            if any(number != int(number) for number in numbers):
                raise SpecError(f"expected whole numbers as labels, found {numbers[0]!r}")
            if label.float_list.value or self.first_label:
                label.int64_list.value[:] = [int(number) - self.first_label for number in numbers]


OUR_KEYS = KeyMap()
"""The map of records that have MediaSequence's keys."""


def parse_key_map(pairs: Mapping[str, str], shape: Sequence[int], first_label: int) -> KeyMap:
    """Returns the map that is typed as ``image=frames,label=y``.

    Raises:
        SpecError: if a name is neither a short one nor a key that records have.
    """
    named = {FIELDS.get(own, own): theirs for own, theirs in pairs.items() if own != "shape"}
    for key in named:
        if "/" not in key:
            raise SpecError(
                f"expected {', '.join(FIELDS)}, shape or a key such as SPEED/feature/floats before '=', got "
                f"{key!r}"
            )
    return KeyMap(
        keys=named, shape=tuple(shape), shape_key=pairs.get("shape", ""), first_label=first_label
    )


def _find(example: SequenceExample, name: str) -> tuple[Feature | None, Sequence[Feature] | None]:
    """Returns the values of a context key, or the steps of a feature list or of numbered keys."""
    context, lists = example.context.feature, example.feature_lists.feature_list
    if name in context:
        return context[name], None
    if name in lists:
        return None, lists[name].feature
    pattern = re.compile(re.escape(name).replace(r"\*", r"\d+"))
    if "*" in name and (numbered := sorted(filter(pattern.fullmatch, context), key=natural_key)):
        return None, [context[key] for key in numbered]
    known = ", ".join(sorted([*context, *lists]))
    raise SpecError(f"expected the key {name}, found {known or 'no key':.300}")


def _copy(
    example: SequenceExample, key: str, values: Feature | None, steps: Sequence[Feature] | None
) -> None:
    """Stores what was found under our key: one value or list per record, or one per frame."""
    by_record = _CONTEXT.fullmatch(key)
    if steps is None:
        assert values is not None
        if values.bytes_list.value and key == keys.LABEL_INDEX:
            key = keys.LABEL_STRING
        if key == keys.LABEL_STRING and any(v.startswith(_IMAGES) for v in values.bytes_list.value):
            raise SpecError("expected indices or names of classes as labels, found images")
        if by_record:
            example.context.feature[key].CopyFrom(values)
            return
        kind = values.WhichOneof("kind")
        steps = [
            Feature(**{kind: {"value": [value]}})
            for value in (getattr(values, kind).value if kind else ())
        ]
    elif by_record:
        if key not in _BY_FRAME:
            raise SpecError(f"expected one value per record for {key}, found one per frame")
        key = _BY_FRAME[key]
    example.feature_lists.feature_list[key].feature.extend(steps)


def _encode_pixels(example: SequenceExample, shape: Sequence[int]) -> None:
    """Replaces raw pixels, of all frames or of each, by PNG images, which keep them."""
    steps = example.feature_lists.feature_list[keys.IMAGE_ENCODED].feature
    data = b"".join(value for step in steps for value in step.bytes_list.value)
    if len(shape) != 4 or min(shape) < 1 or len(data) != math.prod(shape) or shape[3] not in (1, 3):
        raise SpecError(
            "expected uint8 pixels of frames, height, width and channels (1 or 3) "
            f"{'x'.join(map(str, shape)) or 'that no key says'}, found {len(data)} bytes"
        )
    del steps[:]
    for frame in np.frombuffer(data, np.uint8).reshape(shape):
        # OpenCV takes BGR.
        encoded = cv2.imencode(".png", frame[..., ::-1])[1].tobytes()
        steps.add().bytes_list.value.append(encoded)


def complete_record(
    example: SequenceExample,
    spec: SequenceSpec,
    *,
    dataset_name: str,
    place: str,
    frame_rate: float | None = None,
) -> SequenceRecord:
    """Returns a record of another program as one of ``spec``.

    Longer sequences are cut after ``spec.num_frames`` frames, and shorter ones padded with their last frame.
    Padding repeats the last frame that is none. Frames stay as they are, also those of another size.

    Args:
        example: under our keys, which may lack some.
        spec: of the result.
        dataset_name: for records without one.
        place: a name for records without a name or source of their own, unique in the dataset.
        frame_rate: frames/s of records that have no times and no rate. Without it they get times of 0.

    Raises:
        SpecError: if the record has no frames, or its labels do not fit ``spec``.
    """
    context, label = example.context.feature, spec.label
    steps = {key: list(own.feature) for key, own in example.feature_lists.feature_list.items()}
    held = steps.get(keys.IMAGE_ENCODED if spec.image else _first_signal(spec), [])
    stored = [*context[keys.VALID_FRAMES].int64_list.value, spec.num_frames]
    valid = min(stored[0], len(held), spec.num_frames)
    if valid < 1:
        raise SpecError(f"expected at least one frame, found {len(held)} and {stored[0]} valid")
    places = [min(i, valid - 1) for i in range(spec.num_frames)]

    def column(key: str, kind: str) -> list[Sequence[Any]]:
        """Returns the values of each frame; none if the record has none for some of its frames."""
        rows = steps.get(key, [])
        return [getattr(rows[i], kind).value for i in places] if len(rows) >= valid else []

    def text(*names: str) -> str:
        values = (b"".join(context[name].bytes_list.value[:1]) for name in names)
        return next(filter(None, values), b"").decode("utf-8", "surrogateescape")

    times = [int(row[0]) for row in column(keys.IMAGE_TIMESTAMP, "int64_list") if row]
    rate = next(iter(context[keys.FRAME_RATE].float_list.value), 0.0) or frame_rate or 0.0
    if len(times) < spec.num_frames or (rate and len(set(times)) < min(2, valid)):
        times = [round(i * 1e6 / rate) if rate else 0 for i in places]
    elif not rate and times[valid - 1] > times[0]:
        rate = (valid - 1) * 1e6 / (times[valid - 1] - times[0])
    by_frame: dict[str, Any] = {}
    by_record: dict[str, Any] = {}
    if label.task == "regression":
        rows = [list(row) for row in column(keys.FRAME_LABEL_VALUE, "float_list")]
        by_frame["frame_label_values"] = rows
        by_record["label_values"] = list(context[keys.LABEL_VALUE].float_list.value)
    elif label.num_classes:
        found = zip(
            column(keys.FRAME_LABEL_INDEX, "int64_list") or itertools.repeat(()),
            column(keys.FRAME_LABEL_STRING, "bytes_list") or itertools.repeat((), len(places)),
            strict=False,
        )
        indices = [i for own in found for i in _classes(*own, spec)] if label.per_frame else []
        by_frame["frame_label_indices"] = indices
        by_frame["frame_label_strings"] = [label.class_names[i] for i in indices]
        names = (
            context[keys.LABEL_STRING].bytes_list.value or context[keys.LABEL_TEXT].bytes_list.value
        )
        indices = _classes(context[keys.LABEL_INDEX].int64_list.value, names, spec)
        by_record["label_indices"] = indices
        by_record["label_strings"] = [label.class_names[i] for i in indices]
    media = text(keys.MEDIA_ID, keys.DATA_PATH, keys.EXAMPLE_ID) or place
    return SequenceRecord(
        id=text(keys.EXAMPLE_ID) or f"{place}@{times[0]}",
        dataset_name=text(keys.DATASET_NAME) or dataset_name,
        data_path=text(keys.DATA_PATH) or media,
        media_id=media,
        group_id=text(keys.GROUP_ID) or media,
        timestamps=times,
        frame_rate=rate,
        valid_frames=valid,
        frames=[b"".join(held[i].bytes_list.value) for i in places] if spec.image else (),
        signals={
            signal.name: column(keys.signal_floats_key(signal.name), "float_list")
            for signal in spec.signals
        },
        **(by_frame if label.per_frame else by_record),
    )


def _first_signal(spec: SequenceSpec) -> str:
    return keys.signal_floats_key(spec.signals[0].name)


def _classes(indices: Sequence[int], names: Sequence[bytes], spec: SequenceSpec) -> list[int]:
    """Returns the indices of classes, by their names if there are only these."""
    classes = spec.label.class_names
    texts = [name.decode("utf-8", "replace") for name in names]
    if unknown := [text for text in texts if text not in classes]:
        raise SpecError(f"expected a class of {', '.join(classes):.300}, found {unknown[0]!r:.100}")
    if not indices:
        return [classes.index(text) for text in texts]
    if wrong := [i for i in indices if not 0 <= i < len(classes)]:
        raise SpecError(f"expected classes 0 to {len(classes) - 1}, found {wrong[0]}")
    for index, text in zip(indices, texts, strict=False):
        if classes[index] != text:
            raise SpecError(
                f"expected the name {classes[index]!r} for class {index}, found {text!r}"
            )
    return list(indices)
