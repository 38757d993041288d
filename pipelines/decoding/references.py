"""Which streams tell of their frames whether others are predicted from them."""

from __future__ import annotations

from av.video.codeccontext import VideoCodecContext

_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


def marks_references(codec: VideoCodecContext) -> bool:
    """Whether the decoder may leave out frames by their mark that no other is predicted from them.

    So it is for H.264, HEVC and MPEG-4, with one frame a packet. Not where a packet may hold a field (H.264
    that is not said to consist of frames), and not where frames of another temporal layer are predicted from
    a frame in spite of its mark (HEVC).
    """
    header = bytes(codec.extradata or b"")
    if codec.name == "h264":
        return _consists_of_frames(header)
    if codec.name == "hevc":
        return len(header) > 21 and header[0] == 1 and header[21] >> 3 & 7 == 1
    return codec.name == "mpeg4"


def _consists_of_frames(header: bytes) -> bool:
    """``frame_mbs_only_flag`` of every sequence parameter set in an ``avcC`` (ISO 14496-15 section 5.3.3)."""
    if len(header) < 8 or header[0] != 1 or not header[5] & 31:
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
