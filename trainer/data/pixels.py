"""Encoded frames to a batch of pixels: decoded, cut, resized, mirrored and recoloured, without TensorFlow.

libjpeg-turbo decodes a frame into memory that its thread uses for every frame, so that it stays in the CPU's
cache for all that follows, and the last step writes it to its place in the batch: nothing is copied then.
Both libjpeg-turbo and OpenCV leave other threads free to run meanwhile.
"""

from __future__ import annotations

import atexit
import functools
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from tfrecords_schema.resizing import resize_frame
from tfrecords_schema.spec import ImageSpec
from trainer.data.buffers import threads
from trainer.data.reused_memory import BatchMemory, FrameMemory

Frames = npt.NDArray[np.uint8]
_Step = Callable[[Frames, npt.NDArray[Any]], Any]
"""Given a frame, and where to write what becomes of it."""

# A map of three equal channels and one, to that of one channel and one.
_OF_GRAY = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
_JPEG = b"\xff\xd8"
# What libjpeg-turbo decodes to RGB and to gray.
_COLOURS = ("Gray", "RGB", "YCbCr")
# Seconds after which no more calls are expected.
_QUIET = 0.2


class FrameError(ValueError):
    """A frame that does not decode, or has another size than it must."""


@dataclass(frozen=True, kw_only=True)
class FrameReader:
    """Makes batches of one kind of frames.

    Attributes:
        stored: of the frames in records.
        wanted: of those in batches.
        adopted: whether frames may be of other sizes and formats than ``stored``.
        as_float: whether batches hold float32 from 0 to 1; else uint8.
        kept: frames decoded before, ``[N, height, width, channels]``; None where records hold them.
    """

    stored: ImageSpec
    wanted: ImageSpec
    adopted: bool = False
    as_float: bool = False
    kept: Frames | None = None
    _memory: BatchMemory = field(default_factory=BatchMemory, init=False)

    def __post_init__(self) -> None:
        # Sequences are made in parallel already; OpenCV's own threads would only wait for each other.
        cv2.setNumThreads(1)

    def read(
        self,
        frames: npt.NDArray[Any],
        *,
        window: npt.NDArray[np.int32] | None = None,
        flipped: npt.NDArray[np.bool_] | None = None,
        colours: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[Any]:
        """A batch, ``[B, T, height, width, channels]``.

        Args:
            frames: ``[B, T]`` bytes, a JPEG or PNG file each; or int64, places in ``kept``.
            window: ``[B, 4]``, the top, left, height and width of the part that is wanted, in pixels of
                ``stored``; None for all of it.
            flipped: ``[B]``, whether they are mirrored left to right.
            colours: ``[B, 3, 4]``, linear maps of RGB and one.

        Raises:
            FrameError: when a frame does not decode, or has another size than it must.
        """
        count, steps = frames.shape
        dtype = np.float32 if self.as_float else np.uint8
        batch = self._memory.take((count, steps, *self.wanted.shape), dtype)

        def fill(number: int) -> None:
            change = _Change(
                window=None if window is None else tuple(window[number].tolist()),
                flipped=flipped is not None and bool(flipped[number]),
                colours=None if colours is None else colours[number],
            )
            self._write(frames[number], batch[number], change)

        with _calls.one() as is_wanted:
            if is_wanted and count == 1:
                fill(0)
            elif is_wanted:
                try:
                    started = [_pool().submit(fill, number) for number in range(count)]
                except RuntimeError as error:
                    if "shutdown" not in str(error):
                        raise
                    return batch  # Python is ending: nobody will look at it
                for one in started:
                    one.result()
        return batch

    def _write(self, sources: npt.NDArray[Any], targets: npt.NDArray[Any], change: _Change) -> None:
        """The frames of a sequence, to their places in the batch.

        What can be is done once a sequence: threads run Python's own instructions by turns.
        """
        as_stored = self.stored == self.wanted and change.is_none and not self.as_float
        memory = _frames.take(0, self.stored.shape)
        shape: tuple[int, ...] | None = None
        finish: _Step = _copy
        for source, target in zip(sources, targets, strict=True):
            if self.kept is not None:
                frame = self.kept[source]
            elif self.adopted:
                frame = _decode_any(source, self.stored.channels)
            else:
                frame = _decode(source, self.stored, target if as_stored else memory)
                if frame is target:
                    continue
            if change.window is not None:
                frame = _part(frame, change.window, self.stored)
            if frame.shape != shape:  # the first, or one of an adopted dataset
                shape, finish = frame.shape, self._finish(frame.shape, change)
            finish(frame, target)

    def _finish(self, shape: tuple[int, ...], change: _Change) -> _Step:
        """All that is done to a decoded part of this shape."""
        steps = change.steps(shape, self.wanted)
        if self.as_float:
            steps.append(_to_unit)
        if not steps:
            return _copy
        between = [_frames.take(number, self.wanted.shape) for number in range(1, len(steps))]

        def finish(frame: Frames, target: npt.NDArray[Any]) -> None:
            for step, to in zip(steps, (*between, target), strict=True):
                step(frame, to)
                frame = to

        return finish


@dataclass(frozen=True, kw_only=True)
class _Change:
    """What becomes of the frames of a sequence."""

    window: tuple[int, int, int, int] | None = None
    flipped: bool = False
    colours: npt.NDArray[np.float32] | None = None

    @property
    def is_none(self) -> bool:
        return self.window is None and not self.flipped and self.colours is None

    def steps(self, shape: tuple[int, ...], wanted: ImageSpec) -> list[_Step]:
        """From a frame of this shape."""
        steps: list[_Step] = []
        size = (wanted.height, wanted.width)
        if shape[:2] != size:
            steps.append(lambda frame, to: resize_frame(frame, size, to))
        if self.flipped:
            steps.append(lambda frame, to: cv2.flip(frame, 1, dst=to))
        if self.colours is not None:
            # Gray is where the three channels meet.
            matrix = self.colours if wanted.channels == 3 else self.colours[:1] @ _OF_GRAY
            steps.append(lambda frame, to: cv2.transform(frame, matrix, dst=to))
        return steps


def _copy(frame: Frames, to: npt.NDArray[Any]) -> None:
    to[...] = frame


def _to_unit(frame: Frames, to: npt.NDArray[np.float32]) -> None:
    """Values from 0 to 1: the greatest becomes its own part of 255, and with it all others; 0 stays 0.

    OpenCV takes half of the time of NumPy, which converts blocks to floats before it multiplies them.
    """
    greatest = int(frame.max()) / 255
    cv2.normalize(frame, to, greatest, norm_type=cv2.NORM_INF, dtype=cv2.CV_32F)


def _decode(data: bytes, image: ImageSpec, to: Frames) -> Frames:
    """A frame that must be as ``image`` says; in ``to`` if it is a JPEG."""
    if image.format == "PNG":
        frame = _decode_with_opencv(data, image.channels)
        _check_size(frame.shape, image)
        return frame
    try:
        frame = _decode_jpeg(data, to)
    except FrameError:
        _check_size(_jpeg_header(data), image)  # what is larger does not fit into ``to``
        raise
    _check_size(frame.shape, image)
    return to


def _check_size(found: tuple[Any, ...], image: ImageSpec) -> None:
    height, width = found[:2]
    if (height, width) != (image.height, image.width):
        raise FrameError(f"a frame is not {image.height}x{image.width}, but {height}x{width}")


def _decode_any(data: bytes, channels: int) -> Frames:
    """A frame of any size, a JPEG or another file that OpenCV reads."""
    if data.startswith(_JPEG):
        height, width, colours, _ = _jpeg_header(data)
        if colours in _COLOURS:
            return _decode_jpeg(data, _frames.take(0, (height, width, channels)))
    return _decode_with_opencv(data, channels)


def _jpeg_header(data: bytes) -> Any:
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise FrameError(f"a frame is no JPEG: {error}") from None


def _decode_jpeg(data: bytes, to: Frames) -> Frames:
    """A frame at the beginning of ``to``, in its own size."""
    colours = "GRAY" if to.shape[2] == 1 else "RGB"
    try:
        return simplejpeg.decode_jpeg(data, colours, buffer=to)
    except ValueError as error:
        # Some cameras write more than they should between two parts, which harms nothing.
        if "extraneous bytes" not in str(error):
            raise FrameError(f"a JPEG does not decode: {error}") from None
        try:
            return simplejpeg.decode_jpeg(data, colours, buffer=to, strict=False)
        except ValueError as other:
            raise FrameError(f"a JPEG does not decode: {other}") from None


def _decode_with_opencv(data: bytes, channels: int) -> Frames:
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    flag |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error as error:  # such as a header that promises too many pixels
        raise FrameError(f"a frame does not decode as PNG or JPEG: {error.err}") from None
    if frame is None:
        raise FrameError("a frame does not decode as PNG or JPEG")
    return frame.reshape(*frame.shape[:2], channels)


def _part(frame: Frames, window: tuple[int, int, int, int], stored: ImageSpec) -> Frames:
    """The part of a frame that ``window`` is of one of ``stored``'s size."""
    top, left, height, width = window
    high, wide = frame.shape[:2]
    if (high, wide) != (stored.height, stored.width):
        bottom, right = top + height, left + width
        top, left = top * high // stored.height, left * wide // stored.width
        height = max(1, bottom * high // stored.height - top)
        width = max(1, right * wide // stored.width - left)
    return frame[top : top + height, left : left + width]


class _Calls:
    """The calls of TensorFlow's threads that are under way.

    Python must not end in the middle of one: the thread would not come back from it, and TensorFlow would
    wait for it forever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._last = -math.inf
        self._ending = False

    @contextmanager
    def one(self) -> Iterator[bool]:
        """A call; whether what it does is still wanted."""
        with self._lock:
            self._count += 1
        try:
            yield not self._ending
        finally:
            with self._lock:
                self._count -= 1
                self._last = time.monotonic()

    def end(self) -> None:
        """Waits until batches that nobody will take are all made; from now on they are made empty."""
        self._ending = True
        while self._count or time.monotonic() < self._last + _QUIET:
            time.sleep(0.01)


_frames = FrameMemory()
_calls = _Calls()
atexit.register(_calls.end)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """A thread for each CPU: sequences are transformed in parallel, whatever batch they belong to."""
    return ThreadPoolExecutor(threads(), thread_name_prefix="frames")
