"""Draws captions on footage and writes it as an H.264 video of the same size and timing."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import repeat

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from pipelines.decoding.clip import Clip, start_reading
from pipelines.decoding.footage import Footage, Frame
from pipelines.decoding.protocol import DecodingFailure, OverlayRequest
from pipelines.decoding.segments import Reopen, open_footage, open_measurements
from pipelines.images.frames import Pixels
from pipelines.images.text import draw_lines
from tfrecords_schema.spec import LabelSpec, format_target

_NOMINAL_RATE = 25
_OPTIONS = {"preset": "veryfast", "crf": "20"}


def draw_overlay(request: OverlayRequest, on_progress: Callable[[], None]) -> int:
    """Writes the footage of a source with captions, and returns the number of frames.

    The first frame is at 0 s. Sound is left out. A frame with an odd side gets one more row or column,
    because H.264 with halved chroma needs even sides.

    Raises:
        DecodingFailure: if the footage cannot be used, or the video cannot be written.
    """
    build = request.build
    reopen = functools.partial(open_footage, build, on_progress)
    with reopen() as footage:
        clip, decoded = start_reading(footage, reopen, build.segment, build.sampling)
        shown = _Shown(request, clip, footage, reopen, on_progress)
        try:
            with av.open(request.output, "w", format="mp4") as container:
                count = _write(container, footage, clip, decoded, shown)
        except av.FFmpegError as error:
            raise DecodingFailure("process", f"the video cannot be written: {error}") from error
    if not count:
        raise DecodingFailure("decode", "the clip contains no frame")
    return count


class _Shown:
    """The text on each frame: captions, with the targets measured at the frame beside them."""

    def __init__(
        self,
        request: OverlayRequest,
        clip: Clip,
        footage: Footage,
        reopen: Reopen,
        on_progress: Callable[[], None],
    ):
        self._clip, self._footage = clip, footage
        self._captions = request.captions
        self._starts = [caption.start for caption in request.captions]
        targets = request.targets
        self._label = targets.spec.label if targets else LabelSpec()
        self._targets = targets and open_measurements(targets, footage, reopen, on_progress)

    def lines(self, frame: Frame) -> Sequence[str]:
        """Returns the lines to draw on a frame."""
        index = bisect_right(self._starts, float(self._clip.seconds_after_first(frame.pts)))
        lines = self._captions[index - 1].lines if index else ()
        # After damage, times or numbers of frames may be wrong.
        measured = None if self._footage.damage or not self._targets else self._targets.at(frame)
        if not lines or measured is None:
            return lines
        label = self._label
        if label.task != "regression":
            return *lines, f"target {measured.class_name}"
        units = label.target_units or repeat("")
        columns = zip(lines, measured.values, label.offsets, units, strict=False)
        return [
            f"{line}, target {format_target(value - offset, offset, 4)} {unit}".rstrip()
            for line, value, offset, unit in columns
        ]


def _write(
    container: OutputContainer,
    footage: Footage,
    clip: Clip,
    frames: Iterator[Frame],
    shown: _Shown,
) -> int:
    stream: VideoStream | None = None
    size = (0, 0)
    count = first = 0
    for frame in frames:
        if clip.end_pts is not None and frame.pts >= clip.end_pts:
            break
        if frame.pts < clip.start_pts:
            continue
        if frame.picture is None:
            raise DecodingFailure(
                "open", "the source is telemetry alone, without frames to draw on"
            )
        pixels = frame.picture.to_rgb()
        if stream is None:
            first, size = frame.pts, pixels.shape[:2]
            stream = _add_stream(container, size, footage, frame.picture.pixel_aspect)
        elif pixels.shape[:2] != size:  # the size may change within a video
            pixels = np.asarray(cv2.resize(pixels, size[::-1]), np.uint8)
        image = _to_image(draw_lines(pixels, shown.lines(frame)))
        image.pts, image.time_base = frame.pts - first, footage.time_base
        container.mux(stream.encode(image))
        count += 1
    if stream is not None:
        container.mux(stream.encode(None))
    return count


def _add_stream(
    container: OutputContainer, size: tuple[int, int], footage: Footage, aspect: Fraction
) -> VideoStream:
    # The container needs a rate, but frames have times of their own.
    stream = container.add_stream("libx264", rate=_NOMINAL_RATE, options=_OPTIONS)
    stream.height, stream.width = (side + side % 2 for side in size)
    stream.pix_fmt = "yuv420p"
    stream.time_base = footage.time_base
    context = stream.codec_context
    context.time_base = footage.time_base
    context.max_b_frames = 0  # otherwise decoding would start before 0 s
    context.thread_count = 1  # the pool has a child per CPU
    context.sample_aspect_ratio = aspect
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    return stream


def _to_image(pixels: Pixels) -> av.VideoFrame:
    """Returns a frame in the color space that the stream is tagged with."""
    bottom, right = (side % 2 for side in pixels.shape[:2])
    even = cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    image = av.VideoFrame.from_ndarray(np.asarray(even), format="rgb24")
    return image.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
