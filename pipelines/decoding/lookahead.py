"""Which packets need decoding: those of frames that are wanted, and those that these are predicted from.

Pure bookkeeping on packets: nothing is decoded here.
"""

from __future__ import annotations

import enum
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Wanted = Callable[[int, "int | None"], bool]
"""Whether the picture of a frame is wanted that is presented from one time until another, or None.

It is asked once for a frame, in order of decoding. A wrong no costs time, and is no error.
"""

_MOST_REORDERED = 16
"""Frames that a codec decodes before one that it shows earlier, at most (H.264 and HEVC: 16)."""

MOST_REORDERED_PACKETS = 2 * _MOST_REORDERED
"""Packets of so many frames, at most: one may hold a field, half of a frame."""

_MOST_BYTES = 32 << 20
"""Packets of so many bytes are read ahead at most, to see whether a group of pictures is needed."""


class Need(enum.Enum):
    """What is to become of a packet."""

    PICTURE = enum.auto()  # its frame is wanted
    REFERENCE = enum.auto()  # its frame is not, but frames that are may be predicted from it
    NOTHING = enum.auto()


class _Packet(Protocol):
    @property
    def pts(self) -> int | None: ...
    @property
    def size(self) -> int: ...
    @property
    def is_keyframe(self) -> bool: ...
    @property
    def is_discard(self) -> bool: ...


P = TypeVar("P", bound=_Packet)


@dataclass
class _Ahead(Generic[P]):
    """A packet that was read ahead.

    ``group`` counts the keyframes up to it, and twice those behind which nothing looks back; ``until`` is
    when the next frame is presented.
    """

    packet: P
    group: int
    wanted: bool = True
    until: int | None = None


class Lookahead(Generic[P]):
    """Packets in order, each with what it is needed for, and until when its frame is presented, if known.

    A packet is not needed when nothing is wanted from it on to the end of its group of pictures (until the
    next keyframe), nor of the group after that: the first frames of an open group are predicted from the one
    before. So what is needed again begins with a keyframe, and a group before the first frame that is wanted;
    or with the group of that frame, where its keyframe says that nothing looks back beyond it.

    Args:
        packets: in order of decoding.
        wanted: gives what is wanted now; None while that is everything.
        begins_anew: whether a keyframe says so.
    """

    def __init__(
        self,
        packets: Iterable[P],
        wanted: Callable[[], Wanted | None],
        begins_anew: Callable[[P], bool] = lambda packet: False,
    ):
        self._packets = iter(packets)
        self._begins_anew = begins_anew
        self._wanted = wanted
        self._read: deque[_Ahead[P]] = deque()
        self._judged: deque[_Ahead[P]] = deque()  # those before them
        self._wanted_ahead: deque[_Ahead[P]] = deque()  # of the judged ones
        self._times: list[int] = []  # presentation times, sorted, of packets hereabouts
        self._bytes = 0
        self._group = 0
        self._ended = False
        self._pausing = False

    def __iter__(self) -> Iterator[tuple[P, Need, int | None]]:
        while True:
            wanted = self._wanted()
            if wanted is None and not self._read and not self._judged:
                packet = next(self._packets, None)
                if packet is None:
                    return
                yield packet, Need.PICTURE, None
                continue
            if not self._judged and not self._judge_next(wanted):
                return
            need = self._need(wanted)
            first = self._judged.popleft()
            if self._wanted_ahead and self._wanted_ahead[0] is first:
                self._wanted_ahead.popleft()
            self._bytes -= first.packet.size
            yield first.packet, need, first.until

    def _need(self, wanted: Wanted | None) -> Need:
        first = self._judged[0]
        if not first.packet.size:
            return Need.PICTURE
        if first.wanted:
            self._pausing = False
            return Need.PICTURE
        if self._pausing and not first.packet.is_keyframe:
            return Need.NOTHING
        while not self._wanted_ahead and self._judged[-1].group <= first.group + 1:
            if self._bytes > _MOST_BYTES or not self._judge_next(wanted):
                break
        if self._wanted_ahead:
            self._pausing = self._wanted_ahead[0].group > first.group + 1
        else:
            all_judged = self._ended and not self._read
            self._pausing = all_judged or self._judged[-1].group > first.group + 1
        return Need.NOTHING if self._pausing else Need.REFERENCE

    def _judge_next(self, wanted: Wanted | None) -> bool:
        """Judges one packet more; False when there is none."""
        while len(self._read) <= _MOST_REORDERED and self._read_one():
            pass
        if not self._read:
            return False
        ahead = self._read.popleft()
        self._judge(ahead, wanted)
        self._judged.append(ahead)
        if ahead.wanted:
            self._wanted_ahead.append(ahead)
        return True

    def _judge(self, ahead: _Ahead[P], wanted: Wanted | None) -> None:
        packet = ahead.packet
        if packet.is_discard or not packet.size:
            ahead.wanted = False
        elif packet.pts is not None and wanted is not None:
            after = bisect_right(self._times, packet.pts)
            ahead.until = self._times[after] if after < len(self._times) else None
            ahead.wanted = wanted(packet.pts, ahead.until)

    def _read_one(self) -> bool:
        packet = next(self._packets, None)
        if packet is None:
            self._ended = True
            return False
        if packet.size and packet.is_keyframe:
            self._group += 2 if self._begins_anew(packet) else 1
        self._read.append(_Ahead(packet, self._group))
        self._bytes += packet.size
        if packet.pts is not None and packet.size and not packet.is_discard:
            insort(self._times, packet.pts)
            # Without those that are left out, a frame seems to be shown for longer, and is wanted rather.
            del self._times[: -4 * _MOST_REORDERED]
        return True
