"""Records as Python values, serialized as ``SequenceExample`` messages and parsed, without TensorFlow."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from tfrecords_schema import spec as keys
from tfrecords_schema.example_pb2 import Feature as StoredFeature
from tfrecords_schema.example_pb2 import SequenceExample
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import StrPath, join
from tfrecords_schema.records import read_file
from tfrecords_schema.spec import Feature, SequenceSpec, SpecError


@dataclass(frozen=True, kw_only=True)
class SequenceRecord:
    """One labelled sequence of ``num_frames`` frames.

    Example: 16 frames at 10 frames/s from second 2 on, the last 4 of them padding, with class 0 of
    ``("run", "walk")``::

        SequenceRecord(
            id="run/a.mp4@2000000", dataset_name="actions", data_path="run/a.mp4",
            media_id="run/a.mp4", group_id="run/a.mp4",
            timestamps=[2_000_000 + min(i, 11) * 100_000 for i in range(16)],
            frame_rate=10.0, valid_frames=12, frames=[jpeg, ...],
            label_indices=[0], label_strings=["run"],
        )

    Text from file names may hold surrogate escapes (`os.fsdecode`), which are written as the original bytes.

    Attributes:
        id: unique in the dataset: media id and start time.
        dataset_name: the dataset's name.
        data_path: the source's path relative to the input root.
        media_id: the source's id.
        group_id: person, drive or original video; records of one group are in one split.
        timestamps: presentation time of each of ``num_frames`` frames in its source, microseconds.
        frame_rate: frames/s after sampling.
        valid_frames: frames from this index on are padding.
        frames: ``num_frames`` encoded images; empty in a dataset of signals only.
        label_indices, label_strings: the class of the sequence, or its classes (multi-label).
        label_values: regression targets of the sequence.
        frame_label_indices, frame_label_strings: the class of each frame.
        frame_label_values: regression targets of each frame.
        signals: by name, the values of each frame.
        signal_timestamps: by name, the time of each frame's values, microseconds.
    """

    id: str
    dataset_name: str
    data_path: str
    media_id: str
    group_id: str
    timestamps: Sequence[int]
    frame_rate: float
    valid_frames: int
    frames: Sequence[bytes] = ()
    label_indices: Sequence[int] = ()
    label_strings: Sequence[str] = ()
    label_values: Sequence[float] = ()
    frame_label_indices: Sequence[int] = ()
    frame_label_strings: Sequence[str] = ()
    frame_label_values: Sequence[Sequence[float]] = ()
    signals: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    signal_timestamps: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def start_timestamp(self) -> int:
        """Presentation time of the first frame, microseconds."""
        return self.timestamps[0]

    @property
    def end_timestamp(self) -> int:
        """Presentation time of the last frame that is not padding, microseconds."""
        return self.timestamps[self.valid_frames - 1]


_LISTS = {"bytes": "bytes_list", "int": "int64_list", "float": "float_list"}

# The attributes of a record by key: one value each, several values, and one or several values per frame.
_VALUES = {
    keys.EXAMPLE_ID: "id",
    keys.DATASET_NAME: "dataset_name",
    keys.DATA_PATH: "data_path",
    keys.MEDIA_ID: "media_id",
    keys.GROUP_ID: "group_id",
    keys.FRAME_RATE: "frame_rate",
    keys.VALID_FRAMES: "valid_frames",
}
_LABELS = {
    keys.LABEL_INDEX: "label_indices",
    keys.LABEL_STRING: "label_strings",
    keys.LABEL_VALUE: "label_values",
}
_STEPS = {
    keys.IMAGE_TIMESTAMP: "timestamps",
    keys.IMAGE_ENCODED: "frames",
    keys.FRAME_LABEL_INDEX: "frame_label_indices",
    keys.FRAME_LABEL_STRING: "frame_label_strings",
    keys.FRAME_LABEL_VALUE: "frame_label_values",
}


def encode_record(record: SequenceRecord, spec: SequenceSpec) -> bytes:
    """Returns ``record`` serialized as a ``tf.train.SequenceExample``.

    The same record always has the same bytes: map entries are written in the order of their keys.

    Raises:
        SpecError: if the record does not have the values that ``spec`` requires.
    """
    with _naming(record):
        _check_record(record, spec)
        example = _to_example(record, spec)
    return example.SerializeToString(deterministic=True)


def _to_example(record: SequenceRecord, spec: SequenceSpec) -> SequenceExample:
    example = SequenceExample()
    context, feature_lists = _features(spec)
    values: dict[str, Any] = {key: [value] for key, value in context_of(record, spec).items()}
    values |= {key: getattr(record, name) for key, name in (_LABELS | _STEPS).items()}
    values[keys.LABEL_TEXT] = record.label_strings
    for signal in spec.signals:
        times = record.signal_timestamps.get(signal.name, record.timestamps)
        values[keys.signal_timestamp_key(signal.name)] = times
        values[keys.signal_floats_key(signal.name)] = record.signals.get(signal.name, ())
    for feature in context:
        _fill(example.context.feature[feature.key], feature, values[feature.key])
    for feature in feature_lists:
        steps = values[feature.key]
        if len(steps) != spec.num_frames:
            raise SpecError(f"{feature.key} must have {spec.num_frames} steps, got {len(steps)}")
        add_step = example.feature_lists.feature_list[feature.key].feature.add
        for step in steps:
            _fill(add_step(), feature, step if feature.shape else (step,))
    return example


def decode_record(serialized: bytes, spec: SequenceSpec) -> SequenceRecord:
    """Returns the record in ``serialized``; the inverse of `encode_record`.

    Raises:
        SpecError: if the bytes are not a SequenceExample, lack a key of ``spec``, or hold a key with another
            type or number of values, or with values that contradict ``spec`` or each other.
    """
    example = parse_example(serialized)
    context_features, feature_lists = _features(spec)
    context = {f.key: _to_text(f, context_values(example, f)) for f in context_features}
    steps: dict[str, list[Any]] = {}
    for f in feature_lists:
        rows = [_to_text(f, row) for row in step_values(example, f, spec.num_frames)]
        steps[f.key] = rows if f.shape else [row[0] for row in rows]
    if context.get(keys.LABEL_TEXT) != context.get(keys.LABEL_STRING):
        raise SpecError(f"{keys.LABEL_TEXT} and {keys.LABEL_STRING} must be equal, but differ")
    fields: dict[str, Any] = {name: context[key][0] for key, name in _VALUES.items()}
    fields |= {name: context.get(key, []) for key, name in _LABELS.items()}
    fields |= {name: steps.get(key, []) for key, name in _STEPS.items()}
    names = [signal.name for signal in spec.signals]
    record = SequenceRecord(
        **fields,
        signals={name: steps[keys.signal_floats_key(name)] for name in names},
        signal_timestamps={name: steps[keys.signal_timestamp_key(name)] for name in names},
    )
    with _naming(record):
        _check_record(record, spec)
        for key, value in _derived_values(record, spec).items():
            if context[key] != [value]:
                raise SpecError(f"{key} must be {value!r}, got {context[key][0]!r}")
    return record


@contextlib.contextmanager
def _naming(record: SequenceRecord) -> Iterator[None]:
    """Adds the id of ``record`` to the message of a `SpecError`."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"record {record.id}: {error}") from error.__cause__


