"""Records of two splits that show the same pictures: found by their hashes, then looked at."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.dataset_view import DatasetView, concatenate
from pipelines.validation.pictures.alignment import (
    IN_PLACE,
    Alignment,
    Gray,
    align,
    distance,
    has_texture,
    to_gray,
)
from pipelines.validation.pictures.duplicates import find_alike
from pipelines.validation.pictures.thumbnails import FrameError, decode_frame
from pipelines.validation.views import Expectation, RecordView
from tfrecords_schema.records import CorruptRecordError

_MOST_LOOKED_AT = 200
_MOST_ALIGNED = 4
"""Pictures of two records that are laid over each other."""
_WHOLE = 0.9
"""Fraction of the frames of two sequences that must be the same for them to be the same footage."""

_OF_MOTION = 0.5
"""Fraction of what a frame differs from the next by which the same frame may differ, coded twice. What stands
still looks the same wherever it is; only what moves the same way is the same footage."""


@dataclass(frozen=True, kw_only=True)
class RecordPair:
    """Two records of different splits, with a frame each that are nearly the same picture.

    Attributes:
        whole: the two are the same footage, or one begins within the other.
    """

    split: str
    shard: str
    offset: int
    frame: int
    other_split: str
    other_shard: str
    other_offset: int
    other_frame: int
    whole: bool


def find_pairs(dataset: DatasetView) -> tuple[list[RecordPair], int]:
    """Pairs of records that were looked at and show the same; and how many more may.

    Reads up to `_MOST_LOOKED_AT` pairs again, those with the most pictures alike first.
    """
    spec = dataset.info.spec
    if spec.image is None or len(dataset.by_split) < 2:
        return [], 0
    shards = list(dataset.shards)
    numbers = {split: number for number, split in enumerate(dataset.by_split)}
    sizes = [len(shard.frames) for shard in shards]
    hashes = concatenate([shard.frames.hashes for shard in shards])
    if not len(hashes):
        return [], 0
    pairs = find_alike(
        hashes,
        np.concatenate([shard.frames.tones for shard in shards]),
        np.repeat(np.array([numbers[shard.split] for shard in shards], np.uint8), sizes),
        bits=int(dataset.thresholds.duplicate_bits),
    )
    place = _Places(
        np.repeat(np.arange(len(shards)), sizes),
        concatenate([shard.frames.offsets for shard in shards]),
        np.concatenate([shard.frames.frames for shard in shards]),
    )
    by_records: dict[tuple[int, int, int, int], list[tuple[int, int]]] = {}
    for one, other in pairs.tolist():
        by_records.setdefault((*place.record(one), *place.record(other)), []).append((one, other))
    ranked = sorted(by_records.values(), key=lambda own: -len(own))
    expected = Expectation(dataset_name=dataset.info.name, spec=spec)
    found = []
    for own in ranked[:_MOST_LOOKED_AT]:
        one, other = own[0]
        first, second = shards[place.shards[one]], shards[place.shards[other]]
        seen = _compare(
            _pictures(dataset, expected, first.file, int(place.offsets[one])),
            _pictures(dataset, expected, second.file, int(place.offsets[other])),
            [(int(place.frames[a]), int(place.frames[b])) for a, b in own[:_MOST_ALIGNED]],
            dataset.thresholds.duplicate_correlation,
        )
        if seen is not None:
            found.append(
                RecordPair(
                    split=first.split,
                    shard=first.file,
                    offset=int(place.offsets[one]),
                    frame=seen[0],
                    other_split=second.split,
                    other_shard=second.file,
                    other_offset=int(place.offsets[other]),
                    other_frame=seen[1],
                    whole=seen[2],
                )
            )
    found.sort(key=lambda pair: not pair.whole)
    # Of those that were not looked at, as many are what they seem as of those that were.
    unseen = max(0, len(ranked) - _MOST_LOOKED_AT)
    return found, unseen * len(found) // _MOST_LOOKED_AT


@dataclass(frozen=True)
class _Places:
    shards: NDArray[np.int64]
    offsets: NDArray[np.uint64]
    frames: NDArray[np.uint16]

    def record(self, place: int) -> tuple[int, int]:
        return int(self.shards[place]), int(self.offsets[place])


def _pictures(dataset: DatasetView, expected: Expectation, shard: str, offset: int) -> list[Gray]:
    """The frames of a record, in gray and small; none when it cannot be read."""
    spec = dataset.info.spec.image
    try:
        record = RecordView(dataset.folder.read_record(shard, offset), expected)
        if spec is None or record.problems:
            return []
        return [to_gray(decode_frame(data, spec)) for data in record.images[: record.valid_frames]]
    except (CorruptRecordError, FrameError, OSError):
        return []


def _compare(
    one: list[Gray], other: list[Gray], alike: list[tuple[int, int]], correlation: float
) -> tuple[int, int, bool] | None:
    """A frame of each that show the same, and whether one record lies in the other; None for none.

    Of two records' frames, those in ``alike`` have hashes that are.
    """
    if one and other:
        alike = [(i, j) for i, j in alike if has_texture(one[i]) and has_texture(other[j])]
    if not one or not other or not alike:
        return None
    (found, alignment), first, second = max((align(one[i], other[j]), -i, -j) for i, j in alike)
    if found < correlation:
        return None
    moves = min(_motion(one), _motion(other))
    whole = any(
        _continues(one, other, shift, alignment, moves) for shift in {j - i for i, j in alike}
    )
    return -first, -second, whole


def _motion(frames: list[Gray]) -> float:
    """How unlike a frame is to the one before it, on average."""
    steps = [distance(one, other, IN_PLACE) for one, other in itertools.pairwise(frames)]
    return sum(steps) / len(steps) if steps else 0.0


def _continues(
    one: list[Gray], other: list[Gray], shift: int, alignment: Alignment, moves: float
) -> bool:
    """Whether one of two sequences is the other, or begins within it: frame i is frame i + shift."""
    common = [(i, i + shift) for i in range(len(one)) if 0 <= i + shift < len(other)]
    same = [distance(one[i], other[j], alignment) <= _OF_MOTION * moves for i, j in common]
    return len(same) * 2 >= min(len(one), len(other)) and sum(same) >= _WHOLE * len(same)
