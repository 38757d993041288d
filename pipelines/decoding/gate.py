"""`FrameGate`: frames pass in order of presentation, but none that was predicted from a damaged one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

_MOST_HELD = 16
"""A frame waits for no more others: no codec reorders more."""


class _Held(NamedTuple):
    place: int
    image: Any
    missing: int  # before it, since the one that was taken before


class FrameGate(Generic[T]):
    """Lets frames pass that were decoded from whole ones only.

    A frame is named by its index, the place of its packet among those decoded. It is predicted from frames of
    smaller index, some of which are shown later (B-frames), and it may be these that turn out to be damaged.
    So it waits for them. After damage nothing passes until a keyframe of a larger index.
    """

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()
        self._awaited: set[int] = (
            set()
        )  # indices smaller than one that came, and have not come themselves
        self._next = 0
        self._broken_at: int | None = None
        self._missing = 0

    def put(self, index: int, image: T, *, is_key: bool) -> None:
        """Takes the next frame in order of presentation."""
        self._arrive(index)
        if self._broken_at is not None:
            if index <= self._broken_at or not is_key:
                self._missing += 1
                return
            self._broken_at = None
        self._held.append(_Held(index, image, self._missing))
        self._missing = 0

    def lose(self, index: int) -> None:
        """What the packet ``index`` holds is damaged."""
        self._arrive(index)
        self._broken_at = max(index, self._broken_at or 0)
        kept: deque[_Held] = deque()
        missing = 0
        for held in self._held:
            missing += held.missing
            if held.place > index:
                missing += 1
            else:
                kept.append(held._replace(missing=missing))
                missing = 0
        self._held = kept
        self._missing += missing + 1

    def ignore(self, index: int) -> None:
        """The packet ``index`` gives nothing, and nothing is missing for that."""
        self._arrive(index)

    def passing(self) -> Iterator[tuple[T, int]]:
        """Yields the frames that need not wait any more, and how many are missing before each."""
        while self._held:
            first = self._held[0].place
            if self._awaited and min(self._awaited) < first:
                if len(self._held) <= _MOST_HELD:
                    return
                # Some packets give no frame: hidden ones of VP8, second fields.
                self._awaited = {index for index in self._awaited if index > first}
            yield from self._pass_first()

    def rest(self) -> Iterator[tuple[T, int]]:
        """Yields what still waits, when nothing more comes."""
        while self._held:
            yield from self._pass_first()

    def _pass_first(self) -> Iterator[tuple[T, int]]:
        held = self._held.popleft()
        yield held.image, held.missing

    def _arrive(self, index: int) -> None:
        self._awaited.update(range(self._next, index))
        self._awaited.discard(index)
        self._next = max(self._next, index + 1)
