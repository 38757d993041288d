"""Sums that are taken in parts equal those taken at once."""

from __future__ import annotations

import pytest

from pipelines.validation.conclude import choose_samples
from pipelines.validation.findings import Finding, FindingLog
from pipelines.validation.shard_summary import ShardSummary
from pipelines.validation.tallies import BINS, Tally, find_bin, merge_tallies
from tfrecords_schema.moments import Moments


def test_merge_tallies_adds_all_sums():
    one = Tally(records=2, frames=8, seconds=1.0, labels=[2], histograms={"a": [1] * BINS})
    two = Tally(records=1, frames=3, seconds=0.5, labels=[0, 1], columns={"a": Moments(count=0)})
    total = merge_tallies([one, two])
    assert (total.records, total.frames, total.seconds) == (3, 11, 1.5)
    assert total.labels == [2, 1]
    assert total.histograms == {"a": [1] * BINS}
    assert one.labels == [2]


@pytest.mark.parametrize(
    ("value", "limits", "place"),
    [(0, (0, 1), 0), (1, (0, 1), BINS - 1), (-9, (0, 1), 0), (9, (0, 1), BINS - 1), (5, (5, 5), 0)],
)
def test_find_bin(value, limits, place):
    assert find_bin(value, limits) == place


def test_finding_log_keeps_first_and_counts_all():
    def findings(count, start=0):
        return [
            Finding(check="a", level="error", message=str(i)) for i in range(start, start + count)
        ]

    one, two = FindingLog(3), FindingLog(3)
    one.add(findings(2))
    two.add(findings(9, start=2))
    one.merge(two)
    assert [f.message for f in one.kept] == ["0", "1", "2"]
    assert one.counts == {("a", "error"): 11}


def test_choose_samples_covers_strata_first():
    shards = [
        ShardSummary(split="train", file="s0", samples={0: (1, 10), 1: (9, 20)}),
        ShardSummary(split="train", file="s1", samples={0: (2, 30), 2: (8, 40)}),
    ]
    chosen = choose_samples({"train": shards, "test": []}, 3)
    assert {(s.split, s.shard, s.offset) for s in chosen} == {
        ("train", "s0", 10),
        ("train", "s0", 20),
        ("train", "s1", 40),
    }
    assert len(choose_samples({"train": shards}, 10)) == 4
