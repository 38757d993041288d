"""Reads from H.264, HEVC and MPEG-4 packets if other frames are predicted from their frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from av.video.codeccontext import VideoCodecContext

_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_VOP = b"\0\0\1\xb6"

PacketTest = Callable[[bytes], bool]
"""Tests a packet for a mark; a damaged packet should rather give False."""


def find_nonreference_test(codec: VideoCodecContext) -> PacketTest | None:
    """Returns a test for packets whose frame no other frame is predicted from; None if there is no safe one.

    There is one for H.264, HEVC and MPEG-4 with one frame per packet. There is none if a packet may hold a
    field (H.264 that is not declared to consist of frames), nor with temporal layers (HEVC), where frames of
    another layer are predicted from a frame in spite of its mark.
    """
    header = bytes(codec.extradata or b"")
    if codec.name == "h264" and _consists_of_frames(header):
        return _all_slices(_h264_slices, header[4], lambda first: not first & 0x60)  # nal_ref_idc
    if codec.name == "hevc" and _is_hvcc(header) and header[21] >> 3 & 7 == 1:
        return _all_slices(_hevc_slices, header[21], lambda kind: kind <= 14 and not kind & 1)
    if codec.name == "mpeg4":
        return _is_bidirectional_vop
    return None


def find_idr_test(codec: VideoCodecContext) -> PacketTest:
    """Returns a test for IDR frames of H.264 and HEVC: no later frame is predicted from an earlier one.

    Other keyframes may have that property too, but it cannot be read from their packets.
    """
    header = bytes(codec.extradata or b"")
    if codec.name == "h264" and _is_avcc(header):
        return _all_slices(_h264_slices, header[4], lambda first: first & 31 == 5)
    if codec.name == "hevc" and _is_hvcc(header):
        return _all_slices(_hevc_slices, header[21], lambda kind: kind in (19, 20))
    return lambda packet: False


def _is_avcc(header: bytes) -> bool:
    return len(header) >= 8 and header[0] == 1


def _is_hvcc(header: bytes) -> bool:
    return len(header) >= 23 and header[0] == 1


def _all_slices(
    read_slices: Callable[[bytes, int], set[int]],
    length_bits: int,
    is_marked: Callable[[int], bool],
) -> PacketTest:
    length_size = (length_bits & 3) + 1

    def test(packet: bytes) -> bool:
        slices = read_slices(packet, length_size)
        return bool(slices) and all(map(is_marked, slices))

    return test


def _h264_slices(packet: bytes, length_size: int) -> set[int]:
    """Returns the NAL header bytes of a packet's slices, each value once (H.264 section 7.3.1).

    Returns nothing for a damaged packet.
    """
    units = set(_unit_bytes(packet, length_size))
    if any(first & 0x80 or not first & 31 for first in units):
        return set()
    return {first for first in units if first & 31 <= 5}


def _hevc_slices(packet: bytes, length_size: int) -> set[int]:
    """Returns the ``nal_unit_type`` of each slice (HEVC table 7-1); nothing for a damaged packet."""
    kinds = {first >> 1 for first in _unit_bytes(packet, length_size)}
    return set() if any(kind > 63 for kind in kinds) else {kind for kind in kinds if kind < 32}


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
    """Tests ``vop_coding_type`` (ISO 14496-2 section 6.3.5) for a B-frame."""
    position = packet.find(_VOP) + len(_VOP)
    if not len(_VOP) <= position < len(packet) or packet.find(_VOP, position) >= 0:
        return False
    return packet[position] >> 6 == 2


def _consists_of_frames(header: bytes) -> bool:
    """Tests ``frame_mbs_only_flag`` in all parameter sets of ``avcC`` (ISO 14496-15 section 5.3.3)."""
    if not _is_avcc(header) or not header[5] & 31:
        return False
    position = 6
    for _ in range(header[5] & 31):
        length = int.from_bytes(header[position : position + 2], "big")
        position += 2
        if not _has_frames_only(header[position : position + length]):
            return False
        position += length
    return True


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
    """A reader of bits from the first on; zeros after the end."""

    def __init__(self, data: bytes):
        self._left = len(data) * 8
        self._value = int.from_bytes(data, "big")

    def take(self, count: int) -> int:
        """Returns the next ``count`` bits."""
        self._left -= count
        if self._left < 0:
            return 0
        return self._value >> self._left & (1 << count) - 1

    def take_number(self) -> int:
        """Returns the next Exp-Golomb number."""
        zeros = 0
        while self._left > 0 and not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
