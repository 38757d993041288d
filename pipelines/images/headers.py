"""Image files without trust: what the header says, and pixels that are whole.

The header is read first, so that a picture that claims to be huge is refused before it takes any memory. Any
bytes whatever may be given. Turning a picture upright is done here, and never left to a library's default.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

FileFormat = Literal["JPEG", "PNG", "BMP", "WEBP", "TIFF"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_JPEG_START = b"\xff\xd8"
# Any but those that stand within coded pixels: FF00 is the byte FF, D0 to D7 restart the decoder.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_END, _JPEG_SCAN, _JPEG_APP1 = 0xD9, 0xDA, 0xE1
_JPEG_BARE = (0x01, 0xD8, _JPEG_END)  # markers that nothing follows
# Start-of-frame markers; C4, C8 and CC, which lie among them, mean other things.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_WIDTH, _HEIGHT, _SAMPLES, _ORIENTATION = 256, 257, 277, 274  # tags of TIFF, and of EXIF
_SHORT, _LONG = 3, 4
_UNKNOWN_ORIENTATION = 0


class ImageError(ValueError):
    """A file that is no whole picture; the message says why, to be read after "it"."""


class Header(NamedTuple):
    """What an image file's header says.

    Attributes:
        format: of the file.
        height, width: of the picture as it is stored, pixels.
        channels: components of a pixel; 0 where that is not known.
        orientation: 1 to 8 as EXIF has it, 1 without any; 0 for EXIF that is broken or says nothing known.
    """

    format: FileFormat
    height: int
    width: int
    channels: int
    orientation: int = 1

    @property
    def upright(self) -> bool:
        """Whether the picture is to be shown as it is stored, beyond doubt."""
        return self.orientation == 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the picture as it is to be shown."""
        turned = self.orientation >= 5
        return (self.width, self.height) if turned else (self.height, self.width)


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG, PNG, BMP, WebP or TIFF file; None when ``data`` is none of them."""
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
    """The pixels as OpenCV's ``imdecode`` gives them, of a file that is whole.

    Args:
        data: the file.
        header: of the file, which the caller has found acceptable.
        flags: OpenCV's, such as ``IMREAD_UNCHANGED``.

    Raises:
        ImageError: when the file is damaged or was cut short.
    """
    # Some versions of the decoder fill what is missing of a cut JPEG with gray.
    if header.format == "JPEG" and not _has_end(data):
        raise ImageError("is a JPEG file that was cut short: it has no end marker")
    # OpenCV takes as much memory as a chunk says it has bytes, up to 4 GiB.
    if header.format == "PNG" and not _chunks_fit(data):
        raise ImageError("is a PNG file that was cut short: it ends within a chunk")
    try:
        pixels: NDArray[np.generic] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        reason = " ".join(str(error).split())[-200:]
        raise ImageError(f"is a damaged {header.format} file: {reason}") from error
    if pixels is None:
        raise ImageError(f"is a damaged {header.format} file")
    return pixels


def decode_rgb(data: bytes, header: Header) -> NDArray[np.uint8]:
    """The picture as it is to be shown: ``[height, width, 3]`` uint8 RGB, upright.

    Raises:
        ImageError: when the file is damaged or was cut short.
    """
    pixels = decode(data, header, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if header.format != "TIFF":  # libtiff does not ask
        pixels = _turn_upright(pixels, header.orientation)
    if pixels.shape != (*header.upright_size, 3) or pixels.dtype != np.uint8:
        shape = f"{pixels.shape} {pixels.dtype.name}"
        raise ImageError(f"decodes to {shape}, where its header says {header.upright_size}")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _turn_upright(pixels: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    # Where row 0 and column 0 of the stored picture are to be seen: 1 is top and left, 2 top and right,
    # 3 bottom and right, 4 bottom and left; 5 to 8 are the same with rows and columns exchanged.
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields each marker of a JPEG file, and where what belongs to it begins and ends.

    Like the decoders, this passes over stray bytes between segments.
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


def _has_end(data: bytes) -> bool:
    """Whether the end marker of a JPEG picture is there; files may go on behind it."""
    return any(marker == _JPEG_END for marker, _, _ in _jpeg_segments(data))


def _read_jpeg_header(data: bytes) -> Header | None:
    header, orientation = None, None
    for marker, start, end in _jpeg_segments(data):
        if marker in (_JPEG_SCAN, _JPEG_END):
            break
        if marker in _START_OF_FRAME and header is None:
            height, width, channels = struct.unpack_from(">HHB", data, start + 1)
            header = Header("JPEG", height, width, channels)
        if marker == _JPEG_APP1 and orientation is None and data.startswith(b"Exif\0", start):
            orientation = read_orientation(data[start + 6 : end])
    if header is None or orientation is None:
        return header
    return header._replace(orientation=orientation)


def _read_png_header(data: bytes) -> Header | None:
    if data[12:16] != b"IHDR":
        return None
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    header = Header("PNG", height, width, _PNG_CHANNELS.get(colour, 0))
    place = len(_PNG_SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"eXIf":
            exif = data[place + 8 : place + 8 + length]
            return header._replace(orientation=read_orientation(exif))
        if kind in (b"IDAT", b"IEND"):
            break
        place += 12 + length
    return header


def _chunks_fit(data: bytes) -> bool:
    """Whether a PNG file is as long as its chunks say; files may go on behind the last one."""
    place = len(_PNG_SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length
        if kind == b"IEND":
            break
    return place <= len(data)


def _read_bmp_header(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:  # OS/2's
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    channels = {24: 3, 32: 4}.get(bits, 0)
    return Header("BMP", abs(height), abs(width), channels)  # a negative height: rows from the top


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
            return header._replace(orientation=read_orientation(exif))
        place += 8 + length + length % 2
    return header


def _read_tiff_header(data: bytes) -> Header | None:
    tags = _read_tags(data)
    if tags is None or min(tags.get(_WIDTH, -1), tags.get(_HEIGHT, -1)) < 0:
        return None
    channels = max(0, tags.get(_SAMPLES, 1))
    orientation = _known(tags.get(_ORIENTATION, 1))
    return Header("TIFF", tags[_HEIGHT], tags[_WIDTH], channels, orientation)


def read_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, 1 when it has none, `_UNKNOWN_ORIENTATION` when it is broken."""
    tags = _read_tags(exif)
    return _UNKNOWN_ORIENTATION if tags is None else _known(tags.get(_ORIENTATION, 1))


def _known(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else _UNKNOWN_ORIENTATION


def _read_tags(data: bytes) -> dict[int, int] | None:
    """Tags of the first directory of TIFF data that are one whole number; None when it is broken.

    A tag of another type whose number matters is -1.
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
            # A short number stands at the beginning of the four bytes, in either byte order.
            code = {_SHORT: "H2x", _LONG: "I"}.get(kind)
            if code is None or values != 1:
                tags[tag] = -1
            else:
                (tags[tag],) = struct.unpack_from(f"{order}{code}", data, start + 8)
    except struct.error:
        return None
    return tags
