"""Sample records and datasets: valid, complete, and the same every time."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from tfrecords_schema.examples import decode_record, encode_record
from tfrecords_schema.fake import fake_image, fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import file_checksum, read_file
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec

IMAGE = ImageSpec(height=18, width=32)
CLASSES = LabelSpec(task="classification", class_names=("a", "b", "c"))
POSE = LabelSpec(task="regression", target_names=("x", "y"))
SPECS = {
    "none": SequenceSpec(num_frames=3, image=IMAGE),
    "classification": SequenceSpec(num_frames=3, image=IMAGE, label=CLASSES),
    "classes by frame": SequenceSpec(
        num_frames=3, image=IMAGE, label=dataclasses.replace(CLASSES, per_frame=True)
    ),
    "multilabel": SequenceSpec(
        num_frames=1, image=IMAGE, label=LabelSpec(task="multilabel", class_names=("a", "b"))
    ),
    "regression": SequenceSpec(num_frames=3, image=IMAGE, label=POSE),
    "regression by frame": SequenceSpec(
        num_frames=3, image=IMAGE, label=dataclasses.replace(POSE, per_frame=True)
    ),
    "gray PNG": SequenceSpec(
        num_frames=2, image=ImageSpec(height=1, width=1, channels=1, format="PNG")
    ),
    "signals only": SequenceSpec(
        num_frames=3, frame_rate=50.0, label=POSE, signals=(SignalSpec(name="GPS", size=2),)
    ),
}
EACH_SPEC = pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))


def read_split(folder, info, split):
    return [
        decode_record(stored.data, info.spec)
        for shard in info.splits[split].shards
        for stored in read_file(folder / shard.file)
    ]


@EACH_SPEC
def test_write_fake_dataset_is_complete_and_matches_its_info(tmp_path, spec):
    info = write_fake_dataset(tmp_path / "new" / "folder", spec, {"train": 5, "test": 2}, shards=2)
    folder = tmp_path / "new" / "folder"
    assert DatasetInfo.load(folder) == info
    assert info.spec == spec
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset_info.json",
        "test-00000-of-00002.tfrecord",
        "test-00001-of-00002.tfrecord",
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]
    ids = []
    for split, count in (("train", 5), ("test", 2)):
        records = read_split(folder, info, split)
        assert len(records) == info.splits[split].num_records == count
        ids += [record.id for record in records]
        for shard in info.splits[split].shards:
            assert shard.bytes == (folder / shard.file).stat().st_size
            assert shard.sha256 == file_checksum(folder / shard.file)
            assert shard.records == len(list(read_file(folder / shard.file)))
    assert len(set(ids)) == 7


@EACH_SPEC
def test_fake_record_is_determined_by_seed(spec):
    same = [encode_record(fake_record(spec, 3), spec) for _ in range(2)]
    assert same[0] == same[1] != encode_record(fake_record(spec, 4), spec)


def test_write_fake_dataset_is_reproducible(tmp_path):
    infos = [
        write_fake_dataset(tmp_path / name, SPECS["multilabel"], {"train": 5}) for name in "ab"
    ]
    assert infos[0] == infos[1]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["classification", "classes by frame", "multilabel"])
def test_label_counts_match_records(tmp_path, name):
    info = write_fake_dataset(tmp_path, SPECS[name], {"train": 7})
    found = [0] * info.spec.label.num_classes
    for record in read_split(tmp_path, info, "train"):
        for index in (*record.label_indices, *record.frame_label_indices):
            found[index] += 1
    assert info.splits["train"].label_counts == tuple(found)


def test_fake_record_cycles_through_classes(tmp_path):
    # Seven records of three classes: 0 1 2 0 1 2 0, each of three frames in the other dataset.
    one = write_fake_dataset(tmp_path / "1", SPECS["classification"], {"train": 7})
    assert one.splits["train"].label_counts == (3, 2, 2)
    by_frame = write_fake_dataset(tmp_path / "2", SPECS["classes by frame"], {"train": 7})
    assert by_frame.splits["train"].label_counts == (9, 6, 6)


def test_statistics_match_records(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["signals only"], {"train": 6})
    records = read_split(tmp_path, info, "train")
    split = info.splits["train"]
    targets = np.array([record.label_values for record in records])
    signals = np.array([record.signals["GPS"] for record in records]).reshape(-1, 2)
    for moments, values in ((split.targets, targets), (split.signals["GPS"], signals)):
        assert len(moments) == 2
        for column, moment in enumerate(moments):
            of_column = values[:, column]
            expected = of_column.mean(), of_column.std(), of_column.min(), of_column.max()
            assert dataclasses.astuple(moment)[:4] == pytest.approx(expected)


def test_write_fake_dataset_writes_given_records(tmp_path):
    spec = SPECS["classification"]
    mine = [fake_record(spec, seed) for seed in (100, 103)]
    info = write_fake_dataset(
        tmp_path, spec, {"train": 4, "test": 3}, records={"train": mine, "test": []}
    )
    assert [record.id for record in read_split(tmp_path, info, "train")] == [
        "fake/100.mp4@0",
        "fake/103.mp4@0",
    ]
    assert info.splits["train"].label_counts == (0, 2, 0)  # 100 and 103 are 1 modulo 3
    assert info.splits["test"].num_records == 0


def test_write_fake_dataset_writes_damaged_frames(tmp_path):
    spec = SPECS["classification"]
    damaged = dataclasses.replace(fake_record(spec, 0), frames=[b"no image"] * 3)
    info = write_fake_dataset(tmp_path, spec, {"train": 1}, records={"train": [damaged]})
    assert info.splits["train"].num_records == 1
    assert len(info.splits["train"].pixel_mean) == 3


def test_timestamps_follow_frame_rate():
    record = fake_record(SPECS["signals only"], 0)
    assert record.timestamps == [0, 20_000, 40_000]
    assert (record.start_timestamp, record.end_timestamp) == (0, 40_000)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (90, 160)])
def test_fake_image_matches_spec(image_format, channels, height, width):
    spec = ImageSpec(height=height, width=width, channels=channels, format=image_format)
    data = fake_image(spec, 1)
    assert data.startswith(b"\xff\xd8\xff" if image_format == "JPEG" else b"\x89PNG")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((height, width) if channels == 1 else (height, width, 3))


def test_fake_record_frames_differ():
    frames = [f for seed in (0, 1, 2) for f in fake_record(SPECS["classification"], seed).frames]
    assert len(set(frames)) == 9


def test_statistics_leave_out_padding(tmp_path):
    replace = dataclasses.replace
    spec = replace(SPECS["signals only"], label=replace(POSE, per_frame=True))
    sound = fake_record(spec, 0)
    padded = replace(
        sound,
        valid_frames=1,
        frame_label_values=[sound.frame_label_values[0], *[[1e6] * len(POSE.target_names)] * 2],
        signals={"GPS": [sound.signals["GPS"][0], *[[1e6, 1e6]] * 2]},
    )
    info = write_fake_dataset(tmp_path, spec, {"train": 1}, records={"train": [padded]})
    split = info.splits["train"]
    assert [m.max for m in split.targets] == pytest.approx(list(sound.frame_label_values[0]))
    assert [m.max for m in split.signals["GPS"]] == pytest.approx(list(sound.signals["GPS"][0]))
