"""TFRecord framing, both ways, without TensorFlow.

A record is stored as its length (uint64), the masked CRC-32C of the length bytes, the data, and the
masked CRC-32C of the data, all little-endian:
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import google_crc32c

from tfrecords_schema.storage import open_stream
from tfrecords_schema.store_clients import is_url

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CRC.size
FRAMING_BYTES = _HEADER_BYTES + _CRC.size
"""Bytes a record takes beyond its data."""

# A length is believed only up to here, so that a forged header cannot ask for all memory. TensorFlow
# itself cannot parse a message beyond protobuf's 2 GiB.
_MAX_RECORD_BYTES = 2**31


class CorruptRecordError(ValueError):
    """A record that cannot be read: which file, at which byte, and why."""

    def __init__(self, file: str, offset: int, reason: str):
        super().__init__(f"{file}: corrupt record at byte {offset}: {reason}")
        self.file = file
        self.offset = offset
        self.reason = reason

    def __reduce__(self) -> tuple[type[CorruptRecordError], tuple[str, int, str]]:
        # Exceptions are pickled by their message alone, which workers could not send back.
        return type(self), (self.file, self.offset, self.reason)


class StoredRecord(NamedTuple):
    """One record read from a file: the byte at which its framing starts, and its data."""

    offset: int
    data: bytes


def masked_crc32c(data: bytes) -> int:
    """CRC-32C of ``data``, rotated and offset as TFRecord files hold it (uint32)."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(data: bytes) -> bytes:
    """``data`` with its TFRecord framing around it."""
    return b"".join(frame_parts(data))


def frame_parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before ``data`` in a TFRecord file, ``data`` itself, and what stands behind it."""
    length = _LENGTH.pack(len(data))
    return length + _CRC.pack(masked_crc32c(length)), data, _CRC.pack(masked_crc32c(data))


def read_records(file: BinaryIO, name: str) -> Iterator[StoredRecord]:
    """Yields the records of an open TFRecord file, one in memory at a time.

    Args:
        file: open for binary reading, at its first record.
        name: what errors call the file.

    Raises:
        CorruptRecordError: where the file is cut short or a checksum does not hold.
    """
    offset = 0
    while header := file.read(_HEADER_BYTES):
        if len(header) < _HEADER_BYTES:
            raise CorruptRecordError(name, offset, "the file ends inside a record's length")
        length_bytes = header[: _LENGTH.size]
        if masked_crc32c(length_bytes) != _CRC.unpack_from(header, _LENGTH.size)[0]:
            raise CorruptRecordError(name, offset, "the length's checksum does not match")
        (length,) = _LENGTH.unpack(length_bytes)
        if length > _MAX_RECORD_BYTES:
            raise CorruptRecordError(name, offset, f"its length is said to be {length} bytes")
        data = file.read(length)
        footer = file.read(_CRC.size)
        if len(data) < length or len(footer) < _CRC.size:
            raise CorruptRecordError(
                name, offset, f"the file ends inside the record's {length} bytes"
            )
        if masked_crc32c(data) != _CRC.unpack(footer)[0]:
            raise CorruptRecordError(name, offset, "the data's checksum does not match")
        yield StoredRecord(offset, data)
        offset += length + FRAMING_BYTES


def read_file(path: str | os.PathLike[str]) -> Iterator[StoredRecord]:
    """Yields the records of the TFRecord file at ``path``, which may be a URL; see `read_records`."""
    with open_stream(str(path)) if is_url(path) else open(path, "rb") as file:
        yield from read_records(file, str(path))


def file_checksum(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
