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
from trainer.config.reading import WHOLE, Reading
from trainer.data.corrupt import located_errors
from trainer.data.elements import ElementBuilder
from trainer.data.parsed_records import IMAGE, METADATA, VALID_FRAMES, parse_record
from trainer.data.pixels import FrameReader
from trainer.data.read_options import Outputs
from trainer.evaluation.grad_cam import GradCam, heat_picture


@dataclass(frozen=True, kw_only=True)
class Filmstrip:
    """Some frames of a sequence, and its signals by name, ``[frames, size]``, without padding.

    ``heat`` are frames that the model sees, with the heat of a `GradCam` over them.
    """

    frames: tuple[StripFrame, ...]
    signals: dict[str, npt.NDArray[Any]]
    heat: tuple[StripFrame, ...] = ()


def read_filmstrips(
    directory: Datasets,
    split: str,
    places: Sequence[int],
    *,
    grad_cam: GradCam | None = None,
    reading: Reading = WHOLE,
) -> dict[int, Filmstrip]:
    """Returns the strips of the sequences at these indices in stored order, without corrupt frames.

    Other records are not parsed, and one is held at a time. ``reading`` says which frames the model of
    ``grad_cam`` sees; of several clips of a sequence, the middle one is shown.
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
                    by_name = has_mixed_indices(directory)
                    parsed = parse_record(tf.constant(record.data), info, by_name=by_name)
                    heat = () if grad_cam is None else _heat_frames(parsed, info, grad_cam, reading)
                    strips[place] = _to_strip(parsed, info, heat)
            start += shard.records
    return strips


def _to_strip(parsed: dict[str, Any], info: DatasetInfo, heat: tuple[StripFrame, ...]) -> Filmstrip:
    spec = info.spec
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
    return Filmstrip(frames=tuple(frames), signals=signals, heat=heat)


def _heat_frames(
    parsed: dict[str, Any], info: DatasetInfo, grad_cam: GradCam, reading: Reading
) -> tuple[StripFrame, ...]:
    outputs = Outputs(image_size=reading.image_size, metadata=True)
    elements = ElementBuilder(info=info, clips=reading.clips, outputs=outputs)
    element = elements.build(parsed, None, reading.count // 2)
    batch = tf.nest.map_structure(lambda value: tf.expand_dims(value, 0), element)
    features, _ = elements.decode_pixels(batch)
    times = {name: features.pop(name) for name in METADATA}["timestamps"][0].numpy() / 1e6
    heat = grad_cam.heat(features)
    pictures = features[IMAGE][0].numpy()
    return tuple(
        StripFrame(
            index=index,
            seconds=float(times[index]),
            jpeg=make_thumbnail(heat_picture(pictures[index], heat[index])),
        )
        for index in choose_frames(max(1, int(features[VALID_FRAMES][0])))
    )
