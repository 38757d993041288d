"""Detects truncated and joined files by the structure of their container, if the demuxer does not report it.

Raw streams have no such structure, so that truncation cannot be detected.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""Reads from a position of a file so many bytes, or those that are there."""

_TAIL_BYTES = 1 << 18
_TS_PACKET = 188
_TS_TIMED_PACKET = 192  # with a time before each packet, as in files of cameras and Blu-ray discs
_TS_SYNC = 0x47
_PACK = b"\0\0\1\xba"
_PROGRAM_END = 0xB9
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_WTV_HEADER, _WTV_SECTOR = bytes.fromhex("b7d800203749da11a64e0007e95ead8d"), 1 << 12
_ASF_OBJECTS = (b"\x36" + _ASF_HEADER[1:], bytes.fromhex("90080033b1e5cf1189f400a0c90349cb"))


def find_missing_end(path: str, format_name: str) -> str | None:
    """Returns the reason why reading a file of FFmpeg's format ``format_name`` ends too early, or None."""
    check = _CHECKS.get(format_name)
    if check is None:
        return None
    try:
        with open(path, "rb", buffering=0) as file:
            number = file.fileno()
            return check(lambda at, count: os.pread(number, count, at), os.fstat(number).st_size)
    except (OSError, struct.error):
        return None  # not of this format, which decoding reports


def _check_avi(read: Read, size: int) -> str | None:
    position = 0
    while position + 12 <= size:
        kind, length = struct.unpack("<4sI", read(position, 8))
        if kind != b"RIFF" or not length:
            return None  # a recorder that was switched off wrote no length
        position += 8 + length
    # Some writers omit the byte that makes a length even.
    return (
        None if position <= size + 1 else f"the file lacks {position - size} bytes of its last part"
    )


def _check_gif(read: Read, size: int) -> str | None:
    position = 13 + _colour_bytes(read(10, 1))
    while block := read(position, 1):
        if block[0] == _GIF_EXTENSION:
            position += 2
        elif block[0] == _GIF_IMAGE:
            position += 11 + _colour_bytes(read(position + 9, 1))
        else:
            return None  # the end marker, or unknown data, which viewers ignore
        while length := read(position, 1):
            position += 1 + length[0]
            if not length[0]:
                break
    return "the file ends before its end marker"


def _colour_bytes(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _check_transport_stream(read: Read, size: int) -> str | None:
    head = read(0, 2 * _TS_TIMED_PACKET)
    for packet, sync in ((_TS_PACKET, 0), (_TS_TIMED_PACKET, 4)):
        if len(head) > packet + sync and head[sync] == head[sync + packet] == _TS_SYNC:
            rest = size % packet
            # Zeros at the end only fill a block of the disk.
            return "the file ends inside a packet" if read(size - rest, rest).strip(b"\0") else None
    return None


def _check_program_stream(read: Read, size: int) -> str | None:
    tail = read(max(0, size - _TAIL_BYTES), _TAIL_BYTES)
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


def _check_flash(read: Read, size: int) -> str | None:
    (header,) = struct.unpack(">5xI", read(0, 9))
    position = header + 4
    while position + 11 <= size:
        position += 11 + int.from_bytes(read(position + 1, 3), "big") + 4
    return None if position == size else "the file ends inside a tag"


def _check_ivf(read: Read, size: int) -> str | None:
    position = int.from_bytes(read(6, 2), "little")
    while position + 12 <= size:
        position += 12 + int.from_bytes(read(position, 4), "little")
    return None if position == size else "the file ends inside a frame"


def _check_asf(read: Read, size: int) -> str | None:
    position = 0
    while position < size:
        kind, length = struct.unpack("<16sQ", read(position, 24))
        if kind == _ASF_HEADER and position:
            return _describe_second(position)
        if length < 24 or kind not in (_ASF_HEADER, *_ASF_OBJECTS):
            return None  # a live stream has no lengths
        position += length
    return f"the file lacks its last {position - size} bytes" if position > size else None


def _check_wtv(read: Read, size: int) -> str | None:
    (sectors,) = struct.unpack("<I", read(0x5C, 4))
    end = sectors * _WTV_SECTOR
    return _describe_second(end) if end and read(end, len(_WTV_HEADER)) == _WTV_HEADER else None


def _check_mov(read: Read, size: int) -> str | None:
    start = position = 0
    described = False
    while position + 16 <= size:
        length, kind, long_length = struct.unpack(">I4sQ", read(position, 16))
        length = long_length if length == 1 else length
        if kind == b"moof" or length < 8:
            return None  # in fragments, a second description is no second film
        if kind == b"moov":
            if described:
                return _describe_second(start)
            described = True
        start = position if kind == b"ftyp" else start
        position += length
    return None


def _describe_second(position: int) -> str:
    return f"another film follows in the file, and is left out. Cut the file at byte {position}"


def _check_matroska(read: Read, size: int) -> str | None:
    head = read(0, 256)
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


_CHECKS: dict[str, Callable[[Read, int], str | None]] = {
    "avi": _check_avi,
    "asf": _check_asf,
    "wtv": _check_wtv,
    "mov,mp4,m4a,3gp,3g2,mj2": _check_mov,
    "matroska,webm": _check_matroska,
    "gif": _check_gif,
    "mpegts": _check_transport_stream,
    "mpeg": _check_program_stream,
    "flv": _check_flash,
    "ivf": _check_ivf,
}
