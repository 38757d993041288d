"""Rotating, scaling and encoding frames."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.images import frames
from pipelines.images.frames import Orientation, encode, orient, to_gray
from pipelines.options.dataset import ImageOptions

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
rng = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def plain(height: int, width: int, color: tuple[int, ...]) -> np.ndarray:
    return np.full((height, width, len(color)), color, np.uint8)


def stripes(*colors: tuple[int, ...], height: int, width: int) -> np.ndarray:
    """Upright stripes of equal width."""
    return np.concatenate([plain(height, width, color) for color in colors], axis=1)


def resize(
    pixels: np.ndarray,
    height: int,
    width: int,
    *,
    mode: str = "stretch",
    interpolation: str = "area",
    pixel_aspect: Fraction = Fraction(1),
) -> np.ndarray:
    options = ImageOptions(size=(height, width), resize=mode, interpolation=interpolation)
    return frames.resize(pixels, options, pixel_aspect)


def decode(data: bytes) -> np.ndarray:
    """Decodes an image file to RGB as a reader does."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return image[:, :, np.newaxis] if image.ndim == 2 else image[:, :, ::-1]


class TestOrient:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    def test_orient_mirrors_then_turns_like_numpy(self, turns, mirrored, channels) -> None:
        pixels = noise(5, 7, channels)
        turned = orient(pixels, Orientation(quarter_turns=turns, mirrored=mirrored))
        seen = np.fliplr(pixels) if mirrored else pixels
        np.testing.assert_array_equal(turned, np.rot90(seen, turns))
        assert turned.dtype == np.uint8


class TestResize:
    @pytest.mark.parametrize("interpolation", ["area", "nearest", "linear", "cubic", "lanczos"])
    @pytest.mark.parametrize("mode", ["stretch", "crop", "letterbox"])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("size", [(4, 6), (20, 30), (3, 50), (50, 3), (1, 1), (10, 14)])
    def test_resize_returns_requested_size(self, size, channels, mode, interpolation) -> None:
        pixels = noise(10, 14, channels)
        scaled = resize(pixels, *size, mode=mode, interpolation=interpolation)
        assert scaled.shape == (*size, channels)
        assert scaled.dtype == np.uint8

    @pytest.mark.parametrize("mode", ["stretch", "crop", "letterbox"])
    @pytest.mark.parametrize("interpolation", ["area", "nearest", "linear", "cubic", "lanczos"])
    def test_resize_keeps_pixels_of_same_size(self, mode, interpolation) -> None:
        pixels = noise(9, 16, 3)
        scaled = resize(pixels, 9, 16, mode=mode, interpolation=interpolation)
        np.testing.assert_array_equal(scaled, pixels)

    def test_resize_area_averages(self) -> None:
        pixels = noise(6, 8, 3)
        blocks = pixels.reshape(3, 2, 4, 2, 3).mean(axis=(1, 3))
        assert np.abs(resize(pixels, 3, 4) - blocks).max() <= 0.5

    def test_resize_area_enlarges_smoothly(self) -> None:
        """OpenCV's area interpolation repeats pixels where it grows."""
        grown = resize(np.array([[[0], [200]]], np.uint8), 1, 8)
        assert len(np.unique(grown)) > 2
        np.testing.assert_array_equal(resize(noise(4, 4, 3) * 0 + 9, 8, 2), plain(8, 2, (9, 9, 9)))

    def test_resize_stretch_uses_whole_frame(self) -> None:
        pixels = stripes(RED, GREEN, BLUE, height=10, width=10)
        np.testing.assert_array_equal(
            resize(pixels, 5, 3), np.broadcast_to(np.array([RED, GREEN, BLUE]), (5, 3, 3))
        )

    def test_resize_crop_keeps_middle_of_wide_frame(self) -> None:
        pixels = stripes(RED, GREEN, BLUE, height=10, width=10)  # 10 x 30
        np.testing.assert_array_equal(resize(pixels, 5, 5, mode="crop"), plain(5, 5, GREEN))
        # Twice as wide as high: columns 5 to 24.
        wide = resize(pixels, 10, 20, mode="crop")
        np.testing.assert_array_equal(wide, pixels[:, 5:25])

    def test_resize_crop_keeps_middle_of_tall_frame(self) -> None:
        pixels = stripes(RED, GREEN, BLUE, height=10, width=10).swapaxes(0, 1)
        np.testing.assert_array_equal(resize(pixels, 5, 5, mode="crop"), plain(5, 5, GREEN))

    def test_resize_crop_respects_pixel_aspect(self) -> None:
        """PAL's 720 x 576 with pixels 64:45 shows 16:9: all of it fits 9x16."""
        pixels = noise(576, 720, 3)
        whole = resize(pixels, 9, 16, mode="stretch")
        aspect = Fraction(64, 45)
        shown = resize(pixels, 9, 16, mode="crop", pixel_aspect=aspect)
        np.testing.assert_array_equal(shown, whole)
        # To show 4:3, three quarters of the width: columns 90 to 629.
        shown = resize(pixels, 12, 16, mode="crop", pixel_aspect=aspect)
        np.testing.assert_array_equal(shown, resize(pixels[:, 90:630], 12, 16))

    @pytest.mark.parametrize(
        ("shape", "size", "aspect", "rows", "columns"),
        [
            ((10, 20), (20, 20), 1, (5, 15), (0, 20)),  # bars above and below
            ((20, 10), (20, 20), 1, (0, 20), (5, 15)),  # bars left and right
            ((10, 10), (20, 20), 1, (0, 20), (0, 20)),
            ((10, 10), (20, 20), 2, (5, 15), (0, 20)),  # pixels twice as wide as high
            ((10, 10), (20, 20), Fraction(1, 2), (0, 20), (5, 15)),
            ((576, 720), (90, 160), Fraction(64, 45), (0, 90), (0, 160)),
            ((576, 720), (90, 160), 1, (0, 90), (24, 136)),  # 112.5 columns, rounded to even
            ((1, 1000), (10, 10), 1, (4, 5), (0, 10)),  # never less than a row
        ],
    )
    def test_resize_letterbox_by_hand(self, shape, size, aspect, rows, columns) -> None:
        boxed = resize(plain(*shape, WHITE), *size, mode="letterbox", pixel_aspect=Fraction(aspect))
        expected = plain(*size, (0, 0, 0))
        expected[slice(*rows), slice(*columns)] = 255
        np.testing.assert_array_equal(boxed, expected)

    @given(
        st.integers(1, 40),
        st.integers(1, 40),
        st.integers(1, 40),
        st.integers(1, 40),
        st.sampled_from(["stretch", "crop", "letterbox"]),
        st.fractions(Fraction(1, 4), 4),
    )
    @settings(max_examples=150, deadline=None)
    def test_resize_accepts_any_sizes(self, h, w, height, width, mode, aspect) -> None:
        scaled = resize(plain(h, w, (7, 8, 9)), height, width, mode=mode, pixel_aspect=aspect)
        assert scaled.shape == (height, width, 3)
        colors = {tuple(int(v) for v in pixel) for pixel in scaled.reshape(-1, 3)}
        assert (7, 8, 9) in colors
        assert colors <= {(7, 8, 9), (0, 0, 0)}
        if mode != "letterbox":
            assert colors == {(7, 8, 9)}


