"""Records to bytes and back: against literal keys, TensorFlow's messages, and random records."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecords_schema import example_pb2
from tfrecords_schema.examples import SequenceRecord, decode_record, encode_record
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec, SpecError

JPEG = ImageSpec(height=18, width=32)
NOTHING = LabelSpec()
ACTIONS = LabelSpec(task="classification", class_names=("run", "walk", "wave"))
TAGS = LabelSpec(task="multilabel", class_names=("rain", "night", "city"))
SPEED = LabelSpec(task="regression", target_names=("speed",), target_units=("m/s",))
POSE = LabelSpec(task="regression", target_names=("x", "y"))
GPS = SignalSpec(name="GPS", size=2)


def make_spec(
    label: LabelSpec = NOTHING,
    *,
    image: ImageSpec | None = JPEG,
    signals: tuple[SignalSpec, ...] = (),
    per_frame: bool = False,
) -> SequenceSpec:
    label = dataclasses.replace(label, per_frame=per_frame)
    return SequenceSpec(num_frames=3, frame_rate=10.0, image=image, label=label, signals=signals)


def make_record(**values: Any) -> SequenceRecord:
    fields: dict[str, Any] = {
        "id": "walk/a.mp4@100000",
        "dataset_name": "actions",
        "data_path": "walk/a.mp4",
        "media_id": "walk/a",
        "group_id": "person 7",
        "timestamps": [100_000, 200_000, 300_000],
        "frame_rate": 10.0,
        "valid_frames": 2,
        "frames": [b"one", b"two", b"two"],
    }
    return SequenceRecord(**{**fields, **values})


# One record of each kind of dataset, with the keys it has beyond those every record has.
CONTEXT = {
    "example/id": ("bytes_list", [b"walk/a.mp4@100000"]),
    "example/dataset_name": ("bytes_list", [b"actions"]),
    "clip/data_path": ("bytes_list", [b"walk/a.mp4"]),
    "clip/media_id": ("bytes_list", [b"walk/a"]),
    "clip/group_id": ("bytes_list", [b"person 7"]),
    "clip/start/timestamp": ("int64_list", [100_000]),
    "clip/end/timestamp": ("int64_list", [200_000]),  # of the last frame that is no padding
    "image/frame_rate": ("float_list", [10.0]),
    "image/valid_frames": ("int64_list", [2]),
}
STEPS = {"image/timestamp": ("int64_list", [[100_000], [200_000], [300_000]])}
IMAGE_CONTEXT = {
    "image/format": ("bytes_list", [b"JPEG"]),
    "image/colorspace": ("bytes_list", [b"RGB"]),
    "image/height": ("int64_list", [18]),
    "image/width": ("int64_list", [32]),
    "image/channels": ("int64_list", [3]),
}
IMAGE_STEPS = {"image/encoded": ("bytes_list", [[b"one"], [b"two"], [b"two"]])}
GRAY_CONTEXT = {
    **IMAGE_CONTEXT,
    "image/format": ("bytes_list", [b"PNG"]),
    "image/colorspace": ("bytes_list", [b"GRAY"]),
    "image/channels": ("int64_list", [1]),
}
CASES = {
    "none": (make_spec(), make_record(), IMAGE_CONTEXT, IMAGE_STEPS),
    "classification": (
        make_spec(ACTIONS),
        make_record(label_indices=[1], label_strings=["walk"]),
        {
            **IMAGE_CONTEXT,
            "clip/label/index": ("int64_list", [1]),
            "clip/label/string": ("bytes_list", [b"walk"]),
            "clip/label/text": ("bytes_list", [b"walk"]),
        },
        IMAGE_STEPS,
    ),
    "classification of each frame": (
        make_spec(ACTIONS, per_frame=True),
        make_record(
            frame_label_indices=[0, 2, 2],
            frame_label_strings=["run", "wave", "wave"],
        ),
        IMAGE_CONTEXT,
        {
            **IMAGE_STEPS,
            "image/label/index": ("int64_list", [[0], [2], [2]]),
            "image/label/string": ("bytes_list", [[b"run"], [b"wave"], [b"wave"]]),
        },
    ),
    "multilabel": (
        make_spec(TAGS),
        make_record(label_indices=[0, 2], label_strings=["rain", "city"]),
        {
            **IMAGE_CONTEXT,
            "clip/label/index": ("int64_list", [0, 2]),
            "clip/label/string": ("bytes_list", [b"rain", b"city"]),
            "clip/label/text": ("bytes_list", [b"rain", b"city"]),
        },
        IMAGE_STEPS,
    ),
    "multilabel without a label": (
        make_spec(TAGS),
        make_record(),
        {
            **IMAGE_CONTEXT,
            "clip/label/index": ("int64_list", []),
            "clip/label/string": ("bytes_list", []),
            "clip/label/text": ("bytes_list", []),
        },
        IMAGE_STEPS,
    ),
    "regression": (
        make_spec(POSE),
        make_record(label_values=[0.5, -2.25]),
        {**IMAGE_CONTEXT, "clip/label/value": ("float_list", [0.5, -2.25])},
        IMAGE_STEPS,
    ),
    "regression of each frame": (
        make_spec(SPEED, per_frame=True),
        make_record(frame_label_values=[[0.5], [1.5], [1.5]]),
        IMAGE_CONTEXT,
        {**IMAGE_STEPS, "LABEL/feature/floats": ("float_list", [[0.5], [1.5], [1.5]])},
    ),
    "signals beside grayscale PNG": (
        make_spec(
            image=ImageSpec(height=18, width=32, channels=1, format="PNG"),
            signals=(GPS, SignalSpec(name="SPEED")),
        ),
        make_record(
            signals={"GPS": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "SPEED": [[7.0], [8.0], [9.0]]},
            signal_timestamps={"GPS": [99_000, 201_000, 301_000]},
        ),
        GRAY_CONTEXT,
        {
            **IMAGE_STEPS,
            "GPS/feature/floats": ("float_list", [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
            "GPS/feature/timestamp": ("int64_list", [[99_000], [201_000], [301_000]]),
            "SPEED/feature/floats": ("float_list", [[7.0], [8.0], [9.0]]),
            # A signal without times of its own has those of the frames.
            "SPEED/feature/timestamp": ("int64_list", [[100_000], [200_000], [300_000]]),
        },
    ),
    "signals only": (
        make_spec(SPEED, image=None, signals=(GPS,)),
        make_record(frames=[], label_values=[3.0], signals={"GPS": [[1.0, 2.0]] * 3}),
        {"clip/label/value": ("float_list", [3.0])},
        {
            "GPS/feature/floats": ("float_list", [[1.0, 2.0]] * 3),
            "GPS/feature/timestamp": ("int64_list", [[100_000], [200_000], [300_000]]),
        },
    ),
}
EACH_CASE = pytest.mark.parametrize(
    ("spec", "record"), [case[:2] for case in CASES.values()], ids=list(CASES)
)


def read_with_tensorflow(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Context and feature lists as ``{key: (name of the list, values)}``."""

    def values(feature: Any) -> tuple[str, list[Any]]:
        kind = feature.WhichOneof("kind")
        return kind, list(getattr(feature, kind).value)

    example = tf.train.SequenceExample.FromString(data)
    context = {key: values(feature) for key, feature in example.context.feature.items()}
    lists = {}
    for key, steps in example.feature_lists.feature_list.items():
        kinds = {values(step)[0] for step in steps.feature}
        assert len(kinds) == 1
        lists[key] = (kinds.pop(), [values(step)[1] for step in steps.feature])
    return context, lists


