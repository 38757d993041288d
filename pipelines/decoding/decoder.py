"""Decoding: turns packets into pictures in order of presentation, and skips those that are not needed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import av

from pipelines.decoding.damage import DamageRecorder
from pipelines.decoding.lookahead import MAX_REORDERED_PACKETS, Need
from pipelines.decoding.packets import PacketReader
from pipelines.decoding.protocol import DecodingFailure
from pipelines.decoding.pyav import DECODING_ERRORS
from pipelines.decoding.references import find_idr_test, find_nonreference_test

_FREE_PIXELS = 5 * 10**10
_MAX_PIXELS_PER_BYTE = 100_000
"""Limits of the pixels that one reading decodes: so many, and so many per byte of the packets. Black video of
3840x2160 has 30,000 (H.264) to 90,000 (VP9) per byte; a packet of 13 bytes may stand for 67 million."""
_PACKET_BYTES = 16  # what containers add to a packet


class Skipped(NamedTuple):
    """A frame that is not used and was not decoded; the next one is expected at ``until``."""

    pts: int
    is_key: bool
    until: int | None


Picture = av.VideoFrame | Skipped


def is_key(picture: av.VideoFrame, codec: str) -> bool:
    """Returns True for a frame that refers to no other frame."""
    # After damage, dav1d marks frames as keyframes that are none. Its packets are right.
    _, is_key_packet = cast("tuple[int, bool]", picture.opaque or (0, True))
    return bool(picture.key_frame) and (is_key_packet or codec != "libdav1d")


class PictureDecoder:
    """Decodes the packets of one stream.

    Args:
        packets: reader of the stream.
        damage: receives the decoder's error messages.
        start: presentation time from which on frames are used; None is the start of the file.
    """

    def __init__(self, packets: PacketReader, damage: DamageRecorder, start: int | None):
        self._codec = packets.stream.codec_context
        self._damage = damage
        self._start = start
        # MPEG-TS marks packets as corrupt after others were lost.
        self._reports_lost_packets = packets.format_name == "mpegts"
        self._is_nonreference = find_nonreference_test(self._codec)
        self.is_idr = find_idr_test(self._codec)
        self._skips_nonreference = False
        self._is_drained = False
        self._keys_until_reliable = int(start is not None)
        self._pixels_left = _FREE_PIXELS
        # Heap of time, index and what the codec does not order.
        self._due: list[tuple[int, int, Picture]] = []

    def decode(self, index: int, packet: Any, need: Need) -> Iterator[tuple[int, Picture | None]]:
        """Decodes a packet for a reason other than `Need.NOTHING`.

        Yields:
            The index of the packet that a picture is from, and the picture; None if it did not decode.
        """
        for source, image in self._decode(index, packet, need):
            self._remove_due(source)
            if image is not None and image.pts is not None:
                while self._due and self._due[0][0] < image.pts:
                    yield heapq.heappop(self._due)[1:]
            yield source, image

    def add_skipped(self, index: int, skipped: Skipped) -> None:
        """Adds the frame of a packet whose picture is not needed, to be yielded in order of presentation."""
        heapq.heappush(self._due, (skipped.pts, index, skipped))

    def skip(self, index: int) -> Iterator[tuple[int, Picture]]:
        """Skips a packet; the next packet that is decoded must be a keyframe."""
        if not self._is_drained:
            self._drain(index)
        yield from self.finish(MAX_REORDERED_PACKETS)

    def finish(self, kept: int = 0) -> Iterator[tuple[int, Picture]]:
        """Yields what is left at the end of the stream, except for the last ``kept``."""
        while len(self._due) > kept:
            yield heapq.heappop(self._due)[1:]

    def _decode(self, index: int, packet: Any, need: Need) -> Iterator[tuple[int, Any]]:
        self._is_drained = False
        if packet.is_keyframe and (self._start is None or (packet.pts or 0) >= self._start):
            # From this keyframe on, or the next one, frames refer to decoded frames only.
            self._keys_until_reliable = max(0, self._keys_until_reliable - 1)
            if self._keys_until_reliable and self.is_idr(bytes(packet)):
                self._keys_until_reliable = 0
        may_skip = need is Need.REFERENCE and self._is_nonreference is not None
        if self._skips_nonreference != (may_skip and self._is_nonreference(bytes(packet))):
            self._skips_nonreference = not self._skips_nonreference
            self._codec.skip_frame = "NONREF" if self._skips_nonreference else "DEFAULT"
        # A tuple of its own: PyAV finds the object by its address, and small numbers share theirs.
        packet.opaque = (index, packet.is_keyframe)
        try:
            with self._damage.decoding():
                images = packet.decode()
        except DECODING_ERRORS:
            self._count_work(packet, self._codec)
            yield index, None
            return
        self._count_work(packet, images[-1] if images else self._codec)
        if packet.is_corrupt and self._reports_lost_packets:
            yield index, None
        if self._keys_until_reliable:
            # Open groups of pictures refer to frames before the start. None of their frames is used.
            self._damage.discard_messages()
        for image in images:
            yield (image.opaque or (index,))[0], image

    def _count_work(self, packet: Any, picture: Any) -> None:
        """Raises a `DecodingFailure` once far more pixels were decoded than bytes were read."""
        self._pixels_left += (packet.size + _PACKET_BYTES) * _MAX_PIXELS_PER_BYTE
        self._pixels_left -= picture.width * picture.height
        if self._pixels_left < 0:
            raise DecodingFailure(
                "limits",
                f"packets of a few bytes, such as {packet.size}, hold frames of {picture.width}x"
                f"{picture.height} pixels: more than {_FREE_PIXELS:.0e} pixels and "
                f"{_MAX_PIXELS_PER_BYTE} per byte. Scale the footage down",
            )

    def _drain(self, index: int) -> None:
        """Takes the pictures that the codec still holds before the packet ``index``."""
        self._is_drained = True
        self._keys_until_reliable = 2
        try:
            with self._damage.decoding():
                images = self._codec.decode(None)
        except DECODING_ERRORS:
            self._damage.add_missing()
            images = []
        self._codec.flush_buffers()
        for image in images:
            source = cast("tuple[int]", image.opaque or (index,))[0]
            self._remove_due(source)
            heapq.heappush(self._due, (image.pts or 0, source, image))

    def _remove_due(self, index: int) -> None:
        """Removes the skipped frame of a packet that did yield a picture, or does not decode."""
        if any(due[1] == index for due in self._due):
            self._due = [due for due in self._due if due[1] != index]
            heapq.heapify(self._due)
