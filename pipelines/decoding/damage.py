"""Records the first damage of a video, and holds back the frames that may be predicted from damaged ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import av

# FFmpeg's messages are counted by this module and must not reach a log.
logging.getLogger("libav").addHandler(logging.NullHandler())

_MAX_CHARACTERS = 120
_MAX_HELD = 16
"""Frames that a frame waits for at most: no codec reorders more."""


@dataclass(frozen=True)
class Damage:
    """The first damage in a video.

    Attributes:
        pts: presentation time of the last good frame before the damage; None if there is none.
        reason: description for the user.
    """

    pts: int | None
    reason: str


@contextmanager
def capture_errors() -> Iterator[None]:
    """Lets `count_errors` count FFmpeg's error messages until the context ends."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        yield
    finally:
        av.logging.set_level(level)


def count_errors() -> int:
    """Returns the number of FFmpeg error messages in this process so far."""
    return int(av.logging.get_last_error()[0])


class DamageRecorder:
    """The first damage noticed while a video is read once.

    Some decoders return frames that they know to be wrong: FFV1 if a checksum does not match, GIF and Motion
    JPEG if a frame ends early. Such a frame is not marked; there is only an error message. Because some
    healthy files cause messages too, these frames are used and the file is reported.

    Attributes:
        last_good: presentation time of the last frame that was accepted; None before the first.
    """

    def __init__(self) -> None:
        self.last_good: int | None = None
        self._missing: Damage | None = None
        self._complaint: Damage | None = None
        self._message = ""
        self._has_new_message = False

    @property
    def damage(self) -> Damage | None:
        """The first missing frame, else the first error message, else None."""
        return self._missing or self._complaint

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Attributes the error messages that FFmpeg writes within the context to this video."""
        before = count_errors()
        try:
            yield
        finally:
            count, last = av.logging.get_last_error()
            if last is not None and count != before:
                _, name, message = last
                self._message = " ".join(f"{name}: {message}".split())[:_MAX_CHARACTERS]
                self._has_new_message = True

    def add_missing(self) -> None:
        """Records that frames after `last_good` are missing."""
        self._missing = self._missing or self._describe("frames are damaged and left out")

    def add_unordered(self) -> None:
        """Records that a frame after `last_good` was left out because of its time."""
        self._complaint = self._complaint or Damage(
            self.last_good, "frames with times that are not later than the one before are left out"
        )

    def add_restart(self) -> None:
        """Records that times restart after `last_good`, and that reading went on."""
        self._missing = self._missing or Damage(
            self.last_good,
            "timestamps restart, and the footage after that is taken to follow directly",
        )

    def check_messages(self) -> None:
        """Records damage after `last_good` if the decoder wrote an error message since the last call."""
        if self._has_new_message and self._complaint is None:
            self._complaint = self._describe("the decoder reports errors, frames may be wrong")
        self._has_new_message = False

    def discard_messages(self) -> None:
        """Ignores the messages so far, which concern data before the first frame."""
        self._has_new_message = False

    def _describe(self, reason: str) -> Damage:
        return Damage(self.last_good, reason + (f" ({self._message})" if self._message else ""))


class _Held(NamedTuple):
    source: int
    picture: Any
    missing: int  # frames between the previous accepted frame and this one


class FrameGate:
    """Passes on the frames that were decoded from undamaged frames only.

    A frame is identified by the index of its packet in decoding order. It is predicted from frames of
    smaller index, some of which are shown later (B-frames) and may still turn out to be damaged, so it waits
    for them. After damage nothing passes before a keyframe of a larger index.
    """

    def __init__(self) -> None:
        self._held: list[_Held] = []
        self._pending: set[int] = set()  # indices that others have overtaken
        self._next = 0
        self._damaged_at = -1  # the last damaged packet, until a keyframe follows
        self._missing = 0

    def put(self, index: int, picture: Any, *, is_key: bool) -> None:
        """Adds the next frame in order of presentation."""
        self.ignore(index)
        if self._damaged_at >= 0 and (index <= self._damaged_at or not is_key):
            self._missing += 1
            return
        self._damaged_at = -1
        self._held.append(_Held(index, picture, self._missing))
        self._missing = 0

    def lose(self, index: int) -> None:
        """Records that the packet ``index`` is damaged; drops held frames of larger index."""
        self.ignore(index)
        self._damaged_at = max(index, self._damaged_at)
        kept, missing = [], 0
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
        """Records that the packet ``index`` was decoded; it may yield no frame, with none missing."""
        self._pending.update(range(self._next, index))
        self._pending.discard(index)
        self._next = max(self._next, index + 1)

    def ready(self) -> Iterator[tuple[Any, int]]:
        """Yields the frames that need not wait any longer, and how many are missing before each."""
        while self._held:
            first = self._held[0].source
            if self._pending and min(self._pending) < first:
                if len(self._held) <= _MAX_HELD:
                    return
                # Some packets yield no frame: hidden frames of VP8, second fields.
                self._pending = {index for index in self._pending if index > first}
            held = self._held.pop(0)
            yield held.picture, held.missing

    def rest(self) -> Iterator[tuple[Any, int]]:
        """Yields the frames that still wait at the end of the stream."""
        self._pending.clear()
        yield from self.ready()
