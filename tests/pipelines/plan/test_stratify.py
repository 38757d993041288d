"""Tests of `stratify` against its definition: which classes are in which splits, after how many moves."""

from __future__ import annotations

import random
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.plan.splits import hashed_split
from pipelines.plan.stratify import stratify

SPLITS = (("train", 0.8), ("validation", 0.1), ("test", 0.1))


@st.composite
def divisions(draw, max_classes=1):
    """Classes and sizes of groups, and their splits by hash."""
    names = draw(st.lists(st.text("abcd", min_size=1, max_size=3), unique=True, max_size=20))
    kinds = st.lists(st.sampled_from("rstuvw"), min_size=0, max_size=max_classes, unique=True)
    classes = {name: tuple(draw(kinds)) for name in names}
    sizes = {name: draw(st.integers(1, 9)) for name in names}
    seed = draw(st.integers(0, 3))
    return classes, sizes, {name: hashed_split(name, SPLITS, seed) for name in names}, seed


def members_of(classes):
    members = defaultdict(set)
    for group, own in classes.items():
        for name in own:
            members[name].add(group)
    return members


def empty_cells(classes, split_of):
    """Returns the classes and splits without a group; only the largest splits if the class has few groups."""
    return {
        (name, split)
        for name, groups in members_of(classes).items()
        for split, _ in SPLITS[: len(groups)]
        if not any(split_of[group] == split for group in groups)
    }


@given(divisions())
@settings(deadline=None)
def test_stratify_puts_class_into_every_split_by_fewest_moves(division) -> None:
    classes, sizes, before, seed = division
    moved, lacking = stratify(classes, sizes, before, dict(SPLITS), seed)
    assert not empty_cells(classes, before | moved)
    # Each empty cell needs a move of its own, as a group has one class.
    assert len(moved) == len(empty_cells(classes, before))
    assert all(before[group] != split for group, split in moved.items())
    counts = {name: len(groups) for name, groups in members_of(classes).items()}
    assert lacking == {name: count for name, count in counts.items() if count < len(SPLITS)}


@given(divisions(max_classes=4))
@settings(deadline=None)
def test_stratify_of_groups_with_several_classes(division) -> None:
    classes, sizes, before, seed = division
    moved, lacking = stratify(classes, sizes, before, dict(SPLITS), seed)
    after = before | moved
    left = empty_cells(classes, after)
    assert len(left) <= len(empty_cells(classes, before))
    for group in moved:  # none is needless
        assert len(empty_cells(classes, after | {group: before[group]})) > len(left)
    for group in classes:  # and no single further move would help
        for split, _ in SPLITS:
            assert len(empty_cells(classes, after | {group: split})) >= len(left)
    assert lacking.keys() == {
        name
        for name, groups in members_of(classes).items()
        if {after[group] for group in groups} != {split for split, _ in SPLITS}
    }


def test_stratify_finds_most_divisions_of_groups_across_classes() -> None:
    """To find one whenever there is one is NP-hard."""
    found = 0
    for trial in range(100):
        chance = random.Random(trial)
        classes, before = {}, {}
        for group in range(24):
            classes[f"g{group}"] = tuple(chance.sample("abcdefghij", chance.randint(1, 4)))
            before[f"g{group}"] = "train"
        moved, _ = stratify(classes, dict.fromkeys(classes, 1), before, dict(SPLITS), 0)
        found += not empty_cells(classes, before | moved)
    assert found >= 95


@given(divisions(max_classes=3), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_stratify_is_independent_of_order(division, shuffler) -> None:
    classes, sizes, before, seed = division
    names = list(classes)
    shuffler.shuffle(names)
    shuffled = {name: classes[name] for name in names}
    one = stratify(classes, sizes, before, dict(SPLITS), seed)
    assert one == stratify(shuffled, sizes, before, dict(SPLITS), seed)


def test_stratify_keeps_what_is_in_every_split() -> None:
    classes = {f"g{i}": ("a",) for i in range(200)}
    before = {name: hashed_split(name, SPLITS, 0) for name in classes}
    assert stratify(classes, dict.fromkeys(classes, 1), before, dict(SPLITS), 0) == ({}, {})


def test_stratify_moves_group_whose_size_is_near_the_share() -> None:
    classes = {f"g{i}": ("a",) for i in range(10)}
    sizes = dict.fromkeys(classes, 10) | {"g3": 1, "g7": 60}
    before = dict.fromkeys(classes, "train") | {"g0": "validation"}
    moved, _ = stratify(classes, sizes, before, dict(SPLITS), 0)
    assert list(moved.values()) == ["test"]
    assert sizes[next(iter(moved))] == 10
