"""`Tally`: sums over records, for the checks of the whole dataset and the report's counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pipelines.validation.sketches import Sketch
from pipelines.validation.views import RecordView, value_columns
from tfrecords_schema import spec as keys
from tfrecords_schema.moments import Moments

N = TypeVar("N", int, float)

BINS = 24
"""Bins of a histogram."""
STEP_RANGE = (0.0, 3.0)
"""Range of the histogram of steps between timestamps, in frame periods."""


@dataclass
class Tally:
    """Sums over the records of a shard or split.

    Attributes:
        records: number of records that have every key of the spec.
        frames: number of frames without padding.
        seconds: from each record's first frame to its last.
        labels: records (frames, for labels by frame) of each class, in label order.
        columns: moments of each target and signal component; names are those of `value_columns`.
        histograms: by target column, the values in each of `BINS` equal parts of its range.
        sketches: by column, of its values.
        changes: by column, sketches of the differences between consecutive records of a source.
        steps: number of steps between timestamps in `BINS` equal parts of `STEP_RANGE`.
        pixel_sums: sum of the frames' mean levels, by channel in the order of the spec.
        pixel_frames: number of frames in ``pixel_sums``.
    """

    records: int = 0
    frames: int = 0
    seconds: float = 0.0
    labels: list[int] = field(default_factory=list)
    columns: dict[str, Moments] = field(default_factory=dict)
    histograms: dict[str, list[int]] = field(default_factory=dict)
    sketches: dict[str, Sketch] = field(default_factory=dict)
    changes: dict[str, Sketch] = field(default_factory=dict)
    steps: list[int] = field(default_factory=lambda: [0] * BINS)
    pixel_sums: list[float] = field(default_factory=list)
    pixel_frames: int = 0

    def changes_of(self, column: str) -> Sketch:
        """Returns the sketch of a column's changes, to add to."""
        return self.changes.setdefault(column, Sketch())

    def add(
        self,
        record: RecordView,
        ranges: dict[str, tuple[float, float]],
        rank: int,
        where: tuple[str, int],
    ) -> None:
        """Adds a record.

        Args:
            record: with every key of its spec.
            ranges: by column, the range of its histogram.
            rank: hash of the record's name.
            where: shard and offset of the record.
        """
        valid, times = record.valid_frames, record.timestamps
        self.records += 1
        self.frames += valid
        self.seconds += max(0, times[max(valid, 1) - 1] - times[0]) / 1e6
        indices = record.context.get(keys.LABEL_INDEX)
        if indices is None:
            indices = record.column(keys.FRAME_LABEL_INDEX)[:valid]
        counts = [0] * record.spec.label.num_classes
        for index in indices:
            if 0 <= index < len(counts):
                counts[index] += 1
        self.labels = _add(self.labels, counts)
        rate = record.spec.frame_rate or record.value(keys.FRAME_RATE)
        if rate > 0:
            for one, other in itertools.pairwise(times[:valid]):
                self.steps[find_bin((other - one) * rate / 1e6, STEP_RANGE)] += 1
        pictures = record.pictures
        if pictures is not None and not any(pictures.problems):
            sums = pictures.colours[:valid].sum(0)[::-1]  # from OpenCV's BGR order
            self.pixel_sums = _add(self.pixel_sums, sums.tolist())
            self.pixel_frames += valid
        for name, values in value_columns(record).items():
            if name not in record.expected.angles:
                self.sketches.setdefault(name, Sketch()).add(values, rank, *where)
            # Padding repeats the last frame's values, which count once.
            own = values[:valid] if len(values) > 1 else values
            finite = [value for value in own if math.isfinite(value)]
            self.columns[name] = self.columns.get(name, Moments()) + Moments.of(finite)
            if name in ranges:
                bins = self.histograms.setdefault(name, [0] * BINS)
                for value in finite:
                    bins[find_bin(value, ranges[name])] += 1

    def merge(self, other: Tally) -> None:
        """Adds another tally."""
        self.records += other.records
        self.frames += other.frames
        self.seconds += other.seconds
        self.labels = _add(self.labels, other.labels)
        for name, moments in other.columns.items():
            self.columns[name] = self.columns.get(name, Moments()) + moments
        for name, bins in other.histograms.items():
            self.histograms[name] = _add(self.histograms.get(name, []), bins)
        for mine, theirs in ((self.sketches, other.sketches), (self.changes, other.changes)):
            for name, sketch in theirs.items():
                mine.setdefault(name, Sketch()).merge(sketch)
        self.steps = _add(self.steps, other.steps)
        self.pixel_sums = _add(self.pixel_sums, other.pixel_sums)
        self.pixel_frames += other.pixel_frames


def find_bin(value: float, limits: tuple[float, float]) -> int:
    """Returns the bin of ``value`` between ``limits``; values outside are in the first or last bin."""
    low, high = limits
    if not high > low:
        return 0
    return min(max(int((value - low) / (high - low) * BINS), 0), BINS - 1)


def _add(one: Sequence[N], other: Sequence[N]) -> list[N]:
    """Returns the sums of equal places; the shorter list is filled up with zeros."""
    return [a + b for a, b in itertools.zip_longest(one, other, fillvalue=0)]


def merge_tallies(tallies: Iterable[Tally]) -> Tally:
    """Returns the sum of tallies."""
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total
