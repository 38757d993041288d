"""Reads from H.264, HEVC and MPEG-4 packets if other frames are predicted from their frame."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from itertools import islice, takewhile

from av.video.codeccontext import VideoCodecContext

_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_VOP = b"\0\0\1\xb6"
# Bit 0x80 is always 0. H.264 section 7.3.1: type in the lower five bits, of which 0 is invalid.
_H264_SLICES = frozenset(first for first in range(256) if first & 0x80 or first & 31 <= 5)
# HEVC section 7.3.1.2: type, of which slices have those up to 31, in the next six bits.
_HEVC_SLICES = frozenset((*range(64), *range(0x80, 256)))

PacketTest = Callable[[bytes], bool]
"""Tests a packet for a mark; a damaged packet should rather give False."""


def find_nonreference_test(codec: VideoCodecContext) -> PacketTest | None:
    """Returns a test for packets whose frame no other frame is predicted from; None if there is no safe one.

    There is one for H.264, HEVC and MPEG-4 with one frame per packet. There is none if a packet may hold a
    field (H.264 that is not declared to consist of frames), nor with temporal layers (HEVC), where frames of
    another layer are predicted from a frame in spite of its mark.
    """
    header = bytes(codec.extradata or b"")
    if codec.name == "h264" and _is_never_interlaced(header):
        return _all_slices(header[4], _H264_SLICES, range(1, 32))  # nal_ref_idc is 0
    if codec.name == "hevc" and _is_hvcc(header) and header[21] >> 3 & 7 == 1:
        return _all_slices(header[21], _HEVC_SLICES, [b for b in range(30) if not b & 2])
    if codec.name == "mpeg4":
        return _is_bidirectional_vop
    return None


def find_idr_test(codec: VideoCodecContext) -> PacketTest:
    """Returns a test for IDR frames of H.264 and HEVC: no later frame is predicted from an earlier one.

    Other keyframes may have that property too, but it cannot be read from their packets.
    """
    header = bytes(codec.extradata or b"")
    if codec.name == "h264" and _is_avcc(header):
        return _all_slices(header[4], _H264_SLICES, range(5, 0x80, 32))
    if codec.name == "hevc" and _is_hvcc(header):
        return _all_slices(header[21], _HEVC_SLICES, range(2 * 19, 2 * 21))
    return lambda packet: False


def _is_avcc(header: bytes) -> bool:
    return len(header) >= 8 and header[0] == 1


def _is_hvcc(header: bytes) -> bool:
    return len(header) >= 23 and header[0] == 1


def _all_slices(length_bits: int, slices: Container[int], marked: Container[int]) -> PacketTest:
    """Returns a test for packets all of whose slices have a mark.

    Args:
        length_bits: byte of the codec's header with the size of lengths.
        slices: first bytes of the NAL units that are slices or invalid.
        marked: those of them that have the mark; no invalid ones.
    """
    length_size = (length_bits & 3) + 1

    def test(packet: bytes) -> bool:
        found = [first for first in set(_unit_bytes(packet, length_size)) if first in slices]
        return bool(found) and all(first in marked for first in found)

    return test


def _unit_bytes(packet: bytes, length_size: int) -> Iterator[int]:
    """Yields the first byte of each NAL unit; an invalid one at the end if the lengths are wrong."""
    position = 0
    while position + length_size < len(packet):
        length = int.from_bytes(packet[position : position + length_size], "big")
        yield packet[position + length_size]
        position += length_size + length
    if position != len(packet):
        yield 0x80


def _is_bidirectional_vop(packet: bytes) -> bool:
    """Tests ``vop_coding_type`` (ISO 14496-2 section 6.3.5) of a packet's only frame for a B-frame."""
    _, *frames = packet.split(_VOP)
    return len(frames) == 1 and bool(frames[0]) and frames[0][0] >> 6 == 2


def _is_never_interlaced(header: bytes) -> bool:
    """Tests ``frame_mbs_only_flag`` in all parameter sets of ``avcC`` (ISO 14496-15 section 5.3.3)."""
    count, position = header[5] & 31 if _is_avcc(header) else 0, 6
    for _ in range(count):
        length = int.from_bytes(header[position : position + 2], "big")
        position += 2
        if not _has_frames_only(header[position : position + length]):
            return False
        position += length
    return count > 0


def _has_frames_only(parameters: bytes) -> bool:
    """Reads H.264 section 7.3.2.1.1; False for rare syntax that is not read here."""
    bits = _Bits(parameters[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.take(8)
    bits.take(16)
    bits.take_number()
    if profile in _HIGH_PROFILES:
        if bits.take_number() == 3:  # chroma_format_idc
            bits.take(1)
        bits.take_number()
        bits.take_number()
        bits.take(1)
        if bits.take(1):  # scaling matrices follow
            return False
    bits.take_number()
    order_type = bits.take_number()
    if order_type == 0:
        bits.take_number()
    elif order_type == 1:
        return False
    bits.take_number()
    bits.take(1)
    bits.take_number()
    bits.take_number()
    return bits.take(1) == 1


class _Bits:
    """A reader of bits from the first on."""

    def __init__(self, data: bytes):
        self._bits = iter("".join(f"{byte:08b}" for byte in data))

    def take(self, count: int) -> int:
        """Returns the next ``count`` bits, or those that are left."""
        return int("0" + "".join(islice(self._bits, count)), 2)

    def take_number(self) -> int:
        """Returns the next Exp-Golomb number."""
        zeros = len(list(takewhile("0".__eq__, self._bits)))
        return (1 << zeros) - 1 + self.take(zeros)
