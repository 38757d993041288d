"""Turns the answers for one source's sequences into rows: by sequence, by frame, by source or by segment.

Pure. An answer and the times of frames stream through; only what later answers may still change is kept.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

from pipelines.labels.alignment import combine
from pipelines.prediction.lines import ModelOutput, likely_classes, number

Per = Literal["sequence", "frame", "source", "segment"]
Join = Literal["mean", "last"]
Values = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Window:
    """The answer for a sequence. Times are in seconds after the file's first frame.

    Attributes:
        start, end: times of its first frame, and of its last one that is not padding.
        times: of its frames that are not padding, for a model with outputs by frame; else empty.
        values: ``[classes or targets]``; for outputs by frame, those of each frame one after the other.
    """

    start: float
    end: float
    times: tuple[float, ...] = ()
    values: Values

    def by_frame(self) -> list[Values]:
        """Returns the values of each of ``times``."""
        size = len(self.values) // max(1, len(self.times))
        return [self.values[size * i :][:size] for i in range(len(self.times))]

    def at(self, time: float) -> Values:
        """Returns the values for the frame at ``time``."""
        if not self.times:
            return self.values
        return self.by_frame()[max(0, bisect_right(self.times, time) - 1)]


@dataclass(frozen=True)
class FrameTimes:
    """The times of some frames of the footage, in seconds after its first, before the windows that follow."""

    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the output.

    Attributes:
        place: of which source, and where in it: the first columns.
        values: ``[classes or targets]``; None without an answer, and for segments.
        frames: the values of frames by their time, for a model with outputs by frame.
        reason: why there is no answer; "" if there is one.
    """

    place: dict[str, Any]
    values: Values | None = None
    frames: tuple[tuple[float, Values], ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Settings that turn answers into rows.

    Attributes:
        per: what a row is of.
        output: the classes or targets.
        is_angle: of each target; angles are averaged on the circle.
        join: which of the windows that cover a frame count: all of them, or the one it is nearest the end of.
        hold: seconds for which the last frame of a window is on screen.
        smooth: width in seconds of the moving average over frames; 0 for none.
        min_score, min_seconds: of segments.
    """

    per: Per
    output: ModelOutput
    is_angle: tuple[bool, ...] = ()
    join: Join = "mean"
    hold: float = 0.0
    smooth: float = 0.0
    min_score: float = 0.0
    min_seconds: float = 0.0

    def mean(self, rows: Sequence[Values]) -> Values:
        """Returns the mean of values; of angles that on the circle."""
        if len(rows) == 1:
            return rows[0]
        if not all(map(math.isfinite, chain.from_iterable(rows))):
            return tuple(math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
        return combine(rows, "mean", self.is_angle or [False] * len(rows[0]))


def make_rows(
    source: str, events: Iterable[FrameTimes | Window], options: RowOptions
) -> Iterator[Row]:
    """Yields the rows of a source, whose windows come in order of their start."""
    if options.per == "frame":
        for index, (time, values) in enumerate(_frames(events, options)):
            place = {"source": source, "frame": index, "time": time}
            yield Row(place=place, values=values)
    elif options.per == "segment":
        yield from _segments(source, events, options)
    elif options.per == "source":
        yield from _whole(source, events, options)
    else:
        for window in events:
            if isinstance(window, Window):
                place = {"source": source, "start": window.start, "end": window.end}
                if window.times:
                    frames = tuple(zip(window.times, window.by_frame(), strict=True))
                    yield Row(place=place, frames=frames)
                else:
                    yield Row(place=place, values=window.values)


def _whole(
    source: str, events: Iterable[FrameTimes | Window], options: RowOptions
) -> Iterator[Row]:
    """Yields one row with the mean of all windows, as the field reports accuracy by video."""
    total, count = _Mean(options.is_angle), 0
    for window in events:
        if isinstance(window, Window):
            count += 1
            for values in window.by_frame() if window.times else [window.values]:
                total.add(values)
    if count:
        yield Row(place={"source": source, "sequences": count}, values=total.value())


class _Mean:
    """A running mean of values; of angles that on the circle."""

    def __init__(self, is_angle: Sequence[bool]):
        self._is_angle = is_angle
        self._sums: list[complex] = []
        self._count = 0

    def add(self, values: Values) -> None:
        units = [
            complex(math.cos(math.radians(v)), math.sin(math.radians(v)))
            if self._is_angle and self._is_angle[i]
            else complex(v)
            for i, v in enumerate(values)
        ]
        self._sums = [a + b for a, b in zip(self._sums or [0j] * len(units), units, strict=True)]
        self._count += 1

    def value(self) -> Values:
        return tuple(
            math.degrees(math.atan2(s.imag, s.real)) % 360
            if self._is_angle and self._is_angle[i]
            else s.real / self._count
            for i, s in enumerate(self._sums)
        )


def _frames(
    events: Iterable[FrameTimes | Window], options: RowOptions
) -> Iterator[tuple[float, Values]]:
    """Yields time and values of each frame of the footage, in order."""
    joined = _joined(events, options)
    return _smoothed(joined, options) if options.smooth else joined


@dataclass
class _Joiner:
    """Gives each frame the values of the windows that cover it."""

    options: RowOptions
    windows: deque[Window] = field(default_factory=deque)  # those that later frames may lie in
    previous: Window | None = None  # the last one that ended before them

    def values(self, time: float, following: Window | None) -> Values:
        """Returns the values of the frame at ``time``; times never decrease.

        A frame that no window covers gets the values of the nearest one.
        """
        hold = self.options.hold
        while self.windows and self.windows[0].end + hold < time:
            self.previous = self.windows.popleft()
        covering = [w for w in self.windows if w.start <= time <= w.end + hold]
        if covering and self.options.join == "last":
            return covering[0].at(time)
        if covering:
            return self.options.mean([window.at(time) for window in covering])
        near = [w for w in (self.previous, *self.windows, following) if w is not None]
        return min(near, key=lambda w: max(w.start - time, time - w.end)).at(time)


def _joined(
    events: Iterable[FrameTimes | Window], options: RowOptions
) -> Iterator[tuple[float, Values]]:
    joiner, waiting = _Joiner(options), deque[float]()
    for event in events:
        if isinstance(event, FrameTimes):
            waiting.extend(event.seconds)
            continue
        while waiting and waiting[0] < event.start:  # no later window covers it
            time = waiting.popleft()
            yield time, joiner.values(time, event)
        joiner.windows.append(event)
    if joiner.windows or joiner.previous:
        for time in waiting:
            yield time, joiner.values(time, None)


def _smoothed(
    frames: Iterable[tuple[float, Values]], options: RowOptions
) -> Iterator[tuple[float, Values]]:
    """Yields each frame with the mean over the frames up to half of ``smooth`` seconds away."""
    half = options.smooth / 2 + 1e-9
    held: deque[tuple[float, Values]] = deque()
    next_index = 0  # in `held`, of the next frame to yield

    def mean(time: float) -> Values:
        return options.mean([values for at, values in held if abs(at - time) <= half])

    for frame in frames:
        held.append(frame)
        while held[next_index][0] < frame[0] - half:
            time = held[next_index][0]
            while held[0][0] < time - half:
                held.popleft()
                next_index -= 1
            yield time, mean(time)
            next_index += 1
    for time, _ in list(held)[next_index:]:
        yield time, mean(time)


@dataclass
class _Run:
    """A class that has been shown since a frame."""

    start: float
    first_frame: int
    scores: list[float] = field(default_factory=list)


def _segments(
    source: str, events: Iterable[FrameTimes | Window], options: RowOptions
) -> Iterator[Row]:
    """Yields the segments in which a class is shown without a pause, in order of their start."""
    names, runs = options.output.label.class_names, dict[str, _Run]()
    found: list[Row] = []
    time = interval = 0.0
    last = -1

    def close(name: str, end: float) -> None:
        run = runs.pop(name)
        score = math.fsum(run.scores) / len(run.scores)
        if score >= options.min_score and end - run.start >= options.min_seconds:
            place = {"source": source, "start": run.start, "end": end}
            place |= {"first_frame": run.first_frame, "last_frame": last}
            found.append(Row(place={**place, "class": name, "score": number(score)}))

    for index, (now, values) in enumerate(_frames(events, options)):
        interval, time = (now - time if index else 0.0), now
        shown = likely_classes(values, options.output)
        for name in [name for name in runs if name not in shown]:
            close(name, time)
        for name in shown:
            run = runs.setdefault(name, _Run(time, index))
            run.scores.append(values[names.index(name)])
        last = index
    for name in list(runs):
        close(name, round(time + interval, 6))  # the last frame is shown as long as the one before
    yield from sorted(found, key=lambda row: row.place["start"])
