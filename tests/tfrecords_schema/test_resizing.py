"""Frames resized, against the sums that the words mean, in floating point."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecords_schema.resizing import resize_frame

SIDES = st.integers(1, 80)


def interpolation(size, new):
    """Weights ``[new, size]``: between the centres of the two nearest pixels, and at the edges of one."""
    weights = np.zeros((new, size))
    for place in range(new):
        at = min(max((place + 0.5) * size / new - 0.5, 0), size - 1)
        first = int(at)
        weights[place, first] += 1 - (at - first)
        weights[place, min(first + 1, size - 1)] += at - first
    return weights


def averages(size, new):
    """Weights ``[new, size]``: the part of a new pixel that each old one covers."""
    scale = size / new
    return np.array(
        [
            [
                max(0, min((place + 1) * scale, old + 1) - max(place * scale, old)) / scale
                for old in range(size)
            ]
            for place in range(new)
        ]
    )


def resized(frame, weights, height, width):
    rows = np.tensordot(weights(frame.shape[0], height), frame.astype(float), axes=1)
    return np.tensordot(weights(frame.shape[1], width), rows, axes=(1, 1)).swapaxes(0, 1)


def part_of_noise(height, width, channels, seed=0):
    """A frame that is a part of a larger one, as a crop is."""
    noise = np.random.default_rng(seed).integers(
        0, 256, (height + 3, width + 5, channels), np.uint8
    )
    return noise[1 : height + 1, 2 : width + 2]


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]), st.booleans())
@settings(deadline=None, max_examples=200)
def test_resize_frame_interpolates(height, width, new_height, new_width, channels, given_target):
    if height * width > 2 * new_height * new_width:  # it averages
        height, width, new_height, new_width = new_height, new_width, height, width
    frame = part_of_noise(height, width, channels)
    target = np.empty((new_height, new_width, channels), np.uint8) if given_target else None
    seen = resize_frame(frame, (new_height, new_width), target)
    expected = resized(frame, interpolation, new_height, new_width)
    assert seen.shape == expected.shape
    assert seen.dtype == np.uint8
    assert np.abs(seen - expected).max() <= 1
    if given_target:
        np.testing.assert_array_equal(target, seen)


@given(SIDES, SIDES, st.floats(1.5, 6), st.floats(1.5, 6), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=200)
def test_resize_frame_averages_when_shrinking(height, width, vertical, horizontal, channels):
    frame = part_of_noise(int(height * vertical) + 1, int(width * horizontal) + 1, channels)
    seen = resize_frame(frame, (height, width))
    assert np.abs(seen - resized(frame, averages, height, width)).max() <= 0.51


@pytest.mark.parametrize("size", [(190, 200), (224, 224), (120, 100)])
def test_resize_frame_keeps_brightness(size):
    """Levels cut off in place of rounded would be half a level darker, on the average."""
    frame = part_of_noise(206, 206, 3)
    weights = averages if size == (120, 100) else interpolation
    errors = resize_frame(frame, size) - resized(frame, weights, *size)
    assert abs(errors.mean()) < 0.15
