"""Tests of splits: the same in every run, for any order, and when footage is added."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.options.dataset import SplitOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.plan.hashing import hash_fraction
from pipelines.plan.splits import assign_splits, hashed_split, place_unlisted, settle_splits
from tfrecords_schema.spec import LabelSpec

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
    code = "from pipelines.plan.hashing import hash_fraction; print(repr(hash_fraction('split', 3, 'a')))"
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


def settle(sources: list[Source], **options: object) -> tuple[dict[str, str | None], str]:
    """Returns the split of each source that is built, and the notes."""
    listing = Listing(name="in", sources=tuple(sources), label=LabelSpec())
    listed = {source.split for source in sources if source.split}
    chosen = SplitOptions(**options)
    found = settle_splits(place_unlisted(listing, listed, chosen), listed, chosen)
    return {s.id: s.split for s in found.sources}, "\n".join(found.notes)


def listed(**splits: str | None) -> list[Source]:
    """Returns sources of one group each, by name."""
    return [source(name, split, name) for name, split in splits.items()]


UNLISTED = {f"n{i:02}": None for i in range(40)}


class TestSettleSplits:
    def test_without_listed_splits_nothing_changes(self) -> None:
        assert settle(listed(**UNLISTED)) == (UNLISTED, "")

    def test_listed_train_leaves_others_out(self) -> None:
        given = listed(a="train", b="test", **UNLISTED)
        found, notes = settle(given)
        assert found == {"a": "train", "b": "test"}
        assert "listed splits, which do not grow: test and train\n" in notes
        assert "40 sources are in no listed split and were left out (--unlisted train" in notes
        assert "'n00', 'n01', 'n02' and 37 more" in notes
        assert (
            "no validation split is listed, and train stays as it is. --splits train=0.9" in notes
        )

    def test_unlisted_join_listed_train(self) -> None:
        found, notes = settle(listed(a="train", b="test", **UNLISTED), unlisted="train")
        assert found == {"a": "train", "b": "test"} | dict.fromkeys(UNLISTED, "train")
        assert "which do not grow: test and train, except train" in notes
        assert "40 sources are in no listed split and go to train" in notes

    def test_listed_test_does_not_grow(self) -> None:
        found, notes = settle(listed(b="test", **UNLISTED))
        hashed = {name: hashed_split(name, SPLITS, 0) for name in UNLISTED}
        assert "test" in hashed.values()
        expected = {name: "train" if split == "test" else split for name, split in hashed.items()}
        assert found == {"b": "test"} | expected
        assert "40 sources are in no listed split and go to train and validation" in notes
        assert settle(listed(b="test", **UNLISTED), unlisted="leave_out")[0] == {"b": "test"}

    def test_splits_without_train_do_not_grow_listed_one(self) -> None:
        found, _ = settle(listed(b="x", **UNLISTED), splits=(("x", 0.5), ("y", 0.2), ("z", 0.3)))
        assert {found.pop("b"), *found.values()} == {"x", "y", "z"}
        assert set(found.values()) == {"y", "z"}

    def test_split_is_taken_out_of_listed_train(self) -> None:
        train = {f"t{i:02}": "train" for i in range(60)}
        given = listed(**train, x="test", y="test")
        found, notes = settle(given, splits=(("train", 0.6), ("validation", 0.2), ("test", 0.2)))
        assert found["x"] == found["y"] == "test"
        ranges = (("train", 0.75), ("validation", 0.25))
        assert {name: found[name] for name in train} == {
            name: hashed_split(name, ranges, 0) for name in train
        }
        taken = list(found.values()).count("validation")
        assert 5 < taken < 25
        assert f"validation are {taken} of the 60 groups of the listed train" in notes

    def test_group_leaves_listed_train_whole(self) -> None:
        train = [source(f"g{i % 10}", "train", f"{i}.mp4") for i in range(50)]
        given = [*train, source("h", "test", "h.mp4")]
        found, _ = settle(given, splits=(("train", 0.5), ("validation", 0.5)))
        for s in train:
            assert found[s.id] == found[f"{s.group[1]}.mp4"]
        assert set(found.values()) == {"train", "validation", "test"}

    def test_listed_train_is_not_given_away(self) -> None:
        with pytest.raises(UserError, match="--splits must leave a fraction of the listed train"):
            settle(listed(a="train"), splits=(("validation", 1.0),))

    def test_others_of_listed_group_do_not_join_or_leak(self) -> None:
        given = [source("p", "test", "a"), source("p", None, "b"), source("q", None, "c")]
        found, notes = settle(given, splits=(("train", 1.0),))
        assert found == {"a": "test", "c": "train"}
        assert (
            "1 sources are in no listed split and share a group with sources of test and were left"
            in notes
        )

    def test_unlisted_needs_listed_splits(self) -> None:
        with pytest.raises(UserError, match="--unlisted needs splits that"):
            settle(listed(**UNLISTED), unlisted="train")

    def test_stratify_needs_classes(self) -> None:
        with pytest.raises(UserError, match="--stratify on needs sources with classes"):
            settle(listed(**UNLISTED), stratify=True)

    def test_stratify_moves_groups_outside_listed_splits(self) -> None:
        given = [
            Source(
                id=f"{c}{i}",
                path="x",
                data_path=f"{c}{i}",
                group=f"{c}{i}",
                labels=(c,),
                split=split,
            )
            for c in "abcdefgh"
            for i, split in enumerate(["test", *[None] * 4])
        ]
        found, notes = settle(given, stratify=True, splits=(("train", 0.9), ("validation", 0.1)))
        for c in "abcdefgh":
            own = [found[f"{c}{i}"] for i in range(5)]
            assert own.count("test") == 1
            assert own[0] == "test"
            assert own.count("validation") >= 1
        assert "groups were moved to have each class in train and validation" in notes
        few = [s for s in given if s.id not in ("a2", "a3", "a4")]
        assert "fewer groups than splits are in some: 'a'" in settle(few, stratify=True)[1]
