"""Calibration, against slow oracles and made probabilities whose truth is known."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.conftest import SPECS
from tfrecords_schema.info import ShardInfo, SplitInfo
from trainer.models.calibration import (
    Calibration,
    best_threshold,
    calibrated_model,
    fit_calibration,
)
from trainer.models.losses import positive_weights


def train_split(records, counts=()):
    shard = ShardInfo(file="a", records=records, bytes=1, sha256="")
    return SplitInfo(shards=(shard,), label_counts=counts)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_temperature_of_overconfident_classes_is_found():
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 3))
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([random.choice(3, p=row) for row in likely])
    shown = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    found = fit_calibration(
        SPECS["classification"].label, train_split(9), truth, shown, class_weights=True
    )
    assert found.scale == pytest.approx(1 / 3, rel=0.1)
    assert (found.biases, found.thresholds) == ((), ())
    np.testing.assert_allclose(found.apply(shown), likely, atol=0.05)
    assert (found.apply(shown).argmax(axis=1) == shown.argmax(axis=1)).all()


def test_probabilities_shifted_by_class_weights_are_calibrated():
    random = np.random.default_rng(1)
    label, odds = SPECS["multilabel"].label, np.array([-2.6, 0.0, 1.0])
    logits = odds + 0.8 * random.normal(size=(3000, 3))
    truth = (random.random((3000, 3)) < sigmoid(logits)).astype(float)
    train = train_split(3000, tuple(truth.sum(axis=0).astype(int).tolist()))
    shown = sigmoid(logits + np.log(positive_weights(train)))  # a trained network's, with weights
    assert shown[:, 0].mean() > 0.4 > 0.1 > truth[:, 0].mean()
    found = fit_calibration(label, train, truth, shown, class_weights=True)
    np.testing.assert_allclose(found.apply(shown).mean(axis=0), truth.mean(axis=0), atol=0.02)
    without = fit_calibration(label, train, truth[:0], shown[:0], class_weights=True)
    np.testing.assert_allclose(without.apply(shown).mean(axis=0), truth.mean(axis=0), atol=0.02)
    assert without.thresholds == ()
    unweighted = fit_calibration(label, train, truth, sigmoid(logits), class_weights=False)
    assert unweighted.scale == pytest.approx(1, rel=0.2)
    np.testing.assert_allclose(unweighted.apply(sigmoid(logits)), sigmoid(logits), atol=0.05)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=25))
def test_best_threshold_has_the_highest_f1(pairs):
    truth = np.array([t for t, _ in pairs])
    scores = np.array([s / 8 for _, s in pairs])

    def f1(threshold):
        said = scores >= threshold
        return 2 * (said & truth).sum() / max(said.sum() + truth.sum(), 1)

    found = best_threshold(truth, scores)
    if truth.any():
        assert f1(found) == pytest.approx(max(map(f1, scores)))
    else:
        assert found == 0.5


@pytest.mark.parametrize("biases", [(), (0.5, -1.0, 2.0)])
def test_calibrated_model_computes_what_apply_does(biases):
    calibration = Calibration(scale=0.7, biases=biases)
    inputs = keras.Input((3,))
    model = calibrated_model(keras.Model(inputs, keras.layers.Identity()(inputs)), calibration)
    values = np.random.default_rng(2).dirichlet(np.ones(3), 20).astype(np.float32)
    np.testing.assert_allclose(model(values), calibration.apply(values), rtol=1e-5)
    assert calibration.apply(values).shape == (20, 3)
