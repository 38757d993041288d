"""Tests of training on records written with plain TensorFlow, and of every error on the way."""

import json

import cv2
import numpy as np
import pytest
import tensorflow as tf

from trainer.cli import main

LABEL = {"task": "classification", "class_names": ["a", "b", "c"]}
SPEC = {"num_frames": 6, "image": {"height": 10, "width": 15}, "label": LABEL}


def write_records(folder):
    """As a reader of MediaSequence's documentation writes them: of 5 to 8 frames, without our own keys."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        with tf.io.TFRecordWriter(str(folder / f"{split}-00000-of-00001.tfrecord")) as writer:
            for i in range(count):
                example = tf.train.SequenceExample()
                example.context.feature["clip/label/index"].int64_list.value.append(i % 3)
                for step in range(5 + i % 4):
                    frame = random.integers(0, 255, (20, 30, 3), np.uint8)
                    encoded = cv2.imencode(".jpg", frame)[1].tobytes()
                    for key, kind, value in (
                        ("image/encoded", "bytes_list", encoded),
                        ("image/timestamp", "int64_list", step * 10**5),
                    ):
                        added = example.feature_lists.feature_list[key].feature.add()
                        getattr(added, kind).value.append(value)
                writer.write(example.SerializeToString())


@pytest.fixture
def foreign(tmp_path):
    (tmp_path / "foreign").mkdir()
    write_records(tmp_path / "foreign")
    return tmp_path / "foreign"


def refusal(foreign, capsys, *words):
    """The one line that is said."""
    assert main(["--tfrecords", str(foreign), "--output", str(foreign.parent / "run"), *words]) != 0
    error = capsys.readouterr().err
    assert error.startswith("trainer: error: ")
    assert error.count("\n") == 1
    assert sorted(p.suffix for p in foreign.iterdir()) == [".tfrecord"] * 2
    return error


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{", "must describe the records in JSON"),
        ("[1]", "must describe the records in JSON"),
        ({**SPEC, "img": 3}, "img: unknown field"),
        ({"num_frames": 6}, "a sequence needs images or at least one signal, got neither"),
        (
            {**SPEC, "label": {**LABEL, "class_names": ["a", "b"]}},
            "label indices must be 0 to 1 for 2 classes, found 0 to 2",
        ),
        (
            {**SPEC, "label": {"task": "regression", "target_names": ["speed"]}},
            "expected clip/label/value with 1 values in each of 8 records, found it in 0",
        ),
        (
            {**SPEC, "label": {"task": "regression", "target_names": ["v"], "per_frame": True}},
            "expected LABEL/feature/floats with 1 values per step in each of 8 records, found it in 0",
        ),
        (
            {**SPEC, "signals": [{"name": "SPEED"}]},
            "expected SPEED/feature/floats with 1 values per step in each of 8 records, found it in 0",
        ),
    ],
)
def test_train_reports_wrong_spec_in_one_line(spec, said, foreign, tmp_path, capsys):
    file = tmp_path / "spec.json"
    file.write_text(spec if isinstance(spec, str) else json.dumps(spec))
    assert said in refusal(foreign, capsys, "--spec", str(file))


def test_train_reports_missing_spec(foreign, tmp_path, capsys):
    line = refusal(foreign, capsys)
    assert f"`pipelines adopt --tfrecords {foreign}`, or give --spec" in line
    line = refusal(foreign, capsys, "--spec", str(tmp_path / "none.json"))
    assert "none.json cannot be read: No such file or directory" in line


@pytest.mark.slow
def test_train_on_clips_of_adopted_records(foreign, tmp_path, capsys):
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    words = ["--tfrecords", str(foreign), "--spec", str(tmp_path / "spec.json"), "--epochs", "1"]
    words += ["--num_frames", "4", "--filters", "4", "--output", str(tmp_path / "run")]
    assert main(words) == 0
    assert "described: " in capsys.readouterr().out
    assert (tmp_path / "run" / "metrics.json").exists()
    evaluate = ["evaluate", "--model", str(tmp_path / "run"), "--tfrecords", str(foreign)]
    assert main([*evaluate, "--eval_clips", "2"]) == 0
