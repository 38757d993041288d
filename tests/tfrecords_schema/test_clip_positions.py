"""Tests of the positions of clips."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecords_schema.clip_positions import clip_span, clip_start


def test_clip_span_counts_frames_from_first_to_last():
    assert [clip_span(8, 2), clip_span(8, 1), clip_span(1, 9)] == [15, 8, 1]


@pytest.mark.parametrize(
    ("at", "start"), [("first", 0), ("center", 4), ("last", 9), (1, 4)], ids=str
)
def test_clip_start_by_name(at, start):
    assert clip_start(9, at) == start


def test_clip_start_of_several_clips_by_hand():
    assert [clip_start(8, 3, clip) for clip in range(3)] == [0, 4, 8]
    assert [clip_start(9, 3, clip) for clip in range(3)] == [0, 5, 9]


def test_clip_start_refuses_another_name():
    with pytest.raises(ValueError, match="got 'random'"):
        clip_start(9, "random")


@given(st.integers(0, 10_000), st.integers(2, 50))
def test_clip_start_spreads_clips_evenly_and_rounds_halves_up(room, count):
    for clip in range(count):
        exact = Fraction(clip * room, count - 1)
        assert clip_start(room, count, clip) == (exact + Fraction(1, 2)).__floor__()
