"""Decodes and transforms frames into batches of pixels, without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from tfrecords_schema.frame_size import frame_size
from tfrecords_schema.resizing import resize_frame
from tfrecords_schema.spec import MAX_PIXELS, ImageSpec
from trainer.data.frame_threads import frame_threads
from trainer.data.reused_memory import BatchMemory

Frames = npt.NDArray[np.uint8]
_Operation = Callable[
    [Frames, npt.NDArray[Any]], Any
]  # transforms its first argument into its second

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
        """Returns a batch, ``[B, T, height, width, channels]``, or raises `FrameError`.

        Args:
            frames: ``[B, T]``: bytes of JPEG or PNG files, or int64 indices into ``cached``.
            window: ``[B, 4]``: top, left, height and width of the part to keep, in pixels of ``stored``.
            flipped: ``[B]``: True mirrors a sequence left to right.
            colours: ``[B, 3, 4]``: matrices that RGB and 1 are multiplied with.
        """
        dtype = np.float32 if self.as_float else np.uint8
        batch = self._memory.take((*frames.shape, *self.wanted.shape), dtype)

        def write_sequence(i: int) -> None:
            own_window = None if window is None else window[i].tolist()
            operations = self._operations(
                flipped is not None and flipped[i], None if colours is None else colours[i]
            )
            self._write(frames[i], batch[i], own_window, operations)

        frame_threads.run(write_sequence, len(frames))
        return batch

    def _operations(self, flipped: Any, colours: Any) -> list[_Operation]:
        """Returns what is done to each frame of a sequence after it was cropped and resized."""
        operations: list[_Operation] = []
        if flipped:
            operations.append(lambda frame, output: cv2.flip(frame, 1, dst=output))
        if colours is not None:
            matrix = colours[:1] @ _GRAY_TO_RGB if self.wanted.channels == 1 else colours
            operations.append(lambda frame, output: cv2.transform(frame, matrix, dst=output))
        return [*operations, _to_unit_range] if self.as_float else operations

    def _write(
        self,
        sources: npt.NDArray[Any],
        targets: npt.NDArray[Any],
        window: list[int] | None,
        operations: list[_Operation],
    ) -> None:
        """Writes the frames of a sequence into the batch."""
        as_stored = self.stored == self.wanted and window is None and not operations
        # Decoded into the same memory, frames stay in the CPU's cache for what follows.
        memory = np.empty(self.stored.shape, np.uint8)
        between = [np.empty(self.wanted.shape, np.uint8) for _ in operations]
        size = (self.wanted.height, self.wanted.width)
        for source, target in zip(sources, targets, strict=True):
            if self.cached is not None:
                frame = self.cached[source]
            else:
                frame = self._decode(source, target if as_stored else memory)
            if window is not None:
                frame = _crop(frame, window, self.stored)
            # Each operation writes where the next one reads, and the last one into the batch.
            outputs = [*between, target]
            if frame.shape[:2] != size:
                resize_frame(frame, size, outputs[0])
                frame = outputs[0]
            for operation, output in zip(operations, outputs[1:], strict=True):
                operation(frame, output)
                frame = output
            if frame is not target:
                target[...] = frame

    def _decode(self, data: bytes, output: Frames) -> Frames:
        """Returns a frame: a JPEG of the stored size in ``output``, another in an array of its own."""
        image, adopted = self.stored, self.adopted
        if not adopted and image.format == "JPEG":
            try:
                frame = _decode_jpeg(data, output)
            except FrameError:
                # A larger frame, which does not fit into ``output``, is named by its size.
                self._check_size(*_jpeg_header(data)[:2])
                raise
            self._check_size(*frame.shape[:2])
            return output
        if adopted and data.startswith(_JPEG_START):
            height, width, colour_space, _ = _jpeg_header(data)
            self._check_size(height, width)
            if colour_space in _COLOUR_SPACES:
                return _decode_jpeg(data, np.empty((height, width, image.channels), np.uint8))
        elif (size := frame_size(data)) is not None:
            self._check_size(*size)
        else:
            raise FrameError("a frame does not decode as PNG or JPEG")
        return _decode_with_opencv(data, image.channels)

    def _check_size(self, height: int, width: int) -> None:
        """Checks the size in a frame's header, before memory is allocated for its pixels."""
        image = self.stored
        if not self.adopted and (height, width) != (image.height, image.width):
            raise FrameError(f"a frame is not {image.height}x{image.width}, but {height}x{width}")
        if height * width > MAX_PIXELS:
            raise FrameError(f"a frame has {height}x{width} pixels, the limit is {MAX_PIXELS}")


def _to_unit_range(frame: Frames, output: npt.NDArray[np.float32]) -> None:
    """Writes ``frame / 255``: scales the maximum to its own share of 255, and all values with it.

    OpenCV takes half of NumPy's time, which converts blocks to floats before it multiplies them.
    """
    maximum = int(frame.max()) / 255
    cv2.normalize(frame, output, maximum, norm_type=cv2.NORM_INF, dtype=cv2.CV_32F)


def _jpeg_header(data: bytes) -> tuple[int, int, str, str]:
    """Returns height, width, colour space and subsampling."""
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise FrameError(f"a frame is no JPEG: {error}") from None


def _decode_jpeg(data: bytes, output: Frames, *, strict: bool = True) -> Frames:
    """Returns a frame in its own size, at the beginning of ``output``."""
    colours = "GRAY" if output.shape[2] == 1 else "RGB"
    try:
        return simplejpeg.decode_jpeg(data, colours, buffer=output, strict=strict)
    except ValueError as error:
        # Some cameras write more bytes than they should between two segments, which is harmless.
        if not strict or "extraneous bytes" not in str(error):
            raise FrameError(f"a JPEG does not decode: {error}") from None
        return _decode_jpeg(data, output, strict=False)


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


def _crop(frame: Frames, window: list[int], stored: ImageSpec) -> Frames:
    """Returns the ``window`` of a frame, scaled if the frame does not have the size of ``stored``."""
    top, left, height, width = window
    full_height, full_width = frame.shape[:2]
    if (full_height, full_width) != (stored.height, stored.width):
        bottom, right = top + height, left + width
        top, left = top * full_height // stored.height, left * full_width // stored.width
        height = max(1, bottom * full_height // stored.height - top)
        width = max(1, right * full_width // stored.width - left)
    return frame[top : top + height, left : left + width]
