"""The checks of two consecutive records of one source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.validation.findings import Problem, check, error, warning
from pipelines.validation.pictures.comparisons import find_foreign, find_swapped_colours
from pipelines.validation.pictures.thumbnails import Pictures
from pipelines.validation.times import format_seconds
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys

_MAX_ADJOINING_STEPS = 2.5


@dataclass(frozen=True)
class Neighbours:
    """Two consecutive records of a shard that are of one source; ``before`` begins earlier."""

    before: RecordView
    record: RecordView

    @property
    def adjoin(self) -> bool:
        """True if the second begins where the first ends, with at most two frames between them."""
        times, following = self.before.timestamps, self.record.timestamps
        valid = self.before.valid_frames
        if valid < 2 or not following:
            return False
        step = (times[valid - 1] - times[0]) / (valid - 1)
        return 0 < following[0] - times[valid - 1] <= _MAX_ADJOINING_STEPS * step


def are_neighbours(before: RecordView, record: RecordView) -> bool:
    """Returns True if two consecutive records of a shard are of one source, in order of time."""
    media, times = record.value(keys.MEDIA_ID), record.timestamps
    return bool(
        media
        and media == before.value(keys.MEDIA_ID)
        and times
        and before.timestamps
        and times[0] > before.timestamps[0]
        and before.valid_frames
        and record.valid_frames
    )


@check(
    "frames.shared",
    reason="Windows that overlap hold the same frames. If they do not agree on one, a frame, a "
    "time or a source id in one of them is wrong.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not edit records.",
)
def shared_frames(pair: Neighbours) -> Iterator[Problem]:
    """Overlapping records of a source hold the same frames, at the same times, in the common part."""
    before, record = pair.before, pair.record
    if before.timestamps[before.valid_frames - 1] < record.timestamps[0]:
        return
    known = dict(zip(before.timestamps, before.images, strict=False))
    for index, (time, image) in enumerate(zip(record.timestamps, record.images, strict=False)):
        if time in known and known[time] != image:
            yield error(
                f"frame {index}, at {format_seconds(time)} of {record.text(keys.MEDIA_ID)!r}, differs from "
                f"the frame at that time in {before.text(keys.EXAMPLE_ID)!r}"
            )
            return
    mine = set(before.timestamps[: before.valid_frames])
    theirs = set(record.timestamps[: record.valid_frames])
    start, end = min(theirs), min(max(mine), max(theirs))
    unmatched = sorted(time for time in mine ^ theirs if start <= time <= end)
    if unmatched:
        yield warning(
            f"it overlaps with {before.text(keys.EXAMPLE_ID)!r}, but only one of them has a frame at "
            f"{format_seconds(unmatched[0])}"
        )


@check(
    "pictures.adjoining",
    reason="Where one sequence of a source continues another, frames change as little as within a "
    "sequence: none is unlike those around it, and red and blue do not swap.",
    remedy="Look at both records; build again from the source.",
)
def adjoining_pictures(pair: Neighbours) -> Iterator[Problem]:
    """Frames around the join of two sequences are not foreign, and red and blue are not swapped."""
    before, record = pair.before.sound_pictures, pair.record.sound_pictures
    if before is None or record is None or not pair.adjoin:
        return
    last = before.thumbnails[-2:]
    around = np.concatenate([last, record.thumbnails[:2]])
    both = Pictures((None,) * len(around), around)
    name, seam = pair.before.text(keys.EXAMPLE_ID), len(last)
    if seam in find_swapped_colours(both):
        yield warning(f"red and blue look swapped compared with {name!r}, which it continues")
        return
    for index in find_foreign(both, pair.record.expected.thresholds.jump_levels):
        which = "frame 0" if index == seam else f"the last frame of {name!r}"
        yield warning(
            f"{which} is unlike the frames around it, where one record continues the other"
        )
