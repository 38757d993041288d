"""Small sums over many records: what the checks of the whole dataset and the report's counts rest on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.validation.sketches import Sketch
from pipelines.validation.views import RecordView, value_columns
from tfrecords_schema import spec as keys

BINS = 24
"""Of a target's histogram."""
STEP_RANGE = (0.0, 3.0)
"""Of the histogram of steps between timestamps, in usual ones."""


@dataclass
class Moments:
    """Count, mean, squared deviation, least and most of the finite values given so far."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    min: float = math.inf
    max: float = -math.inf

    def add(self, value: float) -> None:
        """Takes a finite value (Welford's method, which stays exact far from zero)."""
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.squares += delta * (value - self.mean)
        self.min = min(self.min, value)
        self.max = max(self.max, value)

    def add_all(self, values: Sequence[float]) -> None:
        """Takes finite values."""
        if len(values) < 4:
            for value in values:
                self.add(value)
            return
        table = np.asarray(values, np.float64)
        mean = float(table.mean())
        squares = float(((table - mean) ** 2).sum())
        self.merge(Moments(len(values), mean, squares, min(values), max(values)))

    def merge(self, other: Moments) -> None:
        """Takes what ``other`` was given (Chan's method)."""
        if not other.count:
            return
        total = self.count + other.count
        delta = other.mean - self.mean
        self.squares += other.squares + delta * delta * self.count * other.count / total
        self.mean += delta * other.count / total
        self.count = total
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    @property
    def std(self) -> float:
        """Population standard deviation; 0 for no values."""
        return math.sqrt(max(0.0, self.squares / self.count)) if self.count else 0.0


@dataclass
class Tally:
    """What a split, or a part of one, holds.

    Attributes:
        records: that have every key of the spec.
        frames: that are not padding.
        seconds: from each record's first frame to its last.
        labels: records (frames, for labels by frame) of each class, in label order.
        padded_labels: the same with padding counted too.
        columns: moments of each target and signal component, by what `value_columns` calls it.
        histograms: by target, the values in each of `BINS` equal parts of its range.
        sketches: by column, what its values are like.
        changes: by column, what the differences are like between its first values in two records of one
            source that follow each other.
        steps: between timestamps, in `BINS` equal parts of `STEP_RANGE`.
        pixel_sums: of the mean level of each channel (in the order of the spec) over all frames.
        pixel_frames: frames in them.
    """

    records: int = 0
    frames: int = 0
    seconds: float = 0.0
    labels: list[int] = field(default_factory=list)
    padded_labels: list[int] = field(default_factory=list)
    columns: dict[str, Moments] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)
    sketches: dict[str, Sketch] = field(default_factory=dict)
    changes: dict[str, Sketch] = field(default_factory=dict)
    steps: list[int] = field(default_factory=lambda: [0] * BINS)
    pixel_sums: list[float] = field(default_factory=list)
    pixel_frames: int = 0

    def steps_of(self, column: str) -> Sketch:
        """What the differences of a column are like, to be added to."""
        return self.changes.setdefault(column, Sketch())

    def add(
        self,
        record: RecordView,
        ranges: dict[str, tuple[float, float]],
        rank: int,
        where: tuple[str, int],
    ) -> None:
        """Counts a record.

        Args:
            record: with every key of its spec.
            ranges: by name of the column, least and most of the values to draw a histogram of.
            rank: a hash of the record's name.
            where: shard and offset of the record.
        """
        valid, times = record.valid_frames, record.timestamps
        self.records += 1
        self.frames += valid
        self.seconds += max(0, times[max(valid, 1) - 1] - times[0]) / 1e6
        indices = record.context.get(keys.LABEL_INDEX)
        by_frame = record.column(keys.FRAME_LABEL_INDEX)
        classes = record.spec.label.num_classes
        _count(self.labels, by_frame[:valid] if indices is None else indices, classes)
        _count(self.padded_labels, by_frame if indices is None else indices, classes)
        self._add_steps(times[:valid], record.spec.frame_rate or record.value(keys.FRAME_RATE))
        self._add_pixels(record)
        for name, values in value_columns(record).items():
            if name not in record.expected.angles:
                self.sketches.setdefault(name, Sketch()).add(values, rank, *where)
            # Padding repeats the last frame's values, which count once.
            own = values[:valid] if len(values) > 1 else values
            finite = [value for value in own if math.isfinite(value)]
            self.columns.setdefault(name, Moments()).add_all(finite)
            if name in ranges:
                bins = self.histograms.setdefault(name, [0] * BINS)
                for value in finite:
                    bins[find_bin(value, ranges[name])] += 1

    def _add_steps(self, times: Sequence[int], rate: float) -> None:
        if rate > 0:
            for one, other in itertools.pairwise(times):
                self.steps[find_bin((other - one) * rate / 1e6, STEP_RANGE)] += 1

    def _add_pixels(self, record: RecordView) -> None:
        pictures = record.pictures
        if pictures is None or any(pictures.problems):
            return
        sums = pictures.colours[: record.valid_frames].sum(0)[::-1]  # OpenCV has blue first
        _extend_floats(self.pixel_sums, len(sums))
        for channel, total in enumerate(sums.tolist()):
            self.pixel_sums[channel] += total
        self.pixel_frames += record.valid_frames

    def merge(self, other: Tally) -> None:
        """Counts what ``other`` counted."""
        self.records += other.records
        self.frames += other.frames
        self.seconds += other.seconds
        for mine, theirs in (
            (self.labels, other.labels),
            (self.padded_labels, other.padded_labels),
        ):
            _extend(mine, len(theirs))
            for place, count in enumerate(theirs):
                mine[place] += count
        for name, moments in other.columns.items():
            self.columns.setdefault(name, Moments()).merge(moments)
        for name, bins in other.histograms.items():
            mine = self.histograms.setdefault(name, [0] * BINS)
            self.histograms[name] = [a + b for a, b in zip(mine, bins, strict=True)]
        for sketches, others in (
            (self.sketches, other.sketches),
            (self.changes, other.changes),
        ):
            for name, sketch in others.items():
                sketches.setdefault(name, Sketch()).merge(sketch)
        self.steps = [a + b for a, b in zip(self.steps, other.steps, strict=True)]
        _extend_floats(self.pixel_sums, len(other.pixel_sums))
        for channel, total in enumerate(other.pixel_sums):
            self.pixel_sums[channel] += total
        self.pixel_frames += other.pixel_frames


def find_bin(value: float, limits: tuple[float, float]) -> int:
    """The bin of ``value`` between ``limits``; what lies outside goes to the first or last bin."""
    low, high = limits
    if not high > low:
        return 0
    return min(max(int((value - low) / (high - low) * BINS), 0), BINS - 1)


def _count(counts: list[int], indices: Iterable[int], classes: int) -> None:
    _extend(counts, classes)
    for index in indices:
        if 0 <= index < classes:
            counts[index] += 1


def _extend_floats(sums: list[float], length: int) -> None:
    sums.extend([0.0] * (length - len(sums)))


def _extend(counts: list[int], length: int) -> None:
    counts.extend([0] * (length - len(counts)))


def merged(tallies: Sequence[Tally]) -> Tally:
    """All of ``tallies`` as one."""
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total
