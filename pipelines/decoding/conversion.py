"""Converts decoded video frames to upright, full-range pixels: RGB, or YUV as JPEG files store it."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from operator import mod
from typing import Any, cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.pyav import AVERAGING, CONVERTING, forget_transfer
from pipelines.images import frames
from pipelines.images.frames import Orientation, Pixels, orient
from pipelines.images.yuv import LUMA_WEIGHTS, NEUTRAL, YuvPixels, to_jfif, yuv_to_rgb
from pipelines.options.dataset import ImageOptions

_UNTAGGED = (0, 2, 3)  # H.273: RGB or unknown, unspecified, reserved
_DISPLAY_MATRIX = struct.Struct("=9i")

_YUV_FORMATS = ("yuv", "nv12", "nv21", "p010")  # prefixes of their names
# Pixels per sample of chroma, vertically and horizontally.
_CROP_FORMATS = {
    **dict.fromkeys(("yuv420p", "yuvj420p"), (2, 2)),
    **dict.fromkeys(("yuv422p", "yuvj422p"), (1, 2)),
    **dict.fromkeys(("yuv444p", "yuvj444p"), (1, 1)),
}

_MAX_REDUCTION = 64  # limit of swscale's filters, in pixels


# Keeps what it prepared for the frame before. A decoder process converts in one thread.
_REFORMATTER = VideoReformatter()


class VideoPicture:
    """The picture of a video's frame, as `FramePicture`.

    For a frame that was skipped, ``decoded`` is a function that decodes it after all.
    """

    def __init__(
        self, decoded: av.VideoFrame | Callable[[], av.VideoFrame], stored_aspect: Fraction
    ):
        self._decoded = decoded
        self._stored_aspect = stored_aspect

    @property
    def image(self) -> av.VideoFrame:
        """The decoded picture; one that was skipped is decoded now."""
        if not isinstance(self._decoded, av.VideoFrame):
            self._decoded = self._decoded()
        return self._decoded

    @property
    def pixel_aspect(self) -> Fraction:
        """See `FramePicture`."""
        return _upright_aspect(self._stored_aspect, read_orientation(self.image))

    def to_rgb(self) -> Pixels:
        """See `FramePicture`."""
        return to_rgb(self.image)

    def to_scaled(self, options: ImageOptions) -> Pixels | YuvPixels:
        """See `FramePicture`."""
        return to_scaled(self.image, options, self._stored_aspect)

    def stored_file(self, options: ImageOptions) -> None:
        """Returns None: a video's frames are not files."""


def to_rgb(image: av.VideoFrame) -> Pixels:
    """Returns the upright frame as ``[height, width, 3]`` uint8 RGB, full range.

    The matrix is the one that the frame is tagged with. Untagged YUV is BT.601, as in ffmpeg.
    """
    return orient(_convert(image, image.height, image.width, CONVERTING), read_orientation(image))


def to_scaled(
    image: av.VideoFrame, options: ImageOptions, stored_aspect: Fraction
) -> Pixels | YuvPixels:
    """Returns the upright frame of ``options.size``, for encoding.

    It is `frames.resize` of `to_rgb` but for rounding. A frame that becomes a JPEG file stays YUV if
    possible, which saves several passes over the pixels and keeps colours that RGB does not have.

    ``stored_aspect`` is the width of a pixel of the stored frame divided by its height.
    """
    orientation = read_orientation(image)
    if options.changes_picture:
        return frames.resize(to_rgb(image), options, _upright_aspect(stored_aspect, orientation))
    # Sizes are (height, width) of the stored frame. Its middle, `kept`, is scaled to `inner`.
    outer = options.size[::-1] if orientation.quarter_turns % 2 else options.size
    size = kept = image.height, image.width
    inner = outer
    if options.resize == "crop":
        kept = frames.cropped_size(size, outer, stored_aspect)
    elif options.resize == "letterbox":
        inner = frames.letterbox_size(size, outer, stored_aspect)
    is_averaged = (
        options.interpolation == "area"
        and kept != inner
        and all(n <= old <= _MAX_REDUCTION * n for old, n in zip(kept, inner, strict=True))
    )
    matrix, full = _color_space(image)
    # Halved chroma needs even sizes and margins.
    stays_yuv = (
        options.image_format == "jpeg"
        and matrix is not None
        and not any(n % 2 or out % 2 or (out - n) % 4 for out, n in zip(outer, inner, strict=True))
    )
    # Interlaced frames: swscale would scale each field by itself and interleave them again.
    can_scale = not image.interlaced_frame and (kept == size or _can_crop(image, *kept))
    if can_scale and (is_averaged or (stays_yuv and kept == inner)):
        middle = image if kept == size else _crop_middle(image, *kept)
        interpolation = AVERAGING if is_averaged else CONVERTING
        if stays_yuv and matrix is not None:
            y, u, v = (
                orient(plane, orientation)
                for plane in to_jfif(_scale(middle, *inner, full, interpolation), matrix, full)
            )
            half = options.size[0] // 2, options.size[1] // 2
            u, v = (frames.center(plane, *half, NEUTRAL) for plane in (u, v))
            return YuvPixels(frames.center(y, *options.size), u, v)
        # swscale reads each input pixel once, and they are most of the work.
        scaled = orient(_convert(middle, *inner, interpolation), orientation)
        return frames.center(scaled, *options.size)
    return frames.resize(to_rgb(image), options, _upright_aspect(stored_aspect, orientation))


