"""Decodes and transforms frames into batches of pixels, without TensorFlow.

libjpeg-turbo decodes the frames of a sequence into the same memory, so that they stay in the CPU's cache for
the transforms. The last transform writes the frame into its place in the batch. Both libjpeg-turbo and OpenCV
let other threads run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from tfrecords_schema.resizing import resize_frame
from tfrecords_schema.spec import ImageSpec
from trainer.data.frame_threads import frame_threads
from trainer.data.reused_memory import BatchMemory

Frames = npt.NDArray[np.uint8]
_Operation = Callable[[Frames, npt.NDArray[Any]], Any]
"""Transforms its first argument, a frame, into its second."""

# Takes one gray channel and 1 to three equal channels and 1, which a colour matrix expects.
_GRAY_TO_RGB = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
_JPEG_START = b"\xff\xd8"
# JPEG colour spaces that libjpeg-turbo converts to RGB and gray.
_COLOUR_SPACES = ("Gray", "RGB", "YCbCr")


class FrameError(ValueError):
    """A frame that does not decode, or has the wrong size."""


@dataclass(frozen=True, kw_only=True)
class FrameReader:
    """Decodes and transforms frames into batches.

    Example: 8 JPEGs of 90x160 each, of 2 sequences, some of them mirrored::

        image = ImageSpec(height=90, width=160)
        reader = FrameReader(stored=image, wanted=image)
        reader.read(files, flipped=np.array([True, False])).shape  # (2, 8, 90, 160, 3)

    Attributes:
        stored: spec of the frames in records.
        wanted: spec of the frames in batches.
        adopted: frames may have other sizes and formats than ``stored``.
        as_float: batches hold float32 from 0 to 1; otherwise uint8.
        cached: decoded frames, ``[N, height, width, channels]``; None if records hold them.
    """

    stored: ImageSpec
    wanted: ImageSpec
    adopted: bool = False
    as_float: bool = False
    cached: Frames | None = None
    _memory: BatchMemory = field(default_factory=BatchMemory, init=False)

    def __post_init__(self) -> None:
        # Sequences are decoded in parallel; OpenCV's own threads would only compete with that.
        cv2.setNumThreads(1)

    def read(
        self,
        frames: npt.NDArray[Any],
        *,
        window: npt.NDArray[np.int32] | None = None,
        flipped: npt.NDArray[np.bool_] | None = None,
        colours: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[Any]:
        """Returns a batch, ``[B, T, height, width, channels]``.

        Args:
            frames: ``[B, T]``: bytes of JPEG or PNG files, or int64 indices into ``cached``.
            window: ``[B, 4]``: top, left, height and width of the part to keep, in pixels of ``stored``; None
                keeps all.
            flipped: ``[B]``: True mirrors a sequence left to right.
            colours: ``[B, 3, 4]``: matrices that RGB and 1 are multiplied with.

        Raises:
            FrameError: if a frame does not decode, or has the wrong size.
        """
        dtype = np.float32 if self.as_float else np.uint8
        batch = self._memory.take((*frames.shape, *self.wanted.shape), dtype)

        def write_sequence(i: int) -> None:
            transform = _Transform(
                window=None if window is None else tuple(window[i].tolist()),
                flipped=flipped is not None and bool(flipped[i]),
                colours=None if colours is None else colours[i],
            )
            self._write(frames[i], batch[i], transform)

        frame_threads.run(write_sequence, len(frames))
        return batch

    def _write(
        self, sources: npt.NDArray[Any], targets: npt.NDArray[Any], transform: _Transform
    ) -> None:
        """Writes the frames of a sequence into the batch.

        Does as much as it can once per sequence: threads take turns to run Python's own instructions.
        """
        as_stored = self.stored == self.wanted and transform.is_identity and not self.as_float
        memory = np.empty(self.stored.shape, np.uint8)
        shape: tuple[int, ...] | None = None
        finish: _Operation = _copy
        for source, target in zip(sources, targets, strict=True):
            if self.cached is not None:
                frame = self.cached[source]
            elif self.adopted:
                frame = _decode_any(source, self.stored.channels)
            else:
                frame = _decode(source, self.stored, target if as_stored else memory)
                if frame is target:
                    continue
            if transform.window is not None:
                frame = _crop(frame, transform.window, self.stored)
            if frame.shape != shape:  # the first frame, or one of an adopted dataset
                shape, finish = frame.shape, self._operation(frame.shape, transform)
            finish(frame, target)

    def _operation(self, shape: tuple[int, ...], transform: _Transform) -> _Operation:
        """Returns everything that is done to a cropped frame of this shape, as one operation."""
        steps = transform.steps(shape, self.wanted)
        if self.as_float:
            steps.append(_to_unit_range)
        if not steps:
            return _copy
        between = [np.empty(self.wanted.shape, np.uint8) for _ in steps[1:]]

        def run_steps(frame: Frames, target: npt.NDArray[Any]) -> None:
            for step, output in zip(steps, (*between, target), strict=True):
                step(frame, output)
                frame = output

        return run_steps


@dataclass(frozen=True, kw_only=True)
class _Transform:
    """The transform of the frames of one sequence; see `FrameReader.read`."""

    window: tuple[int, int, int, int] | None = None
    flipped: bool = False
    colours: npt.NDArray[np.float32] | None = None

    @property
    def is_identity(self) -> bool:
        return self.window is None and not self.flipped and self.colours is None

    def steps(self, shape: tuple[int, ...], wanted: ImageSpec) -> list[_Operation]:
        """Returns the operations on a cropped frame of this shape, in order."""
        steps: list[_Operation] = []
        size = (wanted.height, wanted.width)
        if shape[:2] != size:
            steps.append(lambda frame, output: resize_frame(frame, size, output))
        if self.flipped:
            steps.append(lambda frame, output: cv2.flip(frame, 1, dst=output))
        if self.colours is not None:
            gray = wanted.channels == 1
            matrix = self.colours[:1] @ _GRAY_TO_RGB if gray else self.colours
            steps.append(lambda frame, output: cv2.transform(frame, matrix, dst=output))
        return steps


def _copy(frame: Frames, output: npt.NDArray[Any]) -> None:
    output[...] = frame


def _to_unit_range(frame: Frames, output: npt.NDArray[np.float32]) -> None:
    """Writes ``frame / 255``: scales the maximum to its own share of 255, and all values with it.

    OpenCV takes half of NumPy's time, which converts blocks to floats before it multiplies them.
    """
    maximum = int(frame.max()) / 255
    cv2.normalize(frame, output, maximum, norm_type=cv2.NORM_INF, dtype=cv2.CV_32F)


def _decode(data: bytes, image: ImageSpec, output: Frames) -> Frames:
    """Decodes a frame and checks its size against ``image``.

    A JPEG is decoded into ``output``, which is returned; another image into an array of its own.
    """
    if image.format == "PNG":
        frame = _decode_with_opencv(data, image.channels)
        _check_size(frame.shape, image)
        return frame
    try:
        frame = _decode_jpeg(data, output)
    except FrameError:
        _check_size(_jpeg_header(data), image)  # a larger frame does not fit into ``output``
        raise
    _check_size(frame.shape, image)
    return output


def _check_size(found: tuple[Any, ...], image: ImageSpec) -> None:
    height, width = found[:2]
    if (height, width) != (image.height, image.width):
        raise FrameError(f"a frame is not {image.height}x{image.width}, but {height}x{width}")


def _decode_any(data: bytes, channels: int) -> Frames:
    """Returns a frame of any size, from a JPEG or another file that OpenCV reads."""
    if data.startswith(_JPEG_START):
        height, width, colour_space, _ = _jpeg_header(data)
        if colour_space in _COLOUR_SPACES:
            return _decode_jpeg(data, np.empty((height, width, channels), np.uint8))
    return _decode_with_opencv(data, channels)


def _jpeg_header(data: bytes) -> Any:
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise FrameError(f"a frame is no JPEG: {error}") from None


def _decode_jpeg(data: bytes, output: Frames) -> Frames:
    """Returns a frame in its own size, at the beginning of ``output``."""
    colours = "GRAY" if output.shape[2] == 1 else "RGB"
    try:
        try:
            return simplejpeg.decode_jpeg(data, colours, buffer=output)
        except ValueError as error:
            # Some cameras write more bytes than they should between two segments, which is harmless.
            if "extraneous bytes" not in str(error):
                raise
            return simplejpeg.decode_jpeg(data, colours, buffer=output, strict=False)
    except ValueError as error:
        raise FrameError(f"a JPEG does not decode: {error}") from None


def _decode_with_opencv(data: bytes, channels: int) -> Frames:
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    flag |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error as error:  # for example a header that promises too many pixels
        raise FrameError(f"a frame does not decode as PNG or JPEG: {error.err}") from None
    if frame is None:
        raise FrameError("a frame does not decode as PNG or JPEG")
    return frame.reshape(*frame.shape[:2], channels)


def _crop(frame: Frames, window: tuple[int, int, int, int], stored: ImageSpec) -> Frames:
    """Returns the ``window`` of a frame, scaled if the frame does not have the size of ``stored``."""
    top, left, height, width = window
    full_height, full_width = frame.shape[:2]
    if (full_height, full_width) != (stored.height, stored.width):
        bottom, right = top + height, left + width
        top, left = top * full_height // stored.height, left * full_width // stored.width
        height = max(1, bottom * full_height // stored.height - top)
        width = max(1, right * full_width // stored.width - left)
    return frame[top : top + height, left : left + width]