def read_records(directory: StrPath, split: str | None = None) -> Iterator[SequenceRecord]:
    """Yields the records of a dataset, shard by shard; of one split, or of all.

    Args:
        directory: folder with a ``dataset_info.json``, local or on an object store. Adopted datasets may
            lack keys that a `SequenceRecord` needs; read those with `parse_adopted`.
        split: such as ``train``.

    Raises:
        DatasetInfoError: if the folder is not a complete dataset, or has no such split.
        CorruptRecordError: if a shard is damaged.
        SpecError: if a record does not match the spec.
    """
    info = DatasetInfo.load(directory)
    if split is not None and split not in info.splits:
        raise DatasetInfoError(
            f"{directory}: expected one of the splits {', '.join(info.splits)}, got {split!r}"
        )
    for name in info.splits if split is None else (split,):
        for shard in info.splits[name].shards:
            for stored in read_file(join(directory, shard.file)):
                yield decode_record(stored.data, info.spec)


def parse_example(serialized: bytes) -> SequenceExample:
    """Returns the ``SequenceExample`` in ``serialized``, or raises SpecError if there is none."""
    try:
        return SequenceExample.FromString(serialized)
    except DecodeError as error:
        raise SpecError(f"not a SequenceExample: {error}") from error


def context_values(example: SequenceExample, feature: Feature) -> list[Any]:
    """Returns the values of one context key; raises SpecError if it is missing or does not fit."""
    if feature.key not in example.context.feature:
        raise SpecError(f"missing context key {feature.key}")
    return _values(example.context.feature[feature.key], feature)


def step_values(example: SequenceExample, feature: Feature, num_frames: int) -> list[list[Any]]:
    """Returns the values of each step of one feature list, checked as `context_values` are."""
    if feature.key not in example.feature_lists.feature_list:
        raise SpecError(f"missing feature list {feature.key}")
    steps = example.feature_lists.feature_list[feature.key].feature
    if len(steps) != num_frames:
        raise SpecError(f"{feature.key} must have {num_frames} steps, got {len(steps)}")
    return [_values(step, feature) for step in steps]


