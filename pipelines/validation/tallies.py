"""`Tally`: sums over records, for the checks of the whole dataset and the report's counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipelines.validation.sketches import Sketch
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys
from tfrecords_schema.moments import Moments

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
        columns: moments of each target and signal component; names are those of `RecordView.value_columns`.
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

    def add(self, record: RecordView, rank: int, shard: str, offset: int) -> None:
        """Adds a record that has every key of its spec; ``rank`` is the hash of its name."""
        valid, times = record.valid_frames, record.shown_times
        self.records += 1
        self.frames += valid
        self.seconds += max(0, times[-1] - times[0]) / 1e6 if times else 0
        indices = record.context.get(keys.LABEL_INDEX)
        if indices is None:
            indices = record.column(keys.FRAME_LABEL_INDEX)[:valid]
        self.labels = self.labels or [0] * record.spec.label.num_classes
        for index in indices:
            if 0 <= index < len(self.labels):
                self.labels[index] += 1
        rate = record.spec.frame_rate or record.value(keys.FRAME_RATE)
        if rate > 0:
            for one, other in itertools.pairwise(times):
                self.steps[find_bin((other - one) * rate / 1e6, STEP_RANGE)] += 1
        if (pictures := record.intact_pictures) is not None:
            sums = pictures.colours.sum(0)[::-1]  # from OpenCV's BGR order
            self.pixel_sums = _add(self.pixel_sums, sums.tolist())
            self.pixel_frames += valid
        for name, values in record.value_columns.items():
            if name not in record.expected.angles:
                self.sketches.setdefault(name, Sketch()).add(values, rank, shard, offset)
            # Padding repeats the last frame's values, which count once.
            own = values[:valid] if len(values) > 1 else values
            finite = [value for value in own if math.isfinite(value)]
            self.columns[name] = self.columns.get(name, Moments()) + Moments.of(finite)
            if (limits := record.expected.ranges.get(name)) is not None:
                bins = self.histograms.setdefault(name, [0] * BINS)
                for value in finite:
                    bins[find_bin(value, limits)] += 1


def find_bin(value: float, limits: tuple[float, float]) -> int:
    """Returns the bin of ``value`` between ``limits``; values outside are in the first or last bin."""
    low, high = limits
    if not high > low:
        return 0
    return min(max(int((value - low) / (high - low) * BINS), 0), BINS - 1)


def merge_tallies(tallies: Iterable[Tally]) -> Tally:
    """Returns the sum of tallies."""
    total = Tally()
    for tally in tallies:
        for name in vars(total):
            setattr(total, name, _add(getattr(total, name), getattr(tally, name)))
    return total


def _add(one: Any, other: Any) -> Any:
    """Returns the sum of two values of one field: lists place by place, dicts key by key."""
    if isinstance(one, list):
        return [a + b for a, b in itertools.zip_longest(one, other, fillvalue=0)]
    if isinstance(one, dict):
        both = {name: _add(one[name], other[name]) for name in one if name in other}
        return {**one, **other, **both}
    return one + other
