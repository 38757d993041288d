"""Record to bytes, without TensorFlow."""

from __future__ import annotations

import functools
from typing import Any

from tfrecords_schema import example_pb2
from tfrecords_schema import spec as keys
from tfrecords_schema.record import SequenceRecord, check_record
from tfrecords_schema.spec import Feature, SequenceSpec, SpecError


def encode_record(record: SequenceRecord, spec: SequenceSpec) -> bytes:
    """Serializes ``record`` as a ``tf.train.SequenceExample``.

    The same record always gives the same bytes: map entries are written in key order.

    Raises:
        SpecError: when the record does not have the values that ``spec`` asks for.
    """
    check_record(record, spec)
    features = example_pb2.Features()
    context = _context_values(record, spec)
    context_features, feature_list_features = _layout(spec)
    for feature in context_features:
        _fill(features.feature[feature.key], feature, context[feature.key], record.id)
    steps_by_key = _step_values(record, spec)
    feature_lists: list[bytes] = []
    for feature in feature_list_features:
        steps = steps_by_key[feature.key]
        if len(steps) != spec.num_frames:
            raise SpecError(
                f"record {record.id}: {feature.key} must have {spec.num_frames} steps, "
                f"got {len(steps)}"
            )
        entry = _delimited(_KEY, [feature.key.encode()])
        entry += _delimited(_VALUE, _feature_list(feature, steps, record.id))
        feature_lists += _delimited(_ENTRY, entry)
    return b"".join(
        (
            *_delimited(_CONTEXT, [features.SerializeToString(deterministic=True)]),
            *_delimited(_FEATURE_LISTS, feature_lists),
        )
    )


# Many records have one spec.
@functools.lru_cache(maxsize=4)
def _layout(spec: SequenceSpec) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
    """The keys of a record's context, and of its feature lists in order, as deterministic maps have them."""
    feature_lists = sorted(spec.feature_lists(), key=lambda feature: feature.key)
    return spec.context_features(), tuple(feature_lists)


# The fields of example.proto that are written here, and not by protobuf.
_CONTEXT, _FEATURE_LISTS = 1, 2  # of SequenceExample
_ENTRY, _KEY, _VALUE = 1, 1, 2  # of the map in FeatureLists
_FEATURE = 1  # of FeatureList
_BYTES_LIST = 1  # of Feature
_BYTES = 1  # of BytesList


def _feature_list(feature: Feature, steps: list[list[Any]], record_id: str) -> list[bytes]:
    """The parts of a serialized ``FeatureList``."""
    if feature.key == keys.IMAGE_ENCODED:
        return _image_list([frame for (frame,) in steps], record_id)
    feature_list = example_pb2.FeatureList()
    for step in steps:
        _fill(feature_list.feature.add(), feature, step, record_id)
    return [feature_list.SerializeToString()]


def _image_list(images: list[bytes], record_id: str) -> list[bytes]:
    """As `_feature_list`, without a copy of the images: they are nearly all of a record."""
    parts: list[bytes] = []
    for image in images:
        if not isinstance(image, bytes):
            raise SpecError(
                f"record {record_id}: {keys.IMAGE_ENCODED} holds bytes values: got {image!r:.100}"
            )
        parts += (_image_start(len(image)), image)
    return parts


# Sequences that overlap ask for each image's again and again.
@functools.lru_cache(maxsize=1024)
def _image_start(length: int) -> bytes:
    """What stands before an image of ``length`` bytes: of its ``Feature``, ``BytesList`` and value."""
    start = b""
    for field in (_BYTES, _BYTES_LIST, _FEATURE):
        start = _start(field, len(start) + length) + start
    return start


def _delimited(field: int, parts: list[bytes]) -> list[bytes]:
    """``parts`` of a message, a text or bytes with what says which field they are, and how long."""
    return [_start(field, sum(map(len, parts))), *parts]


def _start(field: int, length: int) -> bytes:
    """The field's number and type, and the length as a varint."""
    start = [field << 3 | 2]
    while length > 127:
        start.append(length & 127 | 128)
        length >>= 7
    return bytes((*start, length))


def _context_values(record: SequenceRecord, spec: SequenceSpec) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {
        keys.EXAMPLE_ID: [record.id],
        keys.DATASET_NAME: [record.dataset_name],
        keys.DATA_PATH: [record.data_path],
        keys.MEDIA_ID: [record.media_id],
        keys.GROUP_ID: [record.group_id],
        keys.START_TIMESTAMP: [record.start_timestamp],
        keys.END_TIMESTAMP: [record.end_timestamp],
        keys.FRAME_RATE: [record.frame_rate],
        keys.VALID_FRAMES: [record.valid_frames],
        keys.LABEL_INDEX: list(record.label_indices),
        keys.LABEL_STRING: list(record.label_strings),
        keys.LABEL_TEXT: list(record.label_strings),
        keys.LABEL_VALUE: list(record.label_values),
    }
    if spec.image is not None:
        values |= {
            keys.IMAGE_FORMAT: [spec.image.format],
            keys.IMAGE_COLORSPACE: [spec.image.colorspace],
            keys.IMAGE_HEIGHT: [spec.image.height],
            keys.IMAGE_WIDTH: [spec.image.width],
            keys.IMAGE_CHANNELS: [spec.image.channels],
        }
    return values


def _step_values(record: SequenceRecord, spec: SequenceSpec) -> dict[str, list[list[Any]]]:
    values: dict[str, list[list[Any]]] = {
        keys.IMAGE_TIMESTAMP: [[time] for time in record.timestamps],
        keys.IMAGE_ENCODED: [[frame] for frame in record.frames],
        keys.FRAME_LABEL_INDEX: [[index] for index in record.frame_label_indices],
        keys.FRAME_LABEL_STRING: [[name] for name in record.frame_label_strings],
        keys.FRAME_LABEL_VALUE: [list(step) for step in record.frame_label_values],
    }
    for signal in spec.signals:
        floats = record.signals.get(signal.name, ())
        times = record.signal_timestamps.get(signal.name, record.timestamps)
        values[keys.signal_floats_key(signal.name)] = [list(step) for step in floats]
        values[keys.signal_timestamp_key(signal.name)] = [[time] for time in times]
    return values


def _fill(target: example_pb2.Feature, feature: Feature, values: list[Any], record_id: str) -> None:
    if not feature.accepts(len(values)):
        raise SpecError(
            f"record {record_id}: {feature.key} must have shape {feature.shape}, "
            f"got {len(values)} values"
        )
    # Naming the list, even when it stays empty, records the feature's type (an empty multi-label).
    try:
        if feature.kind == "bytes":
            target.bytes_list.SetInParent()
            target.bytes_list.value.extend(map(_to_bytes, values))
        elif feature.kind == "int":
            target.int64_list.SetInParent()
            target.int64_list.value.extend(values)
        else:
            target.float_list.SetInParent()
            target.float_list.value.extend(values)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise SpecError(
            f"record {record_id}: {feature.key} holds {feature.kind} values: {error}"
        ) from error


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
