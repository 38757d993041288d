"""Headers of image files, pixels turned upright, and any bytes whatever."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.images.headers import Header, ImageError, decode_rgb, read_header

EXTENSIONS = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}
SHORT, LONG, ASCII = 3, 4, 2
ORIENTATION = 274


def picture(height=16, width=24):
    """RGB: a gradient with a bright corner, so that every orientation differs."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 120, width)
    pixels[..., 1] = np.linspace(0, 120, height)[:, np.newaxis]
    pixels[: height // 2, : width // 2, 2] = 250
    return pixels


def encode(image_format, pixels=None, *parameters):
    pixels = picture() if pixels is None else pixels
    ordered = pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
    return cv2.imencode(EXTENSIONS[image_format], ordered, parameters)[1].tobytes()


def tiff_tags(entries, order="<"):
    """A TIFF directory of (tag, type, count, value)."""
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    data += struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        data += struct.pack(f"{order}HHI", tag, kind, count)
        data += struct.pack(f"{order}{'H2x' if kind == SHORT else 'I'}", value)
    return data + bytes(4)


def exif(orientation, order="<"):
    return tiff_tags([(271, ASCII, 9, 0), (ORIENTATION, SHORT, 1, orientation)], order)


def jpeg_with(exif_data, data=None):
    data = encode("JPEG") if data is None else data
    payload = b"Exif\0\0" + exif_data
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


def png_with(exif_data):
    data, chunk = encode("PNG"), b"eXIf" + exif_data
    length, check = struct.pack(">I", len(exif_data)), struct.pack(">I", zlib.crc32(chunk))
    return data[:33] + length + chunk + check + data[33:]


def webp_with(exif_data):
    size = struct.pack("<HBHB", 23, 0, 15, 0)
    body = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + size + encode("WEBP")[12:]
    body += b"EXIF" + struct.pack("<I", len(exif_data)) + exif_data + bytes(len(exif_data) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiff_with(orientation, order="<"):
    pixels, fields = picture(), 9
    size = pixels.nbytes
    entries = [(256, SHORT, 1, 24), (257, LONG, 1, 16), (258, SHORT, 1, 8), (259, SHORT, 1, 1)]
    entries += [(262, SHORT, 1, 2), (273, LONG, 1, 14 + 12 * fields)]
    entries += [(ORIENTATION, SHORT, 1, orientation), (277, SHORT, 1, 3), (279, LONG, 1, size)]
    return tiff_tags(entries, order) + pixels.tobytes()


def turned(pixels, orientation):
    """Applies an EXIF 2.3 orientation with OpenCV's flips and rotations."""
    turn = {
        1: lambda p: p,
        2: lambda p: cv2.flip(p, 1),
        3: lambda p: cv2.rotate(p, cv2.ROTATE_180),
        4: lambda p: cv2.flip(p, 0),
        5: cv2.transpose,
        6: lambda p: cv2.rotate(p, cv2.ROTATE_90_CLOCKWISE),
        7: lambda p: cv2.rotate(cv2.transpose(p), cv2.ROTATE_180),
        8: lambda p: cv2.rotate(p, cv2.ROTATE_90_COUNTERCLOCKWISE),
    }
    return turn[orientation](pixels)


class TestHeader:
    @pytest.mark.parametrize("image_format", EXTENSIONS)
    def test_read_header_of_each_format(self, image_format) -> None:
        header = read_header(encode(image_format))
        assert header is not None
        assert header[:3] == (image_format, 16, 24)
        assert header.channels in (0, 3)
        assert header.upright
        assert header.upright_size == (16, 24)

    @pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
    def test_read_header_counts_channels(self, image_format) -> None:
        gray = encode(image_format, picture()[..., 0])
        assert read_header(gray) == Header(image_format, 16, 24, 1)
        assert read_header(encode(image_format)) == Header(image_format, 16, 24, 3)

    def test_read_header_of_progressive_jpeg_with_misleading_comments(self) -> None:
        data = encode("JPEG", None, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
        comment = b"\xff\xfe" + struct.pack(">H", 12) + b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03"
        assert read_header(data[:2] + comment + data[2:]) == Header("JPEG", 16, 24, 3)
        assert read_header(data[:2] + b"\xff\xff" + data[2:]) == Header("JPEG", 16, 24, 3)

    def test_read_header_of_top_down_and_old_bitmaps(self) -> None:
        data = bytearray(encode("BMP"))
        data[22:26] = struct.pack("<i", -16)
        assert read_header(bytes(data)) == Header("BMP", 16, 24, 3)
        old = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 24, 16, 1, 24)
        assert read_header(old) == Header("BMP", 16, 24, 3)

    def test_read_header_of_lossless_and_extended_webp(self) -> None:
        lossless = encode("WEBP", None, cv2.IMWRITE_WEBP_QUALITY, 101)
        assert lossless[12:16] == b"VP8L"
        assert read_header(lossless) == Header("WEBP", 16, 24, 0)
        lossy = encode("WEBP", None, cv2.IMWRITE_WEBP_QUALITY, 80)
        assert lossy[12:16] == b"VP8 "
        assert read_header(lossy) == Header("WEBP", 16, 24, 3)
        assert read_header(webp_with(exif(1))) == Header("WEBP", 16, 24, 0)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"GIF89a",
            b"\xff\xd8\xff\xd9",
            b"BM",
            b"RIFF\0\0\0\0WEBPVP8 ",
            b"II*\0",
            tiff_tags([(256, ASCII, 2, 24), (257, SHORT, 1, 16)]),
        ],
    )
    def test_read_header_is_none_for_other_files(self, data) -> None:
        assert read_header(data) is None

    @pytest.mark.parametrize("with_exif", [jpeg_with, png_with, webp_with])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_read_header_returns_orientation(self, with_exif, order) -> None:
        for orientation in range(1, 9):
            header = read_header(with_exif(exif(orientation, order)))
            assert header is not None
            assert header.orientation == orientation
            assert header.upright == (orientation == 1)
            assert header.upright_size == ((24, 16) if orientation > 4 else (16, 24))

    @pytest.mark.parametrize(
        "exif_data",
        [
            b"",
            b"XX*\0" + exif(1)[4:],
            exif(1)[:20],
            exif(0),
            exif(9),
            tiff_tags([(ORIENTATION, ASCII, 1, 1)]),
            tiff_tags([(ORIENTATION, SHORT, 2, 1)]),
            b"II*\0" + struct.pack("<I", 2**31) + exif(1)[8:],
        ],
        ids=[
            "empty",
            "byte order",
            "cut short",
            "value 0",
            "value 9",
            "type",
            "count",
            "directory elsewhere",
        ],
    )
    def test_broken_exif_is_not_upright(self, exif_data) -> None:
        for data in (jpeg_with(exif_data), png_with(exif_data), webp_with(exif_data)):
            header = read_header(data)
            assert header is not None
            assert not header.upright
            assert header.upright_size == (16, 24)

    def test_exif_without_orientation_is_upright(self) -> None:
        header = read_header(jpeg_with(tiff_tags([(271, ASCII, 9, 0)])))
        assert header == Header("JPEG", 16, 24, 3)
        # XMP stands in the same kind of segment, and is no EXIF.
        xmp = b"\xff\xe1" + struct.pack(">H", 10) + b"http://x"
        data = jpeg_with(exif(6))
        assert read_header(data[:2] + xmp + data[2:]) == Header("JPEG", 16, 24, 3, 6)

    @given(st.binary(max_size=200), st.sampled_from(sorted(EXTENSIONS)), st.integers(0, 60))
    def test_read_header_accepts_any_bytes(self, noise, image_format, kept) -> None:
        for data in (noise, encode(image_format)[:kept] + noise, jpeg_with(noise), png_with(noise)):
            header = read_header(data)
            assert header is None or min(header.height, header.width, header.channels) >= 0


