"""Makes sample records and datasets from a spec, for tests.

Example: a dataset of 10 training and 4 validation records::

    spec = SequenceSpec(num_frames=4, image=ImageSpec(height=32, width=48))
    info = write_fake_dataset("fake", spec, {"train": 10, "validation": 4})
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tfrecords_schema.examples import SequenceRecord, encode_record
from tfrecords_schema.foreign.scan import SplitScan
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import frame_record
from tfrecords_schema.spec import ImageSpec, SequenceSpec


def fake_image(spec: ImageSpec, seed: int) -> bytes:
    """Returns an encoded image of smooth random colors, which JPEG keeps nearly unchanged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (2, 2, spec.channels), np.uint8)
    pixels = cv2.resize(coarse, (spec.width, spec.height), interpolation=cv2.INTER_CUBIC)
    extension = ".jpg" if spec.format == "JPEG" else ".png"
    encoded, data = cv2.imencode(extension, pixels)
    if not encoded:
        raise ValueError(f"OpenCV could not encode a {spec.shape} image as {spec.format}")
    return data.tobytes()


def fake_record(spec: SequenceSpec, seed: int) -> SequenceRecord:
    """Returns a valid record of ``spec``; the same ``seed`` gives the same record.

    ``num_classes`` consecutive seeds have each class once, in label order.
    """
    random = np.random.default_rng(seed)
    label, frames = spec.label, spec.num_frames
    rate = spec.frame_rate or 25.0
    index = seed % max(label.num_classes, 1)
    classes: tuple[int, ...] = (index,) if label.num_classes else ()
    if label.task == "multilabel":
        classes = tuple(i for i in range(label.num_classes) if i == index or random.random() < 0.3)
    names = tuple(label.class_names[i] for i in classes)
    by_frame = frames if label.per_frame else 0
    targets = random.normal(size=(frames, len(label.target_names))).astype(np.float32)
    signals = {
        signal.name: random.normal(size=(frames, signal.size)).astype(np.float32).tolist()
        for signal in spec.signals
    }
    return SequenceRecord(
        id=f"fake/{seed}.mp4@0",
        dataset_name="fake",
        data_path=f"fake/{seed}.mp4",
        media_id=f"fake/{seed}.mp4",
        group_id=f"fake/{seed}.mp4",
        timestamps=[round(i * 1e6 / rate) for i in range(frames)],
        frame_rate=rate,
        valid_frames=frames,
        frames=[fake_image(spec.image, seed * frames + i) for i in range(frames)]
        if spec.image
        else (),
        label_indices=() if by_frame else classes,
        label_strings=() if by_frame else names,
        label_values=() if by_frame else targets[0].tolist(),
        frame_label_indices=classes * by_frame,
        frame_label_strings=names * by_frame,
        frame_label_values=targets[:by_frame].tolist() if label.target_names else (),
        signals=signals,
    )


def write_fake_dataset(
    directory: str | os.PathLike[str],
    spec: SequenceSpec,
    split_records: Mapping[str, int],
    *,
    shards: int = 2,
    records: Mapping[str, list[SequenceRecord]] | None = None,
) -> DatasetInfo:
    """Writes a complete dataset folder of records as `fake_record` makes them; returns its description.

    Args:
        directory: created if it does not exist.
        spec: of the records.
        split_records: number of records by split name.
        shards: TFRecord files per split.
        records: by split name, records to write instead of fake ones.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    splits, seed = {}, 0
    for split, count in split_records.items():
        fakes = (fake_record(spec, seed + i) for i in range(count))
        chosen = records[split] if records and split in records else [*fakes]
        seed += count
        scan = SplitScan(decodes=False)
        for shard in range(shards):
            path = folder / f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
            framed = [frame_record(encode_record(own, spec)) for own in chosen[shard::shards]]
            path.write_bytes(b"".join(framed))
            scan.add_file(path)
        # The moments of uniformly random colors, not those of the actual pixels.
        channels = spec.image.channels if spec.image else 0
        mean, std = (127.5,) * channels, (73.9,) * channels
        splits[split] = replace(scan.describe(spec), pixel_mean=mean, pixel_std=std)
    info = DatasetInfo(name="fake", spec=spec, splits=splits)
    info.save(folder)
    return info
