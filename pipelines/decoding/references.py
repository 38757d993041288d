"""Which frames others are predicted from, told by the marks that packets bear."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from av.video.codeccontext import VideoCodecContext

_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_VOP = b"\0\0\1\xb6"

Mark = Callable[[bytes], bool]
"""Whether a packet bears a mark; a damaged one rather does not."""


def find_unreferenced(codec: VideoCodecContext) -> Mark | None:
    """What tells packets of frames that no other is predicted from; None where nothing does for sure.

    So it is for H.264, HEVC and MPEG-4, with one frame a packet. Not where a packet may hold a field (H.264
    that is not said to consist of frames), and not where frames of another temporal layer are predicted from
    a frame in spite of its mark (HEVC).
    """
    header = bytes(codec.extradata or b"")
    if codec.name == "h264" and _consists_of_frames(header):
        return _all_slices(_h264_slices, header[4], lambda first: not first & 0x60)  # nal_ref_idc
    if codec.name == "hevc" and _is_hvcc(header) and header[21] >> 3 & 7 == 1:
        return _all_slices(_hevc_slices, header[21], lambda kind: kind <= 14 and not kind & 1)
    if codec.name == "mpeg4":
        return _is_bidirectional_vop
    return None


def find_begins_anew(codec: VideoCodecContext) -> Mark:
    """What tells keyframes behind which no frame is predicted from one before: IDR of H.264 and HEVC.

    Others may be like that, or not.
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
    slices_of: Callable[[bytes, int], set[int]], length_bits: int, is_so: Callable[[int], bool]
) -> Mark:
    length_size = (length_bits & 3) + 1

    def mark(packet: bytes) -> bool:
        slices = slices_of(packet, length_size)
        return bool(slices) and all(map(is_so, slices))

    return mark


def _h264_slices(packet: bytes, length_size: int) -> set[int]:
    """The first byte of each slice (H.264 section 7.3.1); nothing in a damaged packet."""
    units = set(_unit_bytes(packet, length_size))
    if any(first & 0x80 or not first & 31 for first in units):
        return set()
    return {first for first in units if first & 31 <= 5}


def _hevc_slices(packet: bytes, length_size: int) -> set[int]:
    """``nal_unit_type`` of each slice (HEVC table 7-1); nothing in a damaged packet."""
    kinds = {first >> 1 for first in _unit_bytes(packet, length_size)}
    return set() if any(kind > 63 for kind in kinds) else {kind for kind in kinds if kind < 32}


def _unit_bytes(packet: bytes, length_size: int) -> Iterator[int]:
    """The first byte of each NAL unit; one that no unit begins with, where lengths are wrong."""
    place = 0
    while place + length_size < len(packet):
        length = int.from_bytes(packet[place : place + length_size], "big")
        yield packet[place + length_size]
        place += length_size + length
    if place != len(packet):
        yield 0x80


def _is_bidirectional_vop(packet: bytes) -> bool:
    """By ``vop_coding_type``, ISO 14496-2 section 6.3.5."""
    place = packet.find(_VOP) + len(_VOP)
    if not len(_VOP) <= place < len(packet) or packet.find(_VOP, place) >= 0:
        return False
    return packet[place] >> 6 == 2


def _consists_of_frames(header: bytes) -> bool:
    """``frame_mbs_only_flag`` of every sequence parameter set in an ``avcC`` (ISO 14496-15 section 5.3.3)."""
    if not _is_avcc(header) or not header[5] & 31:
        return False
    place = 6
    for _ in range(header[5] & 31):
        length = int.from_bytes(header[place : place + 2], "big")
        place += 2
        if not _has_frames_only(header[place : place + length]):
            return False
        place += length
    return True


def _has_frames_only(parameters: bytes) -> bool:
    """See H.264 section 7.3.2.1.1; False for what is seldom used and not read here."""
    bits = _Bits(parameters[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.take(8)
    bits.take(16)
    bits.number()
    if profile in _HIGH_PROFILES:
        if bits.number() == 3:  # chroma_format_idc
            bits.take(1)
        bits.number()
        bits.number()
        bits.take(1)
        if bits.take(1):  # scaling matrices follow
            return False
    bits.number()
    order_type = bits.number()
    if order_type == 0:
        bits.number()
    elif order_type == 1:
        return False
    bits.number()
    bits.take(1)
    bits.number()
    bits.number()
    return bits.take(1) == 1


class _Bits:
    """Bits from the first on; zeros when there are no more."""

    def __init__(self, data: bytes):
        self._left = len(data) * 8
        self._value = int.from_bytes(data, "big")

    def take(self, count: int) -> int:
        """The next ``count`` bits."""
        self._left -= count
        if self._left < 0:
            return 0
        return self._value >> self._left & (1 << count) - 1

    def number(self) -> int:
        """The next Exp-Golomb number."""
        zeros = 0
        while self._left > 0 and not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
