"""Finds records of two splits that show the same pictures: by hashes, then by reading the pictures again."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.validation.dataset_view import DatasetView
from pipelines.validation.pictures.alignment import (
    IN_PLACE,
    Alignment,
    Gray,
    align,
    distance,
    has_texture,
    to_gray,
)
from pipelines.validation.pictures.duplicates import find_similar
from pipelines.validation.pictures.thumbnails import FrameError, decode_frame
from pipelines.validation.views import RecordView
from tfrecords_schema.records import CorruptRecordError

_MAX_READ = 200
"""Pairs of records that are read again, those with the most similar pictures first."""
_MAX_ALIGNED = 4
"""Pictures of two records that are aligned."""
_MIN_SAME = 0.9
"""Fraction of the common frames of two sequences of the same footage that are the same."""
_MAX_OF_MOTION = 0.5
"""Difference of a frame coded twice, as a fraction of that from frame to frame. Still footage looks the same
everywhere; only footage that moves in the same way is the same footage."""


class Place(NamedTuple):
    """A frame of a record."""

    split: str
    shard: str
    offset: int
    frame: int


@dataclass(frozen=True)
class RecordPair:
    """Two records of different splits, each with a frame, that show nearly the same picture.

    Attributes:
        one, other: the frames.
        is_same_footage: True if the records show the same footage, or one begins within the other.
    """

    one: Place
    other: Place
    is_same_footage: bool


def find_pairs(dataset: DatasetView) -> tuple[list[RecordPair], int]:
    """Returns pairs of records that show the same, and an estimate of the number of further pairs."""
    spec = dataset.info.spec
    if spec.image is None or len(dataset.by_split) < 2:
        return [], 0
    shards = list(dataset.shards)
    rows = np.concatenate([shard.frames.rows for shard in shards])
    shard_of = np.repeat(np.arange(len(shards)), [len(shard.frames.rows) for shard in shards])
    splits = list(dataset.by_split)
    similar = find_similar(
        rows["hash"],
        rows["tones"],
        np.array([splits.index(shard.split) for shard in shards], np.uint8)[shard_of],
        bits=int(dataset.thresholds.duplicate_bits),
    )
    by_records: dict[tuple[int, int, int, int], list[tuple[int, int]]] = {}
    for one, other in similar.tolist():
        first, second = rows[one], rows[other]
        place = (shard_of[one], first["offset"], shard_of[other], second["offset"])
        own = by_records.setdefault(tuple(map(int, place)), [])  # type: ignore[arg-type]
        own.append((int(first["frame"]), int(second["frame"])))
    ranked = sorted(by_records.items(), key=lambda item: -len(item[1]))
    found = []
    for (shard, offset, other_shard, other_offset), alike in ranked[:_MAX_READ]:
        first, second = shards[shard], shards[other_shard]
        match = _compare(
            _read_frames(dataset, first.file, offset),
            _read_frames(dataset, second.file, other_offset),
            alike[:_MAX_ALIGNED],
            dataset.thresholds.duplicate_correlation,
        )
        if match is not None:
            frame, other_frame, is_same_footage = match
            one = Place(first.split, first.file, offset, frame)
            other = Place(second.split, second.file, other_offset, other_frame)
            found.append(RecordPair(one, other, is_same_footage))
    found.sort(key=lambda pair: not pair.is_same_footage)
    # Of the pairs that were not read, as large a part shows the same as of those that were.
    unread = max(0, len(ranked) - _MAX_READ)
    return found, unread * len(found) // _MAX_READ


def _read_frames(dataset: DatasetView, shard: str, offset: int) -> list[Gray]:
    """Returns the frames of a record, gray and small; none if the record is damaged."""
    spec = dataset.info.spec
    try:
        record = RecordView(dataset.folder.read_record(shard, offset), dataset.expected)
        if spec.image is None or record.problems:
            return []
        images = record.images[: record.valid_frames]
        return [to_gray(decode_frame(data, spec.image)) for data in images]
    except (CorruptRecordError, FrameError, OSError):
        return []


def _compare(
    one: list[Gray], other: list[Gray], alike: list[tuple[int, int]], correlation: float
) -> tuple[int, int, bool] | None:
    """Aligns the frames of two records whose hashes are ``alike``.

    Returns:
        A frame of each that show the same picture, and if the records are the same footage; None if no frames
        show the same.
    """
    if not one or not other:
        return None
    alike = [(i, j) for i, j in alike if has_texture(one[i]) and has_texture(other[j])]
    if not alike:
        return None
    (found, alignment), first, second = max((align(one[i], other[j]), -i, -j) for i, j in alike)
    if found < correlation:
        return None
    motion = min(_motion(one), _motion(other))
    shifts = {j - i for i, j in alike}
    is_same = any(_is_same_footage(one, other, shift, alignment, motion) for shift in shifts)
    return -first, -second, is_same


def _motion(frames: list[Gray]) -> float:
    """Returns the mean distance of a frame from the one before it."""
    steps = [distance(one, other, IN_PLACE) for one, other in itertools.pairwise(frames)]
    return sum(steps) / len(steps) if steps else 0.0


def _is_same_footage(
    one: list[Gray], other: list[Gray], shift: int, alignment: Alignment, motion: float
) -> bool:
    """Returns True if frame ``i`` of one sequence is frame ``i + shift`` of the other, where both exist."""
    common = [(i, i + shift) for i in range(len(one)) if 0 <= i + shift < len(other)]
    same = [distance(one[i], other[j], alignment) <= _MAX_OF_MOTION * motion for i, j in common]
    return len(same) * 2 >= min(len(one), len(other)) and sum(same) >= _MIN_SAME * len(same)
