"""Records of other programs, written by TensorFlow's encoder with few keys, are described and read."""

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from pipelines.cli import main as pipelines_main
from tfrecords_schema.codec import to_json
from tfrecords_schema.examples import encode_record
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.foreign.scan import AdoptError, adopt
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import frame_record
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec
from trainer.cli import main as trainer_main
from trainer.config.clips import Augmentation
from trainer.data.labels import read_labels
from trainer.data.parsed_records import parse_record
from trainer.data.reader import read_sequences


def jpeg(height, width, level):
    return cv2.imencode(".jpg", np.full((height, width, 3), level, np.uint8))[1].tobytes()


def foreign_record(images, context=None, lists=None):
    """Returns a record of encoded images, and of steps that are numbers, bytes or lists of them."""

    def feature(values):
        values = values if isinstance(values, list) else [values]
        if values and isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if values and isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    lists = {"image/encoded": images, **(lists or {})}
    return tf.train.SequenceExample(
        context=tf.train.Features(feature={key: feature(v) for key, v in (context or {}).items()}),
        feature_lists=tf.train.FeatureLists(
            feature_list={
                key: tf.train.FeatureList(feature=[feature(step) for step in steps])
                for key, steps in lists.items()
            }
        ),
    ).SerializeToString()


def kinetics_record(frames, label, *, size=(12, 16), level=100, name="run"):
    """Returns a clip as the tools of MediaSequence write it: without ids, groups and times."""
    images = [jpeg(*size, level + i) for i in range(frames)]
    return foreign_record(images, {"clip/label/index": label, "clip/label/string": name.encode()})


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


