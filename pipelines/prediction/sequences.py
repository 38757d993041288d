"""Elements that pass between the steps of a prediction."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.decoding.protocol import SegmentResult
from pipelines.plan.descriptors import SourceFailure


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The model's output for a sequence.

    Attributes:
        start, end: presentation times of its first frame and of its last frame that is not padding,
            microseconds.
        times: presentation times of its frames that are not padding, for a model with outputs by frame; else
            empty.
        values: ``[classes or targets]``; for outputs by frame, those of each frame one after the other.
    """

    start: int
    end: int
    times: tuple[int, ...] = ()
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Item:
    """An element of a chunk: its sequences in order, and after those of each segment the segment's end.

    Attributes:
        chunk: byte offset of the chunk in the plan.
        content: a sequence to predict, as a serialized record without labels; the answer for it; or the
            result or the failure of a segment.
        is_last: no item of the chunk follows.
    """

    chunk: int
    content: bytes | Answer | SegmentResult | SourceFailure
    is_last: bool = False
