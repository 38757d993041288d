"""Draws captions on footage and writes it as an H.264 video of the same size and timing."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from pipelines.decoding.clip import Clip, start_reading
from pipelines.decoding.footage import Footage, Frame
from pipelines.decoding.protocol import DecodingFailure, OverlayRequest
from pipelines.decoding.segments import open_footage
from pipelines.images.frames import Pixels

_NOMINAL_RATE = 25
_OPTIONS = {"preset": "veryfast", "crf": "20"}

_TEXT_HEIGHT = 0.05  # of the frame's height
_FONT, _FONT_HEIGHT = cv2.FONT_HERSHEY_SIMPLEX, 22  # pixels of a capital letter at scale 1
_FACE, _WEIGHT = "sans", 600
_FACE_SIZE = 1.4  # of a font, in heights of its capital letters
DRAWS_ALL_SCRIPTS = hasattr(cv2, "FontFace")
"""True from OpenCV 5 on, whose own font has Latin, Greek, Cyrillic, Chinese, Japanese and Korean letters."""
_WHITE = (255, 255, 255)


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
        try:
            with av.open(request.output, "w", format="mp4") as container:
                count = _write(container, footage, clip, decoded, request)
        except av.FFmpegError as error:
            raise DecodingFailure("process", f"the video cannot be written: {error}") from error
    if not count:
        raise DecodingFailure("decode", "the clip contains no frame")
    return count


def _write(
    container: OutputContainer,
    footage: Footage,
    clip: Clip,
    frames: Iterator[Frame],
    request: OverlayRequest,
) -> int:
    starts = [caption.start for caption in request.captions]
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
        index = bisect_right(starts, float(clip.seconds_after_first(frame.pts)))
        lines = request.captions[index - 1].lines if index else ()
        image = _to_image(draw_lines(pixels, lines))
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


def draw_lines(pixels: Pixels, lines: Sequence[str]) -> Pixels:
    """Returns ``pixels``, ``[height, width, 3]`` RGB, with white text on black in the upper left corner.

    OpenCV 5 has letters of most scripts, OpenCV 4 those of ASCII. Others become question marks.
    """
    if not lines:
        return pixels
    height, width = pixels.shape[:2]
    texts = list(lines) if DRAWS_ALL_SCRIPTS else [to_ascii(line) for line in lines]
    capital = height * _TEXT_HEIGHT
    margin = max(1, round(capital / 2))
    widest = max(_text_width(text) for text in texts)
    capital = min(capital, max(1, width - 4 * margin) / max(1, widest))
    step = round(capital * 1.8)
    box = pixels.copy()
    right = min(width, round(widest * capital) + 3 * margin)
    cv2.rectangle(box, (0, 0), (right, step * len(texts) + margin), (0, 0, 0), -1)
    for number, text in enumerate(texts, start=1):
        place = (margin, step * number)
        if DRAWS_ALL_SCRIPTS:
            size = max(1, round(capital * _FACE_SIZE))
            cv2.putText(box, text, place, _WHITE, cv2.FontFace(_FACE), size, weight=_WEIGHT)
        else:
            scale = capital / _FONT_HEIGHT
            thickness = max(1, round(scale * 2))
            cv2.putText(box, text, place, _FONT, scale, _WHITE, thickness, cv2.LINE_AA)
    return box


def to_ascii(text: str) -> str:
    """Returns a text with a question mark for each letter that is not ASCII."""
    return text.encode("ascii", "replace").decode()


def _text_width(text: str) -> float:
    """Returns the width of a text, in heights of a capital letter."""
    if not DRAWS_ALL_SCRIPTS:
        return cv2.getTextSize(text, _FONT, 1.0, 1)[0][0] / _FONT_HEIGHT
    size, place = 100, (0, 0)
    _, _, width, _ = cv2.getTextSize((1, 1), text, place, cv2.FontFace(_FACE), size, weight=_WEIGHT)
    return width / size * _FACE_SIZE
