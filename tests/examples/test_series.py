"""Tests the examples of docs/tutorials.md: what they write, and that networks learn it."""

import csv
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import pipelines.cli
import trainer.cli

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def accuracy(dataset, run, *words):
    command = ["--tfrecords", str(dataset), "--output", str(run), "--dropout", "0", *words]
    assert trainer.cli.main([*command, "--dense_units", "0", "--learning_rate", "0.01"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    return metrics["splits"]["test"]["metrics"]["accuracy"]["model"]


def test_moving_line_clips_differ_in_order_only(tmp_path):
    load("moving_line").main(["--output", str(tmp_path), "--clips", "4"])
    clips = sorted(tmp_path.glob("*/*"))
    assert [clip.relative_to(tmp_path).as_posix() for clip in clips] == [
        *("left/0000", "left/0002", "right/0001", "right/0003"),
    ]
    for clip in clips:
        paths = sorted(clip.glob("*.png"))
        frames = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths])
        assert frames.shape == (10, 10, 10)
        assert (frames.astype(bool).sum(axis=(1, 2)) == np.arange(1, 11)).all()
        added = np.diff(frames, axis=0, prepend=0).argmax(axis=2).max(axis=1)
        steps = np.arange(10)
        assert (added == (steps if "right" in clip.parts else steps[::-1])).all()


def test_echo_rows(tmp_path):
    load("echo").main(["--output", str(tmp_path), "--files", "2", "--rows", "6"])
    paths = sorted(tmp_path.glob("*.csv"))
    assert len(paths) == 2
    rows = list(csv.DictReader(paths[0].open()))
    digits = [row["now"] for row in rows]
    assert [row["before"] for row in rows] == ["", "", *digits[:4]]
    for row in rows:
        assert [row[f"x{i}"] for i in range(10)] == [
            str(int(row["now"] == str(i))) for i in range(10)
        ]


@pytest.mark.slow
def test_moving_line_is_learnt(tmp_path):
    load("moving_line").main(["--output", str(tmp_path / "lines"), "--clips", "120"])
    build = ["videos", "--input", str(tmp_path / "lines"), "--output", str(tmp_path / "dataset")]
    flags = [
        "--grayscale",
        "on",
        "--frame_rate",
        "10",
        "--size",
        "10x10",
        "--num_frames",
        "10",
        "--image_format",
        "png",
    ]
    assert pipelines.cli.main([*build, *flags]) == 0
    words = (
        "--frame_input frame --filters 2 --kernel_size 2 --conv_padding valid --pooling flatten "
    )
    words += "--rnn_units 50 --epochs 8"
    assert accuracy(tmp_path / "dataset", tmp_path / "run", *words.split()) >= 0.9


@pytest.mark.slow
def test_echo_of_two_steps_before_is_learnt(tmp_path):
    load("echo").main(["--output", str(tmp_path / "series"), "--files", "20", "--rows", "100"])
    build = ["dashcam", "--input", str(tmp_path / "series"), "--output", str(tmp_path / "dataset")]
    flags = ["--no_images", "--frame_rate", "1", "--signal_columns", "x*", "--stride", "1"]
    assert (
        pipelines.cli.main([*build, *flags, "--class_column", "before", "--num_frames", "5"]) == 0
    )
    words = ["--rnn_units", "50", "--epochs", "10"]
    assert accuracy(tmp_path / "dataset", tmp_path / "run", *words) >= 0.95
