"""The way of a packet to a picture, for one reading of a video stream.

    file ──PacketReader──▶ packets               demuxing: times, seeking, cut files (packets.py)
         ──Lookahead─────▶ packets with a Need   which of them to decode (lookahead.py)
         ──PictureDecoder▶ pictures or Skipped   decoding, in order of presentation (decoder.py)
         ──FrameGate─────▶ undamaged pictures    damage: without what was predicted from it (damage.py)

`Video` gives the pictures their times and ranks. A packet is named by its index in decoding order; the gate
needs it, because frames are predicted from frames of smaller index. `DamageRecorder` keeps the first damage.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from pipelines.decoding.damage import DamageRecorder, FrameGate
from pipelines.decoding.decoder import Picture, PictureDecoder, Skipped, is_key
from pipelines.decoding.lookahead import IsUsed, Lookahead, Need
from pipelines.decoding.packets import PacketReader

# Codecs with packets that show nothing: only decoding tells them from frames.
_HIDING_CODECS = ("vp8",)


class StreamReader:
    """Reads a stream once, from where its packets start.

    Attributes:
        packets_read: packets with a frame to show; complete when reading has ended.
        shown: heap of the presentation times of these packets, from which the caller removes.
        damage: the first damage so far.
    """

    def __init__(self, packets: PacketReader):
        self._packets = packets
        self._codec = packets.stream.codec_context
        self.packets_read = 0
        self.shown: list[int] = []
        self.damage = DamageRecorder()
        self._is_used: IsUsed | None = None
        self._has_frame = False  # an undamaged picture was decoded
        self._has_key = False  # a packet was read from which decoding should have started
        self._first_shown: int | None = None  # presentation time of the first packet

    def skip_unused(self, is_used: IsUsed) -> None:
        """Allows to skip the frames for which ``is_used`` returns False, from now on."""
        if self._packets.cuttable and self._codec.name not in _HIDING_CODECS:
            self._is_used = is_used

    def pictures(self, start: int | None) -> Iterator[tuple[Picture, int]]:
        """Yields pictures that are not known to be damaged, and how many others are missing before each.

        Frames are used from the presentation time ``start`` on; None is the start of the file.
        """
        self.packets_read, self.shown = 0, []
        due: int | None = None
        for picture, missing in self._undamaged(start):
            if due is not None and picture.pts is not None and picture.pts > due and not missing:
                # Packets were lost, and the decoder could not report it because it was not used.
                self.damage.add_missing()
                missing = 1  # at least
            due = picture.until if isinstance(picture, Skipped) else None
            yield picture, missing

    def _undamaged(self, start: int | None) -> Iterator[tuple[Picture, int]]:
        gate = FrameGate()
        self._has_frame = start is not None
        for index, picture in self._decode(start):
            if isinstance(picture, Skipped):
                gate.put(index, picture, is_key=picture.is_key)
            elif picture is None or picture.is_corrupt:
                # A recording may start between keyframes: nothing is missing before the first keyframe.
                if self._has_frame or (self._has_key if picture is None else picture.key_frame):
                    self.damage.add_missing()
                    gate.lose(index)
                else:
                    gate.ignore(index)
                continue
            else:
                if self._has_frame:
                    self.damage.check_messages()
                elif self._first_shown is not None and self._first_shown < (picture.pts or 0):
                    self.damage.add_missing()  # packets before the first frame did not decode
                else:
                    self.damage.discard_messages()  # they concern data before the first frame
                self._has_frame = True
                gate.put(index, picture, is_key=is_key(picture, self._codec.name))
            yield from gate.ready()
        yield from gate.rest()
        if self._has_frame:
            self.damage.check_messages()

    def _decode(self, start: int | None) -> Iterator[tuple[int, Picture | None]]:
        """Yields the index and the picture of each packet; None for a packet that did not decode."""
        reader = self._packets
        decoder = PictureDecoder(reader, self.damage, start)
        ahead = Lookahead(
            reader.decodable(),
            lambda: self._is_used if self._has_frame else None,
            lambda packet: decoder.is_idr(bytes(packet)),
        )
        for index, (packet, need, until) in enumerate(ahead):
            pts = packet.pts
            is_shown = reader.cuttable and pts is not None and not packet.is_discard
            if is_shown and (start is None or pts >= start):
                heapq.heappush(self.shown, pts)
                self.packets_read += 1
            # Files whose demuxer reports cuts start with a keyframe, which a parser misses if it is damaged.
            self._has_key |= packet.is_keyframe or reader.reports_cuts
            if is_shown and self._first_shown is None:
                self._first_shown = pts
            if packet.is_corrupt and reader.reports_cuts:
                continue  # the file ends within it
            if is_shown and need is not Need.PICTURE:
                decoder.add_skipped(index, Skipped(pts, packet.is_keyframe, until))
            if need is Need.NOTHING:
                yield from decoder.skip(index)
            else:
                yield from decoder.decode(index, packet, need)
        yield from decoder.finish()
