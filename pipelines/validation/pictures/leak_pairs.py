"""Finds records of two splits that show the same pictures: by hashes, then by reading the pictures again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipelines.validation.dataset_view import DatasetView
from pipelines.validation.findings import Where
from pipelines.validation.pictures.alignment import Gray, align, has_texture, same_footage, to_gray
from pipelines.validation.pictures.duplicates import find_similar
from pipelines.validation.pictures.hashes import PICTURE_ROW
from pipelines.validation.pictures.thumbnails import FrameError, decode_frame
from tfrecords_schema.records import CorruptRecordError

_MAX_READ = 200
"""Pairs of records that are read again, those with the most similar pictures first."""
_MAX_ALIGNED = 4
"""Pictures of two records that are aligned."""


class RecordPair(NamedTuple):
    """Two records of different splits, each with a frame, that show nearly the same picture.

    Attributes:
        one, other: the frames.
        splits: the split of each.
        is_same_footage: True if the records show the same footage, or one begins within the other.
    """

    one: Where
    other: Where
    splits: tuple[str, str]
    is_same_footage: bool


def find_pairs(dataset: DatasetView) -> tuple[list[RecordPair], int]:
    """Returns pairs of records that show the same, and an estimate of the number of further pairs."""
    if dataset.info.spec.image is None or len(dataset.by_split) < 2:
        return [], 0
    shards, splits = dataset.shards, list(dataset.by_split)
    parts = [np.frombuffer(shard.frames, PICTURE_ROW) for shard in shards]
    rows = np.concatenate(parts)
    shard_of = np.repeat(np.arange(len(shards)), [len(part) for part in parts])
    similar = find_similar(
        rows["hash"],
        rows["tones"],
        np.array([splits.index(shard.split) for shard in shards], np.uint8)[shard_of],
        bits=int(dataset.thresholds.duplicate_bits),
    )
    offsets, frames = rows["offset"], rows["frame"]
    by_records: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for one, other in similar.tolist():
        records = (shard_of[one], offsets[one], shard_of[other], offsets[other])
        alike = by_records.setdefault(tuple(map(int, records)), [])
        alike.append((int(frames[one]), int(frames[other])))
    ranked = sorted(by_records.items(), key=lambda item: -len(item[1]))
    found = []
    for (number, offset, other_number, other_offset), alike in ranked[:_MAX_READ]:
        first, second = shards[number], shards[other_number]
        match = _compare(
            _read_frames(dataset, first.file, offset),
            _read_frames(dataset, second.file, other_offset),
            alike[:_MAX_ALIGNED],
            dataset.thresholds.duplicate_correlation,
        )
        if match is not None:
            frame, other_frame, is_same_footage = match
            where = dataset.where(first.file, offset, frame)
            other_where = dataset.where(second.file, other_offset, other_frame)
            both = (first.split, second.split)
            found.append(RecordPair(where, other_where, both, is_same_footage))
    found.sort(key=lambda pair: not pair.is_same_footage)
    # Of the pairs that were not read, as large a part shows the same as of those that were.
    unread = max(0, len(ranked) - _MAX_READ)
    return found, unread * len(found) // _MAX_READ


def _read_frames(dataset: DatasetView, shard: str, offset: int) -> list[Gray]:
    """Returns the frames of a record, gray and small; none if the record is damaged."""
    image = dataset.info.spec.image
    try:
        record = dataset.read_view(shard, offset)
        if image is None or record.problems:
            return []
        return [to_gray(decode_frame(i, image)) for i in record.images[: record.valid_frames]]
    except (CorruptRecordError, FrameError, OSError):
        return []


def _compare(
    one: list[Gray], other: list[Gray], alike: list[tuple[int, int]], correlation: float
) -> tuple[int, int, bool] | None:
    """Aligns the frames of two records whose hashes are ``alike``.

    Returns a frame of each that show the same picture, and if the records are the same footage; None if no
    frames show the same.
    """
    if not one or not other:
        return None
    alike = [(i, j) for i, j in alike if has_texture(one[i]) and has_texture(other[j])]
    if not alike:
        return None
    (found, alignment), first, second = max((align(one[i], other[j]), -i, -j) for i, j in alike)
    if found < correlation:
        return None
    shifts = {j - i for i, j in alike}
    return -first, -second, same_footage(one, other, shifts, alignment)