@pytest.fixture
def foreign(tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir()
    write(
        folder / "train-00000-of-00002", [kinetics_record(4, 0), kinetics_record(6, 2, name="wave")]
    )
    write(folder / "train-00001-of-00002", [kinetics_record(4, 0, level=200)])
    write(folder / "val.tfrecord", [kinetics_record(2, 2, size=(24, 16), name="wave")])
    (folder / "notes.txt").write_text("not records")
    return folder


def test_adopt_describes_records(foreign):
    info = adopt(foreign)
    assert info.adopted
    assert info.spec == SequenceSpec(
        num_frames=4,
        image=ImageSpec(height=12, width=16),
        label=LabelSpec(task="classification", class_names=("run", "class 1", "wave")),
    )
    assert {name: split.num_records for name, split in info.splits.items()} == {
        "train": 3,
        "validation": 1,
    }
    assert info.splits["train"].label_counts == (2, 0, 1)
    assert info.splits["train"].pixel_mean == pytest.approx([400 / 3] * 3, abs=1)
    assert not (foreign / "dataset_info.json").exists()
    info.save(foreign)
    assert DatasetInfo.load(foreign) == info


def test_reader_reads_adopted_records(foreign):
    adopt(foreign, num_frames=5).save(foreign)
    (features, labels), *_ = read_sequences(foreign, "train", batch_size=3)
    assert features["image"].shape == (3, 5, 12, 16, 3)
    assert features["valid_frames"].numpy().tolist() == [4, 5, 4]
    levels = features["image"].numpy().mean(axis=(2, 3, 4))
    expected = [[100, 101, 102, 103, 103], [100, 101, 102, 103, 104], [200, 201, 202, 203, 203]]
    np.testing.assert_allclose(levels, expected, atol=1.5)
    assert labels.numpy().tolist() == [0, 2, 0]
    assert read_labels(foreign, "validation").values.tolist() == [2]
    augmented = read_sequences(
        foreign, "validation", batch_size=1, seed=0, augment=Augmentation(crop=0.5, flip=1.0)
    )
    (features, _), *_ = augmented
    assert features["image"].shape == (1, 5, 12, 16, 3)
    assert features["valid_frames"].numpy().tolist() == [2]


@pytest.mark.parametrize(
    "spec",
    [
        SequenceSpec(
            num_frames=3,
            image=ImageSpec(height=8, width=8, format="PNG"),
            label=LabelSpec(task="multilabel", class_names=("a", "b", "c")),
            signals=(SignalSpec(name="SPEED"), SignalSpec(name="GPS", size=2)),
        ),
        SequenceSpec(
            num_frames=3,
            signals=(SignalSpec(name="SPEED"),),
            label=LabelSpec(task="classification", class_names=("a", "b", "c"), per_frame=True),
        ),
        SequenceSpec(
            num_frames=3,
            image=ImageSpec(height=8, width=8),
            label=LabelSpec(task="regression", target_names=("target 0", "target 1")),
        ),
        SequenceSpec(
            num_frames=3,
            signals=(SignalSpec(name="ACCELERATION"), SignalSpec(name="SPEED")),
            label=LabelSpec(
                task="regression", target_names=("target 0", "target 1"), per_frame=True
            ),
        ),
    ],
    ids=["multilabel", "by frame", "regression", "regression by frame"],
)
def test_adopt_describes_own_records_as_their_info(spec, tmp_path):
    info = write_fake_dataset(tmp_path, spec, {"train": 9, "test": 4})
    (tmp_path / "dataset_info.json").unlink()
    found = adopt(tmp_path)
    expected = replace(spec, signals=tuple(sorted(spec.signals, key=lambda signal: signal.name)))
    assert found.spec == expected
    for name, split in info.splits.items():
        assert found.splits[name].shards == split.shards
        assert found.splits[name].label_counts == split.label_counts
        assert (found.splits[name].groups, found.splits[name].sources) == (
            split.groups,
            split.sources,
        )
        assert_same_statistics(found.splits[name], split)
    # And read alike, whether they are said to be ours or another's.
    record = tf.constant(encode_record(fake_record(spec, 1), spec))
    ours = parse_record(record, replace(info, spec=spec), frames=False)
    theirs = parse_record(record, replace(found, spec=spec), frames=False)
    for key in theirs:
        np.testing.assert_array_equal(theirs[key], ours[key])


def assert_same_statistics(found, expected):
    """Compares the statistics of targets and signals."""
    mine, theirs = ({"targets": split.targets, **split.signals} for split in (found, expected))
    assert mine.keys() == theirs.keys()
    for column, moments in theirs.items():
        for one, other in zip(mine[column], moments, strict=True):
            assert vars(one) == pytest.approx(vars(other))


@pytest.mark.parametrize(
    "label",
    [
        LabelSpec(task="classification", class_names=("class 0", "class 1"), per_frame=True),
        LabelSpec(task="regression", target_names=("target 0",), per_frame=True),
    ],
    ids=["classification", "regression"],
)
def test_adopt_statistics_leave_out_padding(label, tmp_path):
    spec = SequenceSpec(num_frames=4, signals=(SignalSpec(name="SPEED"),), label=label)
    records = [replace(fake_record(spec, seed), valid_frames=1 + seed % 4) for seed in range(6)]
    info = write_fake_dataset(tmp_path, spec, {"train": 6}, records={"train": records})
    (tmp_path / "dataset_info.json").unlink()
    expected, found = info.splits["train"], adopt(tmp_path, spec).splits["train"]
    if label.num_classes:
        assert sum(found.label_counts) == 1 + 2 + 3 + 4 + 1 + 2
    assert found.label_counts == expected.label_counts
    assert_same_statistics(found, expected)


def gray(frames):
    return [jpeg(8, 8, 90)] * frames


TARGETS, INDEX = "LABEL/feature/floats", "image/label/index"


class TestStrange:
    """Records of other programs that lack keys or hold odd values."""

    def adopt(self, folder, *records, spec=None):
        write(folder / "train-00000-of-00001.tfrecord", records)
        return adopt(folder, spec)

    def test_adopt_counts_classes_of_padding_in_num_classes(self, tmp_path):
        record = foreign_record(gray(3), {"image/valid_frames": 2}, {INDEX: [0, 1, 5]})
        info = self.adopt(tmp_path, record)
        assert info.spec.label.num_classes == 6
        assert info.splits["train"].label_counts == (1, 1, 0, 0, 0, 0)
        record = foreign_record(gray(3), {"image/valid_frames": 2}, {INDEX: [0, 1, -1]})
        with pytest.raises(AdoptError, match="found -1 to 1"):
            self.adopt(tmp_path, record)

    @pytest.mark.parametrize(
        ("valid", "rows"), [([], 3), (1, 1), (99, 3), (2.0, 3)], ids=["empty", "1", "99", "float"]
    )
    def test_adopt_reads_valid_frames(self, valid, rows, tmp_path):
        targets = {TARGETS: [[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]}
        info = self.adopt(tmp_path, foreign_record(gray(3), {"image/valid_frames": valid}, targets))
        assert info.spec.label.target_names == ("target 0", "target 1")
        assert info.splits["train"].targets[0].max == rows

    @pytest.mark.parametrize("valid", [0, -1])
    def test_adopt_refuses_records_without_valid_frames(self, valid, tmp_path):
        with pytest.raises(AdoptError, match=f"byte 0: .* at least 1, found {valid}"):
            self.adopt(tmp_path, foreign_record(gray(3), {"image/valid_frames": valid}))

    def test_adopt_accepts_an_empty_split(self, tmp_path):
        (tmp_path / "test-00000-of-00001.tfrecord").touch()
        steps = {TARGETS: [1.0, 2.0], "SPEED/feature/floats": [1.0, 2.0]}
        info = self.adopt(tmp_path, foreign_record(gray(2), lists=steps))
        assert info.spec.label.per_frame
        assert info.splits["test"].num_records == 0
        info.save(tmp_path)
        assert DatasetInfo.load(tmp_path) == info

    @pytest.mark.parametrize(
        ("context", "lists"),
        [
            ({}, {TARGETS: [[], [], []]}),
            ({}, {TARGETS: [1.0, 2.0]}),
            ({}, {TARGETS: [1.0, [1.0, 2.0], 3.0]}),
            ({}, {"SPEED/feature/floats": [[], [], []]}),
            ({"clip/label/value": []}, {}),
        ],
        ids=["no values", "too few", "ragged", "no signal", "no targets"],
    )
    def test_adopt_ignores_values_that_fit_no_frame(self, context, lists, tmp_path):
        spec = self.adopt(tmp_path, foreign_record(gray(3), context, lists)).spec
        assert (spec.label.task, spec.signals) == ("none", ())

    def test_adopt_names_classes_without_names(self, tmp_path):
        lists = {INDEX: [0, 1, 0], "image/label/string": [[]]}
        spec = self.adopt(tmp_path, foreign_record(gray(3), lists=lists)).spec
        assert spec.label.class_names == ("class 0", "class 1")


def test_adopt_refuses_file_names_with_several_splits(foreign):
    (foreign / "train_test_mix.tfrecord").write_bytes(b"")
    with pytest.raises(
        AdoptError, match=r"train_test_mix.tfrecord: expected the name of one split"
    ):
        adopt(foreign)


def test_adopt_refuses_records_without_description(tmp_path):
    with pytest.raises(AdoptError, match="folder of TFRecord files, found none"):
        adopt(tmp_path)
    (tmp_path / "a.tfrecord").write_bytes(b"")
    with pytest.raises(AdoptError, match="must hold records, found 1 empty files"):
        adopt(tmp_path)
    (tmp_path / "a.tfrecord").write_bytes(frame_record(b""))
    with pytest.raises(
        AdoptError, match=r"a\.tfrecord: the record at byte 0: expected frames \(image/encoded\) or"
    ):
        adopt(tmp_path)
    write(tmp_path / "a.tfrecord", [kinetics_record(2, 7)])
    spec = SequenceSpec(
        num_frames=2,
        image=ImageSpec(height=12, width=16),
        label=LabelSpec(task="classification", class_names=("a", "b")),
    )
    with pytest.raises(AdoptError, match="must be 0 to 1 for 2 classes, found 7 to 7"):
        adopt(tmp_path, spec)


def test_adopt_refuses_missing_targets_by_frame(tmp_path):
    spec = SequenceSpec(
        num_frames=2,
        image=ImageSpec(height=8, width=8),
        label=LabelSpec(task="regression", target_names=("speed",), per_frame=True),
    )
    write_fake_dataset(tmp_path, replace(spec, label=LabelSpec()), {"train": 4})
    with pytest.raises(AdoptError, match="expected LABEL/feature/floats with 1 values per step"):
        adopt(tmp_path, spec)
    assert adopt(tmp_path).spec.label.task == "none"


def test_command_describes_a_folder_once(foreign, capsys):
    assert pipelines_main(["adopt", "--tfrecords", str(foreign), "--size", "6x8"]) == 0
    out = capsys.readouterr().out
    assert "sequences of 4 frames of 6x8x3, JPEG" in out
    assert "classification of run, class 1, wave" in out
    assert re.search(r"\n  train +unknown +unknown +2 +3 ", out)
    (features, _), *_ = read_sequences(foreign, "validation", batch_size=1)
    assert features["image"].shape == (1, 4, 6, 8, 3)
    assert pipelines_main(["adopt", "--tfrecords", str(foreign)]) == 2
    assert "is there already. Delete it" in capsys.readouterr().err
    assert pipelines_main(["adopt", "--tfrecords", str(foreign / "none")]) == 2
    assert "--tfrecords must be a folder" in capsys.readouterr().err


@pytest.mark.slow
def test_trainer_trains_with_spec(foreign, tmp_path, capsys):
    spec = replace(adopt(foreign).spec, num_frames=3)
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(to_json(spec)))
    words = ["--tfrecords", str(foreign), "--spec", str(file), "--epochs", "1", "--filters", "4"]
    words.append("--allow_empty_classes")  # no record has the index 1
    assert trainer_main([*words, "--output", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    assert DatasetInfo.load(foreign).spec == spec
    assert (tmp_path / "run" / "report.html").is_file()
    file.write_text(json.dumps(to_json(replace(spec, num_frames=2))))
    assert trainer_main([*words, "--output", str(tmp_path / "other")]) == 2
    assert (
        "num_frames: 2 in --spec, 3 in dataset_info.json. Leave --spec out"
        in capsys.readouterr().err
    )
    file.write_text("[]")
    assert trainer_main([*words, "--output", str(tmp_path / "other")]) == 2
    assert "must describe the records in JSON" in capsys.readouterr().err
    assert not Path(tmp_path / "other").exists()
