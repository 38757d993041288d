"""Scaling of decoded frames: against areas averaged in floating point, and against scaling what is RGB."""

import sys
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pipelines.decoding.conversion import read_orientation, to_scaled
from pipelines.decoding.conversion import to_rgb as frame_to_rgb
from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.video import open_video
from pipelines.images import frames
from pipelines.images.yuv import YuvPixels, to_jfif
from pipelines.options.dataset import ImageOptions

LUMA = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
SCALES = {"yuv420p": 1, "yuvj420p": 1, "yuv422p": 1, "yuv444p": 1, "yuv420p10le": 4}


def smooth(random, height, width):
    """A picture of broad gradients with values far from both ends, so that nothing is cut off."""
    rows, columns = np.arange(height)[:, None] / height, np.arange(width)[None] / width
    value = 128.0 + 14 * np.cos(3 * columns + random.uniform(0, 6))
    return value + 14 * np.sin(3 * rows + random.uniform(0, 6))


def averaged(plane, height, width):
    """Each new pixel the mean of the area that it covers."""
    return shares(plane.shape[0], height) @ plane @ shares(plane.shape[1], width).T


def shares(old, new):
    edges = np.arange(new + 1) * old / new
    pixels = np.arange(old)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(covered, 0, None) * new / old


def to_rgb(y, u, v, matrix, full):
    """H.273 section 8.3, turned round."""
    red, blue = LUMA[matrix]
    if full:
        y, u, v = y / 255, (u - 128) / 255, (v - 128) / 255
    else:
        y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return 255 * np.stack([r, g, b], axis=-1)


def frame_of(planes, pix_fmt):
    scale = SCALES[pix_fmt]
    height, width = planes[0].shape
    image = av.VideoFrame(width, height, pix_fmt)
    for plane, values in zip(image.planes, planes, strict=True):
        values = averaged(values, plane.height, plane.width) if values is not planes[0] else values
        values = np.rint(values * scale).astype(np.uint8 if scale == 1 else np.uint16)
        padded = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        padded[:, : plane.width] = values
        plane.update(padded.tobytes())
    return image


@st.composite
def tagged_frames(draw, reductions, noise=0):
    """A frame of any format and tags, a size to scale it to, and RGB of that size: the means of areas."""
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    pix_fmt = draw(st.sampled_from(list(SCALES)))
    height, width = draw(st.tuples(st.integers(24, 60), st.integers(24, 60)))
    down, across = draw(reductions)
    size = round(height * down), round(width * across)
    planes = [smooth(random, *size) for _ in range(3)]
    planes[0] += random.uniform(-noise, noise, size)
    image = frame_of(planes, pix_fmt)
    matrix = draw(st.sampled_from([*LUMA, None]))
    if matrix is not None:
        image.colorspace = matrix
    full = draw(st.booleans()) or pix_fmt == "yuvj420p"
    image.color_range = 2 if full else 1
    means = (averaged(plane, height, width) for plane in planes)
    return image, (height, width), np.clip(to_rgb(*means, matrix or 6, full), 0, 255)


REDUCTIONS = st.tuples(st.floats(1, 8), st.floats(1, 8))


