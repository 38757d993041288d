"""Turns predictions into timed captions for footage: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, repeat, zip_longest
from typing import Any

from pipelines.decoding.protocol import Caption
from tfrecords_schema.spec import format_target

_MAX_CLASSES = 3

Line = dict[str, Any]


def make_captions(
    lines: Sequence[Line], *, num_frames: int, at_end: bool, offsets: Sequence[float] = ()
) -> list[Caption]:
    """Returns the captions over one source, whose lines are in order; each caption holds until the next.

    A sequence is shown while it lasts. Where sequences overlap, a moment shows the one whose middle is
    nearest; or ``at_end`` the one whose end is, where the model was trained on the labels of the last frame.
    ``offsets`` of targets add digits: values have four beyond their offset.
    """
    shown: list[Caption] = []
    begin = lines[0]["start"] if lines else 0.0
    for line, after in zip_longest(lines, lines[1:]):
        stop = over = max(begin, line["end"] + _interval(line, num_frames))
        if after is not None and after["start"] <= over + _interval(line, num_frames) / 2:
            middle = (_anchor(line, at_end) + _anchor(after, at_end)) / 2
            stop = max(after["start"], min(middle, over))
        shown += _of_sequence(line, begin, stop, offsets)
        if after is None or after["start"] > stop:
            shown.append(Caption(start=stop, lines=()))
            stop = after["start"] if after else stop
        begin = stop
    # Of captions with one start, the last one is shown.
    return [a for a, b in pairwise(shown) if b.start > a.start] + shown[-1:]


def describe_answer(line: Line, offsets: Sequence[float] = ()) -> tuple[str, ...]:
    """Returns the answer of a line in words; of a model that predicts each frame, that for the last one."""
    return tuple(_describe(line.get("frames", [line])[-1], line.get("units", {}), offsets))


def _anchor(line: Line, at_end: bool) -> float:
    return line["end"] if at_end else (line["start"] + line["end"]) / 2


def _interval(line: Line, num_frames: int) -> float:
    """Returns how long a frame is shown, seconds: up to the time of the next one."""
    return (line["end"] - line["start"]) / max(1, num_frames - 1)


def _of_sequence(
    line: Line, begin: float, stop: float, offsets: Sequence[float]
) -> Iterator[Caption]:
    for frame in line.get("frames", [{**line, "time": begin}]):
        if frame["time"] < stop:
            lines = tuple(_describe(frame, line.get("units", {}), offsets))
            yield Caption(start=max(begin, frame["time"]), lines=lines)


def _describe(said: Line, units: dict[str, str], offsets: Sequence[float]) -> Iterator[str]:
    if "values" in said:
        for (name, value), offset in zip(
            said["values"].items(), offsets or repeat(0.0), strict=False
        ):
            number = "not a number"
            if value is not None:
                number = f"{format_target(value - offset, offset, 4)} {units.get(name, '')}"
            yield f"{name} {number}".rstrip()
        return
    probabilities = said["probabilities"]
    known = sorted(
        (name for name, value in probabilities.items() if value is not None),
        key=lambda name: -probabilities[name],
    )
    named = said.get("classes", [said.get("class")])
    for name in [name for name in known if name in named][:_MAX_CLASSES] or known[:1]:
        yield f"{name} {probabilities[name]:.0%}"
