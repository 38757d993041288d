"""Tests of decoding and transforms, against TensorFlow and a plain program in floats."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.processes import run_python
from tests.trainer.conftest import IMAGE, SPECS, make_spec
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.reading.frames import FrameError
from tfrecords_schema.resizing import resize_frame
from trainer.config.clips import Augmentation
from trainer.data.augment import colour_matrix
from trainer.data.frame_threads import frame_threads
from trainer.data.pixels import FrameReader

SAMPLINGS = {
    name: getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}")
    for name in ("411", "420", "422", "440", "444")
}


def noise(*shape):
    """Frames with coarse and fine detail, of any size."""
    random, (height, width, channels) = np.random.default_rng(0), shape[-3:]
    frames = []
    for _ in range(int(np.prod(shape[:-3]))):
        coarse = random.integers(0, 256, (3, 3, channels), np.uint8)
        large = cv2.resize(coarse, (width, height)).reshape(height, width, channels)
        fine = random.integers(0, 40, large.shape)
        frames.append(np.clip(large + fine, 0, 255).astype(np.uint8))
    return np.stack(frames).reshape(shape)


def encode(frame, extension=".jpg", *options):
    pixels = frame[:, :, ::-1] if frame.shape[2] == 3 else frame
    return cv2.imencode(extension, pixels, options)[1].tobytes()


def files(*encoded):
    """A batch of one sequence, as TensorFlow gives strings to Python."""
    return np.array([encoded], object)


def cached_reader(pixels, **wanted):
    stored = replace(IMAGE, height=pixels.shape[1], width=pixels.shape[2], channels=pixels.shape[3])
    return FrameReader(stored=stored, wanted=replace(stored, **wanted), cached=pixels)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.integers(10, 100),
    st.sampled_from(list(SAMPLINGS)),
)
def test_read_decodes_jpeg_as_tensorflow_does(height, width, channels, quality, sampling):
    image = replace(IMAGE, height=height, width=width, channels=channels)
    options = (
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]),
    )
    data = encode(noise(height, width, channels), ".jpg", *options)
    decoded = FrameReader(stored=image, wanted=image).read(files(data))
    expected = tf.io.decode_jpeg(data, channels, dct_method="INTEGER_ACCURATE")
    np.testing.assert_array_equal(decoded[0, 0], expected)


def as_seen(pixels, window, size, flipped, matrix):
    """What a plain program makes of frames: cut out, resized, mirrored, recoloured in floats."""
    top, left, height, width = window
    frames = []
    for frame in pixels[:, top : top + height, left : left + width]:
        resized = resize_frame(frame, size)
        mirrored = resized[:, ::-1] if flipped else resized
        frames.append(np.clip(mirrored @ matrix[:, :3].T + matrix[:, 3], 0, 255))
    return np.stack(frames)


@pytest.mark.parametrize("as_float", [False, True], ids=["uint8", "float32"])
def test_read_transforms_match_plain_numpy(as_float):
    pixels = noise(6, 9, 14, 3)
    augment = Augmentation(brightness=0.2, contrast=0.3, saturation=0.5, hue=0.1)
    windows, flips = [(1, 2, 7, 10), (0, 4, 9, 10)], [False, True]
    maps = np.stack([colour_matrix(augment, one).numpy() for one in (drawn(0.9), drawn(0.2))])
    reader = replace(cached_reader(pixels, height=12, width=16), as_float=as_float)
    batch = reader.read(
        np.arange(6).reshape(2, 3),
        window=np.array(windows, np.int32),
        flipped=np.array(flips),
        colours=maps,
    )
    assert batch.shape == (2, 3, 12, 16, 3)
    assert batch.dtype == (np.float32 if as_float else np.uint8)
    for i, frames in enumerate((pixels[:3], pixels[3:])):
        expected = as_seen(frames, windows[i], (12, 16), flips[i], maps[i])
        assert np.abs(batch[i] * (255.0 if as_float else 1) - expected).max() <= 1.001


def drawn(number):
    from tests.trainer.data.test_augment import numbers

    return numbers(hue=number, contrast=1 - number, brightness=number)


@pytest.mark.parametrize("channels", [1, 3])
def test_read_as_float_matches_tensorflow_for_any_maximum(channels):
    levels = np.arange(256, dtype=np.uint8)
    # Frame n holds the levels to n, each of them somewhere.
    pixels = np.minimum(levels, levels[:, np.newaxis]).reshape(256, 16, 16, 1).repeat(channels, 3)
    seen = replace(cached_reader(pixels), as_float=True).read(np.arange(256)[np.newaxis])[0]
    expected = tf.image.convert_image_dtype(pixels, tf.float32)
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("flipped", [False, True])
def test_read_keeps_the_channel_of_gray_frames(flipped):
    pixels = noise(2, 4, 6, 1)
    brighter = np.float32([[[1, 0, 0, 63.75], [0, 1, 0, 63.75], [0, 0, 1, 63.75]]])
    seen = cached_reader(pixels).read(
        np.array([[0, 1]]), flipped=np.array([flipped]), colours=brighter
    )[0]
    mirrored = pixels[:, :, ::-1] if flipped else pixels
    assert seen.shape == pixels.shape
    assert np.abs(seen - np.clip(mirrored + 63.75, 0, 255)).max() <= 1


def test_read_transforms_encoded_and_cached_frames_alike():
    frames = noise(4, 20, 30, 3)
    encoded = np.array([[encode(frame) for frame in frames]], object)
    image = replace(IMAGE, height=20, width=30)
    wanted = replace(image, height=8, width=9)
    plain = FrameReader(stored=image, wanted=image).read(encoded)[0]
    change = {"window": np.array([[3, 4, 10, 20]], np.int32), "flipped": np.array([True])}
    mine = FrameReader(stored=image, wanted=wanted).read(encoded, **change)
    theirs = cached_reader(plain, height=8, width=9).read(np.arange(4)[np.newaxis], **change)
    np.testing.assert_array_equal(mine, theirs)


class TestAdopted:
    """Frames that others wrote: of other sizes and formats than the dataset's."""

    def read(self, *encoded, channels=3, **change):
        image = replace(IMAGE, height=20, width=30, channels=channels)
        reader = FrameReader(stored=image, wanted=image, adopted=True)
        return reader.read(files(*encoded), **change)[0]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_read_resizes_any_size_and_format(self, channels):
        frame = noise(30, 45, channels)
        resized = cv2.resize(frame, (30, 20), interpolation=cv2.INTER_AREA).reshape(20, 30, -1)
        jpeg, png = encode(frame, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100), encode(frame, ".png")
        same = encode(resized, ".png")
        decoded = self.read(jpeg, png, same, channels=channels)
        np.testing.assert_array_equal(decoded[1], resized)
        np.testing.assert_array_equal(decoded[2], resized)
        assert np.abs(decoded[0].astype(int) - resized).mean() < 4

    def test_read_crops_before_it_resizes(self):
        frame = noise(60, 60, 3)
        window = np.array([[5, 6, 10, 15]], np.int32)
        cut = self.read(encode(frame, ".png"), window=window)[0]
        expected = cv2.resize(frame[15:45, 12:42], (30, 20))
        np.testing.assert_array_equal(cut, expected)


