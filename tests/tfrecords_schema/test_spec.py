"""Tests of `SequenceSpec`: validation, JSON and differences."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.spec import (
    Feature,
    ImageSpec,
    LabelSpec,
    SequenceSpec,
    SignalSpec,
    SpecError,
    format_target,
)

FULL = SequenceSpec(
    num_frames=16,
    frame_rate=10.0,
    image=ImageSpec(height=180, width=320),
    label=LabelSpec(task="regression", target_names=("speed",), target_units=("m/s",)),
    signals=(SignalSpec(name="GPS", size=2, unit="degrees"),),
)
FULL_JSON = {
    "num_frames": 16,
    "frame_rate": 10.0,
    "image": {"height": 180, "width": 320, "channels": 3, "format": "JPEG"},
    "label": {
        "task": "regression",
        "class_names": [],
        "target_names": ["speed"],
        "target_units": ["m/s"],
        "target_offsets": [],
        "per_frame": False,
    },
    "signals": [{"name": "GPS", "size": 2, "unit": "degrees"}],
}


def read_spec(fields: Any) -> SequenceSpec:
    return from_json(SequenceSpec, fields, error=SpecError, strict=True)


def test_shape_of_image_and_sequence():
    assert ImageSpec(height=180, width=320).shape == (180, 320, 3)
    assert FULL.image_shape == (16, 180, 320, 3)


def test_image_shape_without_images_is_refused():
    spec = SequenceSpec(num_frames=2, signals=(SignalSpec(name="GPS"),))
    with pytest.raises(SpecError, match="no images"):
        _ = spec.image_shape


@pytest.mark.parametrize(("channels", "colorspace"), [(3, "RGB"), (1, "GRAY")])
def test_colorspace_follows_channels(channels, colorspace):
    assert ImageSpec(height=1, width=1, channels=channels).colorspace == colorspace


def test_num_classes_counts_class_names():
    assert LabelSpec(task="multilabel", class_names=("a", "b", "c")).num_classes == 3
    assert LabelSpec().num_classes == 0


@pytest.mark.parametrize(
    ("shape", "limit", "accepted"),
    [
        ((), 0, [1]),
        ((3,), 0, [3]),
        ((1,), 0, [1]),
        ((None,), 2, [0, 1, 2]),
        ((None,), 9, [0, 1, 2, 3]),
    ],
)
def test_feature_accepts_counts_that_fit_its_shape(shape, limit, accepted):
    feature = Feature("key", "int", shape, limit)
    assert [count for count in range(4) if feature.accepts(count)] == accepted


@pytest.mark.parametrize("part", [FULL, FULL.image, FULL.label, FULL.signals[0]])
def test_specs_are_frozen_and_hashable(part):
    field = dataclasses.fields(part)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(part, field, getattr(part, field))
    assert hash(part) == hash(dataclasses.replace(part))


# What is refused.


def image(**fields: Any) -> ImageSpec:
    return ImageSpec(**{"height": 2, "width": 2, **fields})


def sequence(**fields: Any) -> SequenceSpec:
    return SequenceSpec(**{"num_frames": 2, "image": image(), **fields})


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (image, {"height": 0}, "image height must be at least 1, got 0"),
        (image, {"width": -5}, "image width must be at least 1, got -5"),
        (image, {"height": 1.5}, "ImageSpec's height must be int, got 1.5"),
        (image, {"height": True}, "ImageSpec's height must be int, got True"),
        (image, {"channels": 4}, r"image channels must be 1 \(gray\) or 3 \(RGB\), got 4"),
        (image, {"format": "GIF"}, "ImageSpec's format must be 'JPEG' or 'PNG', got 'GIF'"),
        (image, {"format": None}, "ImageSpec's format must be 'JPEG' or 'PNG', got None"),
        (
            LabelSpec,
            {"task": "detection"},
            "LabelSpec's task must be 'none', .* or 'regression', got 'detection'",
        ),
        (LabelSpec, {"task": "classification"}, "'classification' needs at least one class name"),
        (LabelSpec, {"task": "multilabel"}, "task 'multilabel' needs at least one class name"),
        (LabelSpec, {"task": "regression"}, "task 'regression' needs at least one target name"),
        (LabelSpec, {"class_names": ("a",)}, r"task 'none' takes no class names, got \['a'\]"),
        (LabelSpec, {"target_names": ("a",)}, r"task 'none' takes no target names, got \['a'\]"),
        (
            LabelSpec,
            {"task": "regression", "target_names": ("x",), "class_names": ("a",)},
            r"task 'regression' takes no class names, got \['a'\]",
        ),
        (
            LabelSpec,
            {"task": "classification", "target_names": ("x",), "class_names": ("a",)},
            r"task 'classification' takes no target names, got \['x'\]",
        ),
        (
            LabelSpec,
            {"task": "classification", "class_names": ("a", "b", "a")},
            r"class names must be distinct, got \['a', 'b', 'a'\]",
        ),
        (
            LabelSpec,
            {"task": "regression", "target_names": ("x", "x")},
            r"target names must be distinct, got \['x', 'x'\]",
        ),
        (
            LabelSpec,
            {"task": "regression", "target_names": ("x", "y"), "target_units": ("m",)},
            "target_units must name a unit for each of 2 targets, got 1",
        ),
        (
            LabelSpec,
            {"task": "classification", "class_names": ("a",), "target_units": ("m",)},
            "target_units must name a unit for each of 0 targets, got 1",
        ),
        (
            LabelSpec,
            {"task": "multilabel", "class_names": ("a",), "per_frame": True},
            "per_frame labels need task .* got 'multilabel'",
        ),
        (LabelSpec, {"per_frame": True}, "per_frame labels need task .* got 'none'"),
        (
            LabelSpec,
            {"task": "classification", "class_names": ["a"]},
            r"LabelSpec's class_names must be tuple\[str, ...\], got \['a'\]",
        ),
        (LabelSpec, {"task": "classification", "class_names": "ab"}, "got 'ab'"),
        (LabelSpec, {"task": "classification", "class_names": (1, 2)}, r"got \(1, 2\)"),
        (LabelSpec, {"per_frame": 1}, "LabelSpec's per_frame must be bool, got 1"),
        (
            SignalSpec,
            {"name": "GPS", "size": 0},
            "signal GPS must have from 1 to 65536 values, got 0",
        ),
        (SignalSpec, {"name": ""}, "a signal's name must begin with a letter, .* got ''"),
        (SignalSpec, {"name": "a/b"}, "a signal's name must begin with a letter, .* got 'a/b'"),
        (SignalSpec, {"name": "9a"}, "a signal's name must begin with a letter, .* got '9a'"),
        (SignalSpec, {"name": "GPS\n"}, "a signal's name must begin with a letter, .* got 'GPS"),
        (SignalSpec, {"name": "valid_frames"}, "valid_frames; got 'valid_frames'"),
        (
            SignalSpec,
            {"name": "LABEL"},
            "be none of LABEL, image, clip, example, valid_frames; got 'LABEL'",
        ),
        (
            SignalSpec,
            {"name": "image"},
            "be none of LABEL, image, clip, example, valid_frames; got 'image'",
        ),
        (
            SignalSpec,
            {"name": "clip"},
            "be none of LABEL, image, clip, example, valid_frames; got 'clip'",
        ),
        (
            SignalSpec,
            {"name": "example"},
            "be none of LABEL, image, clip, example, valid_frames; got 'example'",
        ),
        (SignalSpec, {"name": None}, "SignalSpec's name must be str, got None"),
        (sequence, {"num_frames": 0}, "num_frames must be from 1 to 100000, got 0"),
        (sequence, {"num_frames": "16"}, "SequenceSpec's num_frames must be int, got '16'"),
        (sequence, {"frame_rate": 0}, "frame_rate must be positive and finite, got 0"),
        (sequence, {"frame_rate": -2.0}, "frame_rate must be positive and finite, got -2.0"),
        (sequence, {"frame_rate": float("nan")}, "frame_rate must be positive .* got nan"),
        (sequence, {"frame_rate": float("inf")}, "frame_rate must be positive .* got inf"),
        (sequence, {"frame_rate": "fast"}, "frame_rate must be float | None, got 'fast'"),
        (sequence, {"image": None}, "needs images or at least one signal, got neither"),
        (
            sequence,
            {"image": {"height": 2, "width": 2}},
            "SequenceSpec's image must be .*ImageSpec",
        ),
        (
            sequence,
            {"signals": (SignalSpec(name="A"), SignalSpec(name="A", size=2))},
            r"signal names must be distinct, got \['A', 'A'\]",
        ),
    ],
)
def test_invalid_spec_names_expected_and_received_value(make, fields, message):
    with pytest.raises(SpecError, match=message):
        make(**fields)


# JSON.


def test_to_json_of_full_spec():
    assert json.loads(json.dumps(to_json(FULL))) == FULL_JSON
    assert read_spec(FULL_JSON) == FULL


def test_from_json_fills_optional_fields():
    minimal = {"num_frames": 2, "image": {"height": 3, "width": 4}}
    assert read_spec(minimal) == SequenceSpec(num_frames=2, image=ImageSpec(height=3, width=4))


NAMES = st.lists(st.text(max_size=6), min_size=1, max_size=3, unique=True).map(tuple)
LABELS = st.one_of(
    st.just(LabelSpec()),
    st.builds(
        LabelSpec,
        task=st.just("classification"),
        class_names=NAMES,
        per_frame=st.booleans(),
    ),
    st.builds(LabelSpec, task=st.just("multilabel"), class_names=NAMES),
    NAMES.flatmap(
        lambda names: st.builds(
            LabelSpec,
            task=st.just("regression"),
            target_names=st.just(names),
            target_units=st.sampled_from([(), ("km/h",) * len(names)]),
            per_frame=st.booleans(),
        )
    ),
)
SIGNALS = st.lists(
    st.builds(
        SignalSpec,
        name=st.from_regex(r"[A-Z][a-z0-9_.-]{0,5}", fullmatch=True),
        size=st.integers(1, 9),
        unit=st.text(max_size=4),
    ),
    max_size=3,
    unique_by=lambda signal: signal.name,
).map(tuple)
IMAGES = st.builds(
    ImageSpec,
    height=st.integers(1, 8_000),
    width=st.integers(1, 8_000),
    channels=st.sampled_from([1, 3]),
    format=st.sampled_from(["JPEG", "PNG"]),
)
SPECS = SIGNALS.flatmap(
    lambda signals: st.builds(
        SequenceSpec,
        num_frames=st.integers(1, 1000),
        frame_rate=st.none()
        | st.floats(min_value=0, exclude_min=True, allow_infinity=False)
        | st.integers(1, 240),
        image=IMAGES | st.none() if signals else IMAGES,
        label=LABELS,
        signals=st.just(signals),
    )
)


@given(SPECS)
@settings(deadline=None)
def test_from_json_inverts_to_json_for_any_spec(spec):
    read = read_spec(json.loads(json.dumps(to_json(spec), allow_nan=False)))
    assert read == spec
    assert hash(read) == hash(spec)
    assert read.differences(spec) == []


@pytest.mark.parametrize(
    "change",
    [
        {"num_frames": None},
        {"num_frames": 16.5},
        {"frame_rate": [10]},
        {"image": []},
        {"image": "JPEG"},
        {"image": {"height": 180}},
        {"image": {"height": 180, "width": 320, "depth": 3}},
        {"label": None},
        {"label": {"task": ["none"]}},
        {"label": {"task": "classification", "class_names": "ab"}},
        {"label": {"task": "classification", "class_names": {"a": 0}}},
        {"label": {"task": "classification", "class_names": [["a"]]}},
        {"signals": None},
        {"signals": {}},
        {"signals": ""},
        {"signals": [None]},
        {"signals": [{"size": 2}]},
        {"signals": [{"name": "GPS", "size": "2"}]},
        {"unknown": 1},
    ],
    ids=json.dumps,
)
def test_from_json_refuses_invalid_fields(change):
    with pytest.raises(SpecError):
        read_spec({**FULL_JSON, **change})


@pytest.mark.parametrize("fields", [{}, [], None, 5, "spec", {"num_frames": 16}])
def test_from_json_refuses_other_json(fields):
    with pytest.raises(SpecError):
        read_spec(fields)


# Differences.


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({}, []),
        ({"num_frames": 8}, ["num_frames: 16 here, 8 there"]),
        ({"frame_rate": None}, ["frame_rate: 10.0 here, None there"]),
        (
            {"image": ImageSpec(height=90, width=320, channels=1, format="PNG")},
            [
                "image.channels: 3 here, 1 there",
                "image.format: 'JPEG' here, 'PNG' there",
                "image.height: 180 here, 90 there",
            ],
        ),
        (
            {"image": None},
            [
                "image.channels: 3 here, None there",
                "image.format: 'JPEG' here, None there",
                "image.height: 180 here, None there",
                "image.width: 320 here, None there",
            ],
        ),
        (
            {
                "label": LabelSpec(
                    task="regression",
                    target_names=("v",),
                    target_units=("km/h",),
                    per_frame=True,
                )
            },
            [
                "label.per_frame: False here, True there",
                "label.target_names: ['speed'] here, ['v'] there",
                "label.target_units: ['m/s'] here, ['km/h'] there",
            ],
        ),
        (
            {"label": LabelSpec(task="classification", class_names=("a", "b"))},
            [
                "label.class_names: [] here, ['a', 'b'] there",
                "label.target_names: ['speed'] here, [] there",
                "label.target_units: ['m/s'] here, [] there",
                "label.task: 'regression' here, 'classification' there",
            ],
        ),
        (
            {"signals": ()},
            ["signals: [{'name': 'GPS', 'size': 2, 'unit': 'degrees'}] here, [] there"],
        ),
    ],
)
def test_differences_name_each_field_that_differs(change, differences):
    assert FULL.differences(dataclasses.replace(FULL, **change)) == differences


def test_differences_include_class_order():
    def spec(*names: str) -> SequenceSpec:
        return sequence(label=LabelSpec(task="classification", class_names=names))

    assert spec("a", "b").differences(spec("b", "a")) == [
        "label.class_names: ['a', 'b'] here, ['b', 'a'] there"
    ]


@given(SPECS, SPECS)
@settings(deadline=None)
def test_differences_are_empty_only_for_equal_specs(one, other):
    assert (one.differences(other) == []) == (one == other)
    assert len(one.differences(other)) == len(other.differences(one))


@pytest.mark.parametrize(
    ("stored", "offset", "digits", "text"),
    [
        (12.3456, 1.7e9, 4, "1700000012.35"),
        (-0.00012345678, 52.1, 7, "52.0998765432"),
        (12.3456, 0.0, 4, "12.35"),
        (float("nan"), 1.7e9, 4, "NaN"),
    ],
)
def test_format_target(stored, offset, digits, text):
    assert format_target(stored, offset, digits) == text


@pytest.mark.parametrize("offsets", [(1.0,), (1.0, float("nan")), (1.0, float("inf"))])
def test_label_spec_refuses_offsets(offsets):
    with pytest.raises(SpecError, match="target_offsets must hold a finite number for each of 2 t"):
        LabelSpec(task="regression", target_names=("a", "b"), target_offsets=offsets)