def plain(record: SequenceRecord) -> dict[str, Any]:
    """The record's fields with lists for tuples, at any depth."""

    def listed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: listed(item) for key, item in value.items()}
        return [listed(item) for item in value] if isinstance(value, list | tuple) else value

    return listed(dataclasses.asdict(record))


# The message types, against TensorFlow's.


def described(message: Any) -> dict[str, Any]:
    return {
        "fields": {
            field.name: (
                field.number,
                field.type,
                field.is_repeated,
                field.is_packed,
                field.message_type.name if field.type == FieldDescriptor.TYPE_MESSAGE else None,
                field.containing_oneof.name if field.containing_oneof else None,
            )
            for field in message.fields
        },
        "is a map entry": message.GetOptions().map_entry,
        "nested": {nested.name: described(nested) for nested in message.nested_types},
        "oneofs": [oneof.name for oneof in message.oneofs],
    }


@pytest.mark.parametrize(
    "name",
    [
        "BytesList",
        "FloatList",
        "Int64List",
        "Feature",
        "Features",
        "FeatureList",
        "FeatureLists",
        "SequenceExample",
    ],
)
def test_messages_have_tensorflows_fields(name):
    ours, theirs = getattr(example_pb2, name), getattr(tf.train, name)
    assert described(ours.DESCRIPTOR) == described(theirs.DESCRIPTOR)
    assert described(ours.DESCRIPTOR)["fields"] != {}


