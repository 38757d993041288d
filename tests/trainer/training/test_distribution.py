import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.processes import ROOT
from tests.trainer.conftest import write_brightness_dataset
from tfrecords_schema.info import DatasetInfo, ShardInfo, SplitInfo
from tfrecords_schema.spec import SequenceSpec, SignalSpec
from trainer.config.run_folder import RunFolder
from trainer.config.training import TrainingConfig
from trainer.errors import TrainerError
from trainer.training import feeds
from trainer.training.callbacks import TrainingError
from trainer.training.distribution import make_strategy
from trainer.training.fitting import check_possible

SCRIPT = """
import sys
import tensorflow as tf
devices = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
from trainer.cli import main
sys.exit(main(sys.argv[2:]))
"""
# A program that is killed when it has written the checkpoint of the third step of its second epoch.
KILLED = """
import os, signal
from trainer.training import callbacks
save = callbacks.save_checkpoint

def save_and_die(path, model, trained, progress):
    save(path, model, trained, progress)
    if (progress.epoch, progress.step) == (1, 3):
        os.kill(os.getpid(), signal.SIGKILL)

callbacks.save_checkpoint = save_and_die
"""
FLAGS = (
    *("--epochs", 2, "--batch_size", 8, "--filters", "4,8", "--rnn_units", 8, "--dense_units", 4),
    *("--dropout", 0),
)


def start(data, run, *flags, devices=1, cluster=None, worker=0, script=SCRIPT):
    # oneDNN confuses the layers of logical devices.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_ENABLE_ONEDNN_OPTS": "0"}
    if cluster:
        task = {"type": "worker", "index": worker}
        env["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": task})
    words = ["--tfrecords", data, "--output", run, *FLAGS, *flags]
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, (devices, *words))],
        cwd=run.parent,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    try:
        out, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return out


def losses(run):
    with (run / "history.csv").open() as file:
        return [(float(row["loss"]), float(row["val_loss"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    write_brightness_dataset(directory, "regression", {"train": 37, "validation": 10, "test": 4})
    return directory


@pytest.fixture(scope="module")
def single(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "single"
    finish(start(data, run))
    return run


@pytest.mark.slow
def test_two_devices_have_equal_losses(data, single, tmp_path):
    out = finish(start(data, tmp_path / "run", "--distribute", "mirrored", devices=2))
    assert "distributed: 2 replicas, by mirrored" in out
    for mine, theirs in zip(losses(tmp_path / "run"), losses(single), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_two_devices_resume_within_an_epoch(data, single, tmp_path):
    run, flags = tmp_path / "run", ("--distribute", "mirrored", "--resume")
    every_step = ("--checkpoint_minutes", "1e-9")
    killed = start(data, run, *flags, *every_step, devices=2, script=KILLED + SCRIPT)
    try:
        _, said = killed.communicate(timeout=200)
    finally:
        killed.kill()
    assert killed.returncode == -signal.SIGKILL, said
    out = finish(start(data, run, *flags, devices=2))
    assert "resumed after epoch 1 and 3 steps" in out
    for mine, theirs in zip(losses(run), losses(single), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_train_drops_batch_smaller_than_replicas(data, tmp_path):
    flags = ("--distribute", "mirrored", "--batch_size", 12, "--batch_norm", "on")
    out = finish(start(data, tmp_path / "run", *flags, "--progress", "bar", devices=2))
    assert set(re.findall(r"3/\d+", out)) == {"3/3"}  # steps of an epoch: of 37 sequences, 36


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "batch_size"), [(3, 16), (4, 38)])
def test_devices_share_batches_that_they_do_not_divide(devices, batch_size, data, tmp_path):
    flags = ("--distribute", "mirrored", "--batch_size", batch_size, "--epochs", 1)
    out = finish(start(data, tmp_path / "run", *flags, devices=devices))
    even = batch_size // devices * devices
    assert f"share batches of {batch_size} unevenly" in out
    assert f"--batch_size {even} is even" in out
    assert (tmp_path / "run" / "metrics.json").exists()


def test_check_possible_needs_a_sequence_for_each_replica():
    shard = ShardInfo(file="a", records=5, bytes=1, sha256="")
    spec = SequenceSpec(num_frames=1, signals=(SignalSpec(name="X"),))
    info = DatasetInfo(name="a", spec=spec, splits={"train": SplitInfo(shards=(shard,))})
    check_possible(info, TrainingConfig(), SimpleNamespace(num_replicas_in_sync=5))
    check_possible(info, TrainingConfig(), None)
    message = "each of 6 replicas needs at least one sequence of a batch, and one holds 5"
    with pytest.raises(TrainingError, match=message):
        check_possible(info, TrainingConfig(), SimpleNamespace(num_replicas_in_sync=6))


def test_drops_remainder(monkeypatch):
    def leaves(records, batch_size, replicas):
        shard = ShardInfo(file="a", records=records, bytes=1, sha256="")
        spec = SequenceSpec(num_frames=1, signals=(SignalSpec(name="X"),))
        splits = {"train": SplitInfo(shards=(shard,))}
        info = DatasetInfo(name="a", spec=spec, splits=splits)
        strategy = SimpleNamespace(num_replicas_in_sync=replicas)
        monkeypatch.setattr(feeds.tf.distribute, "get_strategy", lambda: strategy)
        config = TrainingConfig(batch_size=batch_size)
        folder = RunFolder(Path("run"))
        job = feeds.TrainingJob(directory="a", info=info, folder=folder, config=config)
        return job.drops_remainder

    assert leaves(37, 12, 2)
    assert leaves(19, 8, 4)
    assert not leaves(37, 12, 1)  # a single replica takes what there is
    assert not leaves(36, 12, 2)
    assert not leaves(37, 8, 2)


@pytest.mark.slow
def test_two_hosts_have_equal_losses(data, single, tmp_path):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    cluster = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    run = tmp_path / "run"
    workers = [start(data, run, cluster=cluster, worker=number) for number in range(2)]
    try:
        outputs = [finish(worker) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert all("distributed: 2 replicas, by multi_worker" in out for out in outputs)
    assert "done: the first of the hosts writes the results" in outputs[1]
    for mine, theirs in zip(losses(run), losses(single), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)
    assert {path.name for path in run.iterdir()} == {path.name for path in single.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_make_strategy_without_devices_or_hosts(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert make_strategy("auto") is None
    assert make_strategy("off") is None
    with pytest.raises(TrainerError, match="mirrored needs at least 2 devices, found "):
        make_strategy("mirrored")
    with pytest.raises(TrainerError, match="needs the hosts in the variable TF_CONFIG"):
        make_strategy("multi_worker")
