"""Parses a serialized record, without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError

from tfrecords_schema import example_pb2
from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import join
from tfrecords_schema.record import SequenceRecord, check_record
from tfrecords_schema.records import read_file
from tfrecords_schema.spec import Feature, SequenceSpec, SpecError

_LISTS = {"bytes": "bytes_list", "int": "int64_list", "float": "float_list"}


def parse_example(serialized: bytes) -> example_pb2.SequenceExample:
    """Returns the ``SequenceExample`` message in ``serialized``.

    Raises:
        SpecError: if the bytes are not a SequenceExample.
    """
    try:
        return example_pb2.SequenceExample.FromString(serialized)
    except DecodeError as error:
        raise SpecError(f"not a SequenceExample: {error}") from error


def decode_record(serialized: bytes, spec: SequenceSpec) -> SequenceRecord:
    """Returns the record in ``serialized``; the inverse of `tfrecords_schema.encode.encode_record`.

    Raises:
        SpecError: if the bytes are not a SequenceExample, lack a key of ``spec``, or hold a key with another
            type or number of values, or with values that contradict ``spec`` or each other.
    """
    example = parse_example(serialized)
    context = {feature.key: context_values(example, feature) for feature in spec.context_features()}
    steps = {
        feature.key: step_values(example, feature, spec.num_frames)
        for feature in spec.feature_lists()
    }
    label_strings = context.get(keys.LABEL_STRING, [])
    if context.get(keys.LABEL_TEXT, []) != label_strings:
        raise SpecError(f"{keys.LABEL_TEXT} and {keys.LABEL_STRING} must be equal, but differ")
    record = SequenceRecord(
        id=_to_text(context[keys.EXAMPLE_ID][0]),
        dataset_name=_to_text(context[keys.DATASET_NAME][0]),
        data_path=_to_text(context[keys.DATA_PATH][0]),
        media_id=_to_text(context[keys.MEDIA_ID][0]),
        group_id=_to_text(context[keys.GROUP_ID][0]),
        timestamps=[step[0] for step in steps[keys.IMAGE_TIMESTAMP]],
        frame_rate=context[keys.FRAME_RATE][0],
        valid_frames=context[keys.VALID_FRAMES][0],
        frames=[step[0] for step in steps.get(keys.IMAGE_ENCODED, [])],
        label_indices=context.get(keys.LABEL_INDEX, []),
        label_strings=[_to_text(name) for name in label_strings],
        label_values=context.get(keys.LABEL_VALUE, []),
        frame_label_indices=[step[0] for step in steps.get(keys.FRAME_LABEL_INDEX, [])],
        frame_label_strings=[_to_text(step[0]) for step in steps.get(keys.FRAME_LABEL_STRING, [])],
        frame_label_values=steps.get(keys.FRAME_LABEL_VALUE, []),
        signals={s.name: steps[keys.signal_floats_key(s.name)] for s in spec.signals},
        signal_timestamps={
            s.name: [step[0] for step in steps[keys.signal_timestamp_key(s.name)]]
            for s in spec.signals
        },
    )
    check_record(record, spec)
    expected: dict[str, Any] = {
        keys.START_TIMESTAMP: record.start_timestamp,
        keys.END_TIMESTAMP: record.end_timestamp,
    }
    if spec.image is not None:
        expected |= {
            keys.IMAGE_FORMAT: spec.image.format.encode(),
            keys.IMAGE_COLORSPACE: spec.image.colorspace.encode(),
            keys.IMAGE_HEIGHT: spec.image.height,
            keys.IMAGE_WIDTH: spec.image.width,
            keys.IMAGE_CHANNELS: spec.image.channels,
        }
    for key, value in expected.items():
        if context[key] != [value]:
            raise SpecError(f"record {record.id}: {key} must be {value!r}, got {context[key][0]!r}")
    return record


def read_records(
    directory: str | os.PathLike[str], split: str | None = None
) -> Iterator[SequenceRecord]:
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


def context_values(example: example_pb2.SequenceExample, feature: Feature) -> list[Any]:
    """Returns the values of one context key, checked against its type and shape.

    Raises:
        SpecError: if the key is missing, or has another type or number of values.
    """
    if feature.key not in example.context.feature:
        raise SpecError(f"missing context key {feature.key}")
    return _values(example.context.feature[feature.key], feature)


def step_values(
    example: example_pb2.SequenceExample, feature: Feature, num_frames: int
) -> list[list[Any]]:
    """Returns the values of each step of one feature list, checked against its type, shape and length.

    Raises:
        SpecError: if the key is missing, or has another type, length or number of values per step.
    """
    if feature.key not in example.feature_lists.feature_list:
        raise SpecError(f"missing feature list {feature.key}")
    steps = example.feature_lists.feature_list[feature.key].feature
    if len(steps) != num_frames:
        raise SpecError(f"{feature.key} must have {num_frames} steps, got {len(steps)}")
    return [_values(step, feature) for step in steps]


def _values(stored: example_pb2.Feature, feature: Feature) -> list[Any]:
    expected, received = _LISTS[feature.kind], stored.WhichOneof("kind")
    if received != expected:
        raise SpecError(f"{feature.key} must be a {expected}, got {received}")
    values = list(getattr(stored, expected).value)
    if not feature.accepts(len(values)):
        raise SpecError(f"{feature.key} must have shape {feature.shape}, got {len(values)} values")
    return values


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
