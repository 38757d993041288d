"""Tests of metrics, resamples and intervals against slow oracles."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.conftest import SPECS
from tfrecords_schema.spec import LabelSpec
from trainer.data.labels import Labels
from trainer.evaluation import bootstrap, metrics
from trainer.evaluation.bootstrap import (
    MIN_GROUPS,
    bootstrap_intervals,
    expanded_tail,
    resample_weights,
    wilson_interval,
)
from trainer.evaluation.metrics import (
    NO_CLASS,
    chosen_classes,
    measure,
    measure_resamples,
    present_classes,
)
from trainer.evaluation.predictions import Predictions

TASKS = ("classification", "multilabel", "regression")


def made(task, seed, count, *, nan=0.0):
    """Labels and predictions of three classes or two targets; equal scores occur."""
    random = np.random.default_rng(seed)
    if task == "regression":
        truth, answers = random.normal(size=(2, count, 2))
    elif task == "multilabel":
        truth = (random.random((count, 3)) < 0.4).astype(np.float32)
        answers = random.integers(0, 5, (count, 3)) / 4
    else:
        truth = random.integers(0, 3, count)
        answers = random.dirichlet(np.ones(3), count).round(1)
    answers[random.random(count) < nan, 0] = np.nan
    return SPECS[task].label, truth, answers


def predicted(truth, answers, *, valid=None, sources=()):
    """`Predictions` of sequences of one frame, or of as many as ``valid`` has, by default of one source."""
    valid = np.ones(len(truth), bool) if valid is None else valid
    frames = valid.shape[1] if valid.ndim == 2 else 1
    sources = tuple(sources) or ("drive",) * len(truth)
    return Predictions(
        labels=Labels(values=truth, valid=valid),
        values=answers,
        ids=tuple(map(str, range(len(truth)))),
        sources=sources,
        groups=tuple(f"g{source}" for source in sources),
        timestamps=np.zeros((len(truth), frames), np.int64),
        valid_frames=np.full(len(truth), frames),
    )


def slow_metrics(task, truth, answers, whole=None):
    """Every metric by its definition, a label at a time.

    A class without a label has its value in ``whole``, the truth and answers of the sample.
    """
    whole_truth, whole_answers = whole or (truth, answers)
    if task == "regression":
        found = {}
        for i, target in enumerate(("speed", "turn")):
            errors = [a[i] - t[i] for a, t in zip(answers, truth, strict=True)]
            found[f"{target}_mae"] = sum(abs(e) for e in errors) / len(errors)
            found[f"{target}_rmse"] = math.sqrt(sum(e * e for e in errors) / len(errors))
            found[f"{target}_correlation"] = slow_correlation(truth[:, i], answers[:, i])
        return found

    def mean_of(measure, true, said, all_true, all_said):
        values = [
            measure(t, s) if t.any() and not (measure is slow_auc and t.all()) else measure(at, as_)
            for t, s, at, as_ in zip(true, said, all_true, all_said, strict=True)
            if at.any() and not (measure is slow_auc and at.all())
        ]
        return sum(values) / len(values) if values else math.nan

    if task == "multilabel":
        right = sum(
            math.isfinite(a) and (a >= 0.5) == (t > 0.5)
            for row, true in zip(answers, truth, strict=True)
            for a, t in zip(row, true, strict=True)
        )
        sides = (truth.T > 0.5, answers.T, whole_truth.T > 0.5, whole_answers.T)
        losses = [
            -math.log(max(p if t else 1 - p, 1e-7)) if math.isfinite(p) else math.nan
            for p, t in zip(answers.ravel(), truth.ravel(), strict=True)
        ]
        return {
            "mean_average_precision": mean_of(slow_average_precision, *sides),
            "mean_auc": mean_of(slow_auc, *sides),
            "binary_accuracy": right / truth.size,
            "cross_entropy": sum(losses) / len(losses),
        }
    said = [int(np.argmax(a)) if np.isfinite(a).all() else NO_CLASS for a in answers]
    all_said = [int(np.argmax(a)) if np.isfinite(a).all() else NO_CLASS for a in whole_answers]
    right = [s == t for s, t in zip(said, truth, strict=True)]

    def recall(of_class, said_class):
        return sum(said_class[of_class]) / sum(of_class)

    sides = [
        [[t == c for c in range(3)], [s == c for c in range(3)]]
        for t, s in (
            (truth, np.array(said)),
            (whole_truth, np.array(all_said)),
        )
    ]
    scores = answers.T, whole_answers.T
    given_truth = [
        a[t] if np.isfinite(a).all() else math.nan for a, t in zip(answers, truth, strict=True)
    ]
    return {
        "accuracy": sum(right) / len(right),
        "balanced_accuracy": mean_of(recall, *sides[0], *sides[1]),
        "mean_auc": mean_of(slow_auc, sides[0][0], scores[0], sides[1][0], scores[1]),
        "cross_entropy": sum(-math.log(max(p, 1e-7)) for p in given_truth) / len(right)
        if not any(map(math.isnan, given_truth))
        else math.nan,
    }


def slow_correlation(truth, answers):
    if not np.isfinite(answers).all():
        return math.nan
    if np.std(truth) < 1e-9 or np.std(answers) < 1e-9:
        return 0.0
    return np.corrcoef(truth, answers)[0, 1]


def slow_auc(truth, scores):
    """The share of pairs of a set and another label that are in order; equal scores count half."""
    scores = [s if math.isfinite(s) else -math.inf for s in scores]
    pairs = [
        (above > below) + (above == below) / 2
        for above, t in zip(scores, truth, strict=True)
        for below, u in zip(scores, truth, strict=True)
        if t and not u
    ]
    return sum(pairs) / len(pairs)


def slow_average_precision(truth, scores):
    """The sum over thresholds of precision times the recall gained."""
    scores = [s if math.isfinite(s) else -math.inf for s in scores]
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        answered = [t > 0.5 for t, s in zip(truth, scores, strict=True) if s >= threshold]
        gained = sum(answered) / sum(t > 0.5 for t in truth)
        area += (gained - recall) * sum(answered) / len(answered)
        recall = gained
    return area


@given(st.sampled_from(TASKS), st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([0, 0.2]))
def test_measure_matches_definitions(task, seed, count, nan):
    label, truth, answers = made(task, seed, count, nan=nan)
    assert measure(label, truth, answers) == pytest.approx(
        slow_metrics(task, truth, answers), nan_ok=True
    )


@settings(deadline=None)
@given(st.sampled_from(TASKS), st.integers(0, 10**6), st.integers(5, 40), st.integers(1, 8))
def test_measure_resamples_matches_explicit_resamples(task, seed, count, groups):
    label, truth, answers = made(task, seed, count)
    group_of = np.random.default_rng(seed).integers(0, groups, count)
    _, group_of = np.unique(group_of, return_inverse=True)
    weights = next(resample_weights(int(group_of.max()) + 1, resamples=7, seed=seed))
    measured = measure_resamples(label, truth, answers, group_of, weights)
    for i, row in enumerate(weights):
        drawn = np.repeat(np.arange(count), row[group_of].astype(int))
        expected = slow_metrics(task, truth[drawn], answers[drawn], (truth, answers))
        assert {name: values[i] for name, values in measured.items()} == pytest.approx(
            expected, nan_ok=True
        )


def test_resamples_do_not_depend_on_chunk_size(monkeypatch):
    label, truth, answers = made("multilabel", 0, 40)
    group_of = np.arange(40) % 9

    def intervals():
        return bootstrap_intervals(
            lambda w: measure_resamples(label, truth, answers, group_of, w), groups=9, resamples=50
        )

    at_once = intervals()
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_A_TIME", 63)
    monkeypatch.setattr(metrics, "_NUMBERS_AT_A_TIME", 90)
    assert len(list(resample_weights(9, resamples=50, seed=0))) == 8
    assert intervals() == at_once


def test_resample_weights_draw_all_groups_and_repeat_with_seed():
    weights = np.concatenate(list(resample_weights(30, resamples=400, seed=1)))
    assert weights.shape == (400, 30)
    assert (weights.sum(axis=1) == 30).all()
    # A group is left out of a resample with a probability of (29 / 30) ** 30.
    assert (weights == 0).mean() == pytest.approx((29 / 30) ** 30, abs=0.02)
    assert (weights == np.concatenate(list(resample_weights(30, resamples=400, seed=1)))).all()
    assert (weights != np.concatenate(list(resample_weights(30, resamples=400, seed=2)))).any()


def test_bootstrap_interval_of_a_mean_is_normal():
    numbers = np.random.default_rng(0).normal(10, 2, 400)
    interval = bootstrap_intervals(lambda w: {"mean": w @ numbers / 400}, groups=400)["mean"]
    spread = 1.96 * numbers.std() / math.sqrt(400)
    assert interval == pytest.approx((numbers.mean() - spread, numbers.mean() + spread), abs=0.04)


def test_bootstrap_intervals_have_their_coverage():
    random = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        # 40 drives, each with an error of its own that its 10 sequences share.
        sums = (random.normal(size=(40, 1)) + 0.2 * random.normal(size=(40, 10))).sum(axis=1)
        low, high = bootstrap_intervals(
            lambda w, sums=sums: {"mean": w @ sums / (w @ np.full(40, 10.0))}, groups=40, seed=seed
        )["mean"]
        held += low <= 0 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_bootstrap_intervals_resample_whole_groups():
    label, truth, answers = made("regression", 0, 20)
    truth, answers = truth.repeat(50, axis=0), answers.repeat(50, axis=0)  # 20 drives of 50 each
    widths = []
    for group_of in (np.arange(1000) // 50, np.arange(1000)):
        low, high = bootstrap_intervals(
            lambda w, g=group_of: measure_resamples(label, truth, answers, g, w),
            groups=int(group_of.max()) + 1,
        )["speed_mae"]
        widths.append(high - low)
    assert widths[0] > 5 * widths[1]


def test_bootstrap_intervals_need_enough_groups():
    for groups in (MIN_GROUPS - 1, MIN_GROUPS):
        interval = bootstrap_intervals(lambda w: {"sum": w.sum(axis=1)}, groups=groups)["sum"]
        assert (interval is None) == (groups < MIN_GROUPS)


def test_bootstrap_intervals_exclude_values_that_are_not_finite():
    assert bootstrap_intervals(lambda w: {"a": np.full(len(w), np.nan)}, groups=9)["a"] is None
    sometimes = bootstrap_intervals(lambda w: {"a": np.where(w[:, 0] > 0, 1.0, np.nan)}, groups=9)
    assert sometimes["a"] == (1.0, 1.0)


def test_prediction_that_is_not_finite_is_never_right():
    answers = np.array([[0.9, 0.1, np.nan], [0.9, 0.1, 0.0], [np.inf, 0.0, 0.0]])
    assert chosen_classes(answers).tolist() == [NO_CLASS, 0, NO_CLASS]
    assert present_classes(answers).tolist() == [[1, 0, -1], [1, 0, 0], [-1, 0, 0]]
    label = SPECS["classification"].label
    found = measure(label, np.array([0, 0, 0]), answers)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert math.isnan(found["cross_entropy"])
    label = SPECS["multilabel"].label
    nothing = np.full((2, 3), np.nan)
    found = measure(label, np.array([[1, 0, 0], [0, 0, 0]]), nothing)
    assert (found["mean_average_precision"], found["binary_accuracy"]) == (0.5, 0.0)
    assert math.isnan(found["cross_entropy"])


def test_average_precision():
    label = SPECS["multilabel"].label

    def average_precision(truth, scores):
        measured = measure(label, np.array(truth)[:, None], np.array(scores)[:, None])
        return measured["mean_average_precision"]

    assert average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]) == (
        pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    )
    # Constant scores rank nothing: the share that is set, in whatever order the records are.
    for truth in ([1, 0, 0, 0], [0, 0, 0, 1]):
        assert average_precision(truth, np.zeros(4)) == 0.25


@given(st.integers(0, 10**6), st.integers(1, 30))
def test_top_k_accuracy_counts_classes_at_least_as_probable(seed, count):
    random = np.random.default_rng(seed)
    truth, answers = random.integers(0, 7, count), random.dirichlet(np.ones(7), count).round(1)
    label = LabelSpec(task="classification", class_names=tuple("abcdefg"))
    found = measure(label, truth, answers)
    for k in (3, 5):
        right = [sum(p >= row[t] for p in row) <= k for t, row in zip(truth, answers, strict=True)]
        assert found[f"top_{k}_accuracy"] == pytest.approx(np.mean(right))
    answers[0, 1] = np.nan
    truth[0] = 1
    assert measure(label, truth, answers)["top_3_accuracy"] <= (count - 1) / count
    assert "top_3_accuracy" not in measure(
        LabelSpec(task=label.task, class_names=("a", "b")), *two()
    )


def two():
    return np.array([0, 1]), np.array([[0.9, 0.1], [0.4, 0.6]])


def test_joint_rmse_needs_one_unit():
    truth, answers = np.zeros((4, 2)), np.array([[3.0, 4.0]] * 4)
    label = LabelSpec(task="regression", target_names=("x", "y"), target_units=("m/s", "m/s"))
    assert measure(label, truth, answers)["joint_rmse"] == pytest.approx(math.sqrt(12.5))
    assert "joint_rmse" not in measure(SPECS["regression"].label, truth, answers)


def test_resample_without_a_rare_class_keeps_its_value():
    label = SPECS["classification"].label
    truth, answers = np.array([0] * 30 + [1]), np.eye(3)[[0] * 31]  # the rare class is never found
    group_of = np.arange(31)
    found = bootstrap_intervals(
        lambda w: measure_resamples(label, truth, answers, group_of, w), groups=31
    )
    assert found["balanced_accuracy"] == (0.5, 0.5)  # not 1 where the rare class is not drawn


@pytest.mark.parametrize(("freedom", "t"), [(4, 2.776445), (9, 2.262157), (99, 1.984217)])
def test_expanded_tail_follows_students_t(freedom, t):
    groups = freedom + 1
    expected = NormalDist().cdf(-t * math.sqrt(groups / freedom))
    assert expanded_tail(groups) == pytest.approx(expected, rel=0.03)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_solves_its_equation(count, data):
    share = data.draw(st.integers(0, count)) / count
    for end in wilson_interval(share, count):
        # The ends are the shares from which the sample's is 1.96 standard errors away.
        distance = abs(share - end)
        assert distance == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / count), abs=1e-6)