class TestDecoding:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_decode_rgb_turns_upright(self, orientation) -> None:
        expected = turned(picture(), orientation)
        for data, most in (
            (jpeg_with(exif(orientation)), 40),
            (png_with(exif(orientation)), 0),
            (webp_with(exif(orientation)), 60),
            (tiff_with(orientation), 0),
            (tiff_with(orientation, ">"), 0),
        ):
            header = read_header(data)
            assert header is not None
            pixels = decode_rgb(data, header)
            assert pixels.shape == expected.shape == (*header.upright_size, 3)
            assert np.median(np.abs(pixels.astype(int) - expected)) <= most / 10
            assert np.abs(pixels.astype(int) - expected).mean() <= most / 2

    def test_decode_rgb_returns_8_bit_rgb_for_each_kind(self) -> None:
        gray, deep = picture()[..., 0], picture().astype(np.uint16) * 256
        alpha = np.dstack([picture(), np.full((16, 24), 9, np.uint8)])
        for pixels in (gray, deep):
            data = encode("PNG", pixels)
            expected = np.dstack([gray] * 3) if pixels is gray else picture()
            assert (decode_rgb(data, read_header(data)) == expected).all()
        data = cv2.imencode(".png", alpha[:, :, [2, 1, 0, 3]])[1].tobytes()
        assert (decode_rgb(data, read_header(data)) == picture()).all()

    @pytest.mark.parametrize("image_format", EXTENSIONS)
    def test_decode_rgb_refuses_each_prefix(self, image_format) -> None:
        data = encode(image_format)
        header = read_header(data)
        for end in (30, 60, len(data) // 2, len(data) - 20, len(data) - 5):
            with pytest.raises(ImageError, match=f"{image_format} file"):
                decode_rgb(data[:end], header)

    def test_decode_rgb_accepts_data_after_jpeg(self) -> None:
        thumbnail = encode("JPEG", picture(8, 8))
        data = encode("JPEG")
        for whole in (data, data + bytes(100), data + thumbnail, jpeg_with(thumbnail, data)):
            assert decode_rgb(whole, read_header(whole)).shape == (16, 24, 3)
        with pytest.raises(ImageError, match="truncated JPEG file: it has no end marker"):
            decode_rgb(jpeg_with(thumbnail, data[:-2]), read_header(data))

    def test_decode_rgb_refuses_png_with_chunk_beyond_the_end(self) -> None:
        """A decoder that believed it would take 3 GiB for these few bytes."""
        data = bytearray(encode("PNG"))
        place = data.index(b"IDAT") - 4
        data[place : place + 4] = (3 << 30).to_bytes(4, "big")
        with pytest.raises(ImageError, match="truncated PNG file: it ends within a chunk"):
            decode_rgb(bytes(data), read_header(bytes(data)))
        whole = encode("PNG") + b"made with love"
        assert decode_rgb(whole, read_header(whole)).shape == (16, 24, 3)

    def test_decode_rgb_refuses_size_other_than_header(self) -> None:
        data = encode("PNG")
        with pytest.raises(ImageError, match=r"decodes to \(16, 24, 3\) uint8, but .* \(16, 25\)"):
            decode_rgb(data, Header("PNG", 16, 25, 3))

    @given(st.data())
    def test_decode_rgb_handles_random_damage(self, data) -> None:
        image_format = data.draw(st.sampled_from(sorted(EXTENSIONS)))
        damaged = bytearray(encode(image_format))
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        header = read_header(bytes(damaged))
        if header is None or header.height * header.width > 10_000:
            return
        try:
            pixels = decode_rgb(bytes(damaged), header)
        except ImageError:
            return
        assert pixels.shape == (*header.upright_size, 3)
