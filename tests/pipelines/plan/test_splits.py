"""Tests of splits: the same in every run, for any order, and when footage is added."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.plan.descriptors import Source
from pipelines.plan.splits import assign_splits, hash_fraction, hashed_split

SPLITS = (("train", 0.8), ("validation", 0.1), ("test", 0.1))


def source(group: str, split: str | None = None, name: str = "") -> Source:
    name = name or f"{group}/{split}.mp4"
    return Source(id=name, path=f"/in/{name}", data_path=name, group=group, split=split)


def test_hash_fraction_never_changes() -> None:
    """A change would move the groups of a rebuilt dataset to other splits."""
    assert hash_fraction("split", 0, "drive-7") == pytest.approx(0.2543527685845973, abs=1e-15)
    assert [hashed_split(f"g{i:02d}", SPLITS, 0) for i in range(1, 13)] == [
        "train",
        "test",
        "train",
        "train",
        "train",
        "train",
        "train",
        "train",
        "train",
        "train",
        "train",
        "train",
    ]


def test_hash_fraction_is_independent_of_process() -> None:
    code = "from pipelines.plan.splits import hash_fraction; print(repr(hash_fraction('split', 3, 'a')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) == hash_fraction("split", 3, "a")


@given(st.lists(st.text(), max_size=4))
def test_hash_fraction_is_in_0_to_1(parts: list[str]) -> None:
    parts = [part.encode("utf-8", "replace").decode() for part in parts]
    assert 0 <= hash_fraction(*parts) < 1


def test_hash_fraction_separates_parts() -> None:
    assert hash_fraction("ab", "c") != hash_fraction("a", "bc")


def test_hashed_split_takes_names_that_are_not_utf8() -> None:
    assert hashed_split("caf\udce9", SPLITS, 0) in dict(SPLITS)


@pytest.mark.parametrize("seed", range(5))
def test_hashed_split_follows_fractions(seed: int) -> None:
    groups = 20_000
    found = [hashed_split(f"video {i}.mp4", SPLITS, seed) for i in range(groups)]
    for name, fraction in SPLITS:
        deviation = (groups * fraction * (1 - fraction)) ** 0.5
        assert abs(found.count(name) - groups * fraction) < 5 * deviation


def test_hashed_split_depends_on_seed() -> None:
    groups = [f"g{i}" for i in range(200)]
    deals = [[hashed_split(group, SPLITS, seed) for group in groups] for seed in (0, 1)]
    assert deals[0] != deals[1]


@given(st.text(alphabet="abc019", max_size=6), st.integers())
def test_hashed_split_never_returns_empty_split(group: str, seed: int) -> None:
    assert hashed_split(group, (("a", 0.0), ("b", 1.0), ("c", 0.0)), seed) == "b"
    assert hashed_split(group, (("a", 0.0), ("b", 0.5), ("c", 0.0), ("d", 0.5)), seed) in "bd"


@given(st.text(alphabet="abc019", max_size=6))
def test_hashed_split_takes_fractions_just_under_1(group: str) -> None:
    assert hashed_split(group, (("a", 0.0), ("b", 1e-9), ("c", 0.0)), 0) == "b"


@given(st.sets(st.text(max_size=5), max_size=30), st.sets(st.text(max_size=5), max_size=30))
def test_assign_splits_keeps_groups_when_others_are_added(old: set[str], new: set[str]) -> None:
    clean = {group for group in old | new if group.isprintable()}
    before = assign_splits([source(group) for group in sorted(old & clean)], SPLITS, 0)
    after = assign_splits([source(group) for group in sorted(clean)], SPLITS, 0)
    assert before.items() <= after.items()


@given(st.permutations([(f"g{i % 7}", "val" if i in (3, 5) else None) for i in range(20)]))
def test_assign_splits_is_independent_of_order(members: list[tuple[str, str | None]]) -> None:
    found = assign_splits([source(group, split) for group, split in members], SPLITS, 0)
    expected = {f"g{i}": hashed_split(f"g{i}", SPLITS, 0) for i in range(7)}
    assert found == expected | {"g3": "val", "g5": "val"}


def test_assign_splits_follows_named_split_of_group() -> None:
    other = next(
        name for name, _ in SPLITS if name != hashed_split("drive", SPLITS, 0)
    )  # not what the hash would say
    members = [source("drive"), source("drive", other), source("drive", name="b.mp4")]
    assert assign_splits(members, SPLITS, 0) == {"drive": other}


def test_assign_splits_refuses_group_in_two_splits() -> None:
    members = [
        source("p1", "train", "run/a.mp4"),
        source("p1", None, "run/b.mp4"),
        source("p1", "test", "walk/c.mp4"),
    ]
    with pytest.raises(
        UserError, match=r"'p1' has 'run/a.mp4' in train and 'walk/c.mp4' in test: give"
    ):
        assign_splits(members, SPLITS, 0)


def test_assign_splits_of_no_sources() -> None:
    assert assign_splits([], SPLITS, 0) == {}
