"""Decodes and transforms frames into batches of pixels, without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tfrecords_schema.reading.frames import Frames, decode_frame
from tfrecords_schema.resizing import resize_frame
from tfrecords_schema.spec import ImageSpec
from trainer.data.frame_threads import frame_threads
from trainer.data.reused_memory import BatchMemory

_Operation = Callable[
    [Frames, npt.NDArray[Any]], Any
]  # transforms its first argument into its second

# Takes one gray channel and 1 to three equal channels and 1, which a colour matrix expects.
_GRAY_TO_RGB = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)


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
        """Returns a batch, ``[B, T, height, width, channels]``, or raises a `FrameError`.

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
                output = target if as_stored else memory
                frame = decode_frame(source, self.stored, output, adopted=self.adopted)
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


def _to_unit_range(frame: Frames, output: npt.NDArray[np.float32]) -> None:
    """Writes ``frame / 255``: scales the maximum to its own share of 255, and all values with it.

    OpenCV takes half of NumPy's time, which converts blocks to floats before it multiplies them.
    """
    maximum = int(frame.max()) / 255
    cv2.normalize(frame, output, maximum, norm_type=cv2.NORM_INF, dtype=cv2.CV_32F)


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