def test_messages_have_their_own_proto_package():
    assert example_pb2.SequenceExample.DESCRIPTOR.full_name == "reelbeam.SequenceExample"


# One record of each kind, by hand.


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_encode_writes_documented_keys_types_and_values(case):
    spec, record, context, steps = case
    assert read_with_tensorflow(encode_record(record, spec)) == (
        CONTEXT | context,
        STEPS | steps,
    )


@EACH_CASE
def test_encode_equals_tensorflows_serialization(spec, record):
    data = encode_record(record, spec)
    theirs = tf.train.SequenceExample.FromString(data)
    assert theirs.SerializeToString(deterministic=True) == data


@pytest.mark.parametrize("around", [0, 2**7, 2**14, 2**21])
def test_encode_equals_tensorflow_for_images_of_any_length(around):
    """Lengths stand before what they are of, of images three times over, in 7 bits a byte."""
    for length in range(max(0, around - 16), around + 2):
        record = make_record(frames=[b"a" * length, b"", b"c" * 3])
        data = encode_record(record, make_spec())
        theirs = tf.train.SequenceExample.FromString(data)
        assert theirs.SerializeToString(deterministic=True) == data
        assert decode_record(data, make_spec()).frames == record.frames


@EACH_CASE
def test_decode_inverts_encode(spec, record):
    times = {signal.name: record.timestamps for signal in spec.signals}
    explicit = dataclasses.replace(record, signal_timestamps={**times, **record.signal_timestamps})
    data = encode_record(record, spec)
    assert plain(decode_record(data, spec)) == plain(explicit)
    assert encode_record(decode_record(data, spec), spec) == data


def test_encode_is_independent_of_signal_order():
    spec = make_spec(image=None, signals=(GPS, SignalSpec(name="A")))
    gps, a = [[1.0, 2.0]] * 3, [[3.0]] * 3
    one = make_record(frames=(), signals={"GPS": gps, "A": a})
    other = make_record(frames=(), signals={"A": a, "GPS": gps})
    assert encode_record(one, spec) == encode_record(other, spec)


def test_encode_stores_bytes_of_names_that_are_not_utf8():
    name = os.fsdecode(b"caf\xe9/\xff.mp4")
    data = encode_record(make_record(data_path=name), make_spec())
    assert read_with_tensorflow(data)[0]["clip/data_path"] == ("bytes_list", [b"caf\xe9/\xff.mp4"])
    assert decode_record(data, make_spec()).data_path == name


def test_encode_stores_float32():
    data = encode_record(make_record(label_values=[0.1]), make_spec(SPEED))
    assert decode_record(data, make_spec(SPEED)).label_values == [0.10000000149011612]


def test_encode_takes_numpy_values():
    ours = make_record(label_values=[0.5, 2.0])
    theirs = make_record(
        label_values=np.array([0.5, 2.0], np.float32),
        timestamps=np.array([100_000, 200_000, 300_000]),
        valid_frames=np.int64(2),
        frame_rate=np.float64(10),
    )
    assert encode_record(theirs, make_spec(POSE)) == encode_record(ours, make_spec(POSE))


