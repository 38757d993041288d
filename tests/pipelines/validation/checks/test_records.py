"""The arithmetic of times against a slow, obvious oracle; padding, loops; the decoder as the last word."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.validation.checks.frames import (
    frames_gaps,
    frames_order,
    frames_padding,
    frames_rate,
    frames_signals,
)
from pipelines.validation.checks.records import format_decode
from pipelines.validation.times import seconds_off_grid
from pipelines.validation.views import Expectation, RecordView
from tfrecords_schema.examples import encode_record
from tfrecords_schema.fake import fake_record
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, SequenceSpec

TOLERANCE = 0.004


def on_screen(presented, sampled):
    """The obvious way: the last frame presented at or before each sampling time."""
    return [max(time for time in presented if time <= t) for t in sampled]


@settings(max_examples=200, deadline=None)
@given(
    gaps=st.lists(st.integers(1_000, 400_000), min_size=1, max_size=60),
    rate=st.sampled_from([1.0, 7.0, 10.0, 24.0, 29.97, 60.0]),
    offset=st.integers(0, 500_000),
)
def test_seconds_off_grid_accepts_every_sampling(gaps, rate, offset):
    presented = [sum(gaps[:i]) for i in range(len(gaps))]
    period = 1e6 / rate
    sampled = [offset + k * period for k in range(16)]
    sampled = [t for t in sampled if t <= presented[-1]]
    if sampled:
        # Times are stored in whole microseconds.
        assert seconds_off_grid(on_screen(presented, sampled), rate) <= 1e-6


@settings(max_examples=200, deadline=None)
@given(
    times=st.lists(st.integers(0, 20), min_size=2, max_size=6).map(sorted),
    rate=st.sampled_from([100_000.0, 200_000.0, 500_000.0]),
)
def test_seconds_off_grid_matches_exhaustive_search(times, rate):
    """Sources are only known by the frames that were sampled; fractions of a microsecond are tried too."""
    period = 1e6 / rate
    starts = [times[0] - 30 + step / 4 for step in range(400)]
    possible = any(
        all(on_screen_is(times, k, start + k * period) for k in range(len(times)))
        for start in starts
    )
    # On the border the next frame comes exactly at the sampling time, and would have been taken.
    off = round(seconds_off_grid(times, rate) * 1e6, 6)
    assert possible == (off < 0)


def on_screen_is(times, k, t):
    following = [time for time in times[k:] if time > times[k]]
    return times[k] <= t and (not following or t < following[0])


@pytest.mark.parametrize(
    ("times", "rate", "off"),
    [
        ([0, 100_000, 200_000, 300_000], 10.0, False),
        ([0, 66_733, 166_833, 266_933], 10.0, False),  # 29.97 sampled at 10
        ([0, 0, 0, 125_000, 125_000, 250_000], 20.0, False),  # 8 sampled at 20
        ([0, 300_000, 400_000, 500_000], 10.0, False),  # the first frame stood for long
        ([0, 100_000, 400_000, 500_000], 10.0, True),  # two samples are missing
        ([0, 200_000, 400_000, 600_000], 10.0, True),
        ([0, 50_000, 100_000, 150_000], 10.0, True),
        ([5, 5, 5, 5], 10.0, False),
        ([5], 10.0, False),
    ],
)
def test_seconds_off_grid_of_known_times(times, rate, off):
    assert (seconds_off_grid(times, rate) > TOLERANCE) == off


def make_view(times, *, valid=None, rate=10.0, short_clips="", sampling="windows", frames=None):
    spec = SequenceSpec(num_frames=len(times), frame_rate=rate, image=ImageSpec(height=8, width=8))
    record = fake_record(spec, 0)
    record = dataclasses.replace(
        record,
        timestamps=times,
        valid_frames=valid or len(times),
        frames=frames or [record.frames[times.index(time)] for time in times],
    )
    options = {"sampling": sampling, "short_clips": short_clips}
    info = DatasetInfo(name="fake", spec=spec, splits={}, options=options)
    return RecordView(encode_record(record, spec), Expectation(info=info))


def problems(view):
    checks = (frames_order, frames_rate, frames_gaps, frames_signals, frames_padding, format_decode)
    return {(f.check, f.level) for check in checks for f in check(view)}


def test_frames_padding_accepts_repeats_of_last_valid_frame():
    assert problems(make_view([0, 100_000, 100_000, 100_000], valid=2, short_clips="pad")) == set()


@pytest.mark.parametrize("policy", ["drop", "loop"])
def test_frames_padding_refuses_padding_if_built_without(policy):
    view = make_view([0, 100_000, 100_000, 100_000], valid=2, short_clips=policy)
    assert problems(view) == {("frames.padding", "error")}


def test_frames_padding_refuses_other_picture():
    view = make_view([0, 100_000, 100_000], valid=2, short_clips="pad", frames=[b"a", b"b", b"c"])
    assert problems(view) == {("frames.padding", "error")}


def test_frames_order_accepts_loops_only_if_built_with_loop():
    times = [0, 100_000, 200_000, 0, 100_000, 200_000, 0]
    assert problems(make_view(times, short_clips="loop")) == set()
    assert problems(make_view(times, short_clips="drop")) == {("frames.order", "error")}


def test_frames_order_refuses_loop_from_the_middle():
    times = [0, 100_000, 200_000, 100_000, 200_000]
    assert problems(make_view(times, short_clips="loop")) == {("frames.order", "error")}


def test_frames_rate_ignores_uniform_sampling():
    times = [0, 900_000, 1_700_000, 2_800_000]
    assert problems(make_view(times, sampling="uniform")) == set()
    assert problems(make_view(times)) == {("frames.rate", "error")}


def test_frames_padding_notes_frozen_end():
    times = [0, 100_000, 200_000, *[300_000] * 5]
    assert problems(make_view(times)) == {("frames.padding", "note")}


def test_frame_checks_accept_slow_source():
    assert problems(make_view([0, 0, 0, 250_000, 250_000, 500_000, 500_000, 500_000])) == set()


def test_frame_checks_accept_single_frame():
    assert problems(make_view([40_000])) == set()


def test_decodes_reports_what_the_decoder_refuses():
    view = make_view([0, 100_000])
    view.data = b"\xff"
    assert problems(view) == {("format.decode", "error")}
