"""Tests of `DatasetInfo`: saving, loading, damaged files and build options."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecords_schema.info import (
    FILE_NAME,
    BuildOptions,
    DatasetInfo,
    DatasetInfoError,
    ShardInfo,
    SplitInfo,
    TargetStatistics,
)
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec

MOMENTS = TargetStatistics(mean=1.5, std=0.5, min=1.0, max=2.0)
INFO = DatasetInfo(
    name="actions",
    spec=SequenceSpec(
        num_frames=4,
        frame_rate=10.0,
        image=ImageSpec(height=18, width=32),
        label=LabelSpec(task="classification", class_names=("run", "w\xe4lk")),
        signals=(SignalSpec(name="GPS", size=2),),
    ),
    splits={
        "train": SplitInfo(
            shards=(
                ShardInfo(file="train-00000-of-00002.tfrecord", records=3, bytes=300, sha256="ab"),
                ShardInfo(file="train-00001-of-00002.tfrecord", records=2, bytes=200, sha256="cd"),
            ),
            label_counts=(3, 2),
            targets=(MOMENTS,),
            signals={"GPS": (MOMENTS, MOMENTS)},
            pixel_mean=(1.0, 2.0, 3.0),
            pixel_std=(4.0, 5.0, 6.0),
            pixel_frames=20,
            groups=2,
            sources=5,
        ),
        "test": SplitInfo(shards=()),
    },
    counts={"sources": 5, "failed": 1},
    options={"size": [18, 32], "seed": 0, "group_by": None},
    versions={"av": "18.1.0"},
)


def test_load_returns_what_save_wrote(tmp_path):
    INFO.save(tmp_path)
    assert DatasetInfo.load(tmp_path) == INFO
    assert DatasetInfo.load(str(tmp_path)) == INFO
    assert DatasetInfo.from_bytes(INFO.to_bytes(), "there") == INFO


def test_from_json_defaults_pixel_frames_of_older_files():
    fields = json.loads(INFO.to_bytes())
    del fields["splits"]["train"]["pixel_frames"]
    assert DatasetInfo.from_json(fields).splits["train"].pixel_frames == 0


def test_file_is_ascii_json_with_version_first_and_split_totals(tmp_path):
    INFO.save(tmp_path)
    text = (tmp_path / "dataset_info.json").read_text(encoding="ascii")
    fields = json.loads(text)
    assert next(iter(fields.items())) == ("format_version", 1)
    assert text.endswith("}\n")
    assert {name: (s["records"], s["bytes"]) for name, s in fields["splits"].items()} == {
        "train": (5, 500),
        "test": (0, 0),
    }
    assert fields["spec"]["label"]["class_names"] == ["run", "w\xe4lk"]


def test_split_sums_records_and_bytes_of_shards():
    assert INFO.splits["train"].num_records == 5
    assert INFO.splits["train"].num_bytes == 500


def test_save_keeps_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    info = dataclasses.replace(INFO, name=name, options={"input": name})
    info.save(tmp_path)
    assert DatasetInfo.load(tmp_path) == info


# Atomic.


def test_save_replaces_earlier_file_and_leaves_no_other(tmp_path):
    dataclasses.replace(INFO, name="old").save(tmp_path)
    INFO.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset_info.json"]
    assert DatasetInfo.load(tmp_path).name == "actions"


def break_off_writing(path: Path, data: bytes) -> int:
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
    raise OSError(28, "No space left on device")


def refuse_to_replace(path: Path, target: Path) -> Path:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(
    ("method", "failure"),
    [("write_bytes", break_off_writing), ("replace", refuse_to_replace)],
)
def test_failed_save_leaves_earlier_file_and_no_other(tmp_path, monkeypatch, method, failure):
    dataclasses.replace(INFO, name="old").save(tmp_path)
    monkeypatch.setattr(Path, method, failure)
    with pytest.raises(OSError, match=r"No space left|Permission denied"):
        INFO.save(tmp_path)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["dataset_info.json"]
    assert DatasetInfo.load(tmp_path).name == "old"


def test_killed_save_leaves_earlier_file(tmp_path, monkeypatch):
    # What SIGKILL leaves: a half-written temporary file, and no clean-up.
    dataclasses.replace(INFO, name="old").save(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", break_off_writing)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
    with pytest.raises(OSError, match="No space left"):
        INFO.save(tmp_path)
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 2
    assert DatasetInfo.load(tmp_path).name == "old"
    INFO.save(tmp_path)
    assert DatasetInfo.load(tmp_path) == INFO


def test_save_refuses_options_that_json_cannot_hold(tmp_path):
    with pytest.raises(TypeError, match="set"):
        dataclasses.replace(INFO, options={"splits": {1, 2}}).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


# What cannot be loaded.


def test_load_names_missing_folder(tmp_path):
    with pytest.raises(DatasetInfoError, match=r"/none: expected the folder of a dataset"):
        DatasetInfo.load(tmp_path / "none")


def test_load_names_file_in_place_of_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetInfoError, match=r"/file: expected the folder of a dataset"):
        DatasetInfo.load(tmp_path / "file")


def test_load_of_incomplete_folder_names_remedy(tmp_path):
    message = r"has no dataset_info\.json, so it is not a complete dataset: finish building"
    with pytest.raises(DatasetInfoError, match=message):
        DatasetInfo.load(tmp_path)


def test_load_refuses_folder_in_place_of_file(tmp_path):
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(DatasetInfoError, match=r"dataset_info\.json cannot be read: Is a dir"):
        DatasetInfo.load(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"dataset_info\.json is not JSON"),
        (b"{", r"dataset_info\.json is not JSON"),
        (b"\xff\xfe\x00", r"dataset_info\.json is not JSON"),
        (b"[" * 100_000, r"dataset_info\.json is not JSON"),
        (b"[]", r"dataset_info\.json must hold a JSON object, got list"),
        (b"null", r"dataset_info\.json must hold a JSON object, got NoneType"),
        (b"{}", r"dataset_info\.json cannot be read: it lacks the field 'format_version'"),
        (
            b'{"format_version": 2}',
            r"format version 2, and this version of Reelbeam reads 1: build the dataset again",
        ),
        (b'{"format_version": 1, "name": "x"}', "missing required field spec"),
    ],
    ids=["empty", "cut", "binary", "deep", "list", "null", "no version", "version", "no spec"],
)
def test_load_names_invalid_file(tmp_path, data, message):
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(DatasetInfoError, match=message):
        DatasetInfo.load(tmp_path)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in a JSON document."""
    items = value.items() if isinstance(value, dict) else []
    items = enumerate(value) if isinstance(value, list | tuple) else items
    return [path, *(way for key, item in items for way in paths_of(item, (*path, key)))]


