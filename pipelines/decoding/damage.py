"""What a decoder notices of damage: frames it cannot give, and complaints about those it gives."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av

# What FFmpeg complains of is counted here, and not for a log.
logging.getLogger("libav").addHandler(logging.NullHandler())

_MOST_CHARACTERS = 120


@dataclass(frozen=True)
class Damage:
    """The first place where footage is not what it was.

    Attributes:
        pts: presentation time of the last good frame before it; None when there is none.
        reason: in words.
    """

    pts: int | None
    reason: str


@contextmanager
def complaints_counted() -> Iterator[None]:
    """FFmpeg's error messages are counted meanwhile."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        yield
    finally:
        av.logging.set_level(level)


def count_complaints() -> int:
    """FFmpeg's error messages in this process so far."""
    return int(av.logging.get_last_error()[0])


class DamageWatch:
    """Notes the first damage of one reading.

    Decoders give frames that they know to be wrong: FFV1 whose checksum does not match, GIF and Motion JPEG
    that end early. Nothing marks these frames; there is only a message. As some healthy files give rise to
    messages too, such frames are used, and the file is reported.
    """

    def __init__(self) -> None:
        self._missing: Damage | None = None
        self._complaint: Damage | None = None
        self._message = ""
        self._unheard = False

    @property
    def damage(self) -> Damage | None:
        """What was noted first, if anything; missing frames outweigh complaints."""
        return self._missing or self._complaint

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """What FFmpeg says meanwhile is about this footage."""
        before = count_complaints()
        try:
            yield
        finally:
            count, last = av.logging.get_last_error()
            if last is not None and count != before:
                _, name, message = last
                self._message = " ".join(f"{name}: {message}".split())[:_MOST_CHARACTERS]
                self._unheard = True

    def miss(self, pts: int | None) -> None:
        """Frames after ``pts`` did not decode, and are left out."""
        if self._missing is None:
            self._missing = Damage(pts, "frames are damaged and left out" + self._said())

    def listen(self, pts: int | None) -> None:
        """Hears what the decoder complained of since the last time, the last good frame being at ``pts``."""
        if self._unheard and self._complaint is None:
            self._complaint = Damage(
                pts, "the decoder complains, frames may be wrong" + self._said()
            )
        self._unheard = False

    def ignore(self) -> None:
        """What was said so far is about what comes before the first frame."""
        self._unheard = False

    def _said(self) -> str:
        return f" ({self._message})" if self._message else ""
