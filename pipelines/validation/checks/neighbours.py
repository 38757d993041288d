"""The checks of two consecutive records of one source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipelines.validation.findings import Problem, check, error, warning
from pipelines.validation.pictures.thumbnails import Pictures
from pipelines.validation.times import format_seconds
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys

_MAX_ADJOINING_STEPS = 2.5
"""Steps between the end of a record and the start of one that continues it."""


class Neighbours(NamedTuple):
    """Two consecutive records of a shard that are of one source; ``before`` begins earlier."""

    before: RecordView
    record: RecordView


def are_neighbours(before: RecordView, record: RecordView) -> bool:
    """Returns True if two consecutive records of a shard are of one source, in order of time."""
    media, times, earlier = record.value(keys.MEDIA_ID), record.shown_times, before.shown_times
    is_same = media and media == before.value(keys.MEDIA_ID)
    return bool(is_same and times and earlier and times[0] > earlier[0])


@check(
    reason="Windows that overlap hold the same frames. If they do not agree on one, a frame, a "
    "time or a source id in one of them is wrong.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not edit records.",
)
def frames_shared(pair: Neighbours) -> Iterator[Problem]:
    """Overlapping records of a source hold the same frames, at the same times, in the common part."""
    before, record = pair.before, pair.record
    if before.shown_times[-1] < record.shown_times[0]:
        return
    known = dict(zip(before.timestamps, before.images, strict=False))
    for index, (time, image) in enumerate(zip(record.timestamps, record.images, strict=False)):
        if time in known and known[time] != image:
            yield error(
                f"frame {index}, at {format_seconds(time)} of {record.text(keys.MEDIA_ID)!r}, differs from "
                f"the frame at that time in {before.text(keys.EXAMPLE_ID)!r}"
            )
            return
    mine = set(before.shown_times)
    theirs = set(record.shown_times)
    start, end = min(theirs), min(max(mine), max(theirs))
    unmatched = sorted(time for time in mine ^ theirs if start <= time <= end)
    if unmatched:
        yield warning(
            f"it overlaps with {before.text(keys.EXAMPLE_ID)!r}, but only one of them has a frame at "
            f"{format_seconds(unmatched[0])}"
        )


@check(
    reason="Where one sequence of a source continues another, frames change as little as within a "
    "sequence: none is unlike those around it, and red and blue do not swap.",
    remedy="Look at both records; build again from the source.",
)
def pictures_adjoining(pair: Neighbours) -> Iterator[Problem]:
    """Frames around the join of two sequences are not foreign, and red and blue are not swapped."""
    before, record = pair.before.intact_pictures, pair.record.intact_pictures
    times = pair.before.shown_times
    if before is None or record is None or len(times) < 2:
        return
    step = (times[-1] - times[0]) / (len(times) - 1)
    if not 0 < pair.record.shown_times[0] - times[-1] <= _MAX_ADJOINING_STEPS * step:
        return
    around = np.concatenate([before.thumbnails[-2:], record.thumbnails[:2]])
    both = Pictures((None,) * len(around), around)
    name, seam = pair.before.text(keys.EXAMPLE_ID), min(len(before), 2)
    if seam in both.find_swapped_colours():
        yield warning(f"red and blue look swapped compared with {name!r}, which it continues")
        return
    for index in both.find_foreign(pair.record.expected.thresholds.jump_levels):
        which = "frame 0" if index == seam else f"the last frame of {name!r}"
        yield warning(
            f"{which} is unlike the frames around it, where one record continues the other"
        )
