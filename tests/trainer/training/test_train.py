import csv
import json
import re
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from tests.processes import run_python
from tests.trainer.conftest import SIGNALS, SPECS, history, make_spec, write_brightness_dataset
from tfrecords_schema.fake import fake_record, write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import SignalSpec
from trainer.config.dataset import DatasetError, check_trainable, describe_dataset
from trainer.config.run_folder import RunFolder
from trainer.config.training import ModelConfig, TrainingConfig
from trainer.data.reader import read_sequences
from trainer.errors import TrainerError
from trainer.evaluation.evaluate import evaluate_run
from trainer.models.export import load_calibrated, load_model
from trainer.training.callbacks import TrainingError
from trainer.training.train import train

TINY_HEAD = ModelConfig(rnn_units=(8,), dense_units=(8,), dropout=0.0)
TINY = replace(TINY_HEAD, filters=(4, 8), frame_input="frame")


def test_train_learns_classes(bright_run):
    folder, _ = bright_run
    metrics = json.loads((folder / "metrics.json").read_text())
    for split in ("validation", "test"):
        accuracy = metrics["splits"][split]["metrics"]["accuracy"]
        assert accuracy["model"] >= 0.9
        assert accuracy["baseline"] == pytest.approx(1 / 3, abs=0.1)
        assert accuracy["better"] == "higher"
    assert metrics["splits"]["test"]["labels"] == 15
    assert metrics["kept_by"] == "last"
    assert metrics["baseline"].startswith("always answering")


def test_train_writes_the_run_folder(bright_run, bright_dataset):
    folder, process = bright_run
    held = {path.name for path in folder.iterdir()}
    assert held == {
        "model.keras",
        "calibration.json",
        "checkpoint.previous.npz",
        "export",
        "history.csv",
        "curves.png",
        "metrics.json",
        "report.html",
        "README.md",
        "config.json",
        "checkpoint.npz",
        "dataset_info.json",
    }
    assert DatasetInfo.load(folder) == DatasetInfo.load(bright_dataset)
    assert DatasetInfo.load(folder / "export" / "assets.extra") == DatasetInfo.load(bright_dataset)
    config = json.loads((folder / "config.json").read_text())
    assert (config["epochs"], config["batch_size"], config["learning_rate"]) == (15, 8, 0.005)
    assert config["model"]["filters"] == [8, 16]
    assert config["versions"]["keras"] == keras.__version__
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*("epoch", "seconds", "accuracy", "loss", "val_accuracy", "val_loss")]
    assert [int(row["epoch"]) for row in rows] == list(range(1, 1 + len(rows)))
    losses = [float(row["val_loss"]) for row in rows]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["kept_epoch"] == len(losses) == 15
    assert "augmentation: flip=0.5, which changes no label here" in process.stdout
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "BASELINE any model must beat: always answering" in process.stdout
    assert str(folder / "export") in process.stdout
    verdict, then = process.stdout.splitlines()[-2:]
    assert verdict.startswith("test accuracy ")
    assert then == (
        f"next: pipelines predict --model {folder} --input FOOTAGE --output predictions.csv"
    )
    # The saved model is the last epoch's.
    score = evaluate_run(folder, bright_dataset, split="validation")
    reported = metrics["splits"]["validation"]["metrics"]["cross_entropy"]["model"]
    assert {m.name: m.model for m in score.metrics}["cross_entropy"] == pytest.approx(reported)
    assert reported <= losses[-1] * 1.001 + 1e-6  # calibrated on this split


@pytest.mark.slow
def test_load_model_as_documented(bright_run, tmp_path):
    script = "import sys, keras, trainer.models.layers; print(keras.models.load_model(sys.argv[1]).compiled)"
    process = run_python("-c", script, bright_run[0] / "model.keras", cwd=tmp_path)
    assert process.stdout.strip() == "True", process.stderr


def test_saved_model_loads_without_this_package(bright_run, bright_dataset, tmp_path):
    folder, _ = bright_run
    features, _ = next(iter(read_sequences(bright_dataset, "test", batch_size=15)))
    model, calibration = load_calibrated(RunFolder(folder))
    expected = model.predict(features, verbose=0)
    frames = features["image"].numpy()
    alone = model.predict(frames, verbose=0)
    np.testing.assert_array_equal(alone, model({"image": frames}).numpy())
    np.testing.assert_array_equal(features["valid_frames"], len(frames) * [3])
    np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-6)
    raw = load_model(folder / "model.keras").predict(frames, verbose=0)
    np.testing.assert_allclose(expected, calibration.apply(raw), rtol=1e-4, atol=1e-6)
    np.savez(tmp_path / "features.npz", **features)
    script = """
import sys
# Whatever of these the loader needed, importing it would fail.
sys.modules.update(trainer=None, tfrecords_schema=None, keras=None)
import numpy as np
import tensorflow as tf
folder, features, target = sys.argv[1:]
served = tf.saved_model.load(folder).signatures
features = {name: tf.constant(values) for name, values in np.load(features).items()}
assert features["image"].dtype == tf.uint8
alone = served["serving_default"](image=features["image"])["probabilities"].numpy()
np.testing.assert_array_equal(served["padded"](**features)["probabilities"], alone)
np.save(target, alone)
"""
    served = tmp_path / "served.npy"
    subprocess.run(
        [sys.executable, "-c", script, folder / "export", tmp_path / "features.npz", served],
        cwd=tmp_path,
        check=True,
        timeout=120,
    )
    np.testing.assert_allclose(np.load(served), expected, rtol=1e-4, atol=1e-6)


