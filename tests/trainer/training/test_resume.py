import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.processes import ROOT
from tests.trainer.conftest import history, run_trainer, write_brightness_dataset
from tfrecords_schema.info import DatasetInfo
from trainer.cli import main
from trainer.config.model import ModelConfig
from trainer.errors import TrainerError
from trainer.models.network import build_model
from trainer.training.checkpoint import (
    Progress,
    load_progress,
    restore_model,
    restore_optimizer,
    save_checkpoint,
    stable_paths,
)

FLAGS = (
    *("--epochs", "5", "--batch_size", "4", "--filters", "4,8", "--rnn_units", "6,4"),
    *("--dense_units", "4", "--dropout", "0.3", "--schedule", "cosine", "--warmup_epochs", "1"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    write_brightness_dataset(directory, "regression", {"train": 30, "validation": 6, "test": 4})
    return directory


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    process = run_trainer("--tfrecords", data, "--output", run, *FLAGS, cwd=run.parent)
    assert process.returncode == 0, process.stderr
    return run


def kill_after(epochs, words, run):
    """Starts ``trainer`` and kills it once it has written so many epochs."""
    kill_when(lambda: (run / "history.csv").exists() and len(history(run)) >= epochs, words, run)


def kill_when(ready, words, run):
    """Starts ``trainer`` and kills it once it is ``ready``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=run.parent,
    )
    deadline = time.monotonic() + 120
    try:
        while not ready():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_resume_after_kill_gives_equal_history(data, whole_run, tmp_path):
    run = tmp_path / "run"
    words = ["--tfrecords", data, "--output", run, *FLAGS, "--resume"]  # nothing to resume at first
    kill_after(2, words, run)
    assert not (run / "metrics.json").exists()
    process = run_trainer(*words, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "resumed after epoch " in process.stdout
    assert history(run) == [pytest.approx(row, rel=1e-5) for row in history(whole_run)]
    mine, theirs = (json.loads((r / "metrics.json").read_text()) for r in (run, whole_run))
    assert mine["kept_epoch"] == theirs["kept_epoch"] == 5
    for name, metric in theirs["splits"]["test"]["metrics"].items():
        found = mine["splits"]["test"]["metrics"][name]["model"]
        assert found == pytest.approx(metric["model"], rel=1e-5)


@pytest.mark.slow
def test_resume_within_an_epoch_gives_equal_history(data, whole_run, tmp_path):
    run = tmp_path / "run"
    words = ["--tfrecords", data, "--output", run, *FLAGS, "--checkpoint_minutes", "1e-9"]

    def within_the_second_epoch():
        progress = load_progress(run / "checkpoint.npz")
        return progress.epoch >= 1 and progress.step >= 2

    kill_when(within_the_second_epoch, [*words, "--resume"], run)
    progress = load_progress(run / "checkpoint.npz")
    process = run_trainer(*words[:-1], "0", "--resume", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    within = f"resumed after epoch {progress.epoch} and {progress.step} steps"
    assert within in process.stdout or progress.step == 0
    assert history(run) == [pytest.approx(row, rel=1e-5) for row in history(whole_run)]


@pytest.mark.slow
def test_resume_finished_run_with_more_epochs(data, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--tfrecords", str(data), "--output", str(run), "--filters", "4", "--resume"]
    assert main([*words, "--epochs", "1"]) == 0
    first = history(run)
    assert main(["--resume", str(run), "--epochs", "2"]) == 0
    assert "resumed after epoch 1" in capsys.readouterr().out
    assert history(run)[:1] == first
    assert len(history(run)) == 2
    before = (run / "checkpoint.npz").read_bytes()
    assert main([*words, "--epochs", "2"]) == 0  # nothing is left to do but to evaluate
    assert (run / "checkpoint.npz").read_bytes() == before
    assert json.loads((run / "metrics.json").read_text())["kept_epoch"] == 2


def test_resume_refuses_another_run(data, whole_run, tmp_path, capsys):
    words = ["--tfrecords", str(data), "--output", str(whole_run), *FLAGS, "--resume"]
    assert main([*words, "--batch_size", "5", "--filters", "4,9"]) == 2
    error = capsys.readouterr().err
    assert "--resume found a run with other options in " in error
    assert (
        "batch_size: 4 there, 5 now; filters: [4, 8] there, [4, 9] now. Give the same options"
        in error
    )
    assert main([*words, "--patience", "3"]) == 2  # keeps another epoch
    assert "patience: None there, 3 now" in capsys.readouterr().err
    write_brightness_dataset(tmp_path / "other", "regression", {"train": 6})
    assert main([*words, "--tfrecords", str(tmp_path / "other")]) == 2
    assert "another dataset, or another build of it" in capsys.readouterr().err
    assert main(["--tfrecords", str(data), "--resume"]) == 2
    assert "--resume continues the run in --output. Give --output too" in capsys.readouterr().err
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    assert main(["--tfrecords", str(data), "--output", str(tmp_path / "notes"), "--resume"]) == 2
    assert "already holds other files" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"{", b"[]", b'"\xff"', b""])
def test_resume_reports_corrupt_config_in_one_line(content, data, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes(content)
    assert main(["--tfrecords", str(data), "--output", str(tmp_path), "--resume"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'config.json'} does not say how the run was trained (" in error
    assert error.count("\n") == 1


def test_resume_refuses_config_of_other_type(data, tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model": 3}')
    assert main(["--tfrecords", str(data), "--output", str(tmp_path), "--resume"]) == 2
    assert "; model: 3 there, {" in capsys.readouterr().err


def test_resume_refuses_checkpoint_of_another_network(data, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--tfrecords", str(data), "--output", str(run), "--epochs", "1", "--resume"]
    assert main([*words, "--filters", "4"]) == 0
    config = json.loads((run / "config.json").read_text())
    config["model"]["filters"] = [5]
    (run / "config.json").write_text(json.dumps(config))
    assert main([*words, "--filters", "5"]) == 2
    error = capsys.readouterr().err
    assert "checkpoint.npz is the checkpoint of another network (other shapes: " in error
    assert re.search(r"block1_conv1/kernel \(3, 3, 4, 4\), expected \(3, 3, 4, 5\)", error)
    assert main([*words, "--filters", "5", "--rnn", "gru"]) == 2  # as config.json says otherwise
    assert "--resume found a run with other options" in capsys.readouterr().err


def test_restore_model_names_missing_and_unexpected_variables(data, tmp_path):
    info = DatasetInfo.load(data)
    lstm, gru = (ModelConfig(filters=(4,), rnn=rnn) for rnn in ("lstm", "gru"))
    model = build_model(info, lstm)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    save_checkpoint(tmp_path / "checkpoint.npz", model, model, Progress())
    message = r"missing: model/gru/\S+.*unexpected: model/lstm/lstm_cell/kernel, "
    with pytest.raises(TrainerError, match=message):
        restore_model(tmp_path / "checkpoint.npz", build_model(info, gru))


def test_restore_model_with_other_layer_numbers(data, tmp_path):
    info, config = DatasetInfo.load(data), ModelConfig(filters=(4, 8), batch_norm=True)
    saved, restored = build_model(info, config), build_model(info, config)
    for model in (saved, restored):
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
    raw = [[variable.path for variable in model.variables] for model in (saved, restored)]
    assert raw[0] != raw[1]
    for i, variable in enumerate(saved.optimizer.variables):
        variable.assign(np.full(variable.shape, i))
    save_checkpoint(tmp_path / "checkpoint.npz", saved, saved, Progress(epoch=3))
    restore_model(tmp_path / "checkpoint.npz", restored)
    restore_optimizer(tmp_path / "checkpoint.npz", restored.optimizer, restored.trainable_variables)
    pairs = [(saved.variables, restored.variables)]
    pairs.append((saved.optimizer.variables, restored.optimizer.variables))
    for mine, theirs in pairs:
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert load_progress(tmp_path / "checkpoint.npz").epoch == 3
    with np.load(tmp_path / "checkpoint.npz") as file:
        assert len(file.files) == len(set(file.files))
        assert "model/block2_conv1/kernel" in file.files
        assert "optimizer/block2_conv1/kernel/momentum" in file.files


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["conv2d_4/kernel", "conv2d_7/kernel"], ["conv2d/kernel", "conv2d_3/kernel"]),
        (
            ["lstm/lstm_cell_3/bias", "lstm_2/lstm_cell_9/bias"],
            ["lstm/lstm_cell/bias", "lstm_2/lstm_cell/bias"],
        ),
        (["head/kernel", "head/kernel"], ["head/kernel", "head/kernel#2"]),
        ([], []),
    ],
)
def test_stable_paths_do_not_depend_on_the_process(paths, expected):
    assert stable_paths(paths) == expected