def _upright_aspect(stored_aspect: Fraction, orientation: Orientation) -> Fraction:
    return 1 / stored_aspect if orientation.quarter_turns % 2 else stored_aspect


def _convert(image: av.VideoFrame, height: int, width: int, interpolation: int) -> Pixels:
    """Returns the stored frame as ``[height, width, 3]`` uint8 RGB, full range.

    YUV is scaled first and converted then. swscale's own conversion to RGB is slower, and darker by about
    one level.
    """
    matrix, full = _color_space(image)
    if matrix is not None:
        planes = _scale(image, height, width, full, interpolation)
        return cast(Pixels, cv2.transform(cv2.merge(planes), yuv_to_rgb(matrix, full)))
    converted = _reformat(
        *(image, width, height),
        format="rgb24",
        src_colorspace=Colorspace.ITU601 if image.colorspace in _UNTAGGED else None,
        dst_color_range=ColorRange.JPEG,
        interpolation=interpolation,
    )
    return cast(Pixels, converted.to_ndarray())


def _reformat(image: av.VideoFrame, width: int, height: int, **options: Any) -> av.VideoFrame:
    """Converts a frame with swscale; raises `DecodingFailure` if it does not know the color space."""
    forget_transfer(image)
    try:
        return _REFORMATTER.reformat(image, width, height, threads=1, **options)
    except av.FFmpegError as error:
        kind = f"{image.format.name} with the color space {int(image.colorspace)} of H.273"
        raise DecodingFailure("decode", f"frames of {kind} cannot be converted to RGB") from error


def _scale(
    image: av.VideoFrame, height: int, width: int, full: bool, interpolation: int
) -> list[NDArray[np.uint8]]:
    """Returns the planes of YUV, ``[height, width]`` each.

    The range is kept, because swscale's conversion lowers chroma by half a level. Chroma gets the size of
    luma and is halved later, because swscale places its samples as H.264 does, not as JPEG does.
    """
    color_range = ColorRange.JPEG if full else ColorRange.MPEG
    scaled = _reformat(
        *(image, width, height),
        format="yuv444p",
        src_color_range=color_range,
        dst_color_range=color_range,
        interpolation=interpolation,
    )
    return [_values(plane) for plane in scaled.planes]


def _color_space(image: av.VideoFrame) -> tuple[int | None, bool]:
    """Returns the matrix of YUV by H.273, and if the range is full. Untagged is BT.601, as in ffmpeg.

    The matrix is None for another color model, and if it is unknown.
    """
    matrix = Colorspace.ITU601 if image.colorspace in _UNTAGGED else int(image.colorspace)
    name = image.format.name
    is_known = matrix in LUMA_WEIGHTS and name.startswith(_YUV_FORMATS)
    is_full = image.color_range == ColorRange.JPEG or name.startswith("yuvj")
    return matrix if is_known else None, is_full


def _values(plane: VideoPlane) -> NDArray[np.uint8]:
    """Returns a view of an 8-bit plane as ``[height, width]``."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _can_crop(image: av.VideoFrame, height: int, width: int) -> bool:
    """Returns True if the middle of a frame starts and ends between samples of chroma."""
    down, across = _CROP_FORMATS.get(image.format.name, (0, 0))
    edges = (image.height - height) // 2, height, (image.width - width) // 2, width
    return bool(down) and not any(map(mod, edges, (down, down, across, across)))


def _crop_middle(image: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
    """Returns the middle of a frame of `_CROP_FORMATS`."""
    part = av.VideoFrame(width, height, image.format.name)
    part.colorspace, part.color_range = image.colorspace, image.color_range
    for whole, cropped in zip(image.planes, part.planes, strict=True):
        top = (image.height - height) // 2 * whole.height // image.height
        left = (image.width - width) // 2 * whole.width // image.width
        _values(cropped)[:] = _values(whole)[
            top : top + cropped.height, left : left + cropped.width
        ]
    return part


def read_orientation(image: av.VideoFrame) -> Orientation:
    """Returns the orientation that the container or codec declares for a frame."""
    # `image.side_data` and the frame refer to each other, which would keep both in memory.
    side_data = cast("SideData | None", SideDataContainer(image).get("DISPLAYMATRIX"))  # type: ignore[call-arg]
    data = b"" if side_data is None else bytes(side_data)
    if len(data) < _DISPLAY_MATRIX.size:
        return Orientation()
    # It maps x' = a x + c y, y' = b x + d y, with y pointing down (ISO 14496-12 section 6.2.2).
    a, b, _, c, d, *_ = _DISPLAY_MATRIX.unpack_from(data)
    if not (a or b) or not (c or d):
        return Orientation()  # a degenerate matrix
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    degrees = math.degrees(math.atan2(-b, a))
    return Orientation(quarter_turns=round(degrees / 90) % 4, mirrored=mirrored)