def test_encode_takes_infinite_and_nan_signals():
    spec = make_spec(image=None, signals=(GPS,))
    gps = [[float("inf"), float("-inf")], [float("nan"), -0.0], [0.0, 1.0]]
    data = encode_record(make_record(frames=(), signals={"GPS": gps}), spec)
    assert repr(decode_record(data, spec).signals["GPS"]) == repr(gps)


# Random specs and records.

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.binary(max_size=12).map(
    lambda data: data.decode("utf-8", "surrogateescape")
)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32, allow_nan=False)


@st.composite
def specs(draw: st.DrawFn) -> SequenceSpec:
    task = draw(st.sampled_from(["none", "classification", "multilabel", "regression"]))
    names = draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True).map(tuple))
    label = LabelSpec(
        task=task,
        class_names=names if task in ("classification", "multilabel") else (),
        target_names=names if task == "regression" else (),
        target_units=("m",) * len(names) if task == "regression" and draw(st.booleans()) else (),
        per_frame=task in ("classification", "regression") and draw(st.booleans()),
    )
    signal_names = draw(
        st.lists(st.sampled_from(["GPS", "IMU", "a.b-c_9", "LABELS"]), unique=True, max_size=3)
    )
    signals = tuple(SignalSpec(name=n, size=draw(st.integers(1, 3))) for n in signal_names)
    images = st.builds(
        ImageSpec,
        height=st.integers(1, 5000),
        width=st.integers(1, 5000),
        channels=st.sampled_from([1, 3]),
        format=st.sampled_from(["JPEG", "PNG"]),
    )
    return SequenceSpec(
        num_frames=draw(st.integers(1, 4)),
        frame_rate=draw(st.none() | st.floats(0.1, 240)),
        image=draw(images | st.none() if signals else images),
        label=label,
        signals=signals,
    )


@st.composite
def specs_and_records(draw: st.DrawFn) -> tuple[SequenceSpec, SequenceRecord]:
    spec = draw(specs())
    steps, label = spec.num_frames, spec.label

    def a_list(elements: st.SearchStrategy[Any], size: int) -> list[Any]:
        return draw(st.lists(elements, min_size=size, max_size=size))

    indices = st.integers(0, max(label.num_classes - 1, 0))
    by_sequence, by_frame = [], []
    if label.task == "classification":
        by_sequence = a_list(indices, 0 if label.per_frame else 1)
        by_frame = a_list(indices, steps if label.per_frame else 0)
    elif label.task == "multilabel":
        by_sequence = sorted(draw(st.sets(indices)))
    targets = st.lists(FLOAT32, min_size=len(label.target_names), max_size=len(label.target_names))
    regression = label.task == "regression"
    return spec, SequenceRecord(
        id=draw(TEXTS),
        dataset_name=draw(TEXTS),
        data_path=draw(TEXTS),
        media_id=draw(TEXTS),
        group_id=draw(TEXTS),
        timestamps=a_list(INT64, steps),
        frame_rate=draw(FLOAT32),
        valid_frames=draw(st.integers(1, steps)),
        frames=a_list(st.binary(max_size=20), steps if spec.image else 0),
        label_indices=by_sequence,
        label_strings=[label.class_names[i] for i in by_sequence],
        label_values=draw(targets) if regression and not label.per_frame else [],
        frame_label_indices=by_frame,
        frame_label_strings=[label.class_names[i] for i in by_frame],
        frame_label_values=a_list(targets, steps if regression and label.per_frame else 0),
        signals={
            s.name: a_list(st.lists(FLOAT32, min_size=s.size, max_size=s.size), steps)
            for s in spec.signals
        },
        signal_timestamps={s.name: a_list(INT64, steps) for s in spec.signals},
    )


@given(specs_and_records())
@settings(deadline=None, max_examples=150)
def test_decode_inverts_encode_for_any_record(spec_and_record):
    spec, record = spec_and_record
    data = encode_record(record, spec)
    assert plain(decode_record(data, spec)) == plain(record)
    theirs = tf.train.SequenceExample.FromString(data)
    assert theirs.SerializeToString(deterministic=True) == data