class TestToScaledPng:
    @given(tagged_frames(REDUCTIONS, noise=20))
    def test_to_scaled_averages_areas(self, tagged):
        image, (height, width), expected = tagged
        options = ImageOptions(size=(height, width), image_format="png")
        found = to_scaled(image, options, Fraction(1))
        assert found.shape == (height, width, 3)
        assert found.dtype == np.uint8
        differences = found - expected
        # At the edges, and where a pixel of chroma is larger than one of the result, filters differ.
        assert np.abs(differences).mean() < 1.5
        assert np.abs(differences.mean((0, 1))).max() < 1

    @pytest.mark.parametrize("mode", ["stretch", "crop", "letterbox"])
    @pytest.mark.parametrize("size", [(1, 1), (5, 8), (12, 16), (3, 64), (48, 63)])
    @pytest.mark.parametrize("pix_fmt", ["gray", "rgb24", "gbrp", "bgra", "nv12", "yuva420p"])
    def test_to_scaled_accepts_all_pixel_formats(self, pix_fmt, size, mode):
        image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24")
        image = image.reformat(format=pix_fmt)
        options = ImageOptions(size=size, resize=mode, image_format="png")
        found = to_scaled(image, options, Fraction(1))
        assert found.shape == (*size, 3)
        shown = found[found.any(axis=(1, 2))][:, found.any(axis=(0, 2))]
        assert np.abs(shown.astype(int) - 90).max() <= 2

    @given(
        pix_fmt=st.sampled_from(list(SCALES)),
        height=st.integers(40, 130),
        width=st.integers(40, 130),
        size=st.tuples(st.integers(8, 32), st.integers(8, 32)),
        seed=st.integers(0, 1000),
    )
    def test_to_scaled_crops_chroma_like_luma(self, pix_fmt, height, width, size, seed):
        random = np.random.default_rng(seed)
        planes = [smooth(random, height, width) for _ in range(3)]
        # A step in chroma alone: half a sample to the side shows.
        planes[1][:, width // 3 :] += 60
        planes[2][height // 3 :] += 60
        image = frame_of(planes, pix_fmt)
        options = ImageOptions(size=size, resize="crop", image_format="png")
        found = to_scaled(image, options, Fraction(1))
        expected = frames.resize(frame_to_rgb(image), options)
        assert np.abs(found.astype(int) - expected).mean() < 1.5

    @pytest.mark.parametrize("options", [{}, {"x264-params": "interlaced=1"}])
    @pytest.mark.parametrize("interpolation", ["area", "linear"])
    @pytest.mark.parametrize("size", [(12, 20), (31, 17), (48, 64), (96, 30), (200, 240)])
    @pytest.mark.parametrize("mode", ["stretch", "crop", "letterbox"])
    @pytest.mark.parametrize("rotation", [0, 90])
    def test_to_scaled_matches_scaled_rgb(
        self, rotation, mode, size, interpolation, options, write_video, tmp_path
    ):
        def picture(index):
            values = np.add.outer(np.arange(96), np.arange(128)) + 8 * index
            return np.stack([values, 240 - values, values[::-1]], axis=-1).astype(np.uint8)

        path = write_video(
            tmp_path / "a.mp4",
            size=(96, 128),
            frames=2,
            picture=picture,
            rotation=rotation,
            sample_aspect=Fraction(4, 3),
            options={"qp": "0", **options},
            pix_fmt="yuv444p" if not options else None,
        )
        image = ImageOptions(
            size=size,
            resize=mode,
            interpolation=interpolation,
            image_format="png",
        )
        with open_video(str(path)) as video:
            pairs = [
                (
                    frame.picture.to_scaled(image),
                    frames.resize(frame.picture.to_rgb(), image, frame.picture.pixel_aspect),
                )
                for frame in video.frames()
            ]
        assert len(pairs) == 2
        for found, expected in pairs:
            assert found.shape == (*size, 3)
            # Where the margin is odd, turned frames may be cut one pixel further to the other side.
            assert np.abs(found.astype(int) - expected).mean() < 1.2


class TestToScaled:
    """Frames that become JPEG files without conversion to RGB."""

    @given(tagged_frames(REDUCTIONS | st.just((1, 1))))
    def test_to_scaled_jpeg_averages_areas(self, tagged):
        image, (height, width), expected = tagged
        options = ImageOptions(size=(height, width), jpeg_quality=100)
        pixels = to_scaled(image, options, Fraction(1))
        grows = image.height < height or image.width < width
        even = height % 2 == width % 2 == 0
        assert isinstance(pixels, YuvPixels) == (even and not grows)
        differences = decode(frames.encode(pixels, options)) - expected
        assert np.abs(differences).mean() < 1.5
        assert np.abs(differences.mean((0, 1))).max() < 1.2

    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("matrix", LUMA)
    def test_to_jfif_colors_are_exact(self, matrix, full):
        """Compares random colors with the equations; there is no bias either."""
        random = np.random.default_rng(matrix)
        y = np.arange(0 if full else 16, 256 if full else 236, dtype=np.uint8)[None].repeat(2, 0)
        differences = []
        for u, v in random.integers(60, 196, (100, 2)):
            chroma = (np.full(y.shape, value, np.uint8) for value in (u, v))
            found = to_jfif([y, *chroma], matrix, full)
            own = [found.y, *(plane.repeat(2, 0).repeat(2, 1) for plane in found[1:])]
            own = to_rgb(*(plane.astype(float) for plane in own), 6, True)
            expected = to_rgb(y.astype(float), float(u), float(v), matrix, full)
            differences.append((own - expected)[(found.y > 0) & (found.y < 255)])
        differences = np.concatenate(differences)
        assert np.abs(differences).max() < 3
        assert np.abs(differences.mean(0)).max() < 0.15

    @pytest.mark.parametrize("interpolation", ["area", "linear"])
    @pytest.mark.parametrize("size", [(12, 20), (31, 17), (96, 128), (200, 240)])
    @pytest.mark.parametrize("mode", ["stretch", "crop", "letterbox"])
    @pytest.mark.parametrize("rotation", [0, 90])
    def test_to_scaled_yuv_matches_rgb(
        self, rotation, mode, size, interpolation, write_video, tmp_path
    ):
        def picture(index):
            values = np.add.outer(np.arange(96), np.arange(128)) + 8 * index
            return np.stack([values, 240 - values, values[::-1]], axis=-1).astype(np.uint8)

        path = write_video(
            tmp_path / "a.mp4", size=(96, 128), frames=2, picture=picture, rotation=rotation
        )
        image = ImageOptions(
            size=size,
            resize=mode,
            interpolation=interpolation,
            jpeg_quality=100,
        )
        with open_video(str(path)) as video:
            for frame in video.frames():
                found = decode(frames.encode(frame.picture.to_scaled(image), image))
                rgb = frame.picture.to_scaled(replace(image, image_format="png"))
                expected = decode(frames.encode(rgb, image))
                assert found.shape == (*size, 3)
                assert np.abs(found.astype(int) - expected).mean() < 1.5

    def test_to_scaled_letterboxes_rotated_frame(self, write_video, tmp_path):
        """Chroma is placed like luma."""

        def picture(index):
            pixels = np.zeros((96, 128, 3), np.uint8)
            pixels[:48, :, 0] = pixels[48:, 64:, 2] = 200
            return pixels

        path = write_video(
            tmp_path / "a.mp4", size=(96, 128), frames=1, picture=picture, rotation=90
        )
        image = ImageOptions(size=(64, 96), resize="letterbox", jpeg_quality=100)
        with open_video(str(path)) as video:
            pixels = next(video.frames()).picture.to_scaled(image)
        assert isinstance(pixels, YuvPixels)
        found = decode(frames.encode(pixels, image)).astype(int)
        # 48x64 in the middle, turned counter-clockwise: what was above is at the left, the right is above.
        assert np.abs(found[2:-2, 26:46] - (200, 0, 0)).mean() < 8
        assert np.abs(found[2:30, 50:70] - (0, 0, 200)).mean() < 8
        for black in (found[34:-2, 50:70], found[:, :22], found[:, 74:]):
            assert np.abs(black).mean() < 4

    @pytest.mark.parametrize("size", [(1, 1), (1, 8), (8, 1), (3, 64), (31, 17), (48, 64)])
    @pytest.mark.parametrize("grayscale", [False, True])
    def test_to_scaled_accepts_all_sizes(self, size, grayscale):
        image = frame_of([np.full((96, 128), value) for value in (120.0, 100.0, 150.0)], "yuv420p")
        options = ImageOptions(size=size, grayscale=grayscale)
        pixels = to_scaled(image, options, Fraction(1))
        if grayscale:
            pixels = frames.to_gray(pixels)
        found = decode(frames.encode(pixels, options))
        assert found.shape == (*size, 1 if grayscale else 3)
        expected = to_rgb(*(np.array(float(v)) for v in (120, 100, 150)), 6, False)
        if grayscale:
            expected = expected @ [0.299, 0.587, 0.114]
        assert np.abs(found - expected).max() < 3

    def test_to_rgb_refuses_unknown_color_space(self):
        image = frame_of([np.full((96, 128), 120.0) for _ in range(3)], "yuv420p")
        image.colorspace = 200
        with pytest.raises(DecodingFailure, match=r"color space 200 of H.273 cannot be converted"):
            to_scaled(image, ImageOptions(size=(12, 16)), Fraction(1))

    def test_to_scaled_returns_rgb_for_png(self):
        image = frame_of([np.full((96, 128), 120.0) for _ in range(3)], "yuv420p")
        options = ImageOptions(size=(12, 16), image_format="png")
        pixels = to_scaled(image, options, Fraction(1))
        assert pixels.shape == (12, 16, 3)


def decode(data):
    """Decodes a JPEG file as TensorFlow does, with smooth chroma."""
    return tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE").numpy()


@pytest.mark.parametrize("rotation", [0, 90])
def test_read_orientation_keeps_no_reference_to_frame(rotation, write_video, tmp_path):
    path = write_video(tmp_path / "a.mp4", rotation=rotation)
    with open_video(str(path)) as video:
        image = next(video.frames()).picture.image
        holders = sys.getrefcount(image)
        assert read_orientation(image).quarter_turns == rotation // 90
        assert sys.getrefcount(image) == holders
