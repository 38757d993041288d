"""Formulas over columns, against Python's own arithmetic row by row, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.labels.formulas import change_per_second, compute
from pipelines.labels.telemetry import TelemetryError, read_telemetry
from pipelines.options.formulas import FormulaError, parse_formula
from pipelines.options.telemetry import TelemetryOptions

NAN = math.nan
NUMBERS = st.one_of(st.just(NAN), st.integers(-50, 50).map(float))


def parts(inner):
    return st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map("({0[0]} {0[1]} {0[2]})".format),
        inner.map("-({})".format),
    )


FORMULAS = st.recursive(st.sampled_from(["a", "b", "2", "0.5"]), parts, max_leaves=6)


@given(formula=FORMULAS, rows=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_arithmetic_is_that_of_python(formula, rows):
    formula += " + 0 * a"
    a, b = np.array(rows).T
    found = compute(parse_formula(formula), {"a": a, "b": b}, None)
    expected = [eval(formula, {}, {"a": x, "b": y}) for x, y in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def slow_change(values, times, is_angle, max_gap):
    """The change of each row: over the steps to the known rows beside it that are near."""
    known = [i for i, value in enumerate(values) if not math.isnan(value)]
    found = [NAN] * len(values)
    for place, row in enumerate(known):
        total = span = 0.0
        for one, other in ((place - 1, place), (place, place + 1)):
            if one < 0 or other >= len(known):
                continue
            before, after = known[one], known[other]
            step, seconds = values[after] - values[before], times[after] - times[before]
            if is_angle:
                step = math.remainder(step, 360)
                step = -180.0 if step == 180 else step
            if seconds <= max_gap:
                total, span = total + step, span + seconds
        if span:
            found[row] = total / span
    return found


@given(
    rows=st.lists(
        st.tuples(st.one_of(st.just(NAN), st.integers(0, 359)), st.integers(1, 9)), max_size=9
    ),
    is_angle=st.booleans(),
    max_gap=st.sampled_from([3.0, 6.0, math.inf]),
)
def test_change_per_second(rows, is_angle, max_gap):
    values = np.array([float(value) for value, _ in rows])
    times = np.cumsum([float(gap) for _, gap in rows])
    found = change_per_second(values, times, is_angle=is_angle, max_gap=max_gap)
    np.testing.assert_allclose(found, slow_change(values, times, is_angle, max_gap), atol=1e-9)


def test_a_small_divisor_gives_no_value():
    columns = {"a": np.array([1.0, 1, 1, 1, NAN]), "b": np.array([2000.0, 2, 2.1, 0, 5])}
    found = compute(parse_formula("a / b"), columns, None)
    np.testing.assert_array_equal(found, [1 / 2000, NAN, 1 / 2.1, NAN, NAN])
    assert np.isnan(compute(parse_formula("a / (b - b)"), columns, None)).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not complete"),
        ("a +", "not complete"),
        ("speed (m/s)", "is not one of names, numbers"),
        ("__import__('os')", "is not one of names, numbers"),
        ("a.real", "is not one of names, numbers"),
        ("a ** b", "is not one of names, numbers"),
        ("a if b else a", "is not one of names, numbers"),
        ("'a'", "is not one of names, numbers"),
        ("True * a", "is not one of names, numbers"),
        ("d(a, b)", "is not one of names, numbers"),
        ("sin(a)", "is not one of names, numbers"),
        ("1 + 2", "names no column"),
        ("(" * 300, "at most 200"),
        ("(" * 199, "not complete"),
        ("-" * 199 + "a", None),
        ("a\0", "not complete"),
    ],
)
def test_what_is_no_formula(text, said):
    if said is None:
        assert parse_formula(text).names == ("a",)
        return
    with pytest.raises(FormulaError, match=said.replace("+", r"\+")):
        parse_formula(text)


@pytest.mark.parametrize(
    ("derive", "said"),
    [
        (("accel",), "does not begin with a name and ="),
        (("=d(speed)",), "does not begin with a name and ="),
        (("x=a", "x=b"), "must name each column once"),
        (("accel=d(speed)",), "change per second, which needs --time_column"),
    ],
)
def test_options_refuse_wrong_formulas(derive, said):
    with pytest.raises(UsageError, match=said):
        TelemetryOptions(telemetry="{stem}.csv", derive=derive)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("t,speed,heading,note\n0,36,350,x\n1,72,10,y\n2,,20,z\n4,72,20,w\n")
    return str(path)


def read(file, *columns, **changes):
    derive = ("speed=speed / 3.6", "accel=d(speed) / 3.6", "turn=d(heading)")
    options = TelemetryOptions(
        telemetry="{stem}.csv",
        time_column="t",
        derive=derive,
        angle_columns=("heading",),
        **changes,
    )
    return read_telemetry(file, "a.csv", options, columns=columns)


def test_computed_columns_stand_beside_those_of_the_file(file):
    found = read(file, "turn", "speed", "heading", "accel", max_gap=2.0)
    assert list(found.columns) == ["turn", "speed", "heading", "accel"]
    np.testing.assert_allclose(found.columns["speed"], [10, 20, NAN, 20])
    np.testing.assert_allclose(found.columns["heading"], [350, 10, 20, 20])
    np.testing.assert_allclose(found.columns["turn"], [20, 15, 10 / 3, 0])
    np.testing.assert_allclose(found.columns["accel"], [10, 10, NAN, NAN])


def test_a_formula_of_a_missing_column_names_it(file):
    options = TelemetryOptions(telemetry="{stem}.csv", time_column="t", derive=("x=sped * 2",))
    with pytest.raises(TelemetryError, match="expected a column 'sped'"):
        read_telemetry(file, "a.csv", options, columns=("x",))
