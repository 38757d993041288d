"""Pixels of samples and of all frames, against sums of every pixel there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.images.pixel_sums import PixelSums, PixelTally, is_sampled
from pipelines.images.yuv import YuvPixels

PIXEL = st.integers(0, 255)


def pixel_sums(*levels: int) -> PixelSums:
    """Returns the sums of a gray frame with these pixels."""
    return PixelSums(len(levels), (sum(levels),), (sum(level**2 for level in levels),))


class TestSample:
    def test_is_sampled_is_one_in_32_with_one_of_first_8(self) -> None:
        sampled = [slot for slot in range(100_000) if is_sampled(slot)]
        assert len(sampled) == pytest.approx(100_000 / 32, rel=0.001)
        assert sampled[0] == 4
        assert max(np.diff(sampled)) < 64

    @given(st.integers(0, 10**6), st.integers(1, 200))
    def test_is_sampled_is_one_in_32_at_any_step(self, first, step) -> None:
        found = sum(is_sampled(first + step * place) for place in range(6400))
        assert found == pytest.approx(200, rel=0.25)


class TestSums:
    @given(st.lists(PIXEL, min_size=12, max_size=12))
    def test_sums_use_all_pixels_of_small_picture(self, levels) -> None:
        pixels = np.asarray(levels, np.uint8).reshape(2, 2, 3)
        of_channels = pixels.reshape(4, 3).astype(int)
        expected = PixelSums(4, tuple(of_channels.sum(0)), tuple((of_channels**2).sum(0)))
        assert PixelSums.of(pixels) == expected
        assert PixelSums.of(pixels).plus(PixelSums.of(pixels)) == expected.scaled(2, 1)
        assert PixelSums().plus(expected) == expected.plus(PixelSums()) == expected

    @given(st.integers(1, 400), st.integers(1, 5))
    def test_sums_use_rows_spread_over_tall_picture(self, height, width) -> None:
        rows = np.random.default_rng(height).integers(0, 256, height).astype(np.uint8)
        found = PixelSums.of(np.broadcast_to(rows[:, None, None], (height, width, 1)).copy())
        looked_at = rows[:: height // 24 or 1].astype(int)
        assert min(height, 24) <= len(looked_at) < 48
        sums = (width * looked_at.sum(),), (width * (looked_at**2).sum(),)
        expected = PixelSums(width * len(looked_at), *sums)
        assert found == expected.scaled(height * width, expected.pixels)

    @given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 1000))
    def test_sums_of_yuv_use_one_pixel_per_chroma_sample(self, rows, columns, seed) -> None:
        random = np.random.default_rng(seed)
        y = random.integers(60, 180, (2 * rows, 2 * columns), np.uint8)
        u, v = random.integers(100, 150, (2, rows, columns), np.uint8)
        found = PixelSums.of(YuvPixels(y, u, v))
        step = rows // 24 or 1
        luma = y[:: 2 * step, ::2].astype(float)
        blue, red = (plane[::step].astype(float) - 128 for plane in (u, v))
        # ITU-T T.871, section 7.
        green = luma - 0.344136 * blue - 0.714136 * red
        rgb = np.stack([luma + 1.402 * red, green, luma + 1.772 * blue], axis=-1)
        assert found.pixels == 4 * rows * columns
        mean, square = (np.array(sums) / found.pixels for sums in (found.values, found.squares))
        np.testing.assert_allclose(mean, rgb.mean((0, 1)), atol=0.6)
        # Of values that each are off by rounding; their squares are off by more, the larger they are.
        np.testing.assert_allclose(square**0.5, (rgb**2).mean((0, 1)) ** 0.5, atol=0.6)

    def test_yuv_and_rgb_have_equal_weights(self) -> None:
        height, width = 180, 320
        none = np.full((height // 2, width // 2), 128, np.uint8)
        black = YuvPixels(np.zeros((height, width), np.uint8), none, none)
        white = np.full((height, width, 3), 255, np.uint8)
        both = PixelSums.of(black).plus(PixelSums.of(white))
        assert [value / both.pixels for value in both.values] == [127.5] * 3


class TestExactSums:
    @staticmethod
    def by_numpy(pixels: np.ndarray) -> PixelSums:
        wide = pixels.astype(np.int64)
        return PixelSums(
            wide.shape[0] * wide.shape[1],
            tuple(wide.sum(axis=(0, 1)).tolist()),
            tuple((wide * wide).sum(axis=(0, 1)).tolist()),
        )

    @given(
        st.integers(1, 47),  # all rows are used
        st.integers(1, 800),
        st.sampled_from([1, 3]),
        st.integers(0, 2**32 - 1),
        st.sampled_from([(0, 256), (0, 1), (255, 256), (254, 256), (100, 102)]),
    )
    @settings(max_examples=150, deadline=None)
    def test_sums_are_exact(self, height, width, channels, seed, levels) -> None:
        pixels = np.random.default_rng(seed).integers(
            *levels, (height, width, channels), dtype=np.uint8
        )
        assert PixelSums.of(pixels) == self.by_numpy(pixels)

    @pytest.mark.parametrize("shape", [(47, 44_000, 3), (16, 131_072, 1)])
    def test_sums_of_large_frames_are_exact(self, shape) -> None:
        pixels = np.random.default_rng(0).integers(128, 256, shape, dtype=np.uint8)
        assert PixelSums.of(pixels) == self.by_numpy(pixels)

    def test_sums_of_view(self) -> None:
        view = np.random.default_rng(1).integers(0, 256, (20, 40, 3), dtype=np.uint8)[2:10, 5:21]
        assert PixelSums.of(view) == self.by_numpy(view)


class TestTally:
    @given(st.lists(st.tuples(PIXEL, PIXEL)), st.lists(st.tuples(PIXEL, PIXEL)))
    def test_tally_is_exact_if_all_frames_were_decoded(self, encoded, passed_on) -> None:
        tally = PixelTally()
        for levels in encoded:
            tally.add(pixel_sums(*levels))
        for levels in passed_on:
            tally.add(pixel_sums(*levels), is_stored_file=True)
        assert tally.frames == len(encoded) + len(passed_on)
        assert not tally.lacks_sample
        everything = [level for frame in encoded + passed_on for level in frame]
        assert tally.total() == (pixel_sums(*everything) if everything else PixelSums())

    def test_tally_weighs_stored_files_like_encoded_frames(self) -> None:
        tally = PixelTally()
        for _ in range(64):
            tally.add(pixel_sums(100, 100))
        for slot in range(64):
            tally.add(pixel_sums(200, 200) if slot in (4, 38) else None, is_stored_file=True)
        assert tally.frames == 64 + 2
        assert tally.total() == PixelSums(256, (38_400,), (128 * 100**2 + 128 * 200**2,))

    def test_tally_requests_sample_if_there_is_none(self) -> None:
        tally = PixelTally()
        assert not tally.lacks_sample
        for _ in range(3):
            tally.add(None, is_stored_file=True)
        assert tally.lacks_sample
        assert tally.total() == PixelSums()
        tally.add_sample(pixel_sums(7))
        assert not tally.lacks_sample
        assert tally.total() == pixel_sums(7, 7, 7)
        assert tally.frames == 1
