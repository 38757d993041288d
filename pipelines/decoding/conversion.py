"""Decoded frames to pixels: RGB, full range, upright."""

from __future__ import annotations

import math
import struct
from typing import cast

import av
from av.sidedata.sidedata import SideData
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from pipelines.frames import Orientation, Pixels, orient

_UNTAGGED = (0, 2, 3)  # H.273: RGB or unknown, unspecified, reserved
_MATRIX = struct.Struct("=9i")


class FrameConverter:
    """Decoded frames to pixels; keeps what the conversion of like frames has in common."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def to_rgb(self, image: av.VideoFrame) -> Pixels:
        """``[height, width, 3]`` uint8 RGB, full range, upright.

        The matrix is the one the frame is tagged with; untagged YUV is BT.601, as ffmpeg takes it to be.
        """
        converted = self._reformatter.reformat(
            image,
            format="rgb24",
            src_colorspace=Colorspace.ITU601 if image.colorspace in _UNTAGGED else None,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        return orient(cast(Pixels, converted.to_ndarray()), read_orientation(image))


def read_orientation(image: av.VideoFrame) -> Orientation:
    """How the frame is to be turned, as its container or codec says."""
    side_data = cast("SideData | None", image.side_data.get("DISPLAYMATRIX"))
    data = b"" if side_data is None else bytes(side_data)
    if len(data) < _MATRIX.size:
        return Orientation()
    # It maps x' = a x + c y, y' = b x + d y, with y pointing down (ISO 14496-12 section 6.2.2).
    a, b, _, c, d, *_ = _MATRIX.unpack_from(data)
    if not (a or b) or not (c or d):
        return Orientation()  # it would leave nothing to see
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    degrees = math.degrees(math.atan2(-b, a))
    return Orientation(quarter_turns=round(degrees / 90) % 4, mirrored=mirrored)
