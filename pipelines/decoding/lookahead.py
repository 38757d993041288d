"""Decides which packets must be decoded: those of used frames, and those that used frames are predicted from.

Reads packets ahead; decodes nothing.
"""

from __future__ import annotations

import enum
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

IsUsed = Callable[[int, "int | None"], bool]
"""Returns True if a sequence uses the frame that is on screen from one presentation time to another.

The second time is None if no frame follows. Called once per frame, in decoding order. A wrong False costs
time and is no error: the frame is decoded when a sequence asks for it.
"""

_MAX_REORDERED = 16
"""Frames that a codec decodes before one that it shows earlier, at most (H.264 and HEVC: 16)."""

MAX_REORDERED_PACKETS = 2 * _MAX_REORDERED
"""The same in packets, each of which may hold one field, that is half a frame."""

_MAX_BYTES = 32 << 20
"""Bytes of packets that are read ahead, at most, to find out if a group of pictures is used."""


class Need(enum.Enum):
    """The reason to decode a packet."""

    PICTURE = enum.auto()  # its frame is used
    REFERENCE = enum.auto()  # used frames may be predicted from its frame
    NOTHING = enum.auto()


@dataclass
class _Ahead:
    """A packet that was read ahead."""

    packet: Any
    group: int  # number of keyframes up to it; IDR frames count twice
    is_used: bool = True
    until: int | None = None  # when the next frame is shown


class Lookahead:
    """Packets in decoding order, each with its `Need` and the presentation time of the frame shown next.

    A packet can be skipped if no frame is used from it to the end of its group of pictures (before the next
    keyframe), nor in the group after that, because the first frames of an open group are predicted from the
    group before. Decoding is therefore resumed at a keyframe, one group before the first used frame; or at
    that frame's own group if its keyframe is an IDR frame.

    Args:
        packets: in decoding order.
        is_used: returns the `IsUsed` that holds now; None while all frames are used.
        is_idr: returns True for the packet of an IDR frame.
    """

    def __init__(
        self,
        packets: Iterable[Any],
        is_used: Callable[[], IsUsed | None],
        is_idr: Callable[[Any], bool] = lambda packet: False,
    ):
        self._packets = iter(packets)
        self._is_idr = is_idr
        self._is_used = is_used
        self._read: deque[_Ahead] = deque()
        self._judged: deque[_Ahead] = deque()  # precede those in `_read`
        self._used_ahead: deque[_Ahead] = deque()  # the used ones among `_judged`
        self._times: list[int] = []  # sorted presentation times of the packets around here
        self._bytes = 0
        self._group = 0
        self._ended = False
        self._skipping = False

    def __iter__(self) -> Iterator[tuple[Any, Need, int | None]]:
        while True:
            is_used = self._is_used()
            if is_used is None and not self._read and not self._judged:
                packet = next(self._packets, None)
                if packet is None:
                    return
                yield packet, Need.PICTURE, None
                continue
            if not self._judged and not self._judge_next(is_used):
                return
            need = self._need(is_used)
            first = self._judged.popleft()
            if self._used_ahead and self._used_ahead[0] is first:
                self._used_ahead.popleft()
            self._bytes -= first.packet.size
            yield first.packet, need, first.until

    def _need(self, is_used: IsUsed | None) -> Need:
        first = self._judged[0]
        if not first.packet.size:
            return Need.PICTURE
        if first.is_used:
            self._skipping = False
            return Need.PICTURE
        if self._skipping and not first.packet.is_keyframe:
            return Need.NOTHING
        while not self._used_ahead and self._judged[-1].group <= first.group + 1:
            if self._bytes > _MAX_BYTES or not self._judge_next(is_used):
                break
        if self._used_ahead:
            self._skipping = self._used_ahead[0].group > first.group + 1
        else:
            all_judged = self._ended and not self._read
            self._skipping = all_judged or self._judged[-1].group > first.group + 1
        return Need.NOTHING if self._skipping else Need.REFERENCE

    def _judge_next(self, is_used: IsUsed | None) -> bool:
        """Finds out if one more packet is used; returns False if there is none."""
        while len(self._read) <= _MAX_REORDERED and self._read_one():
            pass
        if not self._read:
            return False
        ahead = self._read.popleft()
        packet = ahead.packet
        if packet.is_discard or not packet.size:
            ahead.is_used = False
        elif packet.pts is not None and is_used is not None:
            after = bisect_right(self._times, packet.pts)
            ahead.until = self._times[after] if after < len(self._times) else None
            ahead.is_used = is_used(packet.pts, ahead.until)
        self._judged.append(ahead)
        if ahead.is_used:
            self._used_ahead.append(ahead)
        return True

    def _read_one(self) -> bool:
        packet = next(self._packets, None)
        if packet is None:
            self._ended = True
            return False
        if packet.size and packet.is_keyframe:
            self._group += 2 if self._is_idr(packet) else 1
        self._read.append(_Ahead(packet, self._group))
        self._bytes += packet.size
        if packet.pts is not None and packet.size and not packet.is_discard:
            insort(self._times, packet.pts)
            # A time that was deleted makes a frame seem to last longer, and so rather used.
            del self._times[: -4 * _MAX_REORDERED]
        return True
