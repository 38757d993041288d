"""Tests that the command line trains on every kind of dataset and learns its target."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import IMAGE, SPECS
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.spec import LabelSpec, SequenceSpec, SignalSpec
from trainer.cli import main
from trainer.data.read_options import Outputs
from trainer.data.reader import read_sequences
from trainer.models.export import load_model

TOP_SPEED = 20.0
SPLITS = {"train": 120, "validation": 16, "test": 40}
# What stands in padding: anything that were learned from it would be far off.
GARBAGE = 1e5


def speed_bar(speed, random):
    """A frame with a bright bar as long as ``speed``."""
    pixels = random.normal(40, 5, IMAGE.shape)
    pixels[:, : max(1, round(IMAGE.width * speed / TOP_SPEED))] += 160
    return cv2.imencode(".jpg", np.clip(pixels, 0, 255).astype(np.uint8))[1].tobytes()


def regression(*, per_frame=False):
    return LabelSpec(
        task="regression", target_names=("y",), target_units=("m/s",), per_frame=per_frame
    )


FAST_OR_SLOW = LabelSpec(task="classification", class_names=("fast", "slow"), per_frame=True)
X = (SignalSpec(name="X", unit="m/s"),)
KINDS = {
    "regression by sequence": (5, IMAGE, (), regression()),
    "regression by frame": (5, IMAGE, (), regression(per_frame=True)),
    "classification by frame": (5, IMAGE, (), FAST_OR_SLOW),
    "signals joined": (5, IMAGE, X, regression()),
    "one-to-one": (1, None, X, regression()),
    "many-to-one": (5, None, X, regression()),
    "many-to-many": (5, None, X, regression(per_frame=True)),
}
SELDOM = (
    *("regression by sequence", "classification by frame", "signals joined"),
    *("one-to-one", "many-to-one"),
)
"""Kinds whose code others have in common; slow tests."""


def made_record(kind, spec, seed):
    """A record whose target its frames and signals tell, with garbage in its padding."""
    random = np.random.default_rng(seed)
    steps, per_frame = spec.num_frames, spec.label.per_frame
    valid = int(random.integers(min(2, steps), steps + 1))
    speeds = random.uniform(0, TOP_SPEED, steps if per_frame else 1).repeat(
        1 if per_frame else steps
    )
    x = random.normal(50, 10, steps)
    target = {
        "regression by sequence": speeds[0],
        "regression by frame": speeds,
        "signals joined": speeds[0] + x[:valid].mean(),
        "one-to-one": 2 * x[0] + 1,
        "many-to-one": x[:valid].mean(),
        "many-to-many": np.append(50.0, x[:-1]),  # the echo, a step late
    }.get(kind)
    record = replace(fake_record(spec, seed), valid_frames=valid)
    padding = np.arange(steps) >= valid
    if spec.image:
        record = replace(record, frames=[speed_bar(speed, random) for speed in speeds])
    if spec.signals:
        record = replace(record, signals={"X": np.where(padding, GARBAGE, x)[:, None].tolist()})
    if kind == "classification by frame":
        classes = np.where(padding, 0, speeds < TOP_SPEED / 2).tolist()
        names = [spec.label.class_names[c] for c in classes]
        return replace(record, frame_label_indices=classes, frame_label_strings=names)
    if per_frame:
        values = np.where(padding, GARBAGE, target)[:, None].tolist()
        return replace(record, frame_label_values=values)
    return replace(record, label_values=[float(target)])


def write_kind(directory, kind):
    steps, image, signals, label = KINDS[kind]
    spec = SequenceSpec(
        num_frames=steps, frame_rate=10.0, image=image, signals=signals, label=label
    )
    records, seed = {}, 0
    for split, count in SPLITS.items():
        records[split] = [made_record(kind, spec, seed + i) for i in range(count)]
        seed += count
    return write_fake_dataset(directory, spec, SPLITS, records=records)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow if kind in SELDOM else ()) for kind in KINDS],
)
def test_train_learns_every_kind_of_dataset(kind, tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    info = write_kind(data, kind)
    small = ["--filters", "8,16"] if info.spec.image else []
    words = ["--batch_size", "8", "--learning_rate", "5e-3", "--dropout", "0.05", "--epochs", "12"]
    code = main(["--tfrecords", str(data), "--output", str(run), *words, *small])
    assert code == 0, capsys.readouterr().err
    metrics = json.loads((run / "metrics.json").read_text())
    score = metrics["splits"]["test"]
    if info.spec.label.task == "regression":
        mae = score["metrics"]["y_mae"]
        assert mae["model"] < 0.4 * mae["baseline"]
        assert mae["unit"] == "m/s"
    else:
        accuracy = score["metrics"]["accuracy"]
        assert accuracy["model"] > 0.85
        assert accuracy["baseline"] < 0.7
    features, labels, weights = next(
        iter(read_sequences(data, "test", batch_size=40, outputs=Outputs(sample_weights=True)))
    )
    assert score["labels"] == np.count_nonzero(weights)
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    with (run / "history.csv").open() as file:
        assert {"loss", "val_loss"} <= set(next(csv.DictReader(file)))
    expected = load_model(run / "model.keras").predict(features, verbose=0)
    served = tf.saved_model.load(str(run / "export")).signatures["padded"](**features)
    if info.spec.label.task == "classification":  # calibrated by a temperature
        scale = json.loads((run / "calibration.json").read_text())["scale"]
        expected = expected**scale / (expected**scale).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(*served.values(), expected, rtol=1e-4, atol=1e-4)
    assert expected.shape[:-1] == labels.shape[: 1 + info.spec.label.per_frame]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--stack_frames", "3"], "--stack_frames 3"),
        (["--filters=8,16"], "--filters 8,16"),
        (["--batch_norm", "on", "--pooling", "flatten"], "--batch_norm on, --pooling flatten"),
    ],
)
def test_train_refuses_image_flags_without_images(words, named, tmp_path, capsys):
    write_fake_dataset(tmp_path / "data", replace(SPECS["signals only"]), {"train": 4})
    output = ["--output", str(tmp_path / "run")]
    assert main(["--tfrecords", str(tmp_path / "data"), *output, *words]) == 2
    error = capsys.readouterr().err
    assert f"the records hold signals only, no images for {named}. Leave it out" in error
    assert not (tmp_path / "run").exists()