class TestDamage:
    def read(self, data, **image):
        image = replace(IMAGE, height=20, width=30, **image)
        return FrameReader(stored=image, wanted=image).read(files(data))

    def test_read_refuses_truncated_jpeg(self):
        data = encode(noise(20, 30, 3))
        with pytest.raises(FrameError, match="JPEG does not decode: Premature end"):
            self.read(data[:-100])

    @pytest.mark.parametrize("data", [b"", b"neither", b"\xff\xd8\xff"])
    @pytest.mark.parametrize("form", ["JPEG", "PNG"])
    def test_read_refuses_bytes_that_are_no_image(self, data, form):
        with pytest.raises(FrameError, match=f"a frame .* {form}"):
            self.read(data, format=form)

    @pytest.mark.parametrize("form", ["JPEG", "PNG"])
    def test_read_refuses_frame_of_another_size(self, form):
        extension = {"JPEG": ".jpg", "PNG": ".png"}[form]
        with pytest.raises(FrameError, match="a frame is not 20x30, but 20x31"):
            self.read(encode(noise(20, 31, 3), extension), format=form)

    def test_read_refuses_header_with_too_many_pixels(self):
        data = bytearray(encode(noise(20, 30, 3), ".png"))
        data[16:24] = struct.pack(">II", 40000, 40000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        with pytest.raises(FrameError, match="a frame is not 20x30, but 40000x40000"):
            self.read(bytes(data), format="PNG")
        image = replace(IMAGE, height=20, width=30, format="PNG")
        adopted = FrameReader(stored=image, wanted=image, adopted=True)
        with pytest.raises(FrameError, match="has 40000x40000 pixels, the limit is 67108864"):
            adopted.read(files(bytes(data)))

    def test_read_accepts_extraneous_bytes_between_segments(self):
        data = encode(noise(20, 30, 3))
        longer = data[:-2] + b"abc" + data[-2:]
        np.testing.assert_array_equal(self.read(longer), self.read(data))


def test_read_raises_if_no_thread_can_start(monkeypatch):
    class Full(ThreadPoolExecutor):
        def submit(self, *_):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(frame_threads, "_pool", Full())
    with pytest.raises(RuntimeError, match="can't start new thread"):
        cached_reader(noise(2, 6, 5, 3)).read(np.array([[0], [1]]))


PROGRAM = """
import sys
from trainer import Augmentation, Shuffle, read_sequences
read = {"shuffle": Shuffle(first_epoch=0), "seed": 0, "augment": Augmentation(crop=0.5)}
batches = iter(read_sequences(sys.argv[1], "train", batch_size=8, **read))
next(batches)
"""


@pytest.mark.slow
def test_program_exits_while_batches_are_made(tmp_path):
    """Python's end must not meet a call of TensorFlow's threads, which would wait for ever."""
    large = replace(IMAGE, height=400, width=600)
    write_fake_dataset(tmp_path, make_spec(image=large, num_frames=8), {"train": 8}, shards=1)
    run = run_python("-c", PROGRAM, tmp_path)
    assert run.returncode == 0, run.stderr[-2000:]


def test_read_keeps_frames_of_threads_apart():
    pixels = noise(64, 12, 16, 3)
    reader = cached_reader(pixels, height=10, width=10)
    flips = np.arange(32) % 2 == 0
    batch = reader.read(np.arange(64).reshape(32, 2), flipped=flips)
    for i, frames in enumerate(pixels.reshape(32, 2, 12, 16, 3)):
        for j, frame in enumerate(frames):
            resized = resize_frame(frame, (10, 10))
            expected = resized[:, ::-1] if flips[i] else resized
            np.testing.assert_array_equal(batch[i, j], expected)


@pytest.mark.parametrize("name", ["classification", "png, gray"])
def test_read_aligns_batches_for_tensorflow(name):
    image = SPECS[name].image
    pixels = np.zeros((2, *image.shape), np.uint8)
    reader = FrameReader(stored=image, wanted=image, cached=pixels)
    assert reader.read(np.array([[0, 1]])).ctypes.data % 64 == 0


def test_batch_memory_reuses_only_freed_batches():
    pixels = noise(4, 6, 5, 3)
    reader = cached_reader(pixels)
    first, second = reader.read(np.array([[0, 1]])), reader.read(np.array([[2, 3]]))
    part, place = first[0, 1:], first.ctypes.data
    assert not np.shares_memory(first, second)
    del first
    third = reader.read(np.array([[3, 2]]))  # a part of the first is still in use
    np.testing.assert_array_equal(part[0], pixels[1])
    del part
    fourth = reader.read(np.array([[0, 0]]))
    assert fourth.ctypes.data == place
    for batch, places in ((second, [2, 3]), (third, [3, 2]), (fourth, [0, 0])):
        np.testing.assert_array_equal(batch[0], pixels[places])
