"""Reads a few sequences as strips of small pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrecords_schema import spec as keys
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.reading.frames import FrameError
from tfrecords_schema.records import read_file
from tfrecords_schema.report.filmstrips import StripFrame, choose_frames, make_thumbnail
from trainer.config.dataset import (
    Datasets,
    has_mixed_indices,
    load_dataset,
    select_records,
    shard_paths,
)
from trainer.data.corrupt import located_errors
from trainer.data.parsed_records import parse_record
from trainer.data.pixels import FrameReader


@dataclass(frozen=True, kw_only=True)
class Filmstrip:
    """Some frames of a sequence, and its signals by name, ``[frames, size]``, without padding."""

    frames: tuple[StripFrame, ...]
    signals: dict[str, npt.NDArray[Any]]


def read_filmstrips(directory: Datasets, split: str, places: Sequence[int]) -> dict[int, Filmstrip]:
    """Returns the strips of the sequences at these indices in stored order, without corrupt frames.

    Other records are not parsed, and one is held at a time.
    """
    info, strips, start = load_dataset(directory), {}, 0
    paths = shard_paths(directory, info, split)
    with located_errors(directory, split):
        shards = zip(paths, info.splits[split].shards, strict=True)
        for index, (path, shard) in enumerate(shards):
            own = {place for place in places if start <= place < start + shard.records}
            records = select_records(directory, split, index, read_file(path))
            records = itertools.islice(records, max(own, default=start - 1) - start + 1)
            for place, record in enumerate(records, start):
                if place in own:
                    strips[place] = _to_strip(record.data, info, has_mixed_indices(directory))
            start += shard.records
    return strips


def _to_strip(data: bytes, info: DatasetInfo, by_name: bool) -> Filmstrip:
    spec, parsed = info.spec, parse_record(tf.constant(data), info, by_name=by_name)
    valid = max(1, int(parsed[keys.VALID_FRAMES]))
    signals = {s.name: parsed[keys.signal_floats_key(s.name)].numpy()[:valid] for s in spec.signals}
    if spec.image is None:
        return Filmstrip(frames=(), signals=signals)
    encoded = parsed[keys.IMAGE_ENCODED].numpy()
    times = parsed[keys.IMAGE_TIMESTAMP].numpy() / 1e6
    reader = FrameReader(stored=spec.image, wanted=spec.image, adopted=info.adopted)
    frames = []
    for index in choose_frames(valid):
        try:
            pixels = reader.read(encoded[np.newaxis, index : index + 1])[0, 0]
        except FrameError:
            continue  # an evaluated clip does not contain it: its frames were decoded before
        jpeg = make_thumbnail(pixels[:, :, ::-1])
        frames.append(StripFrame(index=index, seconds=float(times[index]), jpeg=jpeg))
    return Filmstrip(frames=tuple(frames), signals=signals)
