"""Compares runs that were trained as a user would, and invented predictions with a slow oracle."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.conftest import SPECS, write_brightness_dataset
from tests.trainer.evaluation.test_metrics import predicted
from tests.trainer.report.test_page import Page
from tfrecords_schema.fake import write_fake_dataset
from tfrecords_schema.info import DatasetInfo
from trainer.cli import main
from trainer.evaluation.bootstrap import expanded_tail, resample_weights
from trainer.evaluation.compare import better_run
from trainer.evaluation.score import score


def test_score_of_two_models_pairs_their_resamples(tmp_path):
    """The interval of the difference is that of the groups' differences, computed one by one."""
    info = write_fake_dataset(tmp_path, SPECS["regression"], {"train": 10})
    random = np.random.default_rng(0)
    truth = random.normal(size=(40, 2)) * 10
    shared = (
        random.normal(size=(40, 2)) * 5
    )  # both err alike, so that the difference is small and sure
    first, second = truth + 1.2 * shared, truth + shared
    groups = tuple(str(i % 8) for i in range(40))
    own = replace(predicted(truth, second), groups=groups)
    metric = score("test", own, info, first).metrics[0]
    errors = [np.abs(side - truth)[:, 0] for side in (first, second)]
    assert (metric.baseline, metric.model) == pytest.approx([e.mean() for e in errors])
    gains = []
    (weights,) = resample_weights(8, resamples=1000, seed=0)
    for counts in weights.astype(int):
        drawn = np.concatenate([np.tile(np.arange(g, 40, 8), counts[g]) for g in range(8)])
        gains.append(errors[0][drawn].mean() - errors[1][drawn].mean())
    tail = expanded_tail(8)
    assert metric.gain_interval == pytest.approx(tuple(np.quantile(gains, (tail, 1 - tail))))
    assert better_run(metric) == "B"
    swapped = replace(predicted(truth, first), groups=groups)
    assert better_run(score("test", swapped, info, second).metrics[0]) == "A"
    few = replace(own, groups=tuple(str(i % 4) for i in range(40)))
    assert better_run(score("test", few, info, first).metrics[0]) == "too few groups to say"


def test_compare_prints_and_writes_both_runs(bright_run, bright_dataset, tmp_path, capsys):
    folder, _ = bright_run
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["learning_rate"] = 0.5
    (other / "config.json").write_text(json.dumps(config))
    page = tmp_path / "page.html"
    assert main(["compare", str(folder), str(other), "--report", str(page)]) == 0
    said = capsys.readouterr().out
    for text in (f"A  {folder}", f"B  {other}", "accuracy", "not sure"):
        assert text in said
    assert [line.split() for line in said.splitlines() if "learning_rate" in line] == [
        ["learning_rate", "0.005", "0.5"]
    ]
    parsed = Page(page.read_text(encoding="utf-8"))
    assert parsed.tags["svg"] >= 2
    assert "learning_rate" in parsed.text


def test_compare_refuses_other_test_sets_and_says_how_they_differ(bright_run, tmp_path, capsys):
    folder, _ = bright_run
    other = shutil.copytree(folder, tmp_path / "other")
    write_brightness_dataset(tmp_path / "data", "classification", {"train": 60, "test": 14})
    DatasetInfo.load(tmp_path / "data").save(other)
    assert main(["compare", str(folder), str(other)]) == 2
    error = capsys.readouterr().err
    assert "cannot be compared on test, which differs" in error
    for text in ("has 15 sequences", "has 14 sequences", "--tfrecords"):
        assert text in error
    assert main(["compare", str(folder), str(folder)]) == 2
    assert "two different folders" in capsys.readouterr().err
    assert main(["compare", str(folder), str(other), "--tfrecords", str(tmp_path / "data")]) == 0
    assert "was not trained on this build" in capsys.readouterr().out