@given(specs(), st.binary(max_size=200))
@settings(deadline=None)
def test_decode_of_garbage_raises_spec_error(spec, data):
    with pytest.raises(SpecError):
        decode_record(data, spec)


@given(specs_and_records(), st.data())
@settings(deadline=None, max_examples=150)
def test_decode_of_damaged_record_is_refused_or_valid(spec_and_record, data):
    spec, record = spec_and_record
    stored = bytearray(encode_record(record, spec))
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(stored) - 1))
        stored[where : where + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        decoded = decode_record(bytes(stored), spec)
    except SpecError:
        return
    again = decode_record(encode_record(decoded, spec), spec)
    assert repr(plain(again)) == repr(plain(decoded))  # equal, were it not for NaNs


# What is refused when written.


@pytest.mark.parametrize(
    ("spec", "values", "message"),
    [
        (make_spec(), {"frames": [b"one"] * 2}, "image/encoded must have 3 steps, got 2"),
        (make_spec(), {"frames": []}, "image/encoded must have 3 steps, got 0"),
        (make_spec(), {"frames": ["text"] * 3}, "image/encoded holds bytes values"),
        (make_spec(), {"timestamps": []}, "image/timestamp must have 3 steps, got 0"),
        (make_spec(), {"timestamps": [1, 2, 3, 4]}, "image/timestamp must have 3 steps, got 4"),
        (make_spec(), {"timestamps": [0.5, 1.5, 2.5]}, "timestamp holds int values"),
        (make_spec(), {"timestamps": [0, 1, 2**63]}, "image/timestamp holds int values"),
        (make_spec(), {"frame_rate": "fast"}, "image/frame_rate holds float values"),
        (make_spec(), {"valid_frames": 0}, "image/valid_frames must be 1 to 3, got 0"),
        (make_spec(), {"valid_frames": -1}, "image/valid_frames must be 1 to 3, got -1"),
        (make_spec(), {"valid_frames": 4}, "image/valid_frames must be 1 to 3, got 4"),
        (make_spec(), {"group_id": "\ud800"}, "clip/group_id holds bytes values"),
        (make_spec(), {"media_id": None}, "clip/media_id holds bytes values"),
        (make_spec(ACTIONS), {}, r"clip/label/index must have shape \(\), got 0 values"),
        (
            make_spec(ACTIONS),
            {"label_indices": [0, 1], "label_strings": ["run", "walk"]},
            r"clip/label/index must have shape \(\), got 2 values",
        ),
        (
            make_spec(ACTIONS),
            {"label_indices": [3], "label_strings": ["jump"]},
            "clip/label/index must be 0 to 2, got 3",
        ),
        (
            make_spec(ACTIONS),
            {"label_indices": [-1], "label_strings": ["wave"]},
            "clip/label/index must be 0 to 2, got -1",
        ),
        (
            make_spec(ACTIONS),
            {"label_indices": [1], "label_strings": ["run"]},
            r"clip/label/string must be \['walk'\] as the indices say, got \['run'\]",
        ),
        (make_spec(TAGS), {"label_indices": [1]}, "clip/label/string must be"),
        (
            make_spec(ACTIONS, per_frame=True),
            {"frame_label_indices": [0, 1], "frame_label_strings": ["run", "walk"]},
            "image/label/index must have 3 steps, got 2",
        ),
        (
            make_spec(ACTIONS, per_frame=True),
            {"frame_label_indices": [0, 1, 9], "frame_label_strings": ["run", "walk", ""]},
            "image/label/index must be 0 to 2, got 9",
        ),
        (make_spec(POSE), {}, r"clip/label/value must have shape \(2,\), got 0 values"),
        (
            make_spec(POSE),
            {"label_values": [1.0]},
            r"clip/label/value must have shape \(2,\), got 1 values",
        ),
        (make_spec(SPEED), {"label_values": ["fast"]}, "clip/label/value holds float values"),
        (
            make_spec(SPEED, per_frame=True),
            {"frame_label_values": [[1.0], [2.0]]},
            "LABEL/feature/floats must have 3 steps, got 2",
        ),
        (
            make_spec(SPEED, per_frame=True),
            {"frame_label_values": [[1.0], [2.0], [3.0, 4.0]]},
            r"LABEL/feature/floats must have shape \(1,\), got 2 values",
        ),
        (make_spec(signals=(GPS,)), {}, "GPS/feature/floats must have 3 steps, got 0"),
        (
            make_spec(signals=(GPS,)),
            {"signals": {"GPS": [[1.0, 2.0]] * 2 + [[1.0]]}},
            r"GPS/feature/floats must have shape \(2,\), got 1 values",
        ),
        (
            make_spec(signals=(GPS,)),
            {"signals": {"GPS": [[1.0, 2.0]] * 3}, "signal_timestamps": {"GPS": [1]}},
            "GPS/feature/timestamp must have 3 steps, got 1",
        ),
    ],
)
def test_encode_refuses_record_that_contradicts_spec(spec, values, message):
    with pytest.raises(SpecError, match=rf"^record walk/a\.mp4@100000: .*{message}"):
        encode_record(make_record(**values), spec)


@pytest.mark.parametrize(
    ("spec", "values", "key"),
    [
        (make_spec(image=None, signals=(GPS,)), {}, "image/encoded"),
        (make_spec(), {"label_indices": [0], "label_strings": ["run"]}, "clip/label/index"),
        (make_spec(), {"label_values": [1.0]}, "clip/label/value"),
        (make_spec(SPEED), {"frame_label_values": [[1.0]]}, "LABEL/feature/floats"),
        (make_spec(), {"signals": {"GPS": [[1.0, 2.0]] * 3}}, "GPS/feature/floats"),
        (make_spec(), {"signal_timestamps": {"GPS": [1, 2, 3]}}, "GPS/feature/timestamp"),
    ],
)
def test_encode_refuses_values_without_a_key(spec, values, key):
    with pytest.raises(
        SpecError,
        match=rf"^record walk/a\.mp4@100000: {key} has \d+ values, but the spec does not have",
    ):
        encode_record(make_record(**values), spec)


# What is refused when read.


def encoded_without(spec: SequenceSpec, record: SequenceRecord, key: str) -> bytes:
    example = tf.train.SequenceExample.FromString(encode_record(record, spec))
    example.context.feature.pop(key, None)
    example.feature_lists.feature_list.pop(key, None)
    return example.SerializeToString(deterministic=True)


@EACH_CASE
def test_decode_names_missing_key(spec, record):
    for feature in spec.context_features():
        with pytest.raises(SpecError, match=f"^missing context key {feature.key}$"):
            decode_record(encoded_without(spec, record, feature.key), spec)
    for feature in spec.feature_lists():
        with pytest.raises(SpecError, match=f"^missing feature list {feature.key}$"):
            decode_record(encoded_without(spec, record, feature.key), spec)


OTHER_TYPE = {
    "bytes": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
    "int": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0])),
    "float": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"1"])),
}


