"""Sums that are taken in parts equal those taken at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.validation.findings import Finding, FindingLog
from pipelines.validation.result import choose_samples
from pipelines.validation.tallies import BINS, Moments, Tally, find_bin, merged


@given(
    parts=st.lists(st.lists(st.floats(-1e6, 1e6), max_size=8), max_size=6),
    base=st.sampled_from([0.0, 1e7]),
)
def test_moments_of_parts_are_those_of_the_whole(parts, base):
    total = Moments()
    for part in parts:
        own = Moments()
        for value in part:
            own.add(base + value)
        total.merge(own)
    values = np.array([base + value for part in parts for value in part])
    assert total.count == len(values)
    if len(values):
        assert total.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-6)
        assert total.std == pytest.approx(values.std(), rel=1e-6, abs=1e-3)
        assert (total.min, total.max) == (values.min(), values.max())


def test_tallies_of_parts_add_up():
    one = Tally(records=2, frames=8, seconds=1.0, labels=[2], histograms={"a": [1] * BINS})
    two = Tally(records=1, frames=3, seconds=0.5, labels=[0, 1], columns={"a": Moments(count=0)})
    total = merged([one, two])
    assert (total.records, total.frames, total.seconds) == (3, 11, 1.5)
    assert total.labels == [2, 1]
    assert total.histograms == {"a": [1] * BINS}
    assert one.labels == [2]


@pytest.mark.parametrize(
    ("value", "limits", "place"),
    [(0, (0, 1), 0), (1, (0, 1), BINS - 1), (-9, (0, 1), 0), (9, (0, 1), BINS - 1), (5, (5, 5), 0)],
)
def test_bins(value, limits, place):
    assert find_bin(value, limits) == place


def test_logs_keep_the_first_and_count_all():
    def findings(count, start=0):
        return [
            Finding(check="a", level="error", message=str(i)) for i in range(start, start + count)
        ]

    one, two = FindingLog(3), FindingLog(3)
    one.add(findings(2))
    two.add(findings(9, start=2))
    one.merge(two.kept, two.counts)
    assert [f.message for f in one.kept] == ["0", "1", "2"]
    assert one.counts == {("a", "error"): 11}


def test_samples_are_of_as_many_strata_as_there_is_room_for():
    shards = [
        {0: ("s0", 1, 10), 1: ("s0", 9, 20)},
        {0: ("s1", 2, 30), 2: ("s1", 8, 40)},
    ]
    chosen = choose_samples({"train": shards, "test": []}, 3)
    assert {(s.split, s.shard, s.offset) for s in chosen} == {
        ("train", "s0", 10),
        ("train", "s0", 20),
        ("train", "s1", 40),
    }
    assert len(choose_samples({"train": shards}, 10)) == 4
