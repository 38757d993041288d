"""Headers of JPEG files that are whole by their structure: nothing is decoded, which costs 30 times as much.

This looks for reasons to decode a file before it is believed, and finds none in what cameras write as a rule:
baseline JPEG, Huffman-coded, in one scan. It never says that a file is damaged. Any bytes may be given.
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
_KNOWN = _DECIDING | {*range(0xE0, 0xF0), 0xFE}  # with what applications add, and comments
# Within coded pixels FF00 is the byte FF, and D0 to D7 restart the decoder; anything else ends them.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7]")


class WholeHeaders:
    """Reads headers of JPEG files of which most begin alike, as those of one camera do."""

    def __init__(self) -> None:
        self._last = _Beginning(b"", None)

    def read(self, data: bytes) -> Header | None:
        """The header of an ordinary JPEG file that a decoder takes, from its first marker to its last.

        In a file that has one there is nothing for which libjpeg refuses it: no segment that is cut or has
        impossible contents, no table that is missing, no marker among the coded pixels. Whether the pixels
        are right it does not tell; nor does a decoder. Bytes behind the end marker are of no interest.

        None means that the file is to be decoded, to know: it may be damaged, unusual (progressive, say), or
        no JPEG.
        """
        if not self._last.data or not data.startswith(self._last.data):
            beginning = _read_beginning(data)
            if beginning is None:
                return None
            self._last = beginning
        begun, header = self._last
        return header if header is not None and _is_scan_whole(data, len(begun)) else None


class _Beginning(NamedTuple):
    """A file up to its coded pixels, and its header where that tells how to decode them."""

    data: bytes
    header: Header | None


def _read_beginning(data: bytes) -> _Beginning | None:
    """None when segments are cut or unknown, or there are no coded pixels."""
    if not data.startswith(_START):
        return None
    place = len(_START)
    orientation = None
    deciding = []
    while (end := _segment_end(data, place)) is not None:
        marker = data[place + 1]
        if marker in _DECIDING:
            deciding.append(data[place + 1 : end])
        elif marker == _APP1 and orientation is None and data.startswith(b"Exif\0", place + 4):
            orientation = read_orientation(data[place + 10 : end])
        place = end
        if marker == _SCAN:
            header = _decodable_header(tuple(deciding))
            if header is not None and orientation is not None:
                header = header._replace(orientation=orientation)
            return _Beginning(data[:end], header)
    return None


def _is_scan_whole(data: bytes, begin: int) -> bool:
    """Whether the coded pixels that begin there run to an end marker, with none but restarts before."""
    found = _SCAN_END.search(data, begin)
    return found is not None and data[found.end() - 1] == _END


def _segment_end(data: bytes, place: int) -> int | None:
    """Where the segment at ``place`` ends; None when there is no whole one that is known."""
    if data[place : place + 1] != b"\xff" or place + 4 > len(data) or data[place + 1] not in _KNOWN:
        return None
    length = data[place + 2] << 8 | data[place + 3]
    end = place + 2 + length
    return end if length >= 2 and end <= len(data) else None


# The files of one camera share their tables.
@functools.lru_cache(maxsize=64)
def _decodable_header(segments: tuple[bytes, ...]) -> Header | None:
    """The header, where these segments (from their markers on, the scan's last) tell how to decode pixels."""
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
    """Numbers of the tables in the body of a segment; None when it does not consist of whole ones."""
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
    """As `_quantization_tables`; 16 is added to the numbers of those for AC coefficients."""
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
    """Whether there are so many codes of each length, from 1 bit on; the one of ones alone is reserved."""
    code = 0
    for length, count in enumerate(counts, start=1):
        code += count
        if count and code >= 1 << length:
            return False
        code <<= 1
    return True


def _components(body: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yields identifier, horizontal and vertical sampling and quantization table of each component."""
    for place in range(6, len(body), 3):
        identifier, sampling, table = body[place : place + 3]
        yield identifier, sampling >> 4, sampling & 15, table


def _is_ordinary_frame(body: bytes) -> bool:
    """Whether a frame has 8 bits and is gray, or has two channels of colour at up to a quarter the size."""
    if len(body) < 6 or body[0] != 8 or body[5] not in (1, 3) or len(body) != 6 + 3 * body[5]:
        return False
    (_, width, height, _), *colours = _components(body)
    if width not in (1, 2, 4) or height not in (1, 2) or not any(body[1:3]) or not any(body[3:5]):
        return False
    return all((width, height) == (1, 1) for _, width, height, _ in colours)


def _is_scan_of(body: bytes, frame: bytes, quantization: set[int], huffman: set[int]) -> bool:
    """Whether a scan holds all components of the frame, in order, and their tables are there."""
    components = list(_components(frame))
    if len(body) != 4 + 2 * len(components) or body[0] != len(components):
        return False
    if body[-3:] != b"\x00\x3f\x00":  # all coefficients, in full
        return False
    for place, (identifier, _, _, table) in enumerate(components):
        own, codes = body[1 + 2 * place : 3 + 2 * place]
        if own != identifier or table not in quantization:
            return False
        if not {codes >> 4, 16 + (codes & 15)} <= huffman:
            return False
    return True
