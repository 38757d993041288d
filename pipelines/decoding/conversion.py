"""Decoded frames to pixels: RGB, full range, upright."""

from __future__ import annotations

import functools
import math
import struct
from fractions import Fraction
from operator import mod
from typing import cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipelines import frames
from pipelines.frames import Orientation, Pixels, orient
from pipelines.options import ImageOptions

_UNTAGGED = (0, 2, 3)  # H.273: RGB or unknown, unspecified, reserved
_DISPLAY_MATRIX = struct.Struct("=9i")

# Weights of red and blue in luma, by H.273's matrix coefficients.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_YUV_FORMATS = ("yuv", "nv12", "nv21", "p010")  # what their names begin with
# Pixels a sample of chroma covers, down and across.
_CUT_FORMATS = {
    **dict.fromkeys(("yuv420p", "yuvj420p"), (2, 2)),
    **dict.fromkeys(("yuv422p", "yuvj422p"), (1, 2)),
    **dict.fromkeys(("yuv444p", "yuvj444p"), (1, 1)),
}

# Rounded, not cut off, and the same on every processor: it costs a tenth of the scaling here, and three times
# as much as the rest where the size stays.
_AVERAGING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_MAX_REDUCTION = 64  # swscale's filters take so many pixels, and not many more


class FrameConverter:
    """Decoded frames to pixels; keeps what the conversion of like frames has in common."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def to_rgb(self, image: av.VideoFrame) -> Pixels:
        """``[height, width, 3]`` uint8 RGB, full range, upright.

        The matrix is the one the frame is tagged with; untagged YUV is BT.601, as ffmpeg takes it to be.
        """
        size = image.height, image.width
        return orient(self._convert(image, *size, Interpolation.BICUBIC), read_orientation(image))

    def to_scaled_rgb(
        self, image: av.VideoFrame, options: ImageOptions, pixel_aspect: Fraction
    ) -> Pixels:
        """``[options.height, options.width, 3]`` uint8 RGB, full range, upright.

        It is what `frames.resize` would make of `to_rgb`, but for rounding.

        Args:
            image: the frame.
            options: how it is to be scaled.
            pixel_aspect: width of a pixel of the upright frame divided by its height.
        """
        orientation = read_orientation(image)
        lies = orientation.quarter_turns % 2
        upright = (image.width, image.height) if lies else (image.height, image.width)
        size = options.height, options.width
        kept, inner = upright, size
        if options.resize == "crop":
            kept = frames.cropped_size(upright, size, pixel_aspect)
        elif options.resize == "letterbox":
            inner = frames.letterbox_size(upright, size, pixel_aspect)
        whole = kept == upright
        stored = kept[::-1] if lies else kept
        # Of interlaced frames, swscale would scale each field by itself, and weave them again.
        if (
            image.interlaced_frame
            or not (whole or _can_cut(image, *stored))
            or not _is_averaged(kept, inner, options)
        ):
            return frames.resize(
                self.to_rgb(image),
                *size,
                mode=options.resize,
                interpolation=options.interpolation,
                pixel_aspect=pixel_aspect,
            )
        # Most of the work is on the pixels that come in, so these are touched once.
        part = image if whole else _cut_middle(image, *stored)
        scaled = self._convert(part, *(inner[::-1] if lies else inner), _AVERAGING)
        return frames.place_in_middle(orient(scaled, orientation), *size)

    def _convert(
        self, image: av.VideoFrame, height: int, width: int, interpolation: Interpolation
    ) -> Pixels:
        """The stored frame as ``[height, width, 3]`` uint8 RGB, full range.

        YUV is scaled as such, and what comes out is converted: swscale's own conversion to RGB is slower, and
        darker by about a level.
        """
        matrix = Colorspace.ITU601 if image.colorspace in _UNTAGGED else int(image.colorspace)
        if matrix not in _LUMA_WEIGHTS or not image.format.name.startswith(_YUV_FORMATS):
            converted = self._reformatter.reformat(
                image,
                width,
                height,
                format="rgb24",
                src_colorspace=Colorspace.ITU601 if image.colorspace in _UNTAGGED else None,
                dst_color_range=ColorRange.JPEG,
                interpolation=interpolation,
                threads=1,
            )
            return cast(Pixels, converted.to_ndarray())
        full = image.color_range == ColorRange.JPEG or image.format.name.startswith("yuvj")
        color_range = ColorRange.JPEG if full else ColorRange.MPEG
        scaled = self._reformatter.reformat(
            image,
            width,
            height,
            format="yuv444p",
            src_color_range=color_range,
            dst_color_range=color_range,
            interpolation=interpolation,
            threads=1,
        )
        planes = [_values(plane) for plane in scaled.planes]
        return cast(Pixels, cv2.transform(cv2.merge(planes), _yuv_to_rgb(matrix, full)))


def _values(plane: VideoPlane) -> NDArray[np.uint8]:
    """``[height, width]`` of a plane of 8 bits; not a copy."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _can_cut(image: av.VideoFrame, height: int, width: int) -> bool:
    """Whether the middle of a frame begins and ends between samples of chroma."""
    down, across = _CUT_FORMATS.get(image.format.name, (0, 0))
    edges = (image.height - height) // 2, height, (image.width - width) // 2, width
    return bool(down) and not any(map(mod, edges, (down, down, across, across)))


