"""Detects truncated files by the structure of their container, if the demuxer does not report it.

Raw streams have no such structure, so that truncation cannot be detected.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

_TAIL_BYTES = 1 << 18
_TS_PACKET = 188
_TS_TIMED_PACKET = 192  # with a time before each packet, as in files of cameras and Blu-ray discs
_TS_SYNC = 0x47
_PACK = b"\0\0\1\xba"
_PROGRAM_END = 0xB9
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_GIF_IMAGE, _GIF_EXTENSION, _GIF_TRAILER = 0x2C, 0x21, 0x3B


def find_missing_end(path: str, format_name: str) -> str | None:
    """Returns the reason why a file must be truncated, or None.

    Args:
        path: path of the file.
        format_name: FFmpeg's name of its format.
    """
    check = _CHECKS.get(format_name)
    if check is None:
        return None
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            return check(file, size)
    except (OSError, struct.error):
        return None  # not of this format, which decoding reports


def _check_avi(file: BinaryIO, size: int) -> str | None:
    position = 0
    while position + 12 <= size:
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or not length:
            return None  # a recorder that was switched off wrote no length
        position += 8 + length
    # Some writers omit the byte that makes a length even.
    return (
        None if position <= size + 1 else f"the file lacks {position - size} bytes of its last part"
    )


def _check_gif(file: BinaryIO, size: int) -> str | None:
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
            position = file.read(9)
            file.seek(_colour_bytes(position[-1] if position else 0) + 1, os.SEEK_CUR)
        else:
            return None  # unknown data, which viewers ignore
        while length := file.read(1):
            if not length[0]:
                break
            file.seek(length[0], os.SEEK_CUR)
    return "the file ends before its end marker"


def _colour_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _check_transport_stream(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    head = file.read(2 * _TS_TIMED_PACKET)
    for packet, sync in ((_TS_PACKET, 0), (_TS_TIMED_PACKET, 4)):
        if len(head) > packet + sync and head[sync] == head[sync + packet] == _TS_SYNC:
            rest = size % packet
            # Zeros at the end only fill a block of the disk.
            file.seek(size - rest)
            return "the file ends inside a packet" if file.read(rest).strip(b"\0") else None
    return None


def _check_program_stream(file: BinaryIO, size: int) -> str | None:
    start = max(0, size - _TAIL_BYTES)
    file.seek(start)
    tail = file.read()
    position = tail.find(_PACK)
    while position >= 0:
        end = _follow_packets(tail, position)
        if end is not None:
            missing = end - len(tail)
            return f"the file lacks {missing} bytes of its last packet" if missing > 0 else None
        position = tail.find(_PACK, position + 1)
    return None


def _follow_packets(tail: bytes, position: int) -> int | None:
    """Returns the end of the last packet of a program stream; None if no packet starts at ``position``."""
    while position + 6 <= len(tail):
        if tail[position : position + 3] != b"\0\0\1":
            return None
        code = tail[position + 3]
        if code == _PROGRAM_END:
            return position + 4
        if code == _PACK[3]:
            if position + 14 > len(tail):
                return position + 12
            mpeg2 = tail[position + 4] >> 6 == 1
            position += 14 + (tail[position + 13] & 7) if mpeg2 else 12
        elif code > _PACK[3]:
            position += 6 + int.from_bytes(tail[position + 4 : position + 6], "big")
        else:
            return None
    return position


def _check_flash(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    (header,) = struct.unpack(">5xI", file.read(9))
    position = header + 4
    while position + 11 <= size:
        file.seek(position + 1)
        position += 11 + int.from_bytes(file.read(3), "big") + 4
    return None if position == size else "the file ends inside a tag"


def _check_ivf(file: BinaryIO, size: int) -> str | None:
    file.seek(6)
    (position,) = struct.unpack("<H", file.read(2))
    while position + 12 <= size:
        file.seek(position)
        (length,) = struct.unpack("<I", file.read(4))
        position += 12 + length
    return None if position == size else "the file ends inside a frame"


def _check_matroska(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    head = file.read(256)
    if not head.startswith(_EBML):
        return None
    length, start = _read_length(head, len(_EBML))
    segment = start + length
    if head[segment : segment + 4] != _SEGMENT:
        return None
    length, start = _read_length(head, segment + 4)
    unknown = 2 ** (7 * (start - segment - 4)) - 1  # written by programs that cannot seek
    missing = start + length - size
    return f"the file lacks its last {missing} bytes" if length != unknown and missing > 0 else None


def _read_length(data: bytes, position: int) -> tuple[int, int]:
    """Returns a number whose leading zero bits give its size in bytes, and the position after it."""
    first = data[position] if position < len(data) else 0
    if not first:
        raise struct.error("no length")
    count = 9 - first.bit_length()
    number = int.from_bytes(data[position : position + count], "big")
    return number & (1 << 7 * count) - 1, position + count


_CHECKS: dict[str, Callable[[BinaryIO, int], str | None]] = {
    "avi": _check_avi,
    "matroska,webm": _check_matroska,
    "gif": _check_gif,
    "mpegts": _check_transport_stream,
    "mpeg": _check_program_stream,
    "flv": _check_flash,
    "ivf": _check_ivf,
}
