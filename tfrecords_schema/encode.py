"""Serializes a record, without TensorFlow."""

from __future__ import annotations

import functools
from typing import Any

from tfrecords_schema import example_pb2
from tfrecords_schema import spec as keys
from tfrecords_schema.record import SequenceRecord, check_record
from tfrecords_schema.spec import Feature, SequenceSpec, SpecError


def encode_record(record: SequenceRecord, spec: SequenceSpec) -> bytes:
    """Returns ``record`` serialized as a ``tf.train.SequenceExample``.

    The same record always has the same bytes: map entries are written in the order of their keys.

    Raises:
        SpecError: if the record does not have the values that ``spec`` requires.
    """
    check_record(record, spec)
    example = example_pb2.SequenceExample()
    context_features, feature_lists = _features(spec)
    context = _context_values(record, spec)
    for feature in context_features:
        target = example.context.feature[feature.key]
        _fill(target, feature, context[feature.key], record.id)
    steps_by_key = _step_values(record, spec)
    for feature in feature_lists:
        steps = steps_by_key[feature.key]
        if len(steps) != spec.num_frames:
            raise SpecError(
                f"record {record.id}: {feature.key} must have {spec.num_frames} steps, "
                f"got {len(steps)}"
            )
        target_list = example.feature_lists.feature_list[feature.key].feature
        for step in steps:
            _fill(target_list.add(), feature, step, record.id)
    return example.SerializeToString(deterministic=True)


# Usually, consecutive records have the same spec.
@functools.lru_cache(maxsize=4)
def _features(spec: SequenceSpec) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
    return spec.context_features(), spec.feature_lists()


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
    # SetInParent stores the type also of an empty list, such as a multi-label without classes.
    try:
        if feature.kind == "bytes":
            target.bytes_list.SetInParent()
            is_image = feature.key == keys.IMAGE_ENCODED
            target.bytes_list.value.extend(values if is_image else map(_to_bytes, values))
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
