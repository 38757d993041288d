"""Footage made for the tests: every frame carries its index as a bar code that survives scaling and JPEG."""

import itertools
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import worker_handlers

DATA = Path(__file__).parents[1] / "data"
_COLUMNS = 8  # bits of an index


class Recorder:
    """A listener to the building of shards that remembers what it heard."""

    def __init__(self):
        self.total = 0
        self.failures = []

    def add(self, count):
        self.total += count

    def add_failure(self, source, *, truncated):
        self.failures.append((source, truncated))


def barcode(index, size=(48, 64)):
    """``[height, width, 3]`` RGB: bit k is whether column k is white over black, or black over white.

    Thin moving stripes along the edge between the halves give the codec something to predict.
    """
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    edges = np.linspace(0, width, _COLUMNS + 1).astype(int)
    for bit, (left, right) in enumerate(itertools.pairwise(edges)):
        top, bottom = (225, 30) if index >> bit & 1 else (30, 225)
        pixels[: height // 2, left:right] = top
        pixels[height // 2 :, left:right] = bottom
    band = slice(height // 2 - height // 12, height // 2 + height // 12)
    columns = (np.arange(width) + 3 * index) % 16
    pixels[band] = np.stack([columns * 14, 255 - columns * 9, columns * 5 + 60], -1)
    return pixels


def read_barcode(pixels):
    """The index in a picture of `barcode` of any size, RGB or gray."""
    gray = pixels.astype(float).reshape(*pixels.shape[:2], -1).mean(axis=2)
    top, bottom = gray[: len(gray) // 3], gray[-(len(gray) // 3) :]
    index = 0
    for bit in range(_COLUMNS):
        left, right = (round((bit + x) * gray.shape[1] / _COLUMNS) for x in (0.25, 0.75))
        columns = slice(left, max(right, left + 1))
        contrast = top[:, columns].mean() - bottom[:, columns].mean()
        assert abs(contrast) > 60, "no bar code here"
        index |= int(contrast > 0) << bit
    return index


def write_video(
    path,
    *,
    frames=30,
    codec="libx264",
    container=None,
    size=(48, 64),
    rate=25,
    times=None,
    time_base=None,
    pix_fmt=None,
    gop=12,
    b_frames=0,
    options=None,
    container_options=None,
    rotation=0,
    sample_aspect=None,
    picture=barcode,
    tags=None,
):
    """Writes a video with PyAV and returns its path.

    Args:
        path: its suffix names the container unless ``container`` does.
        frames: how many.
        codec: FFmpeg's encoder.
        size: height and width.
        rate: frames/s.
        times: presentation times in ticks of ``time_base``, for a variable rate or a later start.
        time_base: seconds a tick; one frame unless ``times`` are given, then 1 ms.
        pix_fmt: yuv420p, or what the codec wants.
        gop: longest distance between keyframes.
        b_frames: most B-frames in a row.
        options: of the encoder; for x264 and x265 short groups and no lookahead are set already.
        container_options: of the muxer, such as ``{"movflags": "faststart"}``.
        rotation: counter-clockwise degrees by which a player is to turn the picture.
        sample_aspect: width of a pixel divided by its height.
        picture: index to RGB pixels, or to an ``av.VideoFrame``, which goes in as it is.
        tags: attributes of the codec context, such as ``{"colorspace": 1}``.
    """
    pix_fmt = pix_fmt or {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    if time_base is None:
        time_base = Fraction(1, 1000) if times is not None else 1 / Fraction(rate)
    times = list(range(frames)) if times is None else list(times)
    known = {
        "libx264": {"preset": "veryfast", "sc_threshold": "0"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:scenecut=0"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    }
    options = {**known.get(codec, {}), **(options or {})}
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        stream = output.add_stream(codec, rate=Fraction(rate))
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.time_base = Fraction(time_base)
        context.gop_size = gop
        if b_frames or codec not in ("gif", "mjpeg", "libvpx-vp9", "rawvideo", "ffv1"):
            context.max_b_frames = b_frames
        context.options = options
        context.thread_count = 1
        if sample_aspect is not None:
            context.sample_aspect_ratio = Fraction(sample_aspect)
        for name, value in (tags or {}).items():
            setattr(context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        for index, time in enumerate(times):
            image = picture(index) if picture is not barcode else barcode(index, size)
            if isinstance(image, np.ndarray):
                image = av.VideoFrame.from_ndarray(image, format="rgb24")
                if pix_fmt != "rgb24":
                    image = image.reformat(format=pix_fmt)
            image.pts, image.time_base = time, Fraction(time_base)
            output.mux(stream.encode(image))
        output.mux(stream.encode(None))
    return path


def decode_image(data):
    """The RGB (or single-channel gray) pixels of an encoded frame of a record."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels[..., ::-1]


# Test modules cannot import a conftest under --import-mode=importlib, so the functions come as fixtures.
@pytest.fixture(scope="session", name="barcode")
def _barcode():
    return barcode


@pytest.fixture(scope="session", name="read_barcode")
def _read_barcode():
    return read_barcode


@pytest.fixture(scope="session", name="decode_image")
def _decode_image():
    return decode_image


@pytest.fixture(scope="session", name="write_video")
def _write_video():
    return write_video


@pytest.fixture(scope="session", name="data")
def _data():
    """The folder of real clips; see its ATTRIBUTION.md."""
    return DATA


@pytest.fixture
def flush_while_pickling(monkeypatch):
    """Makes Beam send its streams on every 5 ms, and values of a class take 50 ms to pickle.

    Usage: ``flush_while_pickling(ShardReport)``. A large value takes so long without help, and Beam's period
    is one second.
    """

    def slow_state(value):
        time.sleep(0.05)
        return vars(value)

    def prepare(*classes):
        for each in classes:
            monkeypatch.setattr(each, "__getstate__", slow_state, raising=False)

    monkeypatch.setattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS", 5)
    return prepare
