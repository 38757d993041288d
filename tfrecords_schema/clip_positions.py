"""Computes where clips lie in a sequence, in Python integers and in TensorFlow's integer tensors.

A clip is ``num_frames`` frames of a sequence, ``frame_step`` apart. Clips lie before the padding if they fit.
"""

from __future__ import annotations

from typing import Any

MAX_CLIPS = 1000
"""Clips per sequence."""


def clip_span(num_frames: int, frame_step: int) -> int:
    """Returns the frames from a clip's first to its last: 15 for 8 frames with a step of 2."""
    return (num_frames - 1) * frame_step + 1


def clip_start(room: Any, at: str | int, clip: Any = 0) -> Any:
    """Returns the index of a clip's first frame: 0, 4 or 8 for ``first``, ``center`` or ``last`` in room 8.

    Args:
        room: the highest index at which the clip may start, an integer or an integer tensor.
        at: ``first``, ``center`` or ``last``; or a number of clips, spread evenly from first to last.
        clip: index of the clip, below that number.
    """
    if at == "first":
        return room * 0
    if at == "last":
        return room
    if at == "center" or at == 1:
        return room // 2
    if not isinstance(at, int):
        raise ValueError(f"expected first, center, last or a number of clips, got {at!r}")
    gaps = at - 1
    # Rounds halves up, in integers, so that every machine gets the same index.
    return (2 * clip * room + gaps) // (2 * gaps)
