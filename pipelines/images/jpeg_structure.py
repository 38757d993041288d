"""Finds JPEG files that are complete by their structure, 5 to 12 times faster than decoding them.

The check accepts what cameras usually write: baseline JPEG, Huffman-coded, in one scan. Any other file must
be decoded to find out if it is damaged. The functions accept any bytes.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipelines.images.headers import Header, read_orientation

_START, _END = b"\xff\xd8", 0xD9
_QUANTIZATION, _HUFFMAN, _RESTARTS, _SCAN, _APP1 = 0xDB, 0xC4, 0xDD, 0xDA, 0xE1
_FRAMES = (0xC0, 0xC1)  # baseline, and extended sequential
_DECIDING = frozenset((_QUANTIZATION, _HUFFMAN, _RESTARTS, _SCAN, *_FRAMES))
_KNOWN = _DECIDING | {*range(0xE0, 0xF0), 0xFE}  # also segments of applications, and comments
# Within coded pixels FF00 is the byte FF, and D0 to D7 restart the decoder. Any other marker ends them.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7]")


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
        return header if header is not None and _is_scan_complete(data, len(before_scan)) else None


class _Start(NamedTuple):
    """A file up to its coded pixels, and its header if it is decodable."""

    data: bytes
    header: Header | None


def _read_start(data: bytes) -> _Start | None:
    """Returns None if a segment is truncated or unknown, or if there are no coded pixels."""
    if not data.startswith(_START):
        return None
    position = len(_START)
    orientation = None
    deciding = []
    while (end := _segment_end(data, position)) is not None:
        marker = data[position + 1]
        if marker in _DECIDING:
            deciding.append(data[position + 1 : end])
        elif marker == _APP1 and orientation is None and data.startswith(b"Exif\0", position + 4):
            orientation = read_orientation(data[position + 10 : end])
        position = end
        if marker == _SCAN:
            header = _decodable_header(tuple(deciding))
            if header is not None and orientation is not None:
                header = header._replace(orientation=orientation)
            return _Start(data[:end], header)
    return None


def _is_scan_complete(data: bytes, position: int) -> bool:
    """Returns True if the first marker after ``position``, other than restarts, is the end marker."""
    found = _SCAN_END.search(data, position)
    return found is not None and data[found.end() - 1] == _END


def _segment_end(data: bytes, position: int) -> int | None:
    """Returns the end of the segment at ``position``; None if it is truncated or unknown."""
    if (
        data[position : position + 1] != b"\xff"
        or position + 4 > len(data)
        or data[position + 1] not in _KNOWN
    ):
        return None
    length = data[position + 2] << 8 | data[position + 3]
    end = position + 2 + length
    return end if length >= 2 and end <= len(data) else None


# The files of a camera share their tables.
@functools.lru_cache(maxsize=64)
def _decodable_header(segments: tuple[bytes, ...]) -> Header | None:
    """Returns the header that these segments contain if they are valid and complete, else None.

    Args:
        segments: the deciding segments from their markers on; the scan is the last.
    """
    quantization: set[int] = set()
    huffman: set[int] = set()
    frame = None
    for segment in segments:
        marker, body = segment[0], segment[3:]
        if marker == _QUANTIZATION:
            found = _quantization_tables(body)
        elif marker == _HUFFMAN:
            found = _huffman_tables(body)
        elif marker == _RESTARTS:
            found = set() if len(body) == 2 else None
        elif marker == _SCAN:
            if frame is None or not _is_scan_of(body, frame, quantization, huffman):
                return None
            height, width, channels = struct.unpack_from(">HHB", frame, 1)
            return Header("JPEG", height, width, channels)
        else:
            found = set() if frame is None and _is_ordinary_frame(body) else None
            frame = body
        if found is None:
            return None
        (huffman if marker == _HUFFMAN else quantization).update(found)
    return None


def _quantization_tables(body: bytes) -> set[int] | None:
    """Returns the numbers of the tables in the body of a segment; None if it is invalid."""
    tables = set()
    while body:
        precision, number = body[0] >> 4, body[0] & 15
        size = 1 + 64 * (1 + precision)
        if precision > 1 or number > 3 or len(body) < size:
            return None
        tables.add(number)
        body = body[size:]
    return tables


def _huffman_tables(body: bytes) -> set[int] | None:
    """Returns as `_quantization_tables` does, with 16 added to the numbers of tables for AC coefficients."""
    tables = set()
    while body:
        is_ac, number, counts = body[0] >> 4, body[0] & 15, body[1:17]
        size = 17 + sum(counts)
        symbols = body[17:size]
        if is_ac > 1 or number > 3 or len(body) < size or len(symbols) > 256:
            return None
        if not _is_prefix_code(counts) or (not is_ac and any(symbol > 15 for symbol in symbols)):
            return None
        tables.add(16 * is_ac + number)
        body = body[size:]
    return tables


def _is_prefix_code(counts: bytes) -> bool:
    """Returns True if a code can have ``counts`` words of 1, 2, ... bits; a word of ones is reserved."""
    code = 0
    for length, count in enumerate(counts, start=1):
        code += count
        if count and code >= 1 << length:
            return False
        code <<= 1
    return True


def _components(body: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yields identifier, horizontal and vertical sampling and quantization table of each component."""
    for position in range(6, len(body), 3):
        identifier, sampling, table = body[position : position + 3]
        yield identifier, sampling >> 4, sampling & 15, table


def _is_ordinary_frame(body: bytes) -> bool:
    """Returns True for 8-bit frames that are gray or have chroma of an eighth to the full size."""
    if len(body) < 6 or body[0] != 8 or body[5] not in (1, 3) or len(body) != 6 + 3 * body[5]:
        return False
    (_, width, height, _), *colours = _components(body)
    if width not in (1, 2, 4) or height not in (1, 2) or not any(body[1:3]) or not any(body[3:5]):
        return False
    return all((width, height) == (1, 1) for _, width, height, _ in colours)


def _is_scan_of(body: bytes, frame: bytes, quantization: set[int], huffman: set[int]) -> bool:
    """Returns True if a scan contains all components of the frame in order, and their tables exist."""
    components = list(_components(frame))
    if len(body) != 4 + 2 * len(components) or body[0] != len(components):
        return False
    if body[-3:] != b"\x00\x3f\x00":  # all coefficients, in full
        return False
    for position, (identifier, _, _, table) in enumerate(components):
        own, codes = body[1 + 2 * position : 3 + 2 * position]
        if own != identifier or table not in quantization:
            return False
        if not {codes >> 4, 16 + (codes & 15)} <= huffman:
            return False
    return True
