"""Records of two splits that show the same pictures: found by their hashes, then looked at."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.validation.dataset_view import DatasetView, concatenate
from pipelines.validation.duplicates import find_alike
from pipelines.validation.images import FrameError, decode_frame
from pipelines.validation.views import Expectation, RecordView
from tfrecords_schema.records import CorruptRecordError

_MOST_LOOKED_AT = 200
_TONE_LEVELS = 10
_SIDE = 16
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
        levels=_TONE_LEVELS,
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
            _grids(dataset, expected, first.file, int(place.offsets[one])),
            _grids(dataset, expected, second.file, int(place.offsets[other])),
            dataset.thresholds.duplicate_levels,
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


def _grids(
    dataset: DatasetView, expected: Expectation, shard: str, offset: int
) -> NDArray[np.int16]:
    """The frames of a record, ``[frames, rows, columns, channels]``; none when it cannot be read."""
    spec = dataset.info.spec.image
    none = np.zeros((0, _SIDE, _SIDE, 1), np.int16)
    try:
        record = RecordView(dataset.folder.read_record(shard, offset), expected)
        if spec is None or record.problems:
            return none
        pixels = [decode_frame(data, spec) for data in record.images[: record.valid_frames]]
    except (CorruptRecordError, FrameError, OSError):
        return none
    size = (_SIDE, _SIDE)
    grids = [cv2.resize(own, size, interpolation=cv2.INTER_AREA) for own in pixels]
    return np.stack(grids).reshape(len(grids), _SIDE, _SIDE, -1).astype(np.int16)


def _compare(
    one: NDArray[np.int16], other: NDArray[np.int16], levels: float
) -> tuple[int, int, bool] | None:
    """A frame of each that are nearly the same, and whether one record lies in the other; None for none."""
    if not len(one) or not len(other):
        return None
    steps = [np.abs(other - frame) for frame in one]
    worst = np.stack([step.max((1, 2, 3)) for step in steps])
    place = int(worst.argmin())
    if worst.flat[place] > levels:
        return None
    # Coders are least exact about colour, so that brightness is compared.
    gray, other_gray = one.mean(3), other.mean(3)
    means = np.stack([np.abs(other_gray - frame).mean((1, 2)) for frame in gray])
    moves = min(_motion(gray), _motion(other_gray))
    first, second = divmod(place, len(other))
    return first, second, _continues(means <= _OF_MOTION * moves)


def _motion(frames: NDArray[np.float64]) -> float:
    """Levels by which a frame differs from the one before it, on average."""
    return float(np.abs(frames[1:] - frames[:-1]).mean()) if len(frames) > 1 else 0.0


def _continues(same: NDArray[np.bool_]) -> bool:
    """Whether one of two sequences is the other, or begins within it: frame i is frame i + k, all the way."""
    shortest = min(same.shape)
    for shift in range(1 - same.shape[0], same.shape[1]):
        common = np.diagonal(same, shift)
        if len(common) * 2 >= shortest and common.mean() >= _WHOLE:
            return True
    return False
