"""Folds and seeds, trained in the process, interrupted and continued."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.trainer.conftest import SPECS, write_grouped
from tfrecords_schema.info import DatasetInfo
from trainer.config.run_folder import RunFolder
from trainer.config.training import ModelConfig, TrainingConfig
from trainer.evaluation.evaluate import evaluate_run
from trainer.training import train as training
from trainer.training.cross_validation import _members
from trainer.training.train import train

GROUPS = {"train": [0, 1, 2, 3, 4] * 4, "validation": [5, 5, 5, 5], "test": [6, 6, 6]}
CONFIG = TrainingConfig(
    epochs=1, batch_size=4, folds=2, seeds=2, model=ModelConfig(rnn_units=(4,), dense_units=(4,))
)


@pytest.mark.slow
def test_folds_and_seeds_continue_and_are_pooled(tmp_path, monkeypatch):
    data, run = tmp_path / "data", tmp_path / "run"
    write_grouped(data, SPECS["signals only"], GROUPS)
    fitted = []
    fit = training._fit_new_model

    def fit_or_stop(job, strategy):
        if len(fitted) == 3:
            raise KeyboardInterrupt
        fitted.append(job.folder.path.name)
        return fit(job, strategy)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_fit_new_model", fit_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(data, RunFolder(run), CONFIG)
    assert fitted == ["fold-1-seed-0", "fold-2-seed-0", "fold-1-seed-1"]
    assert not (run / "folds.json").exists()
    monkeypatch.setattr(
        training,
        "_fit_new_model",
        lambda job, s: fitted.append(job.folder.path.name) or fit(job, s),
    )
    scores = train(data, RunFolder(run), CONFIG)
    assert fitted[3:] == ["fold-2-seed-1", "final"]
    assert scores.keys() == {"test"}  # of the last training, on the untouched split
    found = json.loads((run / "folds.json").read_text())
    assert [row[0] for row in found["members"]] == fitted[:-1]
    pooled = found["splits"]
    assert pooled.keys() == {"all folds, seed 0", "all folds, seed 1"}
    for number, own in enumerate(pooled.values()):
        assert (own["labels"], own["groups"]) == (24, 6)
        # Each record once, by a model that has not seen its group.
        right, tested = 0.0, set()
        for fold in (1, 2):
            place = run / f"fold-{fold}-seed-{number}"
            metrics = json.loads((place / "metrics.json").read_text())["splits"]["test"]
            groups = {source["group"] for source in metrics["sources"]}
            assert not groups & tested
            tested |= groups
            right += metrics["metrics"]["accuracy"]["model"] * metrics["labels"]
        assert tested == {f"g{group}" for group in range(6)}
        assert own["metrics"]["accuracy"]["model"] == pytest.approx(right / 24)
    values = [own["metrics"]["accuracy"]["model"] for own in pooled.values()]
    assert found["spread"].startswith(
        f"{np.mean(values):.4g}, standard deviation {np.std(values):.3g}"
    )
    assert DatasetInfo.load(run / "final").splits["train"].num_records == 24
    assert evaluate_run(run / "final", data).split == "test"


def test_members_choose_epochs_by_a_fold_that_is_not_tested():
    pool, fold_of = SimpleNamespace(select=lambda splits: splits), np.array([0, 0, 1, 2, 2])
    members = list(_members("data", pool, fold_of, replace(CONFIG, folds=3, seeds=1, patience=2)))
    assert [member.name for member in members] == ["fold-1", "fold-2", "fold-3"]
    for member in members:
        masks = np.array(list(member.directory.values()))
        assert (masks.sum(axis=0) == 1).all()
        assert member.directory.keys() == {"test", "validation", "train"}
    alone = replace(CONFIG, folds=None, seeds=2, seed=5)
    assert [(m.name, m.seed) for m in _members("data", None, fold_of, alone)] == (
        [("seed-5", 0), ("seed-6", 1)]
    )
