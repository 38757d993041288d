"""Converts decoded video frames to upright, full-range pixels: RGB, or YUV as JPEG files store it."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
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

_YUV_FORMATS = ("yuv", "nv12", "nv21", "p010")  # prefixes of their names
# Pixels per sample of chroma, vertically and horizontally.
_CROP_FORMATS = {
    **dict.fromkeys(("yuv420p", "yuvj420p"), (2, 2)),
    **dict.fromkeys(("yuv422p", "yuvj422p"), (1, 2)),
    **dict.fromkeys(("yuv444p", "yuvj444p"), (1, 1)),
}

_MAX_REDUCTION = 64  # limit of swscale's filters, in pixels


class VideoPicture:
    """The picture of a video's frame, as `FramePicture`.

    Args:
        decoded: the decoded picture; for a frame that was skipped, a function that decodes it after all.
        stored_aspect: width of a pixel of the stored picture divided by its height.
        converter: converter of the video's frames.
    """

    def __init__(
        self,
        decoded: av.VideoFrame | Callable[[], av.VideoFrame],
        stored_aspect: Fraction,
        converter: FrameConverter,
    ):
        self._decoded = decoded
        self._stored_aspect = stored_aspect
        self._converter = converter

    @property
    def is_skipped(self) -> bool:
        """True if the picture was not decoded yet."""
        return not isinstance(self._decoded, av.VideoFrame)

    @property
    def image(self) -> av.VideoFrame:
        """The decoded picture.

        Raises:
            DecodingFailure: if a skipped picture does not decode.
        """
        if not isinstance(self._decoded, av.VideoFrame):
            self._decoded = self._decoded()
        return self._decoded

    @property
    def pixel_aspect(self) -> Fraction:
        """See `FramePicture`."""
        if self._stored_aspect == 1 or not read_orientation(self.image).quarter_turns % 2:
            return self._stored_aspect
        return 1 / self._stored_aspect

    def to_rgb(self) -> Pixels:
        """See `FramePicture`."""
        return self._converter.to_rgb(self.image)

    def to_scaled(self, options: ImageOptions) -> Pixels | YuvPixels:
        """See `FramePicture`."""
        return self._converter.to_scaled(self.image, options, self.pixel_aspect)

    def stored_file(self, options: ImageOptions) -> None:
        """Returns None: a video's frames are not files."""


class FrameConverter:
    """Converts decoded frames to pixels. One object converts the frames of a video, which are alike."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def to_rgb(self, image: av.VideoFrame) -> Pixels:
        """Returns the upright frame as ``[height, width, 3]`` uint8 RGB, full range.

        The matrix is the one that the frame is tagged with. Untagged YUV is BT.601, as in ffmpeg.
        """
        size = image.height, image.width
        return orient(self._convert(image, *size, CONVERTING), read_orientation(image))

    def to_scaled(
        self, image: av.VideoFrame, options: ImageOptions, pixel_aspect: Fraction
    ) -> Pixels | YuvPixels:
        """Returns the upright frame with ``options.height`` by ``options.width`` pixels, for encoding.

        It is `frames.resize` of `to_rgb` but for rounding. A frame that becomes a JPEG file stays YUV if
        possible, which saves several passes over the pixels and keeps colours that RGB does not have.

        Args:
            image: the frame.
            options: size, resize mode, interpolation and format.
            pixel_aspect: width of a pixel of the upright frame divided by its height.

        Returns:
            ``[height, width, 3]`` uint8 RGB, full range; or YUV as JPEG files store it.
        """
        layout = _Layout.of(image, options, pixel_aspect)
        is_averaged = layout.is_averaged(options)
        # Interlaced frames: swscale would scale each field by itself and interleave them again.
        can_scale = not image.interlaced_frame and layout.can_crop(image)
        matrix, full = _color_space(image)
        if (
            can_scale
            and options.image_format == "jpeg"
            and (is_averaged or layout.kept == layout.inner)
            and _is_known_yuv(image, matrix)
            and layout.is_even(options)
        ):
            size = layout.as_stored(layout.inner)
            interpolation = AVERAGING if is_averaged else CONVERTING
            planes = self._scale(layout.crop(image), *size, full, interpolation)
            upright = (orient(plane, layout.orientation) for plane in to_jfif(planes, matrix, full))
            return YuvPixels(*upright).placed(options.height, options.width)
        if can_scale and is_averaged:
            # swscale reads each input pixel once, and they are most of the work.
            scaled = self._convert(layout.crop(image), *layout.as_stored(layout.inner), AVERAGING)
            return frames.center_on_black(
                orient(scaled, layout.orientation), options.height, options.width
            )
        return frames.resize(
            self.to_rgb(image),
            options.height,
            options.width,
            mode=options.resize,
            interpolation=options.interpolation,
            pixel_aspect=pixel_aspect,
        )

    def _convert(self, image: av.VideoFrame, height: int, width: int, interpolation: int) -> Pixels:
        """Returns the stored frame as ``[height, width, 3]`` uint8 RGB, full range.

        YUV is scaled first and converted then. swscale's own conversion to RGB is slower, and darker by
        about one level.
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
        """Returns the planes of YUV, ``[height, width]`` each.

        The range is kept, because swscale's conversion lowers chroma by half a level. Chroma gets the size
        of luma and is halved later, because swscale places its samples as H.264 does, not as JPEG does.
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
    """The geometry of a frame in the stored image. Sizes are (height, width) of the upright frame.

    Attributes:
        orientation: turns the frame upright.
        upright: size of the whole frame.
        kept: size of the middle that is kept.
        inner: size to which that is scaled.
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
        """Returns an upright size as (height, width) of the stored frame."""
        return size[::-1] if self.orientation.quarter_turns % 2 else size

    def can_crop(self, image: av.VideoFrame) -> bool:
        """Returns True if the kept part starts and ends between samples of chroma."""
        return self.kept == self.upright or _can_crop(image, *self.as_stored(self.kept))

    def crop(self, image: av.VideoFrame) -> av.VideoFrame:
        """Returns the kept part of the frame."""
        if self.kept == self.upright:
            return image
        return _crop_middle(image, *self.as_stored(self.kept))

    def is_averaged(self, options: ImageOptions) -> bool:
        """Returns True if the kept part is made smaller by averaging."""
        return (
            options.interpolation == "area"
            and self.kept != self.inner
            and all(
                new <= old <= _MAX_REDUCTION * new
                for old, new in zip(self.kept, self.inner, strict=True)
            )
        )

    def is_even(self, options: ImageOptions) -> bool:
        """Returns True if sizes and margins are even, as halved chroma needs."""
        outer = options.height, options.width
        margins = ((out - own) // 2 for out, own in zip(outer, self.inner, strict=True))
        return not any(size % 2 for size in (*outer, *self.inner, *margins))


def _color_space(image: av.VideoFrame) -> tuple[int, bool]:
    """Returns the matrix by H.273, and if the range is full. Untagged is BT.601, as in ffmpeg."""
    matrix = Colorspace.ITU601 if image.colorspace in _UNTAGGED else int(image.colorspace)
    is_full = image.color_range == ColorRange.JPEG or image.format.name.startswith("yuvj")
    return matrix, is_full


def _is_known_yuv(image: av.VideoFrame, matrix: int) -> bool:
    return matrix in LUMA_WEIGHTS and image.format.name.startswith(_YUV_FORMATS)


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