def _values(stored: StoredFeature, feature: Feature) -> list[Any]:
    expected, received = _LISTS[feature.kind], stored.WhichOneof("kind")
    if received != expected:
        raise SpecError(f"{feature.key} must be a {expected}, got {received}")
    values = getattr(stored, expected).value
    _check_count(feature, len(values))
    if feature.kind == "bytes" and feature.key != keys.IMAGE_ENCODED:
        longest = max(map(len, values), default=0)
        if longest > keys.MAX_TEXT_BYTES:
            limit = keys.MAX_TEXT_BYTES
            raise SpecError(f"{feature.key} must have at most {limit} bytes, got {longest}")
    return list(values)


def _check_count(feature: Feature, count: int) -> None:
    if not feature.accepts(count):
        many = feature.shape == (None,)
        expected = f"at most {feature.limit} values" if many else f"shape {feature.shape}"
        raise SpecError(f"{feature.key} must have {expected}, got {count} values")


def _to_text(feature: Feature, values: list[Any]) -> list[Any]:
    if feature.kind != "bytes" or feature.key == keys.IMAGE_ENCODED:
        return values
    return [value.decode("utf-8", "surrogateescape") for value in values]


def _fill(target: StoredFeature, feature: Feature, values: Any) -> None:
    _check_count(feature, len(values))
    try:
        if feature.kind == "bytes" and feature.key != keys.IMAGE_ENCODED:
            values = [text.encode("utf-8", "surrogateescape") for text in values]
        stored = getattr(target, _LISTS[feature.kind])
        stored.SetInParent()  # stores the type also of an empty list, such as no class of several
        stored.value.extend(values)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise SpecError(f"{feature.key} holds {feature.kind} values: {error}") from error


# Usually, consecutive records have the same spec.
@functools.lru_cache(maxsize=4)
def _features(spec: SequenceSpec) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
    return spec.context_features(), spec.feature_lists()


def context_of(record: SequenceRecord, spec: SequenceSpec) -> dict[str, Any]:
    """Returns the context of a record by its keys, without its labels."""
    held = {key: getattr(record, name) for key, name in _VALUES.items()}
    return held | _derived_values(record, spec)


def _derived_values(record: SequenceRecord, spec: SequenceSpec) -> dict[str, int | str]:
    """Returns the context that follows from other keys and from ``spec``."""
    values: dict[str, int | str] = {
        keys.START_TIMESTAMP: record.start_timestamp,
        keys.END_TIMESTAMP: record.end_timestamp,
    }
    if spec.image is not None:
        values |= {
            keys.IMAGE_FORMAT: spec.image.format,
            keys.IMAGE_COLORSPACE: spec.image.colorspace,
            keys.IMAGE_HEIGHT: spec.image.height,
            keys.IMAGE_WIDTH: spec.image.width,
            keys.IMAGE_CHANNELS: spec.image.channels,
        }
    return values


def _check_record(record: SequenceRecord, spec: SequenceSpec) -> None:
    """Checks that the values of a record agree with each other and with ``spec``, beyond types and shapes."""
    frames, steps, valid = spec.num_frames, len(record.timestamps), record.valid_frames
    if steps != frames:
        raise SpecError(f"{keys.IMAGE_TIMESTAMP} must have {frames} steps, got {steps}")
    if valid not in range(1, frames + 1):
        raise SpecError(f"{keys.VALID_FRAMES} must be 1 to {frames}, got {valid}")
    known = {feature.key for features in _features(spec) for feature in features}
    held: dict[str, Sequence[Any]] = {
        **{key: getattr(record, name) for key, name in (_LABELS | _STEPS).items()},
        **{keys.signal_floats_key(name): values for name, values in record.signals.items()},
        **{keys.signal_timestamp_key(name): t for name, t in record.signal_timestamps.items()},
    }
    for key, values in held.items():
        if key not in known and len(values):
            raise SpecError(f"{key} has {len(values)} values, but the spec does not have this key")
    classes = spec.label.class_names
    for index_key, string_key in (
        (keys.LABEL_INDEX, keys.LABEL_STRING),
        (keys.FRAME_LABEL_INDEX, keys.FRAME_LABEL_STRING),
    ):
        for index in held[index_key]:
            if index not in range(len(classes)):
                raise SpecError(f"{index_key} must be 0 to {len(classes) - 1}, got {index}")
        names = [classes[index] for index in held[index_key]]
        if names != list(held[string_key]):
            got = held[string_key]
            raise SpecError(f"{string_key} must be {names} as the indices say, got {got}")