def test_train_regression_without_other_splits(tmp_path, caplog):
    write_brightness_dataset(tmp_path / "data", "regression", {"train": 80, "test": 30})
    config = TrainingConfig(epochs=12, batch_size=8, learning_rate=1e-2, model=TINY)
    with caplog.at_level("INFO", logger="trainer"):
        scores = train(tmp_path / "data", RunFolder(tmp_path / "run"), config)
    mae = scores["test"].metrics[0]
    assert (mae.name, mae.unit) == ("light_mae", "lux")
    assert mae.model < mae.baseline / 4  # the baseline is off by about 120 lux
    assert "the model of the last epoch is kept" in caplog.text
    assert scores.keys() == {"test"}


def test_train_with_patience_keeps_the_best_epoch(tmp_path, caplog):
    spec = make_spec(image=None, signals=(SignalSpec(name="SPEED"),))
    write_fake_dataset(tmp_path / "data", spec, {"train": 8, "validation": 6})
    config = TrainingConfig(epochs=30, learning_rate=0.1, patience=3, model=TINY_HEAD)
    with caplog.at_level("INFO", logger="trainer"):
        train(tmp_path / "data", RunFolder(tmp_path / "run"), config)
    losses = [row["val_loss"] for row in history(tmp_path / "run")]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["kept_epoch"] == 1 + int(np.argmin(losses)) == len(losses) - 3
    reported = metrics["splits"]["validation"]["metrics"]["cross_entropy"]["model"]
    assert reported <= min(losses) * 1.001  # calibrated on this split
    assert metrics["kept_by"] == "val_loss"
    assert "the epoch with the lowest validation loss is kept" in caplog.text


def test_train_repeats_with_a_seed(tmp_path):
    write_fake_dataset(tmp_path / "data", SPECS["signals only"], {"train": 16, "validation": 4})
    histories = []
    for run, seed in enumerate((3, 3, 4)):
        config = TrainingConfig(epochs=1, batch_size=4, seed=seed)
        train(tmp_path / "data", RunFolder(tmp_path / f"run{run}"), config)
        with (tmp_path / f"run{run}" / "history.csv").open() as file:
            histories.append([{**row, "seconds": None} for row in csv.DictReader(file)])
    assert histories[0] == histories[1] != histories[2]


SIGNALS_WITH_NAN = {signal.name: [[float("nan")] * signal.size] * 4 for signal in SIGNALS}


def write_dataset_with_nan(directory, spec, **changes):
    """Four records, one of them changed, with the statistics of four sound ones."""
    records = [fake_record(spec, i) for i in range(4)]
    records[0] = replace(records[0], **changes)
    sound = write_fake_dataset(directory, spec, {"train": 4})
    written = write_fake_dataset(directory, spec, {"train": 4}, records={"train": records})
    shards = written.splits["train"].shards
    replace(sound, splits={"train": replace(sound.splits["train"], shards=shards)}).save(directory)


@pytest.mark.parametrize(
    ("spec", "changes", "key"),
    [
        ("regression", {"label_values": [float("nan"), 0.0]}, "clip/label/value"),
        ("signals only", {"signals": SIGNALS_WITH_NAN}, "SPEED/feature/floats"),
    ],
)
def test_train_refuses_numbers_that_are_not_finite(spec, changes, key, tmp_path):
    write_dataset_with_nan(tmp_path / "data", SPECS[spec], **changes)
    config = TrainingConfig(epochs=1)
    with pytest.raises(
        CorruptRecordError, match=f"byte 0: .*a record has {key} that is not finite"
    ):
        train(tmp_path / "data", RunFolder(tmp_path / "run"), config)


def test_train_stops_when_it_diverges(tmp_path):
    spec = make_spec("regression", image=None, signals=(SignalSpec(name="SPEED"),))
    write_fake_dataset(tmp_path / "data", spec, {"train": 4})
    config = TrainingConfig(epochs=9, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"(loss|weights) .*epoch.*Lower --learning_rate"):
        train(tmp_path / "data", RunFolder(tmp_path / "run"), config)
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("spec", "statistics", "message"),
    [
        ("no labels", {}, "has no labels to learn"),
        ("classification", {"label_counts": (6, 0, 0)}, r"at least 2 classes, and holds \['a'\]"),
        ("regression", {"targets": ()}, "must hold 2 values in targets .* and holds 0"),
        ("classification", {"pixel_mean": ()}, "must hold 3 values in pixel_mean"),
        ("signals only", {"signals": {}}, r"must hold 1 values in signals\.SPEED"),
    ],
)
def test_train_refuses_unsuitable_dataset(spec, statistics, message, tmp_path):
    info = write_fake_dataset(tmp_path, SPECS[spec], {"train": 6})
    changed = replace(info, splits={"train": replace(info.splits["train"], **statistics)})
    with pytest.raises(DatasetError, match=message):
        check_trainable(tmp_path, changed)


