"""Decodes stored frames to pixels, without TensorFlow."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from tfrecords_schema.frame_size import frame_size
from tfrecords_schema.spec import MAX_PIXELS, ImageSpec

Frames = npt.NDArray[np.uint8]

_JPEG_START = b"\xff\xd8"
# JPEG colour spaces that libjpeg-turbo converts to RGB and gray.
_COLOUR_SPACES = ("Gray", "RGB", "YCbCr")


class FrameError(ValueError):
    """A frame that does not decode, or has the wrong size."""


def decode_frame(data: bytes, image: ImageSpec, output: Frames, *, adopted: bool = False) -> Frames:
    """Returns a frame, RGB or gray: a JPEG of the stored size in ``output``, others in an array of their own.

    With ``adopted``, it may have another size and format than ``image``. Raises FrameError for other frames.
    """
    if not adopted and image.format == "JPEG":
        try:
            frame = _decode_jpeg(data, output)
        except FrameError:
            # A larger frame, which does not fit into ``output``, is named by its size.
            _check_size(_jpeg_header(data)[:2], image, adopted)
            raise
        _check_size((frame.shape[0], frame.shape[1]), image, adopted)
        return output
    if adopted and data.startswith(_JPEG_START):
        height, width, colour_space, _ = _jpeg_header(data)
        _check_size((height, width), image, adopted)
        if colour_space in _COLOUR_SPACES:
            return _decode_jpeg(data, np.empty((height, width, image.channels), np.uint8))
    elif (size := frame_size(data)) is not None:
        _check_size(size, image, adopted)
    else:
        raise FrameError("a frame does not decode as PNG or JPEG")
    return _decode_with_opencv(data, image.channels)


def _check_size(size: tuple[int, int], image: ImageSpec, adopted: bool) -> None:
    """Checks the size in a frame's header, before memory is allocated for its pixels."""
    height, width = size
    if not adopted and (height, width) != (image.height, image.width):
        raise FrameError(f"a frame is not {image.height}x{image.width}, but {height}x{width}")
    if height * width > MAX_PIXELS:
        raise FrameError(f"a frame has {height}x{width} pixels, the limit is {MAX_PIXELS}")


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
