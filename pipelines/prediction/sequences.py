"""What passes between the stages: sequences to predict, predictions, and what became of segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a thing belongs: in which chunk, in which of its segments, as the how-manieth of the chunk."""

    chunk: int
    segment: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """A sequence to predict: its record, serialized and without labels."""

    place: Place
    record: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model says of a sequence.

    Attributes:
        start, end: presentation time of its first frame, and of its last one that is not padding,
            microseconds.
        times: of its frames that are not padding, for a model that answers to each; else empty.
        values: ``[classes or targets]``; of each frame, one after the other, for such a model.
    """

    start: int
    end: int
    times: tuple[int, ...] = ()
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to the sequence at a place."""

    place: Place
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class SegmentEnd:
    """That a segment is over.

    Attributes:
        place: after all sequences of the segment.
        result: a `SegmentResult` as JSON; None when it failed.
        failure: a `DecodingFailure` as JSON; None when it did not.
    """

    place: Place
    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
