"""Elements that pass between the steps of a prediction: sequences, predictions, ends of segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Place:
    """Position of an element: its chunk, its segment in the chunk, and its number within the chunk."""

    chunk: int
    segment: int
    number: int


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """A sequence to predict, as a serialized record without labels."""

    place: Place
    record: bytes


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
class Prediction:
    """The answer for the sequence at ``place``."""

    place: Place
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class SegmentEnd:
    """Marks the end of a segment.

    Attributes:
        place: behind all sequences of the segment.
        result: a `SegmentResult` as JSON; None if the segment failed.
        failure: a `DecodingFailure` as JSON; None if it succeeded.
    """

    place: Place
    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
