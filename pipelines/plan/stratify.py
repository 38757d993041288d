"""Moves groups between splits so that each class is in every split."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from pipelines.plan.hashing import hash_fraction

_MAX_CANDIDATES = 64  # groups of a class that are compared, which are enough to find one to move
_MAX_MOVES = 3  # of a group, which bounds the search


def stratify(
    classes_of: Mapping[str, Collection[str]],
    sizes: Mapping[str, int],
    split_of: Mapping[str, str],
    shares: Sequence[tuple[str, float]],
    seed: int,
) -> tuple[dict[str, str], dict[str, int]]:
    """Returns the groups to move with their new splits, and the classes that are not in every split.

    If every group is of one class, a class with as many groups as splits is in all of them after the fewest
    possible moves. A class with fewer groups has one in each of the splits with the largest shares. Groups of
    several classes are moved only if no fewer classes are in their splits then, so some may stay without.

    Args:
        classes_of: the classes in each group.
        sizes: number of sources of each group.
        split_of: the split of each group before.
        shares: splits with their fractions of the groups.
        seed: of the order among equal groups.

    Returns:
        The new split of each moved group; and the number of groups of each class that lacks a split.
    """
    return _Stratification(classes_of, sizes, split_of, shares, seed).solve()


class _Stratification:
    def __init__(
        self,
        classes_of: Mapping[str, Collection[str]],
        sizes: Mapping[str, int],
        split_of: Mapping[str, str],
        shares: Sequence[tuple[str, float]],
        seed: int,
    ) -> None:
        self.classes_of, self.sizes, self.split_of = classes_of, sizes, dict(split_of)
        self.before, self.shares, self.seed = split_of, dict(shares), seed
        self.members: dict[str, list[str]] = defaultdict(list)
        self.counts: Counter[tuple[str, str]] = Counter()  # groups by class and split
        for group, classes in classes_of.items():
            for name in classes:
                self.members[name].append(group)
                self.counts[name, split_of[group]] += 1
        # A class with few groups should be in the splits with the largest shares.
        order = sorted(self.shares, key=lambda split: -self.shares[split])
        self.ranks = {split: rank for rank, split in enumerate(order)}
        self.moves: Counter[str] = Counter()

    def solve(self) -> tuple[dict[str, str], dict[str, int]]:
        names = sorted(self.members, key=lambda name: (len(self.members[name]), name))
        cells = [(name, s) for name in names for s in self.ranks if self._needs(name, s)]
        while sum(self._fill(*cell) for cell in cells):
            cells = [(name, s) for name in names for s in self.ranks if self._needs(name, s)]
        while sum(self._restore(group) for group in sorted(self.moves, key=self._rank)):
            pass
        return (
            {g: self.split_of[g] for g in self.moves if self.split_of[g] != self.before[g]},
            {
                n: len(self.members[n])
                for n in names
                if not all(self.counts[n, s] for s in self.ranks)
            },
        )

    def _needs(self, name: str, split: str, without: int = 0) -> bool:
        """Returns True if a class has ``without`` groups in a split that it should be in."""
        return self.counts[name, split] == without and self.ranks[split] < len(self.members[name])

    def _balance(self, group: str, split: str) -> int:
        """Returns how many more cells of classes by split would be empty if the group were in ``split``."""
        own, classes = self.split_of[group], self.classes_of[group]
        if own == split:
            return 0
        lost = sum(self._needs(name, own, without=1) for name in classes)
        return lost - sum(self._needs(name, split) for name in classes)

    def _fill(self, name: str, split: str) -> bool:
        """Moves a group of a class to a split that lacks it; returns True if there is one."""
        if not self._needs(name, split):
            return False
        members = self.members[name]
        share = self.shares[split] * sum(self.sizes[group] for group in members)
        best: tuple[int, float, float, tuple[float, str]] | None = None
        for group in heapq.nsmallest(_MAX_CANDIDATES, members, key=self._rank):
            own, balance = self.split_of[group], self._balance(group, split)
            if balance > 0 or self.moves[group] >= _MAX_MOVES:
                continue
            surplus = self.counts[name, own] - self.shares[own] * len(members)
            key = (balance, -surplus, abs(self.sizes[group] - share), self._rank(group))
            best = min(best or key, key)
        if best is not None:
            self._move(best[-1][1], split)
        return best is not None

    def _restore(self, group: str) -> bool:
        """Moves a group back where it was if this empties no more cells; returns True if it is moved."""
        before = self.before[group]
        is_needless = self.split_of[group] != before and self._balance(group, before) <= 0
        if is_needless:
            self._move(group, before)
        return is_needless

    def _move(self, group: str, split: str) -> None:
        for name in self.classes_of[group]:
            self.counts[name, self.split_of[group]] -= 1
            self.counts[name, split] += 1
        self.split_of[group] = split
        self.moves[group] += 1

    def _rank(self, group: str) -> tuple[float, str]:
        return hash_fraction("stratify", self.seed, group), group