def _cut_middle(image: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
    """The middle of a frame of `_CUT_FORMATS`."""
    part = av.VideoFrame(width, height, image.format.name)
    part.colorspace, part.color_range = image.colorspace, image.color_range
    for whole, cut in zip(image.planes, part.planes, strict=True):
        top = (image.height - height) // 2 * whole.height // image.height
        left = (image.width - width) // 2 * whole.width // image.width
        _values(cut)[:] = _values(whole)[top : top + cut.height, left : left + cut.width]
    return part


def _is_averaged(kept: tuple[int, int], inner: tuple[int, int], options: ImageOptions) -> bool:
    """Whether all that is kept of a frame is made smaller by averaging."""
    return (
        options.interpolation == "area"
        and kept != inner
        and all(new <= old <= _MAX_REDUCTION * new for old, new in zip(kept, inner, strict=True))
    )


@functools.cache
def _yuv_to_rgb(matrix: int, full_range: bool) -> NDArray[np.float64]:
    """``[3, 4]``: full-range RGB from 8-bit YUV and 1, by H.273's equations for ``matrix``."""
    red, blue = _LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    from_luma = 1.0 if full_range else 255 / 219
    from_chroma = 2.0 if full_range else 2 * 255 / 224
    u = from_chroma * np.array([0.0, -blue * (1 - blue) / green, 1 - blue])
    v = from_chroma * np.array([1 - red, -red * (1 - red) / green, 0.0])
    y = np.full(3, from_luma)
    offset = -128 * (u + v) - (0.0 if full_range else 16 * from_luma)
    return np.stack([y, u, v, offset], axis=1)


def read_orientation(image: av.VideoFrame) -> Orientation:
    """How the frame is to be turned, as its container or codec says."""
    # The frame's own `side_data` and the frame refer to each other, and would stay long after their use.
    side_data = cast("SideData | None", SideDataContainer(image).get("DISPLAYMATRIX"))  # type: ignore[call-arg]
    data = b"" if side_data is None else bytes(side_data)
    if len(data) < _DISPLAY_MATRIX.size:
        return Orientation()
    # It maps x' = a x + c y, y' = b x + d y, with y pointing down (ISO 14496-12 section 6.2.2).
    a, b, _, c, d, *_ = _DISPLAY_MATRIX.unpack_from(data)
    if not (a or b) or not (c or d):
        return Orientation()  # it would leave nothing to see
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    degrees = math.degrees(math.atan2(-b, a))
    return Orientation(quarter_turns=round(degrees / 90) % 4, mirrored=mirrored)
