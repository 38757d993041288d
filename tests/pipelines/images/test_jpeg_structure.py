"""Structure checks of JPEG files, compared with a full decode."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.images.headers import ImageError, decode_rgb, read_header
from pipelines.images.jpeg_structure import StructureReader

SAMPLINGS = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


def picture(height=40, width=56):
    """BGR: noise on a gradient, so that every code of the tables may occur."""
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    return (noise + np.linspace(0, 190, width)[:, np.newaxis]).astype(np.uint8)


def encode(*parameters, pixels=None):
    return cv2.imencode(".jpg", picture() if pixels is None else pixels, parameters)[1].tobytes()


PLAIN = encode()


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def behind_start(*segments, data=PLAIN):
    """``data`` with ``segments`` before all of its own."""
    return data[:2] + b"".join(segments) + data[2:]


def exif(orientation):
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    return segment(0xE1, b"Exif\0\0" + tiff)


def find_segment(marker, data=PLAIN):
    """Returns start and end of the first segment with ``marker``."""
    place = data.index(bytes([0xFF, marker]))
    return place, place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")


def is_plainly_whole(data):
    header = StructureReader().read(data)
    # Whatever was read before makes no difference.
    experienced = StructureReader()
    for before in (PLAIN, data, data[: len(data) // 2], data):
        experienced.read(before)
        assert experienced.read(data) == header
    assert header is None or header == read_header(data)
    return header is not None


def decodes(data):
    header = read_header(data)
    if header is None or not 0 < header.height * header.width <= 100_000:
        return False
    try:
        decode_rgb(data, header)
    except ImageError:
        return False
    return True


VARIANTS = {
    "plain": PLAIN,
    "best": encode(cv2.IMWRITE_JPEG_QUALITY, 100),
    "worst": encode(cv2.IMWRITE_JPEG_QUALITY, 1),
    "own tables": encode(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "restarts": encode(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    "gray": encode(pixels=picture()[..., 0]),
    "thumbnail": behind_start(segment(0xE1, b"Exif\0\0" + bytes(20) + PLAIN)),
    "pictures behind": PLAIN + PLAIN,
    "bytes behind": PLAIN + bytes(100) + b"\xff\xff\xd9\xff\x01",
    **{f"orientation {o}": behind_start(exif(o), exif(3)) for o in (1, 6, 9)},
    "broken EXIF": behind_start(segment(0xE1, b"Exif\0\0")),
    "comment": behind_start(segment(0xFE, b"\xff\xd9\xff\xc0")),
    **{f"sampling {s:x}": encode(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, s) for s in SAMPLINGS},
}


class TestWholeFiles:
    @pytest.mark.parametrize("name", VARIANTS)
    def test_read_accepts_files_of_cameras(self, name) -> None:
        assert decodes(VARIANTS[name])
        assert is_plainly_whole(VARIANTS[name])

    def test_read_accepts_other_segment_orders(self) -> None:
        start, end = find_segment(0xDB)
        table = PLAIN[start:end]
        second_start = PLAIN.index(b"\xff\xdb", end)
        second = PLAIN[second_start : second_start + len(table)]
        merged = segment(0xDB, table[4:] + second[4:])
        rest = PLAIN[:start] + PLAIN[end:second_start] + PLAIN[second_start + len(table) :]
        scan, _ = find_segment(0xDA, rest)
        data = rest[:scan] + merged + rest[scan:]
        assert decodes(data)
        assert is_plainly_whole(data)

    def test_read_is_none_for_unusual_files(self) -> None:
        progressive = encode(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
        _, end = find_segment(0xE0)
        stray = PLAIN[:end] + b"\0\0" + PLAIN[end:]
        filled = PLAIN[:-2] + b"\xff\xff\xd9"
        for data in (progressive, stray, filled):
            assert decodes(data)
            assert not is_plainly_whole(data)


class TestDamagedFiles:
    @pytest.mark.parametrize("name", ["plain", "own tables", "restarts", "gray", "thumbnail"])
    def test_read_is_none_for_each_prefix(self, name) -> None:
        data = VARIANTS[name]
        assert not any(is_plainly_whole(data[:end]) for end in range(len(data)))

    @pytest.mark.parametrize("marker", [0xDB, 0xC0, 0xC4, 0xDA])
    def test_read_is_none_without_any_one_segment(self, marker) -> None:
        start, end = find_segment(marker)
        assert not is_plainly_whole(PLAIN[:start] + PLAIN[end:])

    def test_read_is_none_for_zeros_noise_and_other_files(self) -> None:
        _, scan = find_segment(0xDA)
        assert not is_plainly_whole(bytes(len(PLAIN)))
        assert not is_plainly_whole(PLAIN[:scan] + bytes(len(PLAIN) - scan))
        noise = np.random.default_rng(1).integers(0, 256, 4096, np.uint8).tobytes()
        assert not is_plainly_whole(PLAIN[:scan] + noise + PLAIN[-2:])
        for other in (b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", cv2.imencode(".png", picture())[1]):
            assert not is_plainly_whole(bytes(other))

    @pytest.mark.parametrize(
        ("marker", "place", "value"),
        [
            (0xDB, 4, 0x20),  # precision
            (0xDB, 4, 4),  # number of the table
            (0xDB, 3, 66),  # a byte less than the table
            (0xC4, 4, 0x20),  # class of the table
            (0xC4, 4, 4),
            (0xC4, 5, 2),  # both codes of one bit: none is left
            (0xC4, 21, 16),  # a difference of 16 bits
            (0xC0, 4, 12),  # bits a sample
            (0xC0, 6, 0),  # no rows... with the byte before
            (0xC0, 9, 4),  # components
            (0xC0, 11, 0x33),  # sampling
            (0xC0, 12, 2),  # a table that is not there
            (0xDA, 4, 2),  # components
            (0xDA, 5, 9),  # a component that is not there
            (0xDA, 6, 0x33),  # tables that are not there
            (0xDA, 11, 1),  # from the second coefficient on
        ],
    )
    def test_read_is_none_for_invalid_contents(self, marker, place, value) -> None:
        start, _ = find_segment(marker)
        data = bytearray(PLAIN)
        assert data[start + place] != value
        data[start + place] = value
        if (marker, place) == (0xC0, 6):
            data[start + 5] = 0
        assert not is_plainly_whole(bytes(data))

    def test_read_is_none_for_markers_among_coded_pixels(self) -> None:
        _, scan = find_segment(0xDA)
        for marker in (0x01, 0x4F, 0xC0, 0xDA, 0xE0, 0xFF):
            data = PLAIN[: scan + 9] + bytes([0xFF, marker]) + PLAIN[scan + 9 :]
            assert not is_plainly_whole(data)


class TestAgainstTheDecoder:
    """Files that the check accepts decode."""

    @settings(max_examples=300)
    @given(st.sampled_from(sorted(VARIANTS)), st.data())
    def test_read_accepts_only_what_decoder_accepts(self, name, data) -> None:
        damaged = bytearray(VARIANTS[name])
        for _ in range(data.draw(st.integers(1, 3))):
            # Headers are short, and most of what matters is in them.
            place = data.draw(st.integers(0, data.draw(st.sampled_from((700, len(damaged))))))
            length = data.draw(st.sampled_from((1, 1, 1, 16, 500)))
            patch = data.draw(
                st.one_of(st.just(b""), st.just(bytes(length)), st.binary(max_size=length))
            )
            damaged[place : place + length] = patch
        if is_plainly_whole(bytes(damaged)):
            header = read_header(bytes(damaged))
            assert header is not None
            assert header.height * header.width > 100_000 or decodes(bytes(damaged))

    @given(st.binary(max_size=60), st.integers(0, len(PLAIN)))
    def test_read_accepts_any_bytes(self, noise, kept) -> None:
        for data in (noise, PLAIN[:kept] + noise, PLAIN[:2] + noise + PLAIN[2:]):
            assert not is_plainly_whole(data) or decodes(data)
