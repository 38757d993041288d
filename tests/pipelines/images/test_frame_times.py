"""Times in the names of frames: units, order, holes, and names that are refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.images.frame_times import FrameTimeError, order_by_time

START = 1_533_151_423_512_404  # microseconds since 1970: 2018-08-01
UNITS = {"seconds": 10**6, "milliseconds": 10**3, "microseconds": 1}


@given(
    steps=st.lists(st.integers(1, 10**7), min_size=1, max_size=20),
    unit=st.sampled_from(sorted(UNITS)),
    form=st.sampled_from(["{}.jpg", "cam1_{}.png", "left-{}-rgb.jpeg"]),
    seed=st.integers(0, 9),
)
def test_whole_numbers_are_times_since_1970(steps, unit, form, seed):
    ticks = [START // UNITS[unit]]
    for step in steps:
        ticks.append(ticks[-1] + step)
    names = [form.format(tick) for tick in ticks]
    shuffled = random.Random(seed).sample(names, len(names))
    found = order_by_time(shuffled)
    assert found.names == tuple(names)
    assert found.slots == tuple((tick - ticks[0]) * UNITS[unit] for tick in ticks)
    assert found.unit == unit
    assert found.start == ticks[0] * UNITS[unit] / 1e6
    ordered = sorted(steps)
    usual = ordered[(len(ordered) - 1) // 2] * UNITS[unit]
    assert found.step == usual
    assert found.seconds == (found.slots[-1] + usual) / 1e6
    for index, step in enumerate(steps, start=1):
        assert found.is_hole_before(index) == (step * UNITS[unit] > 1.5 * usual)
    assert not found.is_hole_before(0)


def test_nanoseconds_and_seconds_with_a_fraction():
    found = order_by_time([f"{START}999.png", f"{START + 7}001.png"])
    assert (found.slots, found.unit) == ((0, 6), "nanoseconds")
    assert found.start == pytest.approx((START + 0.999) / 1e6, abs=1e-6)
    found = order_by_time(["f_12.1.jpg", "f_9.05.jpg", "f_100.0.jpg"])
    assert (found.names[0], found.slots) == ("f_9.05.jpg", (0, 3_050_000, 90_950_000))
    assert found.start is None
    assert order_by_time(["1533151423.5.jpg"]).start == 1_533_151_423.5


def test_hole_is_described():
    found = order_by_time([f"{START + 100_000 * k}.jpg" for k in (0, 1, 2, 22, 23)])
    assert [index for index in range(5) if found.is_hole_before(index)] == [3]
    assert found.describe_hole(3) == (
        f"frames are missing for 2 s between {START + 200_000}.jpg and {START + 2_200_000}.jpg"
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["frame_001.jpg"], "expected a time in the name 'frame_001.jpg'"),
        (["a.jpg"], "expected a time in the name 'a.jpg'"),
        (
            [f"{START}.jpg", "1533151424.jpg"],
            f"expected times in microseconds, as in '{START}.jpg', got",
        ),
        ([f"a{START}.jpg", f"b{START}.jpg"], "are frames of one time: keep one"),
        ([f"{START}000.jpg", f"{START}999.jpg"], "are frames of one time: keep one"),
        (["9" * 400 + ".jpg"], "expected a time in the name"),
    ],
)
def test_names_without_usable_times_are_refused(names, said):
    with pytest.raises(FrameTimeError) as error:
        order_by_time(names)
    assert said in str(error.value)