@pytest.mark.parametrize("task", ["classification", "multilabel", "classification by frame"])
def test_train_refuses_class_without_training_records(task, tmp_path):
    info = write_fake_dataset(tmp_path, SPECS[task], {"train": 6, "test": 2})
    train_split = replace(info.splits["train"], label_counts=(3, 0, 3), class_sources=(2, 0, 3))
    lost = replace(
        info,
        splits={**info.splits, "train": train_split},
        dropped={"short_clips": (0, 24, 0)},
    )
    with pytest.raises(
        DatasetError, match=r"no record of 1 of 3 classes: 'b' \(24 sources dropped\): .*pad"
    ):
        check_trainable(tmp_path, lost)
    check_trainable(tmp_path, lost, allow_empty_classes=True)
    assert re.search(r"\n  b  +none  ", "\n".join(describe_dataset(tmp_path, lost)))


def test_train_refuses_targets_whose_squares_overflow(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["regression"], {"train": 6})
    train_split = info.splits["train"]
    huge = replace(train_split.targets[0], min=-1e30)
    changed = replace(train_split, targets=(huge, train_split.targets[1]))
    with pytest.raises(DatasetError, match=r"'speed' .* reaches -1e\+30, and must be below"):
        check_trainable(tmp_path, replace(info, splits={"train": changed}))


def test_train_refuses_dataset_without_train_split(tmp_path):
    info = write_fake_dataset(tmp_path, SPECS["regression"], {"test": 2})
    with pytest.raises(DatasetError, match=r"no records in a split 'train', but in test"):
        check_trainable(tmp_path, info)


def test_train_calibrates_several_classes(tmp_path, caplog):
    caplog.set_level("INFO", logger="trainer")
    spec = make_spec("multilabel", image=None, signals=(SignalSpec(name="SPEED"),))
    records = {
        split: [
            replace(
                fake_record(spec, i),
                label_indices=[0] if i % 10 == 0 else [1],
                label_strings=["a"] if i % 10 == 0 else ["b"],
            )
            for i in range(start, start + count)
        ]
        for split, start, count in (("train", 0, 100), ("validation", 100, 60), ("test", 160, 40))
    }
    splits = {split: len(own) for split, own in records.items()}
    write_fake_dataset(tmp_path / "data", spec, splits, records=records)
    config = TrainingConfig(epochs=1, allow_empty_classes=True)
    scores = train(tmp_path / "data", RunFolder(tmp_path / "run"), config)
    # The signal says nothing of the class: its probability is its share, 10 %.
    predictions = scores["test"].predictions
    assert predictions.answers[:, 0].mean() == pytest.approx(0.1, abs=0.06)
    assert "probabilities are calibrated on 60 labels of validation: temperature" in caplog.text
    export = tmp_path / "run" / "export"
    kept = json.loads((export / "assets.extra" / "calibration.json").read_text())
    assert kept == json.loads((tmp_path / "run" / "calibration.json").read_text())
    assert kept["thresholds"] == predictions.thresholds.tolist()
    again = evaluate_run(tmp_path / "run", tmp_path / "data", split="test")
    assert [m.to_json() for m in again.metrics] == [m.to_json() for m in scores["test"].metrics]
    (tmp_path / "run" / "calibration.json").write_text('{"scale": "x"}')
    with pytest.raises(TrainerError, match=r"calibration.json is damaged \(scale: expected"):
        evaluate_run(tmp_path / "run", tmp_path / "data")


def test_write_card_says_data_options_scores_and_limits(bright_run):
    folder, process = bright_run
    card = (folder / "README.md").read_text()
    info, metrics = DatasetInfo.load(folder), json.loads((folder / "metrics.json").read_text())
    for name, split in info.splits.items():
        assert f"| `{name}` | {split.num_records} |" in card
    assert "`--epochs 15`, `--batch_size 8`, `--learning_rate 0.005`" in card
    assert "`--filters 8,16`, `--frame_input frame`" in card
    accuracy = metrics["splits"]["test"]["metrics"]["accuracy"]
    row = next(line for line in card.splitlines() if line.startswith("| `test` | `accuracy` |"))
    low, high = accuracy["interval"]
    assert (
        f"| {accuracy['model']:.4g} | {low:.4g} to {high:.4g} | {accuracy['baseline']:.4g} |" in row
    )
    assert f"card        {folder / 'README.md'}" in process.stdout
    for warning in metrics["splits"]["validation"]["warnings"]:
        assert warning in card
