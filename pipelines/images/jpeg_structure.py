"""Finds JPEG files that are complete by their structure, 5 to 12 times faster than decoding them.

The check accepts what cameras usually write: baseline JPEG, Huffman-coded, in one scan. Any other file must
be decoded to find out if it is damaged. The functions accept any bytes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

import simplejpeg

from pipelines.images.headers import Header, read_header

_START, _END = b"\xff\xd8", b"\xff\xd9"
_HUFFMAN, _SCAN = 0xC4, 0xDA
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
        self._last = _Start(b"", None)

    def read(self, data: bytes) -> Header | None:
        """Returns the header of a JPEG file that libjpeg accepts; None if only decoding can tell.

        Such a file has no truncated or invalid segment, no missing table, and no marker among the coded
        pixels. Neither this check nor a decoder finds out if the pixels are right. Bytes after the end
        marker are ignored. A file without a result may be damaged, unusual (for example progressive), or no
        JPEG file.
        """
        if not self._last.data or not data.startswith(self._last.data):
            start = _read_start(data)
            if start is None:
                return None
            self._last = start
        before_scan, header = self._last
        end = _SCAN_END.search(data, len(before_scan))
        return header if end is not None and end[0] == _END else None


class _Start(NamedTuple):
    """A file up to its coded pixels, and its header if it is decodable."""

    data: bytes
    header: Header | None


def _read_start(data: bytes) -> _Start | None:
    """Returns None if a segment is truncated or unknown, or if there are no coded pixels."""
    if not data.startswith(_START):
        return None
    position = len(_START)
    deciding = []
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] in _KNOWN:
        marker = data[position + 1]
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if end < position + 4 or end > len(data):
            return None
        if marker in _DECIDING:
            deciding.append(data[position:end])
        if marker == _SCAN:
            is_decodable = _is_decodable(tuple(deciding))
            return _Start(data[:end], read_header(data) if is_decodable else None)
        position = end
    return None


# The files of a camera share their tables.
@functools.lru_cache(maxsize=64)
def _is_decodable(segments: tuple[bytes, ...]) -> bool:
    """Returns True if libjpeg accepts these segments, and the scan has all components of the frame.

    Args:
        segments: the deciding segments with their markers; the scan is the last.
    """
    *tables, scan = segments
    frame = next((segment for segment in tables if segment[1] in _FRAMES), b"")
    if len(frame) < 10 or not any(frame[5:7]) or not any(frame[7:9]):
        return False
    # All components, and all coefficients in full.
    if scan[4:5] != frame[9:10] or scan[-3:] != b"\x00\x3f\x00":
        return False
    # libjpeg has tables of its own for files without any.
    huffman = {
        number for segment in tables if segment[1] == _HUFFMAN for number in _tables(segment[4:])
    }
    if not all({codes >> 4, 16 + (codes & 15)} <= huffman for codes in scan[6:-3:2]):
        return False
    # Any size needs the same tables. Without coded pixels, libjpeg only warns of their lack.
    tiny = [s[:5] + _TINY + s[9:] if s is frame else s for s in segments]
    try:
        simplejpeg.decode_jpeg(b"".join((_START, *tiny, _END)), colorspace="gray", strict=False)
    except ValueError:
        return False
    return True


def _tables(body: bytes) -> Iterator[int]:
    """Yields the class and number of each Huffman table in the body of a segment."""
    while body:
        yield body[0]
        body = body[17 + sum(body[1:17]) :]
