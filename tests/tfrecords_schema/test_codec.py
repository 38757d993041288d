"""The codec: dataclasses to JSON and back, types checked, paths found by type."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest

from tfrecords_schema.codec import (
    LocalPath,
    check_fields,
    from_json,
    map_paths,
    paths_in,
    to_json,
    without_paths,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    path: LocalPath
    size: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    path: LocalPath
    name: str = ""
    rate: Fraction | None = None
    seconds: float | None = None
    kind: Literal["video", "frames"] = "video"
    span: tuple[int, int] = (0, 1)
    labels: tuple[str, ...] = ()
    parts: tuple[File, ...] = ()
    telemetry: File | None = None
    counts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, KeyError)
        if self.name == "refused":
            raise ValueError("name must not be 'refused'")


FULL = Clip(
    path=os.fsdecode(b"s3://b/caf\xe9.mp4"),
    name=os.fsdecode(b"caf\xe9"),
    rate=Fraction(30000, 1001),
    seconds=math.inf,
    kind="frames",
    span=(3, 4),
    labels=("run", "w\xe4lk"),
    parts=(File(path="one", size=1), File(path="two")),
    telemetry=File(path="rows.csv"),
    counts={os.fsdecode(b"\xff"): (1, 2)},
    options={"size": [18, 32], "path": "an option, no path"},
)


@dataclass(frozen=True)
class Plain:
    """Without slots, which msgspec treats otherwise."""

    first: int = 1
    second: tuple[str, ...] = ()


def test_to_json_writes_defaults_of_what_from_json_read():
    assert to_json(Plain()) == to_json(from_json(Plain, {})) == {"first": 1, "second": ()}
    nested = from_json(dict[str, tuple[Plain, ...]], {"a": [{}]})
    assert to_json(nested) == {"a": ({"first": 1, "second": ()},)}
    assert list(to_json(from_json(Plain, {"second": [], "first": 2}))) == ["first", "second"]


def through_text(value: Any) -> Any:
    return json.loads(json.dumps(to_json(value)))


def test_from_json_inverts_to_json():
    assert from_json(Clip, through_text(FULL)) == FULL
    assert from_json(Clip, {"path": "a"}) == Clip(path="a")
    assert from_json(list[Clip], through_text([FULL, FULL])) == [FULL, FULL]


def test_to_json_writes_fractions_as_text():
    assert to_json(FULL)["rate"] == "30000/1001"
    assert to_json(Clip(path="a", rate=Fraction(10)))["rate"] == "10"


def test_to_json_writes_numpy_floats():
    assert json.dumps(to_json({"mean": np.float64(0.5)})) == '{"mean": 0.5}'


def test_to_json_refuses_other_objects():
    with pytest.raises(
        TypeError, match=r"expected a value that JSON can hold, got .* of type object"
    ):
        to_json({"a": object()})


def test_from_json_keeps_nan_and_whole_numbers_for_floats():
    read = from_json(Clip, json.loads('{"path": "a", "seconds": NaN}'))
    assert read.seconds is not None
    assert math.isnan(read.seconds)
    assert from_json(Clip, {"path": "a", "seconds": 3}).seconds == 3.0


@pytest.mark.parametrize("number", [10**309, -(10**400)], ids=["above", "below"])
def test_from_json_refuses_whole_numbers_beyond_the_largest_float(number):
    # msgspec before 0.22 gave -1.0
    with pytest.raises(ValueError, match=r"^seconds: number out of range$"):
        from_json(Clip, {"path": "a", "seconds": number})
    with pytest.raises(ValueError, match=r"^\[1\]: number out of range$"):
        from_json(tuple[float, ...], [1, number])
    with pytest.raises(KeyError, match="seconds must be float"):
        Clip(path="a", seconds=number)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": 5}, "path: expected LocalPath, got int"),
        ({"seconds": True}, r"seconds: expected float \| null, got bool"),
        ({"span": [1]}, r"span: expected array of length 2, got 1"),
        ({"span": [1, True]}, r"span\[1\]: expected int, got bool"),
        ({"span": [1, 2.5]}, r"span\[1\]: expected int, got float"),
        ({"kind": "sound"}, "kind: invalid enum value 'sound'"),
        ({"kind": os.fsdecode(b"\xff")}, r"unexpected text '\\udcff'"),
        ({"labels": "ab"}, "labels: expected array, got str"),
        ({"rate": "1/0"}, "rate: expected a fraction, got '1/0'"),
        ({"rate": "1e400000000"}, "rate: expected a fraction, got '1e400000000'"),
        ({"rate": "9" * 41}, "rate: expected a fraction, got '999"),
        ({"rate": "fast"}, "rate: expected a fraction, got 'fast'"),
        ({"rate": 10}, "rate: expected Fraction, got int"),
        ({"parts": [{"path": "a"}, {}]}, r"parts\[1\]: object missing required field path"),
        ({"telemetry": {"path": None}}, r"telemetry\.path: expected LocalPath, got NoneType"),
        ({"name": "refused"}, "name must not be 'refused'"),
    ],
    ids=str,
)
def test_from_json_names_the_field_that_does_not_fit(change, message):
    with pytest.raises(LookupError, match=message):
        from_json(Clip, {"path": "a", **change}, error=LookupError)


def test_from_json_refuses_what_is_no_object():
    with pytest.raises(ValueError, match="Expected object, got int"):
        from_json(Clip, 5)


def test_from_json_ignores_unknown_fields_unless_strict():
    fields = {"path": "a", "parts": [{"path": "b", "depth": 3}]}
    assert from_json(Clip, fields) == Clip(path="a", parts=(File(path="b"),))
    with pytest.raises(ValueError, match=r"parts\.0\.depth: unknown field"):
        from_json(Clip, fields, strict=True)
    assert from_json(Clip, through_text(FULL), strict=True) == FULL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": 5}, "Clip's path must be LocalPath, got 5"),
        ({"labels": ["a"]}, r"Clip's labels must be tuple\[str, ...\], got \['a'\]"),
        ({"labels": (os.fsdecode(b"\xff"), 1)}, r"Clip's labels must be tuple"),
        ({"rate": "1/2"}, r"Clip's rate must be fractions.Fraction \| None, got '1/2'"),
        ({"seconds": False}, r"Clip's seconds must be float \| None, got False"),
        ({"kind": "sound"}, "Clip's kind must be 'video' or 'frames', got 'sound'"),
        ({"telemetry": {"path": "a"}}, "Clip's telemetry must be .*File"),
        ({"counts": {1: (1,)}}, "Clip's counts must be dict"),
        pytest.param({"options": object()}, "Clip's options must be dict", id="no dict"),
    ],
    ids=str,
)
def test_check_fields_names_the_field_that_does_not_fit(change, message):
    with pytest.raises(KeyError, match=message):
        Clip(**{"path": "a", **change})


def test_check_fields_takes_nan_whole_numbers_and_numpy_floats():
    for seconds in (math.nan, 3, np.float64(3)):
        assert Clip(path="a", seconds=seconds).seconds is seconds


def test_paths_in_finds_paths_by_type():
    assert paths_in(FULL) == [FULL.path, "one", "two", "rows.csv"]
    assert paths_in(Clip(path="a", parts=(File(path="b"), File(path="a")))) == ["a", "b"]


def test_map_paths_changes_paths_alone():
    upper = map_paths(FULL, str.upper)
    assert paths_in(upper) == [FULL.path.upper(), "ONE", "TWO", "ROWS.CSV"]
    assert upper.options == FULL.options
    assert upper.parts[0].size == 1


def test_without_paths_leaves_out_paths_alone():
    fields = without_paths(FULL)
    assert fields["parts"] == ({"size": 1}, {"size": 0})
    assert fields["telemetry"] == {"size": 0}
    assert "path" not in fields
    assert fields["options"] == FULL.options
    empty = without_paths(Clip(path="a"))
    assert "path" not in empty
    assert empty["telemetry"] is None
