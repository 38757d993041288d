"""Reads the size of a stored frame from its header, before memory is allocated for its pixels."""

from __future__ import annotations

import contextlib
import struct

import simplejpeg

_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_SIZE = struct.Struct(">II")


def frame_size(data: bytes) -> tuple[int, int] | None:
    """Returns height and width of a JPEG or PNG file; None for another file, or without a whole header.

    PNG: https://www.w3.org/TR/png-3/#11IHDR.
    """
    if data.startswith(_PNG_START):
        with contextlib.suppress(struct.error):
            width, height = _PNG_SIZE.unpack_from(data, len(_PNG_START))
            return height, width
        return None
    with contextlib.suppress(ValueError):
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        return height, width
    return None
