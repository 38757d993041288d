"""Stored pictures that are not what their spec asks for."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from pipelines.validation.pictures.thumbnails import PictureReader, contrast
from tfrecords_schema.fake import fake_image
from tfrecords_schema.spec import ImageSpec


def problem_of(data, image):
    return PictureReader(image).read([data]).problems[0]


def spec(**changes):
    return ImageSpec(**{"height": 20, "width": 30, **changes})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_read_accepts_every_stored_format(image_format, channels):
    image = spec(channels=channels, format=image_format)
    data = fake_image(image, 3)
    assert problem_of(data, image) is None
    assert contrast(data, image) > 10


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_read_refuses_truncated_pictures(image_format):
    image = spec(format=image_format)
    data = fake_image(image, 1)
    for end in (0, 1, 2, 3, 8, 20, 26, len(data) // 2, len(data) - 1):
        assert problem_of(data[:end], image) is not None


def test_read_does_not_decode_huge_pictures():
    data = bytearray(fake_image(spec(format="PNG"), 1))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    problem = problem_of(bytes(data), spec(format="PNG"))
    assert problem is not None
    assert "60000x60000" in problem


@pytest.mark.parametrize(
    ("dtype", "channels"), [(np.uint16, 3), (np.uint8, 4)], ids=["16 bits", "alpha"]
)
def test_read_refuses_other_kinds_of_png(dtype, channels):
    pixels = np.zeros((20, 30, channels), dtype)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    assert problem_of(data, spec(format="PNG")) is not None


@pytest.mark.parametrize("extension", [".bmp", ".webp", ".tif"])
def test_read_refuses_other_formats(extension):
    data = cv2.imencode(extension, np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    problem = problem_of(data, spec())
    assert problem == f"is neither a JPEG nor a PNG file ({len(data)} bytes)"


def test_read_ignores_trailing_bytes_of_jpeg():
    data = fake_image(spec(), 1)
    assert problem_of(data + bytes(10), spec()) is None
    assert problem_of(data + b"a trailer", spec()) is None
    cut = problem_of(data[:-2] + bytes(10), spec())
    assert cut == "is a truncated JPEG file: it has no end marker"


@pytest.mark.parametrize(("level", "mean"), [(0, 0), (255, 255)])
def test_contrast_of_flat_pictures_is_zero(level, mean):
    data = cv2.imencode(".jpg", np.full((20, 30, 3), level, np.uint8))[1].tobytes()
    pictures = PictureReader(spec()).read([data])
    assert contrast(data, spec()) < 1
    assert abs(pictures.brightness[0] - mean) < 2


def textured_image(seed):
    """Returns a JPEG of an image with the noise of footage, so that its coded data have no long zero runs."""
    random = np.random.default_rng(seed)
    smooth = cv2.resize(random.integers(0, 256, (5, 8, 3), np.uint8), (160, 90)).astype(float)
    noise = cv2.resize(random.normal(0, 18, (45, 80, 3)), (160, 90))
    pixels = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def test_read_complains_of_most_harmful_bit_flips():
    """OpenCV shows such a picture without a word, with garbage from the bit on."""
    image, missed, spoilt_badly = spec(height=90, width=160), 0, 0
    for seed in range(200):
        data, random = textured_image(seed % 4), np.random.default_rng(seed)
        whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(int)
        spoilt = bytearray(data)
        place = random.integers(data.index(b"\xff\xda") + 14, len(data) - 2)
        spoilt[place] ^= 1 << random.integers(8)
        pictures = PictureReader(image).read([data, bytes(spoilt)])
        assert (pictures.problems[0], pictures.complaints[0]) == (None, None)
        shown = cv2.imdecode(np.frombuffer(bytes(spoilt), np.uint8), cv2.IMREAD_COLOR)
        if pictures.problems[1] is None and np.abs(shown - whole).mean() > 12:
            spoilt_badly += 1
            missed += pictures.complaints[1] is None
    assert spoilt_badly > 30
    assert missed < spoilt_badly / 4


def test_read_complains_of_missing_data_before_end_marker():
    image, data = spec(height=90, width=160), textured_image(0)
    pictures = PictureReader(image).read([data, data[: len(data) // 2] + b"\xff\xd9"])
    assert pictures.problems == [None, None]
    assert pictures.complaints[0] is None
    assert "Corrupt JPEG data" in pictures.complaints[1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(20, 30), (90, 160), (91, 161), (8, 9), (12, 200), (1, 1)])
@pytest.mark.parametrize("progressive", [0, 1])
def test_thumbnail_has_mean_of_all_pixels(size, channels, progressive):
    height, width = size
    image = spec(height=height, width=width, channels=channels)
    shapes = np.random.default_rng(1).integers(0, 256, (4, 5, channels), np.uint8)
    pixels = cv2.resize(shapes, (width, height), interpolation=cv2.INTER_LINEAR)
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_QUALITY, 95]
    data = cv2.imencode(".jpg", pixels, flags)[1].tobytes()
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    wanted = decoded.reshape(-1, channels).mean(0)
    pictures = PictureReader(image).read([data, data + b"\0"])
    assert (pictures.problems, pictures.complaints) == ([None, None], [None, None])
    assert np.abs(pictures.colours - wanted).max() < 6
