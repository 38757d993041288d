import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.conftest import SPECS
from tests.trainer.evaluation.test_metrics import made, predicted, slow_auc, slow_average_precision
from trainer.evaluation.breakdown import (
    class_rows,
    confusion_matrix,
    label_errors,
    range_edges,
    range_rows,
    round_step,
    sequence_losses,
    source_rows,
    worst_sequences,
)

seeds = st.integers(0, 10**6)
counts = st.integers(1, 40)
numbers = st.floats(-1e6, 1e6)


@given(seeds, counts)
def test_confusion_matrix_counts_pairs(seed, count):
    _, truth, answers = made("classification", seed, count, nan=0.2)
    pairs = Counter(
        (int(t), int(np.argmax(a)) if np.isfinite(a).all() else 3)
        for t, a in zip(truth, answers, strict=True)
    )
    matrix = confusion_matrix(3, truth, answers)
    assert matrix.shape == (3, 4)
    assert {k: matrix[k] for k in np.ndindex(3, 4) if matrix[k]} == pairs


@given(seeds, counts, st.sampled_from(["classification", "multilabel"]))
def test_class_rows_match_definitions(seed, count, task):
    label, truth, answers = made(task, seed, count, nan=0.1)
    rows = class_rows(label, truth, answers)
    assert [row.name for row in rows] == ["a", "b", "c"]
    for c, row in enumerate(rows):
        if task == "multilabel":
            true = [t[c] > 0.5 for t in truth]
            said = [math.isfinite(a[c]) and a[c] >= 0.5 for a in answers]
        else:
            true = [t == c for t in truth]
            said = [np.isfinite(a).all() and np.argmax(a) == c for a in answers]
        both = sum(t and s for t, s in zip(true, said, strict=True))
        assert row.support == sum(true)
        expected = [both / sum(said) if sum(said) else math.nan]
        expected += [both / sum(true) if sum(true) else math.nan]
        assert [row.precision, row.recall] == pytest.approx(expected, nan_ok=True)
        scores = answers[:, c]
        area = slow_average_precision(np.array(true), scores) if any(true) else math.nan
        assert row.average_precision == pytest.approx(area, nan_ok=True)
        both_sides = any(true) and not all(true)
        auc = slow_auc(true, scores) if both_sides else math.nan
        assert row.auc == pytest.approx(auc, nan_ok=True)


def test_class_row_f1():
    label = SPECS["classification"].label
    answers = np.eye(3)[[0, 0, 1, 1]]
    first, second, third = class_rows(label, np.array([0, 1, 1, 0]), answers)
    assert (first.f1, second.f1) == (0.5, 0.5)
    assert math.isnan(third.f1)  # no label is of it
    [_, never, _] = class_rows(label, np.array([0, 1]), np.eye(3)[[0, 0]])
    assert (never.recall, never.f1) == (0.0, 0.0)


@given(seeds, counts, st.sampled_from(["classification", "multilabel", "regression"]))
def test_source_rows_are_sorted_worst_first(seed, count, task):
    label, truth, answers = made(task, seed, count, nan=0.1)
    places = np.arange(count) % 4
    names = [f"drive{place}" for place in places]
    errors = label_errors(label, truth, answers)
    predictions = predicted(
        *(np.append(truth, truth[:1], axis=0), np.append(answers, answers[:1], axis=0)),
        valid=np.arange(count + 1) < count,
        sources=[*names, "drive4"],  # the last has no labels
    )
    rows = source_rows(label, predictions, answers)
    by_source = defaultdict(list)
    for i, name in enumerate(names):
        by_source[name].append(i)
    assert {row.source: row.labels for row in rows} == {n: len(p) for n, p in by_source.items()}
    first = next(iter(errors))
    for row in rows:
        assert row.group == f"g{row.source}"
        own = by_source[row.source]
        assert row.model == pytest.approx(
            {name: sum(values[own]) / len(own) for name, values in errors.items()}, nan_ok=True
        )
    order = [row.model[first] for row in rows]
    told = [v for v in order if not math.isnan(v)]
    assert told == sorted(told, reverse=task == "regression")
    assert all(math.isnan(v) for v in order[: len(order) - len(told)])


@given(st.lists(numbers, min_size=1, max_size=60))
def test_range_rows_hold_every_label_once(values):
    truth = np.array(values)
    edges = range_edges(truth)
    assert len(edges) >= 2
    assert (np.diff(edges) >= 0).all()
    assert (edges[0], edges[-1]) == (truth.min(), truth.max())
    rows = range_rows(truth, truth + 2, baseline=0.0)
    assert sum(row.labels for row in rows) == len(values)
    for row in rows:
        last = row is rows[-1]
        own = [v for v in values if row.low <= v < row.high or (last and v == row.high)]
        assert row.labels == len(own)
        assert (row.mae, row.bias) == pytest.approx((2.0, 2.0), abs=1e-6)
        assert row.baseline_mae == pytest.approx(sum(map(abs, own)) / len(own))


def test_range_edges_are_round_despite_outliers():
    speeds = np.append(np.linspace(0.3, 31.7, 1000), 900.0)
    edges = range_edges(speeds).tolist()
    assert edges == [0.3, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 900.0]
    assert [round_step(s) for s in (0.011, 0.2, 2.1, 26)] == pytest.approx([0.02, 0.2, 2.5, 50])


def test_range_rows_exclude_labels_that_are_not_finite():
    rows = range_rows(np.array([1.0, np.nan]), np.array([2.0, 2.0]), 0.0)
    assert [row.labels for row in rows] == [1]
    assert range_rows(np.array([np.nan]), np.array([2.0]), 0.0) == []


def test_sequence_losses():
    label = SPECS["regression by frame"].label
    truth = np.zeros((3, 2, 2))
    answers = np.array([[[2, 5], [4, 5]], [[1, 0], [np.nan, 9]], [[0, 0], [0, 0]]], float)
    valid = np.array([[True, True], [True, False], [False, False]])
    losses = sequence_losses(label, predicted(truth, answers, valid=valid), np.array([2.0, 0.0]))
    # In standard deviations; a target that never changes has none, and is taken as it is.
    assert losses[:2].tolist() == [(1 + 5 + 2 + 5) / 4, 0.25]
    assert math.isnan(losses[2])  # of no labels
    answers[1, 0, 0] = np.nan
    broken = predicted(truth, answers, valid=valid)
    assert sequence_losses(label, broken, np.ones(2))[1] == math.inf
    label = SPECS["multilabel"].label
    one = predicted(np.array([[1, 0, 0]]), np.array([[0.5, 0.5, 0.0]]))
    losses = sequence_losses(label, one, np.array([]))
    assert losses[0] == pytest.approx(2 * math.log(2) / 3)


def test_worst_sequences_come_from_several_sources():
    losses = np.array([9.0, 8, 7, 1, np.nan, np.inf])
    sources = ["a", "a", "a", "b", "b", "a"]
    assert worst_sequences(losses, sources, count=3, by_source=2) == [5, 0, 3]
    assert worst_sequences(losses, sources, count=5, by_source=2) == [5, 0, 3, 1, 2]
    assert worst_sequences(losses, sources, count=9, by_source=9) == [5, 0, 1, 2, 3]