@EACH_CASE
def test_decode_names_key_of_another_type(spec, record):
    data = encode_record(record, spec)
    for feature in spec.context_features():
        example = tf.train.SequenceExample.FromString(data)
        example.context.feature[feature.key].CopyFrom(OTHER_TYPE[feature.kind])
        with pytest.raises(SpecError, match=rf"^{feature.key} must be a \w+_list, got \w+_list"):
            decode_record(example.SerializeToString(), spec)
    for feature in spec.feature_lists():
        example = tf.train.SequenceExample.FromString(data)
        steps = example.feature_lists.feature_list[feature.key].feature
        steps[2].CopyFrom(OTHER_TYPE[feature.kind])
        with pytest.raises(SpecError, match=rf"^{feature.key} must be a \w+_list, got \w+_list"):
            decode_record(example.SerializeToString(), spec)


@EACH_CASE
def test_decode_names_key_without_type(spec, record):
    data = encode_record(record, spec)
    for feature in spec.context_features():
        example = tf.train.SequenceExample.FromString(data)
        example.context.feature[feature.key].Clear()
        with pytest.raises(SpecError, match=rf"^{feature.key} must be a \w+_list, got None"):
            decode_record(example.SerializeToString(), spec)


@EACH_CASE
def test_decode_names_key_with_another_number_of_values(spec, record):
    data = encode_record(record, spec)
    lists = {"bytes": "bytes_list", "int": "int64_list", "float": "float_list"}
    for feature in spec.context_features():
        example = tf.train.SequenceExample.FromString(data)
        values = getattr(example.context.feature[feature.key], lists[feature.kind]).value
        values.extend([*values, {"bytes": b"run"}.get(feature.kind, 1)][:1] * (feature.limit + 1))
        expected = f"at most {feature.limit} values" if feature.limit else "shape .*"
        with pytest.raises(
            SpecError, match=f"^{feature.key} must have {expected}, got {len(values)} "
        ):
            decode_record(example.SerializeToString(), spec)
    for feature in spec.feature_lists():
        example = tf.train.SequenceExample.FromString(data)
        step = example.feature_lists.feature_list[feature.key].feature[1]
        getattr(step, lists[feature.kind]).value.pop()
        with pytest.raises(SpecError, match=f"^{feature.key} must have shape"):
            decode_record(example.SerializeToString(), spec)


