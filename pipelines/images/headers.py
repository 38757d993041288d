"""Reads headers and pixels of untrusted image files.

The header is read first, so that a picture that claims to be huge is refused before it takes any memory.
Pictures are turned upright here, never by a library's default.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.images.frames import Orientation, orient

FileFormat = Literal["JPEG", "PNG", "BMP", "WEBP", "TIFF"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_JPEG_START = b"\xff\xd8"
# Markers other than those within coded pixels: FF00 is the byte FF, D0 to D7 restart the decoder.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_END, _JPEG_SCAN, _JPEG_APP1 = 0xD9, 0xDA, 0xE1
_JPEG_BARE = (0x01, 0xD8, _JPEG_END)  # markers without a segment
# Start-of-frame markers. C4, C8 and CC are not among them.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_WIDTH, _HEIGHT, _SAMPLES, _ORIENTATION = 256, 257, 277, 274  # tags of TIFF, and of EXIF
_SHORT, _LONG = 3, 4
_UNKNOWN_ORIENTATION = 0
_QUARTER_TURNS, _MIRRORED = (0, 0, 0, 2, 2, 1, 3, 3, 1), (2, 4, 5, 7)  # by EXIF's orientation


class ImageError(ValueError):
    """An unusable image file. The message completes a sentence that starts with "it"."""


class Header(NamedTuple):
    """The header of an image file.

    Attributes:
        format: format of the file.
        height, width: size of the stored picture in pixels.
        channels: components per pixel; 0 if unknown.
        orientation: 1 to 8 by EXIF, 1 without EXIF; 0 if the EXIF data is broken or has another value.
    """

    format: FileFormat
    height: int
    width: int
    channels: int
    orientation: int = 1

    @property
    def upright(self) -> bool:
        """True if the stored picture is known to be upright."""
        return self.orientation == 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the upright picture."""
        turned = self.orientation >= 5
        return (self.width, self.height) if turned else (self.height, self.width)


