"""Manifests: CSV and JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions
from pipelines.plan.descriptors import Listing, SourceFailure
from pipelines.sources.manifest import list_manifest
from tfrecords_schema.spec import LabelSpec

SPEED = LabelOptions(label_columns=("speed",), label_units=("m/s",))


@pytest.fixture
def manifest(tmp_path):
    """Lists a manifest with this text, next to the videos a.mp4 and sub/b.mp4."""
    root = tmp_path / "set"
    (root / "sub").mkdir(parents=True)
    (root / "a.mp4").write_bytes(b"aaa")
    (root / "sub/b.mp4").write_bytes(b"b")

    def make(text: str | bytes, *, name: str = "clips.csv", labels: Any = None) -> Listing:
        data = text if isinstance(text, bytes) else text.encode()
        (root / name).write_bytes(data)
        return list_manifest(str(root / name), labels or LabelOptions())

    return make


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class TestWhatIsRead:
    def test_a_csv(self, manifest, tmp_path) -> None:
        found = manifest(
            "path,label,start,end,split,group\n"
            "sub/b.mp4,walk,,,test,p2\n"
            'a.mp4,"run, fast",1.5,4,,\n'
            "\n"
            "a.mp4,walk,4,,,\n"
            "a.mp4,walk,,0.25,,\n"
        )
        assert found.name == "clips"
        assert found.label == LabelSpec(task="classification", class_names=("run, fast", "walk"))
        assert found.failures == ()
        (note,) = found.notes
        assert note.startswith("classes are taken as written: 'run, fast'. Several classes")
        assert [
            (s.id, s.data_path, s.labels, s.start, s.end, s.split, s.group) for s in found.sources
        ] == [
            ("a.mp4#t=,0.25", "a.mp4", ("walk",), None, 0.25, None, "a.mp4"),
            ("a.mp4#t=1.5,4", "a.mp4", ("run, fast",), 1.5, 4.0, None, "a.mp4"),
            ("a.mp4#t=4", "a.mp4", ("walk",), 4.0, None, None, "a.mp4"),
            ("sub/b.mp4", "sub/b.mp4", ("walk",), None, None, "test", "p2"),
        ]
        first = found.sources[0]
        assert first.path == str(tmp_path / "set/a.mp4")
        assert (first.bytes, first.mtime_ns) == (3, os.stat(first.path).st_mtime_ns)

    @pytest.mark.parametrize("name", ["clips.jsonl", "clips.ndjson", "clips.json", "CLIPS.JSONL"])
    def test_json_lines(self, manifest, name) -> None:
        found = manifest(
            jsonl({"path": "a.mp4", "label": "run", "start": 1, "end": None, "split": ""})
            + "\n"
            + jsonl({"path": "sub/b.mp4", "label": "walk", "group": "p"}),
            name=name,
        )
        assert [(s.id, s.start, s.split, s.group) for s in found.sources] == [
            ("a.mp4#t=1", 1.0, None, "a.mp4"),
            ("sub/b.mp4", None, None, "p"),
        ]

    def test_a_byte_order_mark_and_windows_line_ends(self, manifest) -> None:
        found = manifest(b"\xef\xbb\xbfpath,label\r\na.mp4,run\r\n")
        assert [(s.id, s.labels) for s in found.sources] == [("a.mp4", ("run",))]
        found = manifest(b'\xef\xbb\xbf{"path": "a.mp4", "label": "x"}\r\n', name="c.jsonl")
        assert found.label.class_names == ("x",)

    def test_quotes_and_line_breaks_in_fields(self, manifest) -> None:
        found = manifest('path,label\na.mp4,"say ""hi""\nnow"\nsub/b.mp4,x\n')
        assert found.label.class_names == ('say "hi"\nnow', "x")

    def test_labels_are_in_natural_order(self, manifest) -> None:
        found = manifest("path,label\na.mp4,10\nsub/b.mp4,2\n")
        assert found.label.class_names == ("2", "10")

    def test_several_labels_make_it_multilabel(self, manifest) -> None:
        found = manifest("path,label\na.mp4, run | jump |\nsub/b.mp4,\n")
        assert found.label == LabelSpec(task="multilabel", class_names=("jump", "run"))
        assert [s.labels for s in found.sources] == [("jump", "run"), ()]

    def test_columns_of_numbers_are_regression_targets(self, manifest) -> None:
        found = manifest("path,speed,label\na.mp4,3.5,fast\nsub/b.mp4,-1e1,slow\n", labels=SPEED)
        assert found.label == LabelSpec(
            task="regression", target_names=("speed",), target_units=("m/s",)
        )
        assert [(s.values, s.labels) for s in found.sources] == [((3.5,), ()), ((-10.0,), ())]
        assert found.notes == ("columns of the manifest that are not used: 'label'",)

    def test_the_label_column_may_hold_the_target(self, manifest) -> None:
        labels = LabelOptions(label_columns=("label",))
        found = manifest(jsonl({"path": "a.mp4", "label": 2.5}), name="c.jsonl", labels=labels)
        assert found.sources[0].values == (2.5,)
        assert found.notes == ()

    def test_columns_that_are_not_used_are_noted(self, manifest) -> None:
        found = manifest("path,weather,label,camera\na.mp4,rain,run,1\nsub/b.mp4,,run,\n")
        assert found.notes == ("columns of the manifest that are not used: 'camera', 'weather'",)

    def test_files_that_are_missing_are_failures(self, manifest) -> None:
        found = manifest("path,label\na.mp4,run\ngone.mp4,walk\nsub,walk\n")
        assert [s.id for s in found.sources] == ["a.mp4"]
        assert found.failures[0] == SourceFailure(
            source="gone.mp4", stage="list", reason="No such file or directory"
        )
        assert found.failures[1].source == "sub"
        assert "is a folder" in found.failures[1].reason
        assert found.label.class_names == ("run", "walk")

    def test_a_data_path_is_never_absolute(self, manifest, tmp_path) -> None:
        outside = tmp_path / "outside.mp4"
        outside.write_bytes(b"")
        found = manifest(
            jsonl(
                {"path": str(tmp_path / "set/a.mp4"), "label": "x"},
                {"path": "../outside.mp4", "label": "x"},
                {"path": "sub/../sub/./b.mp4", "label": "x"},
            ),
            name="c.jsonl",
        )
        outside_id = str(outside).lstrip("/")
        assert {s.data_path: s.path for s in found.sources} == {
            "a.mp4": str(tmp_path / "set/a.mp4"),
            "sub/b.mp4": str(tmp_path / "set/sub/b.mp4"),
            outside_id: str(outside),
        }
        assert not any(os.path.isabs(s.data_path) or ".." in s.data_path for s in found.sources)

    def test_spans_that_differ_in_their_last_digit_are_two_clips(self, manifest) -> None:
        found = manifest("path,label,start,end\na.mp4,x,10000.001,10001\na.mp4,x,10000.002,10001\n")
        assert [s.id for s in found.sources] == [
            "a.mp4#t=10000.001,10001",
            "a.mp4#t=10000.002,10001",
        ]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"label": "x"}, "'path' must name a video, but it is empty"),
            ({"path": 3}, "path must be Unicode text .*, got 3"),
            ({"path": "a\0.mp4"}, "path must be .* without zero bytes, got"),
            ({"path": "\ud800.mp4"}, "path must be Unicode text"),
            ({"path": "a.mp4", "label": [["x"]]}, r"expected the name of a class, got \['x'\]"),
            ({"path": "a.mp4", "label": "x|y|x"}, "labels of a clip must be distinct"),
            ({"path": "a.mp4", "label": ""}, "'label' must name a class, but it is empty"),
            ({"path": "a.mp4", "label": "|"}, "'label' must name a class, but it is empty"),
            ({"path": "a.mp4", "start": -1}, "0 <= start < end in seconds, .*, got start -1.0"),
            ({"path": "a.mp4", "end": 0}, "0 <= start < end"),
            ({"path": "a.mp4", "start": 2, "end": 2}, "0 <= start < end"),
            (
                {"path": "a.mp4", "start": "soon"},
                "start must be a finite number of seconds, .*, got 'soon'",
            ),
            (
                {"path": "a.mp4", "start": True},
                "start must be a finite number of seconds, .*, got True",
            ),
            (
                {"path": "a.mp4", "end": float("nan")},
                "end must be a finite number of seconds, .*, got nan",
            ),
            ({"path": "a.mp4", "end": 10**400}, "end must be a finite number"),
            ({"path": "a.mp4", "end": [1]}, "end must be a finite number"),
            ({"path": "a.mp4", "split": "../x"}, "split must be a name of small letters"),
            ({"path": "a.mp4", "split": "Fit"}, "split must be .*, got 'Fit'"),
            ({"path": "a.mp4", "group": {}}, "group must be Unicode text .*, got {}"),
            ({"path": "./sub/b.mp4"}, r"listed once, but 'sub/b.mp4' is also at .* line 1\. Merge"),
            ([1], r"expected a JSON object, got \[1\]"),
        ],
    )
    def test_a_wrong_row_is_named_by_file_and_line(self, manifest, row, message) -> None:
        if isinstance(row, dict):
            row = {"label": "x", **row}
        text = jsonl({"path": "sub/b.mp4", "label": "x"}) + "\n" + jsonl(row)
        with pytest.raises(UserError, match=message) as error:
            manifest(text, name="c.jsonl")
        assert "c.jsonl line 3: " in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("", "speed must be a finite float32, got ''"),
            ("nan", "speed must be a finite float32, got 'nan'"),
            ("inf", "speed must be a finite float32, got 'inf'"),
            ("fast", "speed must be a finite float32, got 'fast'"),
        ],
    )
    def test_targets_must_be_finite_numbers(self, manifest, value, message) -> None:
        with pytest.raises(UserError, match=rf"clips.csv line 3: {message}"):
            manifest(f"path,speed\nsub/b.mp4,1\na.mp4,{value}\n", labels=SPEED)

    def test_a_target_without_a_column(self, manifest) -> None:
        with pytest.raises(
            UserError,
            match="line 1: expected a column 'speed', got 'path', 'label': correct the flag",
        ):
            manifest("path,label\na.mp4,x\n", labels=SPEED)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "line 1: expected columns with names, one of them 'path', got none"),
            ("a.mp4,x\nsub/b.mp4,y\n", r"line 1: .*one of them 'path', got 'a.mp4', 'x'"),
            ("path,label,label\na.mp4,x,y\n", "name each column once"),
            ('path,"label\na.mp4,x\n', "expected valid CSV"),
            ('path,label\na.mp4,"x"y\n', "line 2: expected valid CSV"),
            ("path,label\na.mp4,x\nsub/b.mp4,y,z\n", "line 3: expected 2 columns, got more"),
            ("path,label\n", "but it lists none"),
            ("path,label\na.mp4,\n", "expected a column 'label' with classes, or --label_columns"),
            ("path\na.mp4\n", "expected a column 'label' with classes, or --label_columns"),
            (
                b"path,label\ncaf\xe9.mp4,x\n",
                "line 2: expected a line of UTF-8 text, got the byte 0xe9",
            ),
        ],
    )
    def test_a_wrong_csv(self, manifest, text, message) -> None:
        with pytest.raises(UserError, match=message) as error:
            manifest(text)
        assert "clips.csv" in str(error.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "one of them 'path', got none"),
            ("\n  \n", "one of them 'path', got none"),
            ("{}", "one of them 'path', got none"),
            ("a.mp4 run\n", "line 1: expected JSON, got 'a.mp4 run"),
            ('{"path": ', "line 1: expected JSON"),
            ("[" * 100_000, "line 1: expected JSON"),
            ("9" * 5000, "line 1: expected JSON"),
            (b'{"path": "\xff"}', "line 1: expected a line of UTF-8 text"),
        ],
    )
    def test_wrong_json_lines(self, manifest, text, message) -> None:
        with pytest.raises(UserError, match=message) as error:
            manifest(text, name="c.jsonl")
        assert "c.jsonl" in str(error.value)


FIELDS = ["path", "label", "start", "end", "split", "group", "speed", "x"]
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["a.mp4", "run|walk", "1.5", "nan", "..", "/", "train", "\ud800", "\0"])
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("garbage")
    (directory / "a.mp4").write_bytes(b"")
    return directory


class TestGarbage:
    """Whatever a manifest holds, what comes out is a listing or a `UserError`."""

    @staticmethod
    def try_listing(directory: Path, name: str, data: bytes) -> None:
        path = directory / name
        path.write_bytes(data)
        for labels in (LabelOptions(), SPEED):
            with contextlib.suppress(UserError):
                found = list_manifest(str(path), labels)
                assert found.sources or found.failures

    @given(data=st.binary())
    @example(data=b'path,label\n"')
    @example(data=b'"')
    @example(data=b"path\n" + b"x" * 200_000)
    @example(data=b"path\na\0b")
    def test_any_bytes(self, directory, data) -> None:
        for name in ("g.csv", "g.jsonl"):
            self.try_listing(directory, name, data)

    @given(rows=st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES), max_size=4))
    def test_any_json_objects(self, directory, rows) -> None:
        rows = [{"path": "a.mp4", "label": "run", **row} for row in rows]
        self.try_listing(directory, "g.jsonl", jsonl(*rows).encode())

    @given(
        header=st.lists(st.sampled_from(FIELDS), max_size=5),
        rows=st.lists(
            st.lists(st.text() | st.sampled_from(["a.mp4", "1", "nan", '"']), max_size=6),
            max_size=4,
        ),
    )
    def test_any_columns(self, directory, header, rows) -> None:
        lines = [",".join(["path", *header]), *(",".join(row) for row in rows)]
        self.try_listing(directory, "g.csv", "\n".join(lines).encode())


def test_a_target_beyond_float32_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,speed\na.mp4,1e39\n")
    with pytest.raises(UserError, match=r"line 2: speed must be a finite float32, got '1e39'"):
        list_manifest(str(tmp_path / "list.csv"), LabelOptions(label_columns=("speed",)))
