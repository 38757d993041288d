"""Holds frames back until none of the frames that they were predicted from can turn out to be damaged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

_MAX_HELD = 16
"""Frames that a frame waits for at most: no codec reorders more."""


class _Held(NamedTuple):
    source: int
    picture: Any
    missing: int  # frames between the previous accepted frame and this one


class FrameGate(Generic[T]):
    """Passes on the frames that were decoded from undamaged frames only.

    A frame is identified by the index of its packet in decoding order. It is predicted from frames of
    smaller index, some of which are shown later (B-frames) and may still turn out to be damaged, so it waits
    for them. After damage nothing passes before a keyframe of a larger index.
    """

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()
        self._pending: set[int] = set()  # indices that others have overtaken
        self._next = 0
        self._damaged_at: int | None = None
        self._missing = 0

    def put(self, index: int, picture: T, *, is_key: bool) -> None:
        """Adds the next frame in order of presentation."""
        self._arrive(index)
        if self._damaged_at is not None:
            if index <= self._damaged_at or not is_key:
                self._missing += 1
                return
            self._damaged_at = None
        self._held.append(_Held(index, picture, self._missing))
        self._missing = 0

    def lose(self, index: int) -> None:
        """Records that the packet ``index`` is damaged; drops held frames of larger index."""
        self._arrive(index)
        self._damaged_at = max(index, self._damaged_at or 0)
        kept: deque[_Held] = deque()
        missing = 0
        for held in self._held:
            missing += held.missing
            if held.source > index:
                missing += 1
            else:
                kept.append(held._replace(missing=missing))
                missing = 0
        self._held = kept
        self._missing += missing + 1

    def ignore(self, index: int) -> None:
        """Records that the packet ``index`` yields no frame and that no frame is missing."""
        self._arrive(index)

    def ready(self) -> Iterator[tuple[T, int]]:
        """Yields the frames that need not wait any longer, and how many are missing before each."""
        while self._held:
            first = self._held[0].source
            if self._pending and min(self._pending) < first:
                if len(self._held) <= _MAX_HELD:
                    return
                # Some packets yield no frame: hidden frames of VP8, second fields.
                self._pending = {index for index in self._pending if index > first}
            held = self._held.popleft()
            yield held.picture, held.missing

    def rest(self) -> Iterator[tuple[T, int]]:
        """Yields the frames that still wait at the end of the stream."""
        self._pending.clear()
        yield from self.ready()

    def _arrive(self, index: int) -> None:
        self._pending.update(range(self._next, index))
        self._pending.discard(index)
        self._next = max(self._next, index + 1)
