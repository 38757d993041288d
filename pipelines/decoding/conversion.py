"""Decoded frames to pixels: RGB or what JPEG files hold, full range, upright."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from operator import mod
from typing import NamedTuple, cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from pipelines.decoding.pyav import AVERAGING, CONVERTING, forget_transfer
from pipelines.images import frames
from pipelines.images.frames import Orientation, Pixels, orient
from pipelines.images.yuv import LUMA_WEIGHTS, YuvPixels, to_jfif, yuv_to_rgb
from pipelines.options.dataset import ImageOptions

_UNTAGGED = (0, 2, 3)  # H.273: RGB or unknown, unspecified, reserved
_DISPLAY_MATRIX = struct.Struct("=9i")

_YUV_FORMATS = ("yuv", "nv12", "nv21", "p010")  # what their names begin with
# Pixels a sample of chroma covers, down and across.
_CUT_FORMATS = {
    **dict.fromkeys(("yuv420p", "yuvj420p"), (2, 2)),
    **dict.fromkeys(("yuv422p", "yuvj422p"), (1, 2)),
    **dict.fromkeys(("yuv444p", "yuvj444p"), (1, 1)),
}

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
        return orient(self._convert(image, *size, CONVERTING), read_orientation(image))

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
        layout = _Layout.of(image, options, pixel_aspect)
        return self._lay_out_rgb(image, layout, options, pixel_aspect)

    def _lay_out_rgb(
        self,
        image: av.VideoFrame,
        layout: _Layout,
        options: ImageOptions,
        pixel_aspect: Fraction,
    ) -> Pixels:
        # Of interlaced frames, swscale would scale each field by itself, and weave them again.
        if image.interlaced_frame or not layout.can_cut(image) or not layout.is_averaged(options):
            return frames.resize(
                self.to_rgb(image),
                options.height,
                options.width,
                mode=options.resize,
                interpolation=options.interpolation,
                pixel_aspect=pixel_aspect,
            )
        # Most of the work is on the pixels that come in, so these are touched once.
        scaled = self._convert(layout.cut(image), *layout.as_stored(layout.inner), AVERAGING)
        upright = orient(scaled, layout.orientation)
        return frames.place_in_middle(upright, options.height, options.width)

    def to_scaled(
        self, image: av.VideoFrame, options: ImageOptions, pixel_aspect: Fraction
    ) -> Pixels | YuvPixels:
        """As `to_scaled_rgb`, and what a JPEG file holds of it, where RGB in between can be spared.

        That leaves out several passes over the pixels, and roundings; colours that RGB has not stay.
        """
        layout = _Layout.of(image, options, pixel_aspect)
        matrix, full = _color_space(image)
        averaged = layout.is_averaged(options)
        if (
            options.image_format != "jpeg"
            or image.interlaced_frame
            or not _is_known_yuv(image, matrix)
            or not layout.can_cut(image)
            or not (averaged or layout.kept == layout.inner)
            or not layout.is_even(options)
        ):
            return self._lay_out_rgb(image, layout, options, pixel_aspect)
        size = layout.as_stored(layout.inner)
        interpolation = AVERAGING if averaged else CONVERTING
        planes = self._scale(layout.cut(image), *size, full, interpolation)
        upright = (orient(plane, layout.orientation) for plane in to_jfif(planes, matrix, full))
        return YuvPixels(*upright).placed(options.height, options.width)

    def _convert(self, image: av.VideoFrame, height: int, width: int, interpolation: int) -> Pixels:
        """The stored frame as ``[height, width, 3]`` uint8 RGB, full range.

        YUV is scaled as such, and what comes out is converted: swscale's own conversion to RGB is slower, and
        darker by about a level.
        """
        matrix, full = _color_space(image)
        if not _is_known_yuv(image, matrix):
            forget_transfer(image)
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
        planes = self._scale(image, height, width, full, interpolation)
        return cast(Pixels, cv2.transform(cv2.merge(planes), yuv_to_rgb(matrix, full)))

    def _scale(
        self,
        image: av.VideoFrame,
        height: int,
        width: int,
        full: bool,
        interpolation: int,
    ) -> list[NDArray[np.uint8]]:
        """Planes of YUV, ``[height, width]`` each.

        The range stays, as swscale would make chroma half a level less. Chroma gets the size of luma, and is
        halved later: swscale would place its samples as H.264 does, and not as JPEG.
        """
        color_range = ColorRange.JPEG if full else ColorRange.MPEG
        forget_transfer(image)
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
        return [_values(plane) for plane in scaled.planes]


class _Layout(NamedTuple):
    """How a frame comes to lie in what is stored.

    Attributes:
        orientation: how it is turned.
        upright: its size, height and width, once it is.
        kept: size of its middle that is kept, upright.
        inner: size to which that is scaled, upright.
    """

    orientation: Orientation
    upright: tuple[int, int]
    kept: tuple[int, int]
    inner: tuple[int, int]

    @classmethod
    def of(cls, image: av.VideoFrame, options: ImageOptions, pixel_aspect: Fraction) -> _Layout:
        orientation = read_orientation(image)
        upright = image.height, image.width
        if orientation.quarter_turns % 2:
            upright = upright[::-1]
        kept, inner = upright, (options.height, options.width)
        if options.resize == "crop":
            kept = frames.cropped_size(upright, inner, pixel_aspect)
        elif options.resize == "letterbox":
            inner = frames.letterbox_size(upright, inner, pixel_aspect)
        return cls(orientation, upright, kept, inner)

    def as_stored(self, size: tuple[int, int]) -> tuple[int, int]:
        """An upright size of the frame as it comes."""
        return size[::-1] if self.orientation.quarter_turns % 2 else size

    def can_cut(self, image: av.VideoFrame) -> bool:
        """Whether what is kept begins and ends between samples of chroma."""
        return self.kept == self.upright or _can_cut(image, *self.as_stored(self.kept))

    def cut(self, image: av.VideoFrame) -> av.VideoFrame:
        """What is kept."""
        if self.kept == self.upright:
            return image
        return _cut_middle(image, *self.as_stored(self.kept))

    def is_averaged(self, options: ImageOptions) -> bool:
        """Whether all that is kept is made smaller by averaging."""
        return (
            options.interpolation == "area"
            and self.kept != self.inner
            and all(
                new <= old <= _MAX_REDUCTION * new
                for old, new in zip(self.kept, self.inner, strict=True)
            )
        )

    def is_even(self, options: ImageOptions) -> bool:
        """Whether all that is stored consists of whole samples of halved chroma, however it is turned."""
        outer = options.height, options.width
        margins = ((out - own) // 2 for out, own in zip(outer, self.inner, strict=True))
        return not any(size % 2 for size in (*outer, *self.inner, *margins))


def _color_space(image: av.VideoFrame) -> tuple[int, bool]:
    """The matrix by H.273, and whether the range is full. Without a tag it is BT.601, as ffmpeg has it."""
    matrix = Colorspace.ITU601 if image.colorspace in _UNTAGGED else int(image.colorspace)
    is_full = image.color_range == ColorRange.JPEG or image.format.name.startswith("yuvj")
    return matrix, is_full


def _is_known_yuv(image: av.VideoFrame, matrix: int) -> bool:
    return matrix in LUMA_WEIGHTS and image.format.name.startswith(_YUV_FORMATS)


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