JSON_FIELDS = json.loads(json.dumps(INFO.to_json()))
PATHS = paths_of(JSON_FIELDS)


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    fields = copy.deepcopy(JSON_FIELDS)
    parent = fields
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return fields


def value_at(path: tuple[Any, ...]) -> Any:
    value: Any = JSON_FIELDS
    for key in path:
        value = value[key]
    return value


ILL_TYPED = [
    pytest.param(path, value, id=f"{'.'.join(map(str, path))}={json.dumps(value)}")
    for path in PATHS[1:]
    for value in ("5", True, {"a": [1]}, [[]])
    # Options are free, and a split's totals are for people: its shards are what is read.
    if path[0] != "options" and path[2:] not in (("records",), ("bytes",))
    if type(value) is not type(value_at(path))
    if (path, value) != (("format_version",), True)  # which equals 1
]


@pytest.mark.parametrize(("path", "value"), ILL_TYPED)
def test_from_bytes_refuses_values_of_another_type(path, value):
    with pytest.raises(DatasetInfoError, match=r"^there cannot be read: "):
        DatasetInfo.from_bytes(json.dumps(changed(path, value)).encode(), "there")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(PATHS[1:]), ANY_JSON, st.booleans())
@settings(deadline=None, max_examples=200)
def test_mutated_file_is_refused_or_valid(path, value, remove):
    fields = changed(path, value)
    if remove:
        parent = fields
        for key in path[:-1]:
            parent = parent[key]
        del parent[path[-1]]
    try:
        info = DatasetInfo.from_bytes(json.dumps(fields).encode(), "there")
    except DatasetInfoError:
        return
    again = DatasetInfo.from_bytes(info.to_bytes(), "there")
    assert again.to_bytes() == info.to_bytes()
    assert all(split.num_records >= 0 <= split.num_bytes for split in info.splits.values())


