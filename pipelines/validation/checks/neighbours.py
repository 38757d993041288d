"""The checks that look at two records of one source, the later beside the earlier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.validation.checks.pictures import standing_out, swapped_colours
from pipelines.validation.findings import Check, Problem, check, error, warning
from pipelines.validation.pictures.thumbnails import Pictures
from pipelines.validation.times import seconds
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys


@dataclass(frozen=True)
class Neighbours:
    """Two records of one source that follow each other in a shard; the first begins earlier."""

    before: RecordView
    record: RecordView

    @property
    def adjoining(self) -> bool:
        """Whether the second begins where the first ends: no more than two frames lie between."""
        times, following = self.before.timestamps, self.record.timestamps
        valid = self.before.valid_frames
        if valid < 2 or not following:
            return False
        step = (times[valid - 1] - times[0]) / (valid - 1)
        return 0 < following[0] - times[valid - 1] <= 2.5 * step


def are_neighbours(before: RecordView, record: RecordView) -> bool:
    """Whether two records that follow each other in a shard are of one source, in order of time."""
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
    reason="Windows that overlap hold the same frames; when they do not agree on one, a frame, a "
    "time or a source id in one of them is wrong.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not edit records.",
)
def shared_frames(pair: Neighbours) -> Iterator[Problem]:
    """A source has one picture at a time, in all records."""
    before, record = pair.before, pair.record
    if before.timestamps[before.valid_frames - 1] < record.timestamps[0]:
        return
    known = dict(zip(before.timestamps, before.images, strict=False))
    for index, (time, image) in enumerate(zip(record.timestamps, record.images, strict=False)):
        if time in known and known[time] != image:
            yield error(
                f"frame {index}, at {seconds(time)} of {record.text(keys.MEDIA_ID)!r}, is another picture "
                f"than in {before.text(keys.EXAMPLE_ID)!r}"
            )
            return
    yield from _times_apart(before, record)


@check(
    "pictures.adjoining",
    reason="What is true within a sequence is true from one to the next of the same footage: no "
    "single frame is unlike those around it, and colours do not swap.",
    remedy="Look at both records; build again from the source.",
)
def adjoining_pictures(pair: Neighbours) -> Iterator[Problem]:
    """Sequences of one source continue each other: no frame stands out, and red and blue stay."""
    before, record = pair.before.pictures, pair.record.pictures
    if before is None or record is None or any(before.problems) or any(record.problems):
        return
    if not pair.adjoining:
        return
    last = pair.before.valid_frames - 1
    start = max(0, last - 1)
    following = record.thumbnails[: min(2, pair.record.valid_frames)]
    around = np.concatenate([before.thumbnails[start : last + 1], following])
    both = Pictures(
        (None,) * len(around),
        around,
        before.contrast,
    )
    name, seam = pair.before.text(keys.EXAMPLE_ID), last + 1 - start
    if seam in swapped_colours(both):
        yield warning(f"red and blue look swapped beside {name!r}, which it continues")
        return
    for index in standing_out(both, pair.record.expected.thresholds.jump_levels):
        whose = "frame 0" if index == seam else f"the last frame of {name!r}"
        yield warning(f"{whose} is unlike those around it, where one record continues the other")


def _times_apart(before: RecordView, record: RecordView) -> Iterator[Problem]:
    """Windows of one source are sampled at the same times: each frame of the common part is in both."""
    mine = set(before.timestamps[: before.valid_frames])
    theirs = set(record.timestamps[: record.valid_frames])
    start, end = min(theirs), min(max(mine), max(theirs))
    alone = sorted(time for time in mine ^ theirs if start <= time <= end)
    if alone:
        yield warning(
            f"it overlaps with {before.text(keys.EXAMPLE_ID)!r}, and only one of them has a frame at "
            f"{seconds(alone[0])}"
        )


NEIGHBOUR_CHECKS: tuple[Check[Neighbours], ...] = (shared_frames, adjoining_pictures)
