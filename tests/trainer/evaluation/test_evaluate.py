import json
from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.conftest import SPECS
from tests.trainer.evaluation.test_metrics import predicted
from tfrecords_schema.fake import write_fake_dataset
from trainer.evaluation.baseline import baseline_prediction, describe_baseline
from trainer.evaluation.score import (
    Metric,
    describe_main_metric,
    format_score,
    score,
)


def described(tmp_path, spec, **statistics):
    """A dataset's description whose train split has these statistics."""
    info = write_fake_dataset(tmp_path, spec, {"train": 10})
    return replace(info, splits={"train": replace(info.splits["train"], **statistics)})


def metrics(result):
    return {m.name: (m.model, m.baseline) for m in result.metrics}


def test_score_classification_by_hand(tmp_path):
    info = described(tmp_path, SPECS["classification"], label_counts=(6, 3, 1))
    truth = np.array([0, 0, 1, 2])
    predictions = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    result = score("test", predicted(truth, predictions), info)
    found = metrics(result)
    assert found["accuracy"] == (0.75, 0.5)
    assert found["balanced_accuracy"] == pytest.approx((2.5 / 3, 1 / 3))
    assert found["cross_entropy"] == pytest.approx(
        (-np.log([0.8, 0.2, 0.8, 0.8]).mean(), -np.log([0.6, 0.6, 0.3, 0.1]).mean())
    )
    assert describe_baseline(info) == "always answering 'a', 60% of the train split"
    assert describe_main_metric(result) == (
        "test accuracy 0.75, the baseline's 0.5: too few groups (1) to say if it is better than "
        "the baseline"
    )


def test_score_regression_by_hand_in_units(tmp_path):
    info = described(tmp_path, SPECS["regression"])
    targets = info.splits["train"].targets
    targets = (replace(targets[0], mean=10.0), replace(targets[1], mean=0.0))
    info = replace(info, splits={"train": replace(info.splits["train"], targets=targets)})
    truth, answers = np.array([[8.0, 1.0], [14.0, -1.0]]), np.array([[9.0, 1.0], [11.0, -1.0]])
    result = score("test", predicted(truth, answers), info)
    assert metrics(result) == {
        "speed_mae": (2.0, 3.0),
        "speed_rmse": (pytest.approx(np.sqrt(5)), pytest.approx(np.sqrt(10))),
        "speed_correlation": (1.0, 0.0),
        "turn_mae": (0.0, 1.0),
        "turn_rmse": (0.0, 1.0),
        "turn_correlation": (1.0, 0.0),
    }
    assert [m.unit for m in result.metrics] == ["m/s", "m/s", "", "rad/s", "rad/s", ""]
    assert describe_baseline(info) == "predicting the train mean: speed 10 m/s, turn 0 rad/s"
    assert describe_main_metric(result) == (
        "test speed_mae 2 m/s, the baseline's 3 m/s: too few groups (1) to say if it is better than "
        "the baseline"
    )
    assert "speed_mae" in format_score(result)
    assert json.loads(json.dumps(result.to_json()))["metrics"]["turn_mae"]["unit"] == "rad/s"


def test_score_multilabel_by_hand(tmp_path):
    info = described(tmp_path, SPECS["multilabel"], label_counts=(2, 5, 9))
    assert baseline_prediction(info).tolist() == [0.2, 0.5, 0.9]
    truth, answers = np.array([[1, 0, 0], [0, 0, 1.0]]), np.array([[0.9, 0, 0.6], [0.1, 0, 0.7]])
    found = metrics(score("test", predicted(truth, answers), info))
    # The middle class never occurs: it has no precision to average.
    assert found["mean_average_precision"] == (1.0, 0.5)
    assert found["binary_accuracy"] == pytest.approx((5 / 6, 2 / 6))


def test_score_excludes_padding(tmp_path):
    info = described(tmp_path, SPECS["classification by frame"])
    truth = np.array([[0, 0, 0, 0], [1, 1, 1, 1]])
    valid = np.array([[True, True, False, False], [True, False, False, False]])
    predictions = np.zeros((2, 4, 3))
    predictions[0, :2, 0] = predictions[1, :1, 1] = 1.0  # right where it counts
    predictions[~valid] = [0, 0, 1.0]  # and wrong elsewhere
    result = score("test", predicted(truth, predictions, valid=valid), info)
    assert result.labels == 3
    assert metrics(result)["accuracy"][0] == 1.0


def test_beats_baseline_needs_a_gain():
    assert not Metric(name="a", model=0.5, baseline=0.5, higher_is_better=True).beats_baseline
    assert not Metric(name="a", model=0.5, baseline=0.5).beats_baseline
    assert Metric(name="a", model=0.4, baseline=0.5).beats_baseline


def test_score_of_groups_that_agree_is_not_certain(tmp_path):
    info = described(tmp_path, SPECS["classification"], label_counts=(6, 3, 1))
    truth = np.arange(48) % 24 % 3
    sources = [f"clip{place % 24}" for place in range(48)]
    right = predicted(truth, np.eye(3)[truth] * 0.7 + 0.1, sources=sources)
    accuracy, *_ = score("test", right, info).metrics
    low, high = accuracy.interval
    assert (low, high) == (pytest.approx(24 / (24 + 1.96**2), abs=1e-4), 1)
    assert accuracy.gain_interval[0] < accuracy.gain < accuracy.gain_interval[1]
    assert accuracy.verdict == "better"
    wrong = predicted(truth, np.eye(3)[(truth + 1) % 3], sources=sources)
    accuracy, *_ = score("test", wrong, info).metrics
    assert accuracy.interval == (0, pytest.approx(1 - low))
    assert accuracy.verdict == "not better"


def test_score_of_sources_takes_mean_predictions(tmp_path):
    info = described(tmp_path, SPECS["classification"], label_counts=(6, 3, 1))
    truth, sources = np.array([0, 0, 0, 1, 1]), ["x", "x", "x", "y", "y"]
    answers = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.4, 0.6, 0], [0.9, 0.1, 0], [0.3, 0.7, 0]])
    found = metrics(score("test", predicted(truth, answers, sources=sources), info))
    assert found["accuracy"] == (0.4, 0.6)
    assert found["source_accuracy"] == (0.5, 0.5)  # y's mean is 0.6, 0.4
    mixed = predicted(np.array([0, 1, 0, 1, 1]), answers, sources=sources)
    assert "source_accuracy" not in metrics(score("test", mixed, info))


def test_metric_without_an_interval_proves_nothing():
    metric = Metric(name="mae", model=0.9993, baseline=1.0)
    assert metric.verdict == "too few groups"
    assert replace(metric, gain_interval=(-0.1, 0.1)).verdict == "not sure"
    assert replace(metric, gain_interval=(0.1, 0.2)).verdict == "better"