def read_header(data: bytes) -> Header | None:
    """Returns the header of a JPEG, PNG, BMP, WebP or TIFF file; None if ``data`` is none of them."""
    try:
        if data.startswith(_PNG_SIGNATURE):
            return _read_png_header(data)
        if data.startswith(_JPEG_START):
            return _read_jpeg_header(data)
        if data.startswith(b"BM"):
            return _read_bmp_header(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _read_webp_header(data)
        if data[:4] in _TIFF_BYTE_ORDERS:
            return _read_tiff_header(data)
    except struct.error:  # the file ends within its header
        return None
    return None


def decode(data: bytes, header: Header, flags: int) -> NDArray[np.generic]:
    """Returns the pixels of a complete image file as OpenCV's ``imdecode`` does with ``flags``.

    The caller has checked the header.

    Raises:
        ImageError: if the file is damaged or truncated.
    """
    # Some versions of the decoder fill the missing part of a truncated JPEG with gray.
    if header.format == "JPEG" and all(m != _JPEG_END for m, *_ in jpeg_segments(data)):
        raise ImageError("is a truncated JPEG file: it has no end marker")
    # OpenCV allocates as many bytes as a chunk declares, up to 4 GiB.
    if header.format == "PNG" and any(end + 4 > len(data) for *_, end in _png_chunks(data)):
        raise ImageError("is a truncated PNG file: it ends within a chunk")
    try:
        pixels: NDArray[np.generic] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        reason = " ".join(str(error).split())[-200:]
        raise ImageError(f"is a damaged {header.format} file: {reason}") from error
    if pixels is None:
        raise ImageError(f"is a damaged {header.format} file")
    return pixels


def decode_rgb(data: bytes, header: Header) -> NDArray[np.uint8]:
    """Returns the upright picture as ``[height, width, 3]`` uint8 RGB.

    Raises:
        ImageError: if the file is damaged or truncated.
    """
    pixels: Any = decode(data, header, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if header.format != "TIFF":  # libtiff always turns pictures upright
        turns = _QUARTER_TURNS[header.orientation]
        pixels = orient(pixels, Orientation(turns, header.orientation in _MIRRORED))
    if pixels.shape != (*header.upright_size, 3) or pixels.dtype != np.uint8:
        shape = f"{pixels.shape} {pixels.dtype.name}"
        raise ImageError(f"decodes to {shape}, but its header declares {header.upright_size}")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields each marker of a JPEG file with the start and end of its segment.

    Skips stray bytes between segments, as decoders do.
    """
    place = len(_JPEG_START)
    while found := _JPEG_MARKER.search(data, place):
        marker, start = data[found.start() + 1], found.end()
        if marker in _JPEG_BARE:
            yield marker, start, start
            place = start
            continue
        if start + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, start)
        place = start + length
        yield marker, start + 2, place


def _read_jpeg_header(data: bytes) -> Header | None:
    header, orientation = None, None
    for marker, start, end in jpeg_segments(data):
        if marker in (_JPEG_SCAN, _JPEG_END):
            break
        if marker in _START_OF_FRAME and header is None:
            height, width, channels = struct.unpack_from(">HHB", data, start + 1)
            header = Header("JPEG", height, width, channels)
        if marker == _JPEG_APP1 and orientation is None and data.startswith(b"Exif\0", start):
            orientation = _orientation(data[start + 6 : end])
    if header is None or orientation is None:
        return header
    return header._replace(orientation=orientation)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and end of the contents of each chunk; the last may end beyond the file."""
    place, kind = len(_PNG_SIGNATURE), b""
    while place + 8 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, place)
        yield kind, place + 8, place + 8 + length
        place += 12 + length  # a checksum follows


def _read_png_header(data: bytes) -> Header | None:
    if data[12:16] != b"IHDR":
        return None
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    header = Header("PNG", height, width, _PNG_CHANNELS.get(colour, 0))
    for kind, start, end in _png_chunks(data):
        if kind == b"eXIf":
            return header._replace(orientation=_orientation(data[start:end]))
        if kind == b"IDAT":
            break
    return header


def _read_bmp_header(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:  # OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    channels = {24: 3, 32: 4}.get(bits, 0)
    return Header("BMP", abs(height), abs(width), channels)  # negative: rows from the top


def _read_webp_header(data: bytes) -> Header | None:
    kind = data[12:16]
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", height & 0x3FFF, width & 0x3FFF, 3)
    if kind == b"VP8L" and data[20:21] == b"\x2f":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WEBP", (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, 0)
    if kind != b"VP8X":
        return None
    low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
    height, width = (low_height | high_height << 16) + 1, (low_width | high_width << 16) + 1
    header = Header("WEBP", height, width, 0)
    place = 12
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        if kind == b"EXIF":
            exif = data[place + 8 : place + 8 + length].removeprefix(b"Exif\0\0")
            return header._replace(orientation=_orientation(exif))
        place += 8 + length + length % 2
    return header


def _read_tiff_header(data: bytes) -> Header | None:
    tags = _read_tags(data)
    if tags is None or min(tags.get(_WIDTH, -1), tags.get(_HEIGHT, -1)) < 0:
        return None
    channels = max(0, tags.get(_SAMPLES, 1))
    return Header("TIFF", tags[_HEIGHT], tags[_WIDTH], channels, _orientation(data))


def _orientation(exif: bytes) -> int:
    """Returns the orientation in EXIF data: 1 if it has none, `_UNKNOWN_ORIENTATION` if it is broken."""
    tags = _read_tags(exif)
    orientation = _UNKNOWN_ORIENTATION if tags is None else tags.get(_ORIENTATION, 1)
    return orientation if 1 <= orientation <= 8 else _UNKNOWN_ORIENTATION


def _read_tags(data: bytes) -> dict[int, int] | None:
    """Returns the integer tags of the first directory of TIFF data; None if it is broken.

    A tag of another type has the value -1.
    """
    order = _TIFF_BYTE_ORDERS.get(data[:4])
    try:
        if order is None:
            return None
        (place,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, place)
        tags = {}
        for index in range(count):
            start = place + 2 + 12 * index
            tag, kind, values = struct.unpack_from(f"{order}HHI", data, start)
            # A short number is in the first two of the four bytes, in either byte order.
            code = {_SHORT: "H2x", _LONG: "I"}.get(kind)
            if code is None or values != 1:
                tags[tag] = -1
            else:
                (tags[tag],) = struct.unpack_from(f"{order}{code}", data, start + 8)
    except struct.error:
        return None
    return tags
