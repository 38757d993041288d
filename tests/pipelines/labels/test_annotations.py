"""Labels found in annotation files, and everything that an annotation file may be instead."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.labels.annotations import AnnotationError, FoundLabel, name_targets, read_label

NAME = "7/annotation.json"


@pytest.fixture
def read(tmp_path):
    def read(document, expression="@"):
        path = tmp_path / "annotation.json"
        if not isinstance(document, bytes):
            document = json.dumps(document).encode()
        path.write_bytes(document)
        return read_label(str(path), NAME, expression)

    return read


def message(read, *arguments) -> str:
    with pytest.raises(AnnotationError) as caught:
        read(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(NAME)
    return text.removeprefix(f"{NAME}: ")


class TestReadLabel:
    def test_read_label_finds_velocity(self, read) -> None:
        found = read([{"velocity": [9.5, -0.1]}, {"velocity": [0, 0]}], "[0].velocity")
        assert found == FoundLabel(NAME, "number", (9.5, -0.1), is_list=True)
        assert found.of_sequence() == (9.5, -0.1)

    @pytest.mark.parametrize(
        ("value", "kind", "label"),
        [
            (3, "number", (3.0,)),
            (-0.5, "number", (-0.5,)),
            ([1, 2.5], "number", (1.0, 2.5)),
            ("run", "class", ("run",)),
            (True, "class", ("true",)),
            (False, "class", ("false",)),
            (["walk", "run"], "class", ("run", "walk")),
            ([False, True], "class", ("false", "true")),
            (3.4e38, "number", (3.4e38,)),
        ],
    )
    def test_of_sequence_returns_label(self, read, value, kind, label) -> None:
        found = read({"label": value}, "label")
        assert (found.kind, found.is_list) == (kind, isinstance(value, list))
        assert found.of_sequence() == label

    def test_by_frame_returns_label_of_each_frame(self, read) -> None:
        assert read([1, 2, 3]).by_frame(3) == ((1.0,), (2.0,), (3.0,))
        assert read([[1, 2], [3, 4]]).by_frame(2) == ((1.0, 2.0), (3.0, 4.0))
        assert read(["b", "a", "b"]).by_frame(3) == ("b", "a", "b")
        assert read([True, False, True]).by_frame(3) == ("true", "false", "true")

    def test_read_label_skips_byte_order_mark(self, read) -> None:
        assert read(b"\xef\xbb\xbf[1]").entries == (1.0,)

    def test_read_label_of_missing_file_is_os_error(self, tmp_path) -> None:
        with pytest.raises(FileNotFoundError):
            read_label(str(tmp_path / "none.json"), NAME, "a")

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.text(max_size=2), inner, max_size=2)
            ),
            max_leaves=12,
        )
    )
    def test_read_label_of_any_document_is_valid_or_refused(self, tmp_path_factory, value) -> None:
        path = tmp_path_factory.getbasetemp() / "annotation.json"
        path.write_text(json.dumps(value))
        try:
            found = read_label(str(path), NAME, "@")
        except AnnotationError:
            return
        assert found.entries
        if found.kind == "class":
            assert all(isinstance(name, str) for name in found.entries)
        else:
            rows = found.entries if found.kind == "row" else [found.entries]
            assert all(math.isfinite(number) for row in rows for number in row)
        assert found.is_list == isinstance(value, list)
        if found.is_list:
            assert len(found.by_frame(len(value))) == len(value)


class TestReadLabelErrors:
    def test_read_label_refuses_empty_result(self, read) -> None:
        assert message(read, [{"speed": 3}], "[0].velocity") == (
            """'[0].velocity' found nothing in [{"speed": 3}]: see --label"""
        )
        assert message(read, {"label": None}, "label").startswith("'label' found nothing in {")
        text = message(read, [list(range(1000))], "x")
        shown = json.dumps([list(range(1000))])[:60]
        assert text == f"'x' found nothing in {shown}...: see --label"

    @pytest.mark.parametrize(
        "value", [{}, {"a": 1}, [1, "a"], [1, None], [1, True], [[1], 2], [["a"]], [[[1]]], [{}]]
    )
    def test_read_label_refuses_other_values(self, read, value) -> None:
        assert message(read, value, "@") == (
            "expected a number, a text, true or false, a list of these, or a list of lists of numbers "
            f"at '@', got {json.dumps(value)}"
        )

    def test_read_label_refuses_empty_or_uneven_lists(self, read) -> None:
        assert message(read, []) == "expected at least one entry at '@', got []"
        uneven = "expected lists of numbers of one length at '@', got "
        assert message(read, [[1, 2], [3]]) == f"{uneven}[[1, 2], [3]]"
        assert message(read, [[]]) == f"{uneven}[[]]"

    @pytest.mark.parametrize("number", ["1e39", "-1e39", "1e999", "1" + "0" * 400])
    def test_read_label_refuses_numbers_outside_float32(self, read, number) -> None:
        for document in (number, f"[0, {number}]", f"[[0, {number}]]"):
            text = message(read, document.encode())
            assert text.startswith("expected finite numbers that fit into float32 at '@', got ")

    def test_read_label_refuses_numbers_of_too_many_digits(self, read) -> None:
        assert "expected" in message(read, b"1" * 5000)

    def test_read_label_refuses_infinite_results_of_functions(self, read) -> None:
        text = message(read, {"x": "nan"}, "to_number(x)")
        assert text == "expected finite numbers that fit into float32 at 'to_number(x)', got NaN"

    @pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
    def test_read_label_refuses_invalid_class_names(self, read, name) -> None:
        for value in (name, ["a", name]):
            text = message(read, value)
            assert text.startswith("expected names of classes, neither empty nor with a zero byte")

    def test_read_label_refuses_invalid_json(self, read) -> None:
        text = message(read, b'[\n{"a": 1,}]')
        assert text.startswith("expected JSON, got an error in line 2, column ")
        assert (
            message(read, b"") == "expected JSON, got an error in line 1, column 1: Expecting value"
        )
        text = message(read, b'"caf\xe9"')
        assert text == "expected UTF-8 text, got the byte 0xe9 at offset 4: save the file as UTF-8"

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
    def test_read_label_refuses_nan_and_infinity(self, read, constant) -> None:
        assert message(read, f"[{constant}]".encode()) == f"expected JSON, which has no {constant}"

    def test_read_label_refuses_deep_json(self, read) -> None:
        deep = b"[" * 100_000 + b"]" * 100_000
        assert message(read, deep) == "JSON is nested too deep"
        for depth in range(100, 1000, 50):  # somewhere there reading works, and showing does not
            assert message(read, b"[" * depth + b"]" * depth)

    @pytest.mark.parametrize(
        ("expression", "reason"),
        [
            ("sum(a)", "expected one of: ['array-number']"),
            ("nosuch(a)", "Unknown function: nosuch()"),
            ("abs(a, a)", "Expected 1 argument"),
            ("avg(b)", ""),
            ("ceil(to_number('1e999'))", "cannot convert float infinity to integer"),
        ],
    )
    def test_read_label_names_failing_expression(self, read, expression, reason) -> None:
        text = message(read, {"a": "text", "b": []}, expression)
        assert text.startswith(f"{expression!r} ")
        assert reason in text

    def test_by_frame_refuses_another_number_of_entries(self, read) -> None:
        for value in ([1] * 7, ["a"] * 7, [[1, 2]] * 7):
            assert message(lambda v: read(v).by_frame(8), value) == (
                "expected a label for each frame, got 7 entries for 8 frames"
            )
        assert message(lambda: read([1]).by_frame(2)) == (
            "expected a label for each frame, got 1 entry for 2 frames"
        )
        assert message(lambda: read(["a", "b"]).by_frame(1)) == (
            "expected a label for each frame, got 2 entries for 1 frame"
        )

    @pytest.mark.parametrize(("value", "shown"), [(3, "3.0"), ("run", '"run"'), (True, '"true"')])
    def test_by_frame_refuses_a_single_value(self, read, value, shown) -> None:
        assert message(lambda: read(value).by_frame(1)) == (
            f"expected a list with an entry for each frame, got {shown}"
        )

    def test_of_sequence_refuses_rows_and_repeated_classes(self, read) -> None:
        assert message(lambda: read(["a", "b", "a"]).of_sequence()) == (
            'expected distinct classes, got ["a", "b", "a"]'
        )
        assert message(lambda: read([[1], [2]]).of_sequence()) == (
            "expected one label of the whole folder, got a list of 2 rows. "
            "Use --label_at each for labels by frame"
        )


@pytest.mark.parametrize(
    ("expression", "one", "two"),
    [
        ("[0].velocity", "velocity", "velocity_0 velocity_1"),
        ("velocity", "velocity", "velocity_0 velocity_1"),
        ("[*].pose[0:2]", "pose", "pose_0 pose_1"),
        ("[0].[vx, vy]", "vy", "vx vy"),
        ("[].[a.vx, b.vy]", "vy", "vx vy"),
        ("[].[a.v, b.v]", "v", "v_0 v_1"),
        ("cars[?kind == 'own'].speed | [0]", "speed", "speed_0 speed_1"),
        ("max_by(@, &v).speed", "speed", "speed_0 speed_1"),
        ("""[0]."speed in m/s" """, "speed in m/s", "speed in m/s_0 speed in m/s_1"),
        ("@", "label", "label_0 label_1"),
        ("[0]", "label", "label_0 label_1"),
        ("length(frames)", "frames", "frames_0 frames_1"),
    ],
)
def test_name_targets_takes_names_of_expression(expression, one, two) -> None:
    assert name_targets(expression, 1) == (one,)
    expected = two.replace(" in m", "*").split()
    assert name_targets(expression, 2) == tuple(name.replace("*", " in m") for name in expected)
