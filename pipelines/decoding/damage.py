"""Records the first damage of a video: frames that did not decode, and error messages of the decoder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av

# FFmpeg's messages are counted by this module and must not reach a log.
logging.getLogger("libav").addHandler(logging.NullHandler())

_MAX_CHARACTERS = 120


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
        if self._missing is None:
            self._missing = self._describe("frames are damaged and left out")

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
