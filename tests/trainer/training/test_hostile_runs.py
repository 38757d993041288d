"""Forged and damaged files in the folder of a run: resuming ends in one line, or continues."""

import dataclasses
import json
import math
import random

import numpy as np
import pytest

from tests.hostile import HOSTILE, damage, places, replaced
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import ImageSpec, SequenceSpec
from trainer.config.run_folder import RunFolder, read_history, reading_of, resumed_run
from trainer.config.training import TrainingConfig
from trainer.errors import TrainerError
from trainer.training.checkpoint import Progress, load_progress, use_sound_checkpoint

INFO = DatasetInfo(
    name="x", spec=SequenceSpec(num_frames=2, image=ImageSpec(height=4, width=4)), splits={}
)
CONFIG = json.loads(json.dumps(TrainingConfig().to_json()))
HISTORY = b"epoch,seconds,loss,val_loss\n1,0.5,2.0,3.0\n2,0.5,1.0,2.5\n"


def read_run(path):
    """Reads a run as `trainer --resume` does before it trains."""
    folder = RunFolder(path)
    resumed_run(str(path), INFO, CONFIG)
    reading_of(folder)
    use_sound_checkpoint(folder)
    progress = load_progress(folder.checkpoint)
    assert min(progress.epoch, progress.step, progress.best_epoch, progress.waited) >= 0
    assert not math.isnan(progress.best)
    for row in read_history(folder.history):
        assert all(isinstance(float(value), float) for value in row.values())


def write_run(path, *, config=CONFIG, progress=None, history=HISTORY):
    folder = RunFolder(path)
    folder.config.write_text(json.dumps(config))
    folder.history.write_bytes(history)
    progress = dataclasses.asdict(Progress(epoch=2, best=1.0)) if progress is None else progress
    arrays = {"model/dense": np.ones((4, 4)), "progress": np.array(json.dumps(progress))}
    with folder.checkpoint.open("wb") as file:
        np.savez(file, **arrays)
    return folder


def mutants(count, path):
    """Yields after each of ``count`` changes to one file of a run."""
    source = random.Random(0)
    progress = dataclasses.asdict(Progress(epoch=2, best=1.0))
    for number in range(count):
        value = source.choice(HOSTILE)
        if number % 4 == 0:
            place = source.choice([place for place in places(CONFIG) if place])
            write_run(path, config=replaced(CONFIG, place, value))
        elif number % 4 == 1:
            write_run(path, progress={**progress, source.choice(list(progress)): value})
        else:
            folder = write_run(path)
            names = ("history", "config") if number % 4 == 2 else ("checkpoint",)
            file = getattr(folder, source.choice(names))
            file.write_bytes(damage(file.read_bytes(), source))
        yield number


@pytest.mark.parametrize("count", [200, pytest.param(3000, marks=pytest.mark.slow)])
def test_resuming_a_forged_run_ends_in_one_line_or_continues(count, tmp_path):
    write_run(tmp_path)
    read_run(tmp_path)
    errors = []
    for _ in mutants(count, tmp_path):
        try:
            read_run(tmp_path)
        except TrainerError as error:
            errors.append(str(error))
    assert count / 4 < len(errors) < count
    assert max(map(len, errors)) < 3000


@pytest.mark.parametrize(
    "history",
    [
        b"epoch,loss\n1,x\n",
        b"loss\n1\n",
        b"epoch,loss\n1,2,3\n",
        b"epoch,loss\n1\n",
        b"epoch\n\xff\n",
    ],
)
def test_read_history_refuses_other_files(history, tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(history)
    with pytest.raises(TrainerError, match=r"history.csv is not the history of this training \("):
        read_history(path)
