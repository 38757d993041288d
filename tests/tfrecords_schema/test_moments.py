"""Moments against NumPy, and against sums of all numbers at once."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.moments import Moments, add_each, moments_by_column

NUMBERS = st.lists(st.floats(-1e6, 1e6), max_size=20)


def assert_close(found: Moments, values: list[float]) -> None:
    assert found.count == len(values)
    if not values:
        assert found == Moments()
        return
    assert found.mean == pytest.approx(np.mean(values), rel=1e-12, abs=1e-9)
    assert found.std == pytest.approx(np.std(values), rel=1e-9, abs=1e-6)
    assert (found.min, found.max) == (min(values), max(values))


class TestMoments:
    def test_of_by_hand(self) -> None:
        found = Moments.of([2.0, 4.0, 9.0])
        # 3**2 + 1**2 + 4**2 from the mean of 5.
        assert found == Moments(count=3, mean=5.0, deviations=26.0, min=2.0, max=9.0)
        assert found.std == math.sqrt(26 / 3)
        both = found + Moments.of([1.0])
        assert both == Moments(count=4, mean=4.0, deviations=38.0, min=1.0, max=9.0)

    def test_of_no_numbers_is_zero(self) -> None:
        assert Moments.of([]) == Moments()
        assert Moments().std == 0.0
        # The least and greatest of nothing are no numbers that anything is compared with.
        assert Moments() + Moments.of([5.0]) == Moments.of([5.0]) + Moments() == Moments.of([5.0])
        assert Moments() + Moments() == Moments()

    def test_of_one_number_has_no_spread(self) -> None:
        assert Moments.of([-3.5]) == Moments(count=1, mean=-3.5, min=-3.5, max=-3.5)
        assert Moments.of([-3.5]).std == 0.0

    @given(NUMBERS)
    def test_of_equals_numpy(self, values) -> None:
        assert_close(Moments.of(values), values)

    @given(st.lists(NUMBERS, max_size=6))
    def test_sum_of_pieces_equals_whole(self, pieces) -> None:
        total = Moments()
        for piece in pieces:
            total += Moments.of(piece)
        assert_close(total, [value for piece in pieces for value in piece])

    def test_of_large_values_keeps_digits_of_spread(self) -> None:
        """Sums of squares of these would have none left."""
        values = [1.7e9 + step / 8 for step in range(1000)]
        whole = Moments.of(values)
        halves = Moments.of(values[:100]) + Moments.of(values[100:])
        # The standard deviation of 0 to n - 1 is sqrt((n**2 - 1) / 12).
        expected = math.sqrt((1000**2 - 1) / 12) / 8
        assert whole.std == pytest.approx(expected, rel=1e-9)
        assert halves.std == pytest.approx(expected, rel=1e-9)

    @given(NUMBERS)
    def test_from_json_inverts_to_json(self, values) -> None:
        found = Moments.of(values)
        assert from_json(Moments, json.loads(json.dumps(to_json(found)))) == found


class TestColumns:
    def test_moments_by_column(self) -> None:
        rows = [(1.0, 10.0), (3.0, 10.0), (5.0, 40.0)]
        assert moments_by_column(rows) == (
            Moments.of([1.0, 3.0, 5.0]),
            Moments.of([10.0, 10.0, 40.0]),
        )
        assert moments_by_column(iter(rows[:1])) == (Moments.of([1.0]), Moments.of([10.0]))
        assert moments_by_column([]) == ()
        with pytest.raises(ValueError, match="zip"):
            moments_by_column([(1.0, 2.0), (3.0,)])

    def test_add_each_adds_by_place_and_takes_empty(self) -> None:
        one = moments_by_column([(1.0, 2.0)])
        other = moments_by_column([(3.0, 4.0), (5.0, 6.0)])
        assert add_each(one, other) == (Moments.of([1.0, 3.0, 5.0]), Moments.of([2.0, 4.0, 6.0]))
        assert add_each((), list(one)) == add_each(one, []) == one
        assert add_each((), ()) == ()
        with pytest.raises(ValueError, match="zip"):
            add_each(one, other[:1])
