"""Finds JPEG files that are complete by their structure, 5 to 12 times faster than decoding them.

The check accepts what cameras usually write: baseline JPEG, Huffman-coded, in one scan. Any other file must
be decoded to find out if it is damaged. The functions accept any bytes.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator

import simplejpeg

from pipelines.images.headers import Header, read_header

_START, _END = b"\xff\xd8", b"\xff\xd9"
_HUFFMAN, _SCAN, _APP1 = 0xC4, 0xDA, 0xE1
_FRAMES = (0xC0, 0xC1)  # baseline, and extended sequential
# Also quantization tables and restart intervals.
_DECIDING = frozenset((_HUFFMAN, _SCAN, *_FRAMES, 0xDB, 0xDD))
_KNOWN = _DECIDING | {*range(0xE0, 0xF0), 0xFE}  # also segments of applications, and comments
# Within coded pixels FF00 is the byte FF, and D0 to D7 restart the decoder. Any other marker ends them.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_TINY = b"\0\x08\0\x08"  # height and width


class StructureReader:
    """Checks JPEG files and reads their headers. Fast if most of them start with the same bytes."""

    def __init__(self) -> None:
        self._start = b""  # the last file up to its coded pixels
        self._header: Header | None = None

    def read(self, data: bytes) -> Header | None:
        """Returns the header of a JPEG file that libjpeg accepts; None if only decoding can tell.

        Such a file has no truncated or invalid segment, no missing table, and no marker among the coded
        pixels. Neither this check nor a decoder finds out if the pixels are right. Bytes after the end
        marker are ignored. A file without a result may be damaged, unusual (for example progressive), or no
        JPEG file.
        """
        if not self._start or not data.startswith(self._start):
            self._start, self._header = _read_start(data)
        end = _SCAN_END.search(data, len(self._start))
        return self._header if end is not None and end[0] == _END else None


def _read_start(data: bytes) -> tuple[bytes, Header | None]:
    """Returns a file up to its coded pixels, and its header if it is decodable.

    The result is empty if a segment is truncated or unknown, or if there are no coded pixels.
    """
    if not data.startswith(_START):
        return b"", None
    position = len(_START)
    deciding, has_exif = [], False
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] in _KNOWN:
        marker = data[position + 1]
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if end < position + 4 or end > len(data):
            break
        has_exif |= marker == _APP1
        if marker in _DECIDING:
            deciding.append(data[position:end])
        if marker == _SCAN:
            header = _decodable_header(tuple(deciding))
            return data[:end], read_header(data) if header and has_exif else header
        position = end
    return b"", None


# The files of a camera share their tables.
@functools.lru_cache(maxsize=64)
def _decodable_header(segments: tuple[bytes, ...]) -> Header | None:
    """Returns the header if libjpeg accepts these segments, and the last is a scan of all components."""
    *tables, scan = segments
    frame = next((segment for segment in tables if segment[1] in _FRAMES), b"")
    if len(frame) < 10 or not any(frame[5:7]) or not any(frame[7:9]):
        return None
    # All components, and all coefficients in full.
    if scan[4:5] != frame[9:10] or scan[-3:] != b"\x00\x3f\x00":
        return None
    # Missing Huffman tables must be found here: the trial below would take libjpeg's default ones.
    huffman = {
        number for segment in tables if segment[1] == _HUFFMAN for number in _tables(segment[4:])
    }
    if not all({codes >> 4, 16 + (codes & 15)} <= huffman for codes in scan[6:-3:2]):
        return None
    # A tiny picture needs the same tables. Without coded pixels, libjpeg only warns of their lack.
    tiny = [s[:5] + _TINY + s[9:] if s is frame else s for s in segments]
    try:
        simplejpeg.decode_jpeg(b"".join((_START, *tiny, _END)), colorspace="gray", strict=False)
    except ValueError:
        return None
    height, width, channels = struct.unpack_from(">HHB", frame, 5)
    return Header("JPEG", height, width, channels)


def _tables(body: bytes) -> Iterator[int]:
    """Yields the class and number of each Huffman table in the body of a segment."""
    while body:
        yield body[0]
        body = body[17 + sum(body[1:17]) :]