class TestGray:
    @pytest.mark.parametrize(
        ("color", "luma"), [(RED, 76), (GREEN, 150), (BLUE, 29), (WHITE, 255), ((9, 9, 9), 9)]
    )
    def test_to_gray_is_bt601_luma(self, color, luma) -> None:
        np.testing.assert_array_equal(to_gray(plain(2, 3, color)), plain(2, 3, (luma,)))

    def test_to_gray_keeps_gray(self) -> None:
        pixels = noise(2, 3, 1)
        np.testing.assert_array_equal(to_gray(pixels), pixels)


class TestEncode:
    @pytest.mark.parametrize("color", [RED, GREEN, BLUE, WHITE, (12, 200, 99)])
    def test_encode_preserves_colors(self, color) -> None:
        for image_format, error in (("jpeg", 3), ("png", 0)):
            data = encode(plain(16, 24, color), ImageOptions(image_format=image_format))
            assert np.abs(decode(data).astype(int) - color).max() <= error

    def test_encode_jpeg_header_matches_and_pixels_are_close(self) -> None:
        ramp = np.linspace(0, 255, 64, dtype=np.uint8)
        pixels = np.dstack(np.broadcast_arrays(ramp, ramp[:, None], ramp[::-1]))
        data = encode(pixels, ImageOptions(jpeg_quality=95))
        assert data[:2] == b"\xff\xd8"
        assert np.abs(decode(data).astype(int) - pixels).mean() < 3

    def test_encode_respects_quality(self) -> None:
        pixels = noise(64, 64, 3)
        sizes = [len(encode(pixels, ImageOptions(jpeg_quality=q))) for q in (10, 50, 95)]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[1] < sizes[2]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_encode_png_is_lossless(self, channels) -> None:
        pixels = noise(17, 23, channels)
        data = encode(pixels, ImageOptions(image_format="png"))
        assert data[1:4] == b"PNG"
        np.testing.assert_array_equal(decode(data), pixels)

    def test_encode_stores_gray_as_one_channel(self) -> None:
        data = encode(plain(8, 8, (77,)), ImageOptions())
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert image.shape == (8, 8)
        assert np.abs(image.astype(int) - 77).max() <= 1

    def test_encode_is_deterministic(self) -> None:
        pixels = noise(32, 32, 3)
        assert encode(pixels, ImageOptions()) == encode(pixels.copy(), ImageOptions())

    def test_encode_accepts_view_into_larger_frame(self) -> None:
        view = noise(20, 40, 3)[2:10, 5:21]
        assert not view.flags.c_contiguous
        np.testing.assert_array_equal(decode(encode(view, ImageOptions(image_format="png"))), view)
