"""Datasets to read: a generated one, and one that repeats another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec


def generate_dataset(folder: Path, *, count: int, num_frames: int, size: int) -> Path:
    """Writes a dataset of frames with as much detail as footage, so that JPEG files are as large."""
    spec = SequenceSpec(
        num_frames=num_frames,
        image=ImageSpec(height=size, width=size),
        label=LabelSpec(task="classification", class_names=("a", "b", "c")),
    )
    random = np.random.default_rng(0)

    def frame() -> bytes:
        pixels = np.zeros((size, size, 3))
        for cells, strength in ((4, 90), (16, 40), (64, 20), (size, 4)):
            noise = random.normal(0, strength, (cells, cells, 3))
            pixels += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(pixels + 127, 0, 255).astype(np.uint8)
        return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()

    frames = [frame() for _ in range(4 * num_frames)]
    tiny = replace(spec, image=ImageSpec(height=8, width=8))
    records = []
    for i in range(count):
        chosen = [frames[(i + j) % len(frames)] for j in range(num_frames)]
        records.append(replace(fake_record(tiny, i), frames=chosen))
    write_fake_dataset(folder, spec, {"train": count}, records={"train": records}, shards=8)
    return folder


def repeated_dataset(data: Path, info: DatasetInfo, folder: Path, times: int) -> DatasetInfo:
    """Writes a dataset that repeats the shards of another ``times`` times, as links."""
    folder.mkdir()
    splits = {}
    for split, contents in info.splits.items():
        shards = []
        for i in range(times):
            for shard in contents.shards:
                name = f"copy{i}-{shard.file}"
                (folder / name).symlink_to((data / shard.file).resolve())
                shards.append(replace(shard, file=name))
        splits[split] = replace(contents, shards=tuple(shards))
    repeated = replace(info, splits=splits)
    repeated.save(folder)
    return repeated