@given(st.binary(max_size=30) | st.text(max_size=30).map(str.encode) | ANY_JSON.map(json.dumps))
def test_from_bytes_refuses_other_content(data):
    with pytest.raises(DatasetInfoError, match=r"^there "):
        DatasetInfo.from_bytes(data if isinstance(data, bytes) else data.encode(), "there")


@pytest.mark.parametrize(
    "file", ["", ".", "..", "../train.tfrecord", "/etc/passwd", "a/b", "..\\b"]
)
def test_shard_outside_its_folder_is_refused(file):
    with pytest.raises(DatasetInfoError, match="must be a plain file name"):
        ShardInfo(file=file, records=1, bytes=1, sha256="")


@pytest.mark.parametrize(("records", "size"), [(-1, 10), (1, -10)])
def test_shard_with_negative_counts_is_refused(records, size):
    with pytest.raises(DatasetInfoError, match=f"cannot hold {records} records in {size} bytes"):
        ShardInfo(file="a", records=records, bytes=size, sha256="")


# Build options.


def build_options(**options: Any) -> BuildOptions:
    return dataclasses.replace(INFO, options=options).build_options


def test_build_options_of_adopted_dataset_are_defaults():
    assert build_options() == BuildOptions()
    assert BuildOptions().labels_whole_sources


def test_build_options_are_typed():
    found = build_options(
        sampling="uniform",
        short_clips="pad",
        angle_columns=["heading"],
        frame_rate="30000/1001",
        jpeg_quality=90,
        unknown=1,
    )
    assert (found.sampling, found.short_clips) == ("uniform", "pad")
    assert (found.angle_columns, found.jpeg_quality) == (("heading",), 90)
    assert found.frame_rate == Fraction(30000, 1001)


def test_build_options_of_another_type_are_ignored():
    found = build_options(sampling=5, angle_columns="heading", frame_rate="1/0", short_clips="loop")
    assert found == BuildOptions(short_clips="loop")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label_at": "last"}, None),
        ({"label_at": "center", "telemetry": "{stem}.csv"}, "center"),
        ({"label_at": "each", "annotation": "a.json"}, "each"),
        ({"telemetry": None}, "last"),
    ],
)
def test_build_options_have_label_at_for_measured_labels_only(options, expected):
    assert build_options(**options).label_at == expected


@pytest.mark.parametrize("name", ["telemetry", "annotation", "class_column"])
def test_labels_whole_sources_is_false_for_measured_labels(name):
    assert not build_options(**{name: "a"}).labels_whole_sources


def test_target_offsets_are_kept_and_left_out_if_there_are_none() -> None:
    label = LabelSpec(task="regression", target_names=("t",), target_offsets=(1.7e9,))
    info = dataclasses.replace(INFO, spec=dataclasses.replace(INFO.spec, label=label))
    assert DatasetInfo.from_json(json.loads(info.to_bytes())) == info
    assert info.to_json()["spec"]["label"]["target_offsets"] == (1.7e9,)
    assert "target_offsets" not in INFO.to_json()["spec"]["label"]
    without = dataclasses.replace(info.spec, label=dataclasses.replace(label, target_offsets=()))
    assert info.spec.differences(without) == ["label.target_offsets: [1700000000.0] here, [] there"]
