"""Whether a file was cut, by the structure of its container: for those whose demuxers do not tell.

Each kind is looked at where its structure says how it ends. Raw streams have no structure, and nothing can be
known of them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

_TAIL_BYTES = 1 << 18
_TS_PACKET = 188
_TS_TIMED_PACKET = 192  # with a time before each packet, as cameras and Blu-ray discs write
_TS_SYNC = 0x47
_PACK = b"\0\0\1\xba"
_PROGRAM_END = 0xB9
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_GIF_IMAGE, _GIF_EXTENSION, _GIF_TRAILER = 0x2C, 0x21, 0x3B


def find_missing_end(path: str, format_name: str) -> str | None:
    """Why the file cannot be whole, or None.

    Args:
        path: of the file, which was read to its end.
        format_name: FFmpeg's name of its format.
    """
    look = _LOOKS.get(format_name)
    if look is None:
        return None
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            return look(file, size)
    except (OSError, struct.error):
        return None  # it is not what it was called, which others will say


def _look_at_avi(file: BinaryIO, size: int) -> str | None:
    place = 0
    while place + 12 <= size:
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or not length:
            return None  # a recorder that was switched off has written no length
        place += 8 + length
    # Some writers forget the byte that makes a length even.
    return None if place <= size + 1 else f"the file lacks {place - size} bytes of its last part"


def _look_at_gif(file: BinaryIO, size: int) -> str | None:
    file.seek(10)
    head = file.read(1)
    if not head:
        return None
    file.seek(13 + _colour_bytes(head[0]))
    while block := file.read(1):
        if block[0] == _GIF_TRAILER:
            return None
        if block[0] == _GIF_EXTENSION:
            file.seek(1, os.SEEK_CUR)
        elif block[0] == _GIF_IMAGE:
            place = file.read(9)
            file.seek(_colour_bytes(place[-1] if place else 0) + 1, os.SEEK_CUR)
        else:
            return None  # something else follows, which viewers pass over
        while length := file.read(1):
            if not length[0]:
                break
            file.seek(length[0], os.SEEK_CUR)
    return "the file ends before its end marker"


def _colour_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _look_at_transport_stream(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    head = file.read(2 * _TS_TIMED_PACKET)
    for packet, sync in ((_TS_PACKET, 0), (_TS_TIMED_PACKET, 4)):
        if len(head) > packet + sync and head[sync] == head[sync + packet] == _TS_SYNC:
            rest = size % packet
            # Zeros at the end fill a block of the disk.
            file.seek(size - rest)
            return "the file ends inside a packet" if file.read(rest).strip(b"\0") else None
    return None


def _look_at_program_stream(file: BinaryIO, size: int) -> str | None:
    start = max(0, size - _TAIL_BYTES)
    file.seek(start)
    tail = file.read()
    place = tail.find(_PACK)
    while place >= 0:
        end = _follow_packets(tail, place)
        if end is not None:
            missing = end - len(tail)
            return f"the file lacks {missing} bytes of its last packet" if missing > 0 else None
        place = tail.find(_PACK, place + 1)
    return None


def _follow_packets(tail: bytes, place: int) -> int | None:
    """Where the last packet of a program stream ends; None when no chain of packets begins at ``place``."""
    while place + 6 <= len(tail):
        if tail[place : place + 3] != b"\0\0\1":
            return None
        code = tail[place + 3]
        if code == _PROGRAM_END:
            return place + 4
        if code == _PACK[3]:
            if place + 14 > len(tail):
                return place + 12
            mpeg2 = tail[place + 4] >> 6 == 1
            place += 14 + (tail[place + 13] & 7) if mpeg2 else 12
        elif code > _PACK[3]:
            place += 6 + int.from_bytes(tail[place + 4 : place + 6], "big")
        else:
            return None
    return place


def _look_at_flash(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    (header,) = struct.unpack(">5xI", file.read(9))
    place = header + 4
    while place + 11 <= size:
        file.seek(place + 1)
        place += 11 + int.from_bytes(file.read(3), "big") + 4
    return None if place == size else "the file ends inside a tag"


def _look_at_ivf(file: BinaryIO, size: int) -> str | None:
    file.seek(6)
    (place,) = struct.unpack("<H", file.read(2))
    while place + 12 <= size:
        file.seek(place)
        (length,) = struct.unpack("<I", file.read(4))
        place += 12 + length
    return None if place == size else "the file ends inside a frame"


def _look_at_matroska(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    head = file.read(256)
    if not head.startswith(_EBML):
        return None
    length, start = _read_length(head, len(_EBML))
    segment = start + length
    if head[segment : segment + 4] != _SEGMENT:
        return None
    length, start = _read_length(head, segment + 4)
    unknown = 2 ** (7 * (start - segment - 4)) - 1  # written by whoever could not go back
    missing = start + length - size
    return f"the file lacks its last {missing} bytes" if length != unknown and missing > 0 else None


def _read_length(data: bytes, place: int) -> tuple[int, int]:
    """A number whose leading zero bits say how many bytes it takes, and where it ends."""
    first = data[place] if place < len(data) else 0
    if not first:
        raise struct.error("no length")
    count = 9 - first.bit_length()
    number = int.from_bytes(data[place : place + count], "big")
    return number & (1 << 7 * count) - 1, place + count


_LOOKS: dict[str, Callable[[BinaryIO, int], str | None]] = {
    "avi": _look_at_avi,
    "matroska,webm": _look_at_matroska,
    "gif": _look_at_gif,
    "mpegts": _look_at_transport_stream,
    "mpeg": _look_at_program_stream,
    "flv": _look_at_flash,
    "ivf": _look_at_ivf,
}
