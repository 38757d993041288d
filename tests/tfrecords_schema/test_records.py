"""TFRecord framing against TensorFlow's own, and against a bitwise CRC-32C."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecords_schema import records
from tfrecords_schema.records import (
    FRAMING_BYTES,
    CorruptRecordError,
    StoredRecord,
    file_checksum,
    frame_parts,
    frame_record,
    masked_crc32c,
    read_file,
    read_records,
    scan_file,
    scan_records,
)

SMALL = (b"", b"a", b"hello, world")
OFFSETS = (0, 16, 33)  # each record takes 16 bytes more than its data
SMALL_FILE = b"".join(frame_record(data) for data in SMALL)


def bitwise_masked_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def naive_frame(data: bytes) -> bytes:
    length = len(data).to_bytes(8, "little")
    return (
        length
        + bitwise_masked_crc32c(length).to_bytes(4, "little")
        + data
        + bitwise_masked_crc32c(data).to_bytes(4, "little")
    )


def read_until_error(
    stored: bytes, name: str = "shard"
) -> tuple[list[StoredRecord], CorruptRecordError | None]:
    read = []
    try:
        for record in read_records(io.BytesIO(stored), name):
            read.append(record)
    except CorruptRecordError as error:
        return read, error
    return read, None


def record_at(byte: int, records: list[bytes] | tuple[bytes, ...]) -> tuple[int, int]:
    """Index and offset of the record in whose framing or data ``byte`` lies."""
    offset = 0
    for index, data in enumerate(records):
        if byte < offset + len(data) + 16:
            return index, offset
        offset += len(data) + 16
    raise ValueError(f"byte {byte} is behind the file")


def flip(stored: bytes, bit: int) -> bytes:
    flipped = bytearray(stored)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def test_tensorflow_reads_what_we_write(tmp_path):
    path = tmp_path / "ours.tfrecord"
    path.write_bytes(SMALL_FILE)
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == list(SMALL)


def test_we_read_what_tensorflow_writes(tmp_path):
    path = tmp_path / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for data in SMALL:
            writer.write(data)
    assert list(read_file(path)) == [
        StoredRecord(offset, data) for offset, data in zip(OFFSETS, SMALL, strict=True)
    ]
    assert path.read_bytes() == SMALL_FILE


@pytest.mark.parametrize("as_path", [str, Path])
def test_an_empty_file_holds_no_records(tmp_path, as_path):
    (tmp_path / "empty").touch()
    assert list(read_file(as_path(tmp_path / "empty"))) == []


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read_file(tmp_path / "none"))


def test_records_are_read_one_at_a_time():
    file = io.BytesIO(SMALL_FILE)
    records = read_records(file, "shard")
    next(records)
    assert file.tell() == 16


@pytest.mark.parametrize(
    ("data", "crc"),
    # The check value of the CRC catalogue, and those of RFC 3720 section B.4.
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (b"", 0),
    ],
)
def test_masked_crc_of_published_values(data, crc):
    rotated = (crc >> 15) | (crc & 0x7FFF) << 17
    assert masked_crc32c(data) == (rotated + 0xA282EAD8) % 2**32


def test_framing_of_three_bytes_by_hand():
    framed = frame_record(b"abc")
    assert framed[:8] == b"\x03\0\0\0\0\0\0\0"
    assert framed[12:15] == b"abc"
    # CRC-32C of "abc" is 0x364B3FB7; rotated right by 15 it is 0x7F6E6C96.
    assert struct.unpack("<I", framed[15:]) == ((0x7F6E6C96 + 0xA282EAD8) % 2**32,)
    assert len(framed) == 3 + FRAMING_BYTES == 19


@given(st.binary(max_size=300))
def test_framing_is_that_of_the_naive_implementation(data):
    assert frame_record(data) == naive_frame(data)
    assert b"".join(frame_parts(data)) == naive_frame(data)


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_what_was_framed_is_read_back_with_its_offsets(records):
    read, error = read_until_error(b"".join(map(frame_record, records)))
    assert error is None
    assert [record.data for record in read] == records
    sizes = [len(data) + 16 for data in records]
    assert [record.offset for record in read] == [sum(sizes[:i]) for i in range(len(sizes))]


@pytest.mark.parametrize("bit", range(len(SMALL_FILE) * 8))
def test_each_flipped_bit_of_a_small_file_is_reported_at_its_record(bit):
    index, offset = record_at(bit // 8, SMALL)
    read, error = read_until_error(flip(SMALL_FILE, bit), "train-0")
    assert [record.data for record in read] == list(SMALL[:index])
    assert error is not None
    assert (error.file, error.offset) == ("train-0", offset)
    assert str(error).startswith(f"train-0: corrupt record at byte {offset}: ")


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_any_flipped_bit_is_reported_at_its_record(records, data):
    stored = b"".join(map(frame_record, records))
    bit = data.draw(st.integers(0, len(stored) * 8 - 1))
    index, offset = record_at(bit // 8, records)
    read, error = read_until_error(flip(stored, bit))
    assert [record.data for record in read] == records[:index]
    assert error is not None
    assert error.offset == offset


@pytest.mark.parametrize("bit", range(0, len(SMALL_FILE) * 8, 23))
def test_tensorflow_too_stops_at_the_record_with_the_flipped_bit(tmp_path, bit):
    path = tmp_path / "flipped"
    path.write_bytes(flip(SMALL_FILE, bit))
    theirs = []
    with pytest.raises(tf.errors.DataLossError):
        theirs.extend(data.numpy() for data in tf.data.TFRecordDataset(str(path)))
    assert theirs == [record.data for record in read_until_error(path.read_bytes())[0]]


@pytest.mark.parametrize("size", range(len(SMALL_FILE)))
def test_each_truncation_is_reported_unless_it_is_between_records(size):
    read, error = read_until_error(SMALL_FILE[:size])
    if size in OFFSETS:
        assert error is None
        assert len(read) == OFFSETS.index(size)
    else:
        index, offset = record_at(size, SMALL)
        assert error is not None
        assert error.offset == offset
        assert "the file ends" in error.reason
        assert [record.data for record in read] == list(SMALL[:index])


@pytest.mark.parametrize("length", [1000, 2**31 + 1, 2**63, 2**64 - 1])
def test_a_forged_length_is_reported_and_not_allocated(length):
    packed = struct.pack("<Q", length)
    forged = packed + struct.pack("<I", masked_crc32c(packed)) + b"little"
    _, error = read_until_error(frame_record(b"first") + forged)
    assert error is not None
    assert error.offset == 21
    assert str(length) in error.reason


@given(st.binary(min_size=1, max_size=200))
def test_garbage_is_a_corrupt_record_and_nothing_else(data):
    read, error = read_until_error(data)
    assert error is not None or b"".join(frame_record(record.data) for record in read) == data


def test_the_error_keeps_its_fields_between_processes():
    error = pickle.loads(pickle.dumps(CorruptRecordError("train-0", 33, "it broke")))
    assert (error.file, error.offset, error.reason) == ("train-0", 33, "it broke")
    assert str(error) == "train-0: corrupt record at byte 33: it broke"


def test_checksum_is_the_sha256_of_a_file_of_several_blocks(tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(data)
    assert file_checksum(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def slow_scan(stored: bytes) -> tuple[list[StoredRecord], list[int]]:
    """Records and damaged offsets by the definition: every byte is tried as the start of a record."""
    read, damaged, offset = [], [], 0
    while offset < len(stored):
        header = stored[offset : offset + 12]
        length = int.from_bytes(header[:8], "little")
        whole = len(header) == 12 and naive_frame_header(length) == header
        end = offset + length + 16
        if whole and end <= len(stored):
            data = stored[offset + 12 : end - 4]
            if naive_frame(data)[-4:] == stored[end - 4 : end]:
                read.append(StoredRecord(offset, data))
            else:
                damaged.append(offset)
            offset = end
            continue
        damaged.append(offset)
        offset += 1
        while offset < len(stored):
            candidate = stored[offset : offset + 12]
            length = int.from_bytes(candidate[:8], "little")
            if length < 2**31 and len(candidate) == 12 and naive_frame_header(length) == candidate:
                break
            offset += 1
    return read, damaged


def naive_frame_header(length: int) -> bytes:
    if length >= 2**31:
        return b""
    stored = length.to_bytes(8, "little")
    return stored + bitwise_masked_crc32c(stored).to_bytes(4, "little")


def scan(stored: bytes) -> tuple[list[StoredRecord], list[int]]:
    found = list(scan_records(io.BytesIO(stored), "shard"))
    return (
        [record for record in found if isinstance(record, StoredRecord)],
        [record.offset for record in found if isinstance(record, CorruptRecordError)],
    )


@given(
    st.lists(st.binary(max_size=30) | st.integers(0, 30).map(bytes), max_size=4),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
    st.integers(0, 200),
)
def test_scan_records_finds_what_trying_every_byte_finds(records, changes, cut):
    stored = bytearray(b"".join(map(naive_frame, records)))
    for place, value in changes:
        if place < len(stored):
            stored[place] = value
    stored = bytes(stored[: len(stored) - cut] if cut < len(stored) else stored)
    assert scan(stored) == slow_scan(stored)


@pytest.mark.parametrize("gap", [0, 1, 11, 12, 2**20 - 6, 2**20, 2**20 + 5])
@pytest.mark.parametrize("fill", [b"\0", b"\xab"])
def test_scan_records_goes_on_behind_garbage_of_any_length(gap, fill):
    stored = naive_frame(b"first") + fill * gap + naive_frame(b"second")
    intact, damaged = scan(stored)
    assert [record.data for record in intact] == [b"first", b"second"]
    assert damaged == ([21] if gap else [])


def test_scan_records_goes_on_inside_a_record_that_claims_the_rest_of_the_file():
    length = (1000).to_bytes(8, "little")
    forged = length + bitwise_masked_crc32c(length).to_bytes(4, "little")
    intact, damaged = scan(forged + naive_frame(b"behind"))
    assert [record.data for record in intact] == [b"behind"]
    assert damaged == [0]


@pytest.mark.parametrize("followed", [True, False])
def test_scan_file_does_not_read_a_hole_of_terabytes(followed, tmp_path):
    one, hole = frame_record(b"one"), 1 << 42
    path = tmp_path / "a.tfrecord"
    with path.open("wb") as file:
        file.write(one)
        file.truncate(hole)
        file.seek(hole)
        file.write(one if followed else b"")
    first, damage, *others = scan_file(path)
    assert (first.offset, damage.offset) == (0, len(one))
    assert [record.offset for record in others] == ([hole] if followed else [])


def test_scan_file_names_the_file_and_reason(tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(flip(SMALL_FILE, 0))
    first, *rest = scan_file(path)
    assert (first.file, first.offset) == (str(path), 0)
    assert first.reason == "the length's checksum does not match"
    assert [record.data for record in rest] == list(SMALL[1:])


def test_scan_records_gives_up_a_file_of_forged_headers(monkeypatch):
    monkeypatch.setattr(records, "_MAX_SEARCHES", 10)
    length = (2**31 - 1).to_bytes(8, "little")
    forged = length + bitwise_masked_crc32c(length).to_bytes(4, "little")
    file = io.BytesIO(naive_frame(b"first") + forged * 100_000)
    first, *damaged = scan_records(file, "shard")
    assert first.data == b"first"
    assert [error.offset for error in damaged] == [21 + 12 * i for i in range(10)]
    assert damaged[-1].reason.endswith("the file has too much damage")
    assert not file.read()  # its size and checksum are those of the whole file
