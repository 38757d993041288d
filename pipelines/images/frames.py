"""Turns frames upright, scales and encodes them: pure functions on arrays.

Frames are ``[height, width, channels]`` uint8, RGB (3 channels) or gray (1). Some functions also take
`YuvPixels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pipelines.images.regions import cut_out
from pipelines.images.yuv import YuvPixels
from pipelines.options.dataset import ImageOptions

Pixels = NDArray[np.uint8]

_INTERPOLATION = {
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}

_TURNS = {
    1: cv2.ROTATE_90_COUNTERCLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_CLOCKWISE,
}


@dataclass(frozen=True)
class Orientation:
    """The change from a stored picture to the upright one: mirrored left to right first, then turned.

    Attributes:
        quarter_turns: counter-clockwise, 0 to 3.
        mirrored: True if left and right are exchanged.
    """

    quarter_turns: int = 0
    mirrored: bool = False


def orient(pixels: Pixels, orientation: Orientation) -> Pixels:
    """Returns ``pixels``, or one plane of them, upright."""
    channels = pixels.shape[2:]
    if orientation.mirrored:
        pixels = cv2.flip(pixels, 1)
    turn = _TURNS.get(orientation.quarter_turns)
    if turn is not None:
        pixels = cv2.rotate(pixels, turn)
    return pixels.reshape(*pixels.shape[:2], *channels)


def resize(pixels: Pixels, options: ImageOptions, pixel_aspect: Fraction = Fraction(1)) -> Pixels:
    """Scales ``pixels`` to ``[*options.size, channels]``.

    Area interpolation is not defined for a frame that grows, which is scaled linearly.

    Args:
        pixels: the frame.
        options: the size; how a frame of another aspect ratio fits into it; and the interpolation.
        pixel_aspect: width of a pixel divided by its height (sample aspect ratio).

    Raises:
        RegionError: if the picture does not have a rectangle of the options.
    """
    pixels = cut_out(pixels, options.crop_region, options.mask)
    outer = inner = options.size
    if options.resize == "crop":
        kept_height, kept_width = cropped_size(pixels.shape, outer, pixel_aspect)
        top, left = (pixels.shape[0] - kept_height) // 2, (pixels.shape[1] - kept_width) // 2
        pixels = pixels[top : top + kept_height, left : left + kept_width]
    elif options.resize == "letterbox":
        inner = letterbox_size(pixels.shape, outer, pixel_aspect)
    if pixels.shape[:2] != inner:
        method = _INTERPOLATION[options.interpolation]
        if method == cv2.INTER_AREA and (inner[0] > pixels.shape[0] or inner[1] > pixels.shape[1]):
            method = cv2.INTER_LINEAR
        pixels = _as_pixels(cv2.resize(pixels, inner[::-1], interpolation=method))
    return center(pixels, *outer)


def cropped_size(
    size: tuple[int, ...], target: tuple[int, int], pixel_aspect: Fraction
) -> tuple[int, int]:
    """Returns height and width of the middle of a frame of ``size`` with the aspect ratio of ``target``."""
    height, width = size[:2]
    aspect = Fraction(target[1], target[0]) / pixel_aspect
    if Fraction(width, height) > aspect:
        return height, max(1, round(height * aspect))
    return max(1, round(width / aspect)), width


def letterbox_size(
    size: tuple[int, ...], outer: tuple[int, int], pixel_aspect: Fraction
) -> tuple[int, int]:
    """Returns height and width to which a frame of ``size`` is scaled to fit inside ``outer``."""
    height, width = outer
    aspect = Fraction(size[1], size[0]) * pixel_aspect
    if aspect > Fraction(width, height):
        return max(1, round(width / aspect)), width
    return height, max(1, round(height * aspect))


def center(pixels: Pixels, height: int, width: int, value: int = 0) -> Pixels:
    """Returns ``pixels``, or one plane of them, in the middle of a picture that is ``value`` elsewhere."""
    inner_height, inner_width = pixels.shape[:2]
    if (inner_height, inner_width) == (height, width):
        return pixels
    canvas = np.full((height, width, *pixels.shape[2:]), value, np.uint8)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    canvas[top : top + inner_height, left : left + inner_width] = pixels
    return canvas


def to_gray(pixels: Pixels | YuvPixels) -> Pixels:
    """Returns the BT.601 luma of ``pixels``, ``[height, width, 1]``."""
    if isinstance(pixels, YuvPixels):
        return pixels.y[:, :, np.newaxis]
    if pixels.shape[2] == 1:
        return pixels
    return _as_pixels(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def encode(pixels: Pixels | YuvPixels, options: ImageOptions) -> bytes:
    """Returns ``pixels`` as a JPEG file (JFIF: BT.601, full range, halved chroma) or a PNG file.

    Raises:
        ValueError: if they cannot be encoded.
    """
    if isinstance(pixels, YuvPixels):
        return bytes(simplejpeg.encode_jpeg_yuv_planes(*pixels, quality=options.jpeg_quality))
    # OpenCV takes BGR. Everything else here is RGB.
    ordered = pixels if pixels.shape[2] == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    if options.image_format == "jpeg":
        encoded, data = cv2.imencode(
            ".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality]
        )
    else:
        encoded, data = cv2.imencode(".png", ordered)
    if not encoded:
        raise ValueError(f"could not encode a frame of shape {pixels.shape}")
    return bytes(data)


def _as_pixels(array: NDArray[np.uint8]) -> Pixels:
    # OpenCV drops the axis of a single channel.
    return array if array.ndim == 3 else array[:, :, np.newaxis]
