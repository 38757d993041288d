"""TFRecord framing, both ways, without TensorFlow.

A record is stored as its length (uint64), the masked CRC-32C of the length bytes, the data, and the
masked CRC-32C of the data, all little-endian:
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import struct
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import google_crc32c

from tfrecords_schema.paths import StrPath
from tfrecords_schema.storage import open_stream

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER = struct.Struct("<QI")
_HEADER_BYTES = _HEADER.size
FRAMING_BYTES = _HEADER_BYTES + _CRC.size
"""Bytes of a record beyond its data."""

MAX_RECORD_BYTES = 2**31
"""Limit of a record: a forged header must not allocate all memory. Protobuf messages end at 2 GiB."""

# Bytes read at a time while searching for the next record: the first block, and the largest.
_MIN_SEARCH_BYTES, _MAX_SEARCH_BYTES = 1 << 12, 1 << 20

# A forged file could hold a header in every 12 bytes, and each search takes time.
_MAX_SEARCHES = 1000

_ZEROS = re.compile(rb"\0{4,}")


class CorruptRecordError(ValueError):
    """A record that cannot be read: which file, at which byte, and why."""

    def __init__(self, file: str, offset: int, reason: str):
        super().__init__(file, offset, reason)  # what workers send back
        self.file, self.offset, self.reason = file, offset, reason

    def __str__(self) -> str:
        return f"{self.file}: corrupt record at byte {self.offset}: {self.reason}"


class StoredRecord(NamedTuple):
    """One record read from a file: the byte at which its framing starts, and its data."""

    offset: int
    data: bytes


Found = StoredRecord | CorruptRecordError


def masked_crc32c(data: bytes) -> int:
    """Returns the CRC-32C of ``data``, rotated and offset as TFRecord files hold it (uint32)."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(data: bytes) -> bytes:
    """Returns ``data`` with its TFRecord framing."""
    return b"".join(frame_parts(data))