@EACH_CASE
@pytest.mark.parametrize("change", [-1, 1])
def test_decode_names_feature_list_of_another_length(spec, record, change):
    data = encode_record(record, spec)
    for feature in spec.feature_lists():
        example = tf.train.SequenceExample.FromString(data)
        steps = example.feature_lists.feature_list[feature.key].feature
        if change < 0:
            steps.pop()
        else:
            steps.add().CopyFrom(steps[0])
        with pytest.raises(SpecError, match=f"^{feature.key} must have 3 steps, got {3 + change}$"):
            decode_record(example.SerializeToString(), spec)


@pytest.mark.parametrize(
    ("key", "feature", "message"),
    [
        ("image/valid_frames", 0, "must be 1 to 3, got 0"),
        ("image/valid_frames", -7, "must be 1 to 3, got -7"),
        ("image/valid_frames", 4, "must be 1 to 3, got 4"),
        ("clip/start/timestamp", 5, "must be 100000, got 5"),
        ("clip/end/timestamp", 5, "must be 200000, got 5"),
        ("clip/label/index", 3, "must be 0 to 2, got 3"),
        ("clip/label/index", 0, r"must be \['run'\] as the indices say, got \['walk'\]"),
        ("clip/label/string", b"run", "must be equal, but differ"),
        ("clip/label/text", b"run", "must be equal, but differ"),
        ("image/format", b"PNG", "must be 'JPEG', got 'PNG'"),
        ("image/colorspace", b"GRAY", "must be 'RGB', got 'GRAY'"),
        ("image/height", 32, "must be 18, got 32"),
        ("image/width", 18, "must be 32, got 18"),
        ("image/channels", 1, "must be 3, got 1"),
    ],
)
def test_decode_refuses_contradicting_values(key, feature, message):
    spec, record = CASES["classification"][:2]
    example = tf.train.SequenceExample.FromString(encode_record(record, spec))
    stored = example.context.feature[key]
    values = stored.int64_list.value if isinstance(feature, int) else stored.bytes_list.value
    values[0] = feature
    with pytest.raises(SpecError, match=message):
        decode_record(example.SerializeToString(), spec)


def test_decode_ignores_unknown_keys():
    spec, record = CASES["classification"][:2]
    example = tf.train.SequenceExample.FromString(encode_record(record, spec))
    example.context.feature["region/theirs"].int64_list.value.append(1)
    decoded = decode_record(example.SerializeToString(), spec)
    assert plain(decoded) == plain(record)


def test_decode_names_bytes_that_are_no_message():
    with pytest.raises(SpecError, match=r"^not a SequenceExample"):
        decode_record(b"\xff" * 20, make_spec())
    with pytest.raises(SpecError, match=r"^missing context key example/id$"):
        decode_record(b"", make_spec())
