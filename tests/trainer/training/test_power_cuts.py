"""A training goes on from the last checkpoint that was announced, wherever the power was cut."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from tests.power_cuts import (
    Disk,
    Ext4Disk,
    FailingDisk,
    restored,
    why_no_ext4,
    write_state,
)
from tests.processes import ROOT, wait_until
from tests.trainer.conftest import IMAGE, history, write_brightness_dataset
from tfrecords_schema.info import DatasetInfo
from trainer.cli import main
from trainer.config.run_folder import RunFolder
from trainer.errors import TrainerError
from trainer.models.export import load_model
from trainer.training import train
from trainer.training.checkpoint import load_progress, use_sound_checkpoint

FLAGS = ("--epochs", "3", "--batch_size", "4", "--filters", "4", "--rnn_units", "4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    write_brightness_dataset(directory, "regression", {"train": 8, "validation": 4, "test": 4})
    return directory


def write_checkpoint(path, epoch):
    np.savez(path, progress=np.array(json.dumps({"epoch": epoch, "step": 0})), weights=np.ones(99))


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "missing"])
def test_use_sound_checkpoint_takes_the_one_before_and_says_so(damage, tmp_path, caplog):
    folder = RunFolder(tmp_path)
    write_checkpoint(folder.previous, 2)
    write_checkpoint(folder.checkpoint, 3)
    content = bytearray(folder.checkpoint.read_bytes())
    content[-500] ^= 1  # in the array
    folder.checkpoint.write_bytes(
        {"empty": b"", "cut": content[:-100], "flipped": content, "missing": b""}[damage]
    )
    if damage == "missing":
        folder.checkpoint.unlink()
    with caplog.at_level("INFO"):
        use_sound_checkpoint(folder)
    assert load_progress(folder.checkpoint).epoch == 2
    (line,) = caplog.messages
    assert line.startswith(f"{folder.checkpoint} is ")
    assert line.endswith(": continuing from the checkpoint before it")
    use_sound_checkpoint(folder)
    assert len(caplog.messages) == 1


def test_use_sound_checkpoint_refuses_to_start_anew_in_silence(tmp_path):
    folder = RunFolder(tmp_path)
    use_sound_checkpoint(folder)  # a new run
    folder.checkpoint.touch()
    with pytest.raises(TrainerError, match=r"is empty, and checkpoint.previous.npz is missing"):
        use_sound_checkpoint(folder)


class Announced:
    """The number of the last epoch whose line the training has printed."""

    def __init__(self, capsys):
        self._capsys, self.epoch = capsys, 0

    def update(self):
        lines = re.findall(r"^epoch \d+/\d+, .*loss ", self._capsys.readouterr().out, re.MULTILINE)
        self.epoch += len(lines)
        return self.epoch


def check_whole(folder, epoch):
    """Checks that a run has its files and the checkpoint of an epoch, or of a later one."""
    if folder.config.exists():
        json.loads(folder.config.read_bytes())
    if (folder.path / "dataset_info.json").exists():
        DatasetInfo.load(folder.path)
    if folder.path.exists():
        use_sound_checkpoint(folder)
    assert load_progress(folder.checkpoint).epoch >= epoch
    if epoch:
        assert len(history(folder.path)) >= epoch
        assert zipfile.ZipFile(folder.model).testzip() is None
    if folder.metrics.exists():
        assert (folder.export / "saved_model.pb").stat().st_size


def fit_only(job, strategy):
    train._fit_new_model(job, strategy)


def without_seconds(folder):
    return [{**row, "seconds": 0} for row in history(folder)]


MOMENTS = 20


@pytest.mark.slow
def test_a_training_goes_on_from_the_announced_checkpoint_after_power_cuts_at_20_moments(
    data, tmp_path, monkeypatch, capsys
):
    """On ext4 in a file, if loop devices can be mounted here, otherwise on the model of a disk."""
    root, images, moments = tmp_path / "disk", tmp_path / "images", []
    root.mkdir()
    images.mkdir()
    announced = Announced(capsys)

    def remember(states):
        epoch = announced.update()
        moments.extend((epoch, state) for state in states)

    if reason := why_no_ext4(images):
        warnings.warn(f"power cuts are tried on a model of a disk: {reason}", stacklevel=1)
    disk = Disk(root, remember) if reason else Ext4Disk(root, images, remember)
    words = ["--tfrecords", str(data), *FLAGS, "--resume", "--output"]
    with disk:
        assert main([*words, str(root / "run")]) == 0
        expected = without_seconds(root / "run")
    assert announced.update() == len(expected) == 3
    assert len(moments) > MOMENTS
    # Export and report come after the training, and the other tests try them.
    monkeypatch.setattr(train, "_train_and_score", fit_only)
    resumed = set()
    for number in range(MOMENTS):
        epoch, state = moments[len(moments) * number // MOMENTS]
        cut = tmp_path / f"cut{number}"
        with restored(state, cut):
            check_whole(RunFolder(cut / "run"), epoch)
            capsys.readouterr()
            assert main([*words, str(cut / "run")]) == 0
            found = re.search(r"resumed after epoch (\d+)", capsys.readouterr().out)
            assert (int(found[1]) if found else 0) >= epoch
            assert without_seconds(cut / "run") == [
                pytest.approx(row, rel=1e-5) for row in expected
            ]
        resumed.add(epoch)
    assert resumed == {0, 1, 2, 3}


@pytest.mark.slow
def test_a_power_cut_at_every_step_loses_no_announced_checkpoint(data, tmp_path, capsys):
    root = tmp_path / "disk"
    root.mkdir()
    states, announced = [], Announced(capsys)

    def remember(found):
        epoch = announced.update()
        states.extend((epoch, state) for state in found)

    words = ["--tfrecords", str(data), *FLAGS, "--resume", "--output"]
    with Disk(root, remember):
        assert main([*words, str(root / "run")]) == 0
    unlike = {f"{epoch} {sorted(state.items())}": (epoch, state) for epoch, state in states}
    assert len(unlike) > 20
    for number, (epoch, state) in enumerate(unlike.values()):
        cut = tmp_path / f"cut{number}"
        write_state(state, cut)
        check_whole(RunFolder(cut / "run"), epoch)


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_training_goes_on_after_a_write_that_failed(code, data, tmp_path, capsys):
    words = ["--tfrecords", str(data), *FLAGS, "--resume", "--output", str(tmp_path / "run")]
    failed = 0
    for call in range(2, 500, 23):
        with FailingDisk(tmp_path / "run", call, code) as disk:
            status = main(words)
        error = capsys.readouterr().err
        if disk.failed is None:
            break
        failed += 1
        assert status == 2
        line = error.splitlines()[-1]
        assert line.startswith("trainer: error: ")
        assert os.strerror(code) in line
        assert "Traceback" not in error
        assert not list((tmp_path / "run").glob("*.partial*"))  # it may not have been made
    assert failed > 1
    assert main(words) == 0
    assert len(history(tmp_path / "run")) == 3


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_how_to_continue(by, data, tmp_path):
    run = tmp_path / "run"
    words = ["--tfrecords", data, "--output", run, *FLAGS, "--epochs", 500, "--patience", 500]
    with subprocess.Popen(
        [sys.executable, "-m", "trainer", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in background jobs
    ) as process:
        try:
            wait_until((run / "checkpoint.npz").exists, 200)
            assert main(list(map(str, [*words, "--resume"]))) == 2  # two at once
            process.send_signal(by)
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    line = error.splitlines()[-1]
    progress = load_progress(run / "checkpoint.npz")
    steps = f" and {progress.step} steps" if progress.step else ""
    assert line == (
        f"trainer: error: interrupted. {run} holds the checkpoint of epoch {progress.epoch}{steps}, and the "
        f"model of epoch {progress.kept_epoch} for pipelines predict. Continue with: trainer --resume {run}"
    )
    clips = tf.zeros([1, 3, *IMAGE.shape], tf.uint8)
    exported = tf.saved_model.load(run / "export").signatures["serving_default"]
    expected = load_model(run / "model.keras").predict(
        {"image": clips, "valid_frames": np.array([3])}
    )
    assert exported(image=clips)["targets"].numpy() == pytest.approx(np.array(expected), rel=1e-4)
    assert main(["--resume", str(run), "--epochs", str(progress.epoch + 1)]) == 0
    assert json.loads((run / "metrics.json").read_text())["kept_epoch"] > 0
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not (run / ".lock").exists()