def frame_parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Returns the header that precedes ``data`` in a TFRecord file, ``data``, and the footer that follows."""
    length = _LENGTH.pack(len(data))
    return length + _CRC.pack(masked_crc32c(length)), data, _CRC.pack(masked_crc32c(data))


def read_records(
    file: BinaryIO, name: str, max_bytes: int = MAX_RECORD_BYTES
) -> Iterator[StoredRecord]:
    """Yields the records of an open TFRecord file; raises CorruptRecordError at the first that is damaged."""
    for record in scan_records(file, name, max_bytes):
        if isinstance(record, CorruptRecordError):
            raise record
        yield record


def scan_records(file: BinaryIO, name: str, max_bytes: int = MAX_RECORD_BYTES) -> Iterator[Found]:
    """Yields the intact records of an open TFRecord file, and an error for each damaged place.

    Reading continues after damage. If only the data fail their checksum, the next record follows them. If the
    length cannot be trusted, the file is searched for the next 12 bytes that are a length with its checksum.
    After a thousand searches the rest of the file is given up, as the last error says.

    Args:
        file: open for binary reading, at its first record. It is read to its end, front to back.
        name: of the file, for error messages.
        max_bytes: longer records are damage.
    """
    reader, offset, searches = _RereadableFile(file), 0, 0
    while header := reader.read(_HEADER_BYTES):
        length, reason = _parse_header(header, max_bytes)
        if length is not None and reader.holds(length + _CRC.size):
            data, footer = reader.read(length), reader.read(_CRC.size)
            if len(footer) == _CRC.size:
                if masked_crc32c(data) == _CRC.unpack(footer)[0]:
                    yield StoredRecord(offset, data)
                else:
                    yield CorruptRecordError(name, offset, "the data's checksum does not match")
                offset += length + FRAMING_BYTES
                continue
            reader.put_back(footer)
            reader.put_back(data)
        if length is not None:
            reason = f"the file ends inside the record's {length} bytes"
        searches += 1
        if searches == _MAX_SEARCHES:
            yield CorruptRecordError(name, offset, f"{reason}, and the file has too much damage")
            while reader.read(_MAX_SEARCH_BYTES):
                pass
            return
        yield CorruptRecordError(name, offset, reason)
        reader.put_back(header[1:])
        offset += 1 + _skip_to_header(reader)


def _parse_header(header: bytes, max_bytes: int = MAX_RECORD_BYTES) -> tuple[int | None, str]:
    """Returns the length that a header holds, or None and the reason why it is not one."""
    if len(header) < _HEADER_BYTES:
        return None, "the file ends inside a record's length"
    length, checksum = _HEADER.unpack(header)
    if masked_crc32c(header[: _LENGTH.size]) != checksum:
        return None, "the length's checksum does not match"
    if length > max_bytes:
        return None, f"the length is {length} bytes, but the maximum is {max_bytes}"
    return length, ""


def _skip_to_header(reader: _RereadableFile) -> int:
    """Reads up to the next valid header, or to the end of the file; returns the number of bytes skipped."""
    skipped, size = 0, _MIN_SEARCH_BYTES
    while len(block := reader.read(size)) >= _HEADER_BYTES:
        for start in _possible_headers(block):
            if _parse_header(block[start : start + _HEADER_BYTES])[0] is not None:
                reader.put_back(block[start:])
                return skipped + start
        # A header may begin in this block and end in the next.
        kept = block[1 - _HEADER_BYTES :]
        skipped += len(block) - len(kept)
        if not any(block):
            skipped += reader.skip_hole()
        reader.put_back(kept)
        size = min(2 * size, _MAX_SEARCH_BYTES)
    return skipped + len(block)


def _possible_headers(block: bytes) -> Iterator[int]:
    """Yields the positions in ``block`` at which a record's length and checksum may stand.

    The upper half of a length is four zeros, which compressed images hardly ever hold. Only the end of a
    longer run is tried: a power cut may leave megabytes of zeros, and no checksum is zero.
    """
    for zeros in _ZEROS.finditer(block):
        first, end = zeros.span()
        for upper_half in range(max(first, end - 7, 4), min(end - 3, len(block) - 7)):
            yield upper_half - 4


class _RereadableFile:
    """A file read front to back, to which bytes that were read can be put back, without copying them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting: deque[memoryview] = deque()
        self._ended = False

    def holds(self, size: int) -> bool:
        """Returns False if fewer than ``size`` bytes are left, as far as is known without reading."""
        return not self._ended or size <= sum(map(len, self._waiting))

    def read(self, size: int) -> bytes:
        if not self._waiting:
            return self._read_file(size)
        parts, missing = [], size
        while self._waiting and missing:
            part = self._waiting.popleft()
            if len(part) > missing:
                self._waiting.appendleft(part[missing:])
            parts.append(part[:missing])
            missing -= len(parts[-1])
        return b"".join([*parts, self._read_file(missing)] if missing else parts)

    def _read_file(self, size: int) -> bytes:
        data = self._file.read(size)
        self._ended = len(data) < size
        return data

    def skip_hole(self) -> int:
        """Skips zeros that the disk does not hold, which may be terabytes; returns their number."""
        if self._waiting or not isinstance(getattr(self._file, "raw", None), io.FileIO):
            return 0
        here = self._file.tell()
        with open(self._file.name, "rb", buffering=0) as again:
            try:
                data = os.lseek(again.fileno(), here, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    return 0  # this file system does not tell
                data = again.seek(0, os.SEEK_END)
        self._file.seek(data)
        return data - here

    def put_back(self, data: bytes) -> None:
        if data:
            self._waiting.appendleft(memoryview(data))


def read_file(path: StrPath, max_bytes: int = MAX_RECORD_BYTES) -> Iterator[StoredRecord]:
    """Yields the records of the TFRecord file at ``path``, which may be a URL, one in memory at a time.

    Raises:
        CorruptRecordError: at the first record that is cut short or fails a checksum.
    """
    with open_stream(path) as file:
        yield from read_records(file, str(path), max_bytes)


def scan_file(path: StrPath, max_bytes: int = MAX_RECORD_BYTES) -> Iterator[Found]:
    """Yields what `scan_records` finds in the file at ``path``, which may be a URL."""
    with open_stream(path) as file:
        yield from scan_records(file, str(path), max_bytes)


def record_spans(path: StrPath, max_bytes: int = MAX_RECORD_BYTES) -> Iterator[tuple[int, int]]:
    """Yields the bytes ``[start, end)`` of each record with its framing. Only the lengths are read.

    Raises:
        CorruptRecordError: if the length of a record is damaged, or exceeds ``max_bytes``.
    """
    offset = 0
    with open_stream(path) as file:
        while header := file.read(_HEADER_BYTES):
            length, reason = _parse_header(header, max_bytes)
            if length is None:
                raise CorruptRecordError(os.fspath(path), offset, reason)
            start, offset = offset, offset + length + FRAMING_BYTES
            yield start, offset
            file.seek(offset)


def check_lengths(path: bytes, max_bytes: int) -> bytes:
    """Returns the path of a local file, for a reader that allocates what headers say, as TensorFlow's does.

    Raises:
        CorruptRecordError: as `record_spans` does.
    """
    deque(record_spans(os.fsdecode(path), max_bytes), maxlen=0)
    return path


def file_checksum(path: StrPath) -> str:
    """Returns the SHA-256 of the file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
