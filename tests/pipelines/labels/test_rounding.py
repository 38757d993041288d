"""Columns that float32 rounds too coarsely, against an oracle in exact fractions."""

import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.labels.rounding import Rounding, check_targets, describe_signals

RANDOM = np.random.default_rng(0)


def rounding_of(*sources, offset=0.0):
    found = Rounding("x", offset)
    for values in sources:
        found.add(values)
    return found


def stored(value):
    return struct.unpack("f", struct.pack("f", value))[0]


@pytest.mark.parametrize(
    "values",
    [
        1.7e9 + np.arange(591),
        1.7e9 + RANDOM.uniform(0, 60, 100),
        np.round(4_000_123.45 + np.arange(200_000) * 0.31, 2),
        np.round(52.1234567 + np.cumsum(RANDOM.normal(1e-5, 1e-6, 50_000)), 7),
        52.1234567 + np.arange(60) * 1.37e-5,
        [16_777_216.0, 16_777_217.0, 16_777_218.0],
    ],
    ids=["clock", "clock computed", "northing", "city", "street", "integers"],
)
def test_rounding_is_coarse_until_offset(values):
    found = rounding_of(values)
    assert found.is_coarse
    with pytest.raises(UserError, match=r"--target_offset x=\S+, which") as error:
        check_targets("clips.csv", [found])
    offset = float(str(error.value).split("x=")[1].split(",")[0])
    assert offset == found.better_offset()
    assert not rounding_of(values, offset=offset).is_coarse


@pytest.mark.parametrize(
    "values",
    [
        [0.1 + 0.2, 0.3],
        [52.1234567] * 9,
        [52.1234567],
        [],
        [math.nan, 1.7e9, math.nan],
        np.arange(0, 1_000_000, 997),
        np.arange(2019, 2025),
        np.arange(1_700_000_000, 1_700_000_000 + 128 * 9, 128),
        RANDOM.normal(0, 1e9, 100),
        np.round(1013 + RANDOM.normal(0, 0.5, 1000), 2),
        293 + RANDOM.normal(0, 2, 1000),
        np.round(330 + RANDOM.normal(0, 0.5, 1000), 6),
        9.81 + RANDOM.normal(0, 0.02, 1000),
        np.round(52.1234567 + np.arange(60) * 1e-5, 5),
    ],
)
def test_rounding_is_fine(values):
    found = rounding_of(values)
    assert not found.is_coarse
    check_targets("clips.csv", [found])
    assert describe_signals([found]) == []


def test_rounding_compares_with_spread_in_source():
    # Clocks of drives over a year: no offset suffices, as each drive lasts a minute.
    drives = [1.7e9 + 86_400 * day + np.arange(60.0) for day in range(0, 365, 10)]
    found = rounding_of(*drives)
    assert found.is_coarse
    assert found.std == pytest.approx(np.arange(60).std())
    with pytest.raises(UserError, match=r"No single offset suffices for x: use differences"):
        check_targets("drives", [found])
    (note,) = describe_signals([found])
    assert "x is 1700000000 to 1731104059, and would be stored up to" in note


@given(
    st.lists(st.integers(0, 3000).map(lambda n: n / 100), min_size=1),
    st.sampled_from([1, 0.1, 3.6]),
)
def test_rounding_has_no_false_alarm_for_speeds(speeds, factor):
    noisy = [own for speed in speeds for own in (speed * factor, speed * factor + 0.1 + 0.2 - 0.3)]
    assert not rounding_of(noisy).is_coarse


SOURCES = st.lists(
    st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=8), min_size=1, max_size=4
)


@given(
    SOURCES,
    st.sampled_from([0.0, 52.0, 4e6, 1.7e9]),
    st.integers(0, 7),
    st.sampled_from([0.0, 52.1, 1.7e9]),
)
def test_rounding_matches_fractions(sources, base, decimals, offset):
    sources = [
        [round(base + number / 10**decimals, decimals) for number in source] for source in sources
    ]
    found = rounding_of(*sources, offset=offset)
    every = [value for source in sources for value in source]
    errors = [abs(Fraction(stored(v - offset)) - Fraction(v - offset)) for v in every]
    assert found.error == pytest.approx(float(max(errors)))
    assert (found.min, found.max) == (min(every), max(every))
    assert found.decimals <= decimals
    squares = Fraction(0)
    for source in sources:
        mean = sum(map(Fraction, source)) / len(source)
        squares += sum((Fraction(value) - mean) ** 2 for value in source)
    steps = [
        [d for d in map(abs, np.diff(source)) if d > 2**-40 * max(map(abs, source))]
        for source in sources
    ]
    steps = [np.median(own) for own in steps for _ in own]
    assert found.steps / max(found.step_count, 1) == pytest.approx(sum(steps) / max(len(steps), 1))
    noise = 1e-15 * max(map(abs, every)) + 1e-300
    assert found.std == pytest.approx(math.sqrt(squares / len(every)), abs=noise)
    better = found.better_offset()
    if better is not None:
        assert not rounding_of(*sources, offset=better).is_coarse
