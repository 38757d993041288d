"""Moves groups between splits so that each class is in every split."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from pipelines.plan.hashing import hash_fraction

_MAX_CANDIDATES = 64  # groups of a class that are compared, which are enough to find one to move
_MAX_MOVES = 3  # of a group that fill one cell and empty another, which bounds the search


def stratify(
    classes_of: Mapping[str, Collection[str]],
    sizes: Mapping[str, int],
    split_of: Mapping[str, str],
    shares: Mapping[str, float],
    seed: int,
) -> tuple[dict[str, str], dict[str, int]]:
    """Returns the new split of each group to move, and the number of groups of classes that lack a split.

    If every group is of one class, each class is in all splits after the fewest possible moves; a class with
    fewer groups than splits is in those with the largest shares. Groups of several classes are moved while
    that fills more cells of classes by split than it empties, so some may stay empty.

    Args:
        classes_of: classes of each group.
        sizes: number of sources of each group.
        split_of: the split of each group before.
        shares: fraction of the groups by split.
        seed: of the order among equal groups.
    """
    cells = _Cells(classes_of, sizes, split_of, shares, seed)
    while cells.fill_all(max_balance=-1) or cells.fill_all(max_balance=0):
        pass
    while cells.restore_all() or cells.fill_all(max_balance=-1):
        pass
    moved = {group: cells.split_of[group] for group in cells.moves}
    lacking = {
        name: len(cells.members[name])
        for name in cells.names
        if not all(cells.counts[name, split] for split in shares)
    }
    return {group: split for group, split in moved.items() if split != split_of[group]}, lacking


class _Cells:
    """A table of classes by split, and the moves of groups that change it. Needed cells should be filled."""

    def __init__(
        self,
        classes_of: Mapping[str, Collection[str]],
        sizes: Mapping[str, int],
        split_of: Mapping[str, str],
        shares: Mapping[str, float],
        seed: int,
    ) -> None:
        self.classes_of, self.sizes, self.shares, self.seed = classes_of, sizes, shares, seed
        self.before, self.split_of = split_of, dict(split_of)
        self.members: dict[str, list[str]] = defaultdict(list)
        self.counts: Counter[tuple[str, str]] = Counter()  # groups
        for group, classes in classes_of.items():
            for name in classes:
                self.members[name].append(group)
                self.counts[name, split_of[group]] += 1
        self.names = sorted(self.members, key=lambda name: (len(self.members[name]), name))
        order = sorted(shares, key=lambda split: -shares[split])
        self._order = {split: rank for rank, split in enumerate(order)}
        self.moves: Counter[str] = Counter()

    def _rank(self, group: str) -> tuple[float, str]:
        return hash_fraction("stratify", self.seed, group), group

    def fill_all(self, max_balance: int) -> int:
        """Moves a group into each empty cell that is needed, if the balance allows; returns the number."""
        return sum(self._fill(name, s, max_balance) for name in self.names for s in self.shares)

    def restore_all(self) -> int:
        """Moves groups back to where they were if this empties no more cells; returns the number."""
        return sum(self._restore(group) for group in sorted(self.moves, key=self._rank))

    def _fill(self, name: str, split: str, max_balance: int) -> bool:
        if not self._is_needed(name, split):
            return False
        members = self.members[name]
        share = self.shares[split] * sum(self.sizes[group] for group in members)
        best: tuple[int, float, float, tuple[float, str]] | None = None
        for group in heapq.nsmallest(_MAX_CANDIDATES, members, key=self._rank):
            own, balance = self.split_of[group], self._balance(group, split)
            if balance <= max_balance and (balance < 0 or self.moves[group] < _MAX_MOVES):
                surplus = self.counts[name, own] - self.shares[own] * len(members)
                key = (balance, -surplus, abs(self.sizes[group] - share), self._rank(group))
                best = min(best or key, key)
        if best is not None:
            self._move(best[-1][1], split)
        return best is not None

    def _restore(self, group: str) -> bool:
        before = self.before[group]
        is_needless = self.split_of[group] != before and self._balance(group, before) <= 0
        if is_needless:
            self._move(group, before)
        return is_needless

    def _is_needed(self, name: str, split: str, groups: int = 0) -> bool:
        """Returns True for a cell of ``groups`` groups that should not be empty."""
        return self.counts[name, split] == groups and self._order[split] < len(self.members[name])

    def _balance(self, group: str, split: str) -> int:
        """Returns how many more needed cells would be empty if the group moved to ``split``."""
        own, classes = self.split_of[group], self.classes_of[group]
        lost = sum(self._is_needed(name, own, groups=1) for name in classes)
        return lost - sum(self._is_needed(name, split) for name in classes)

    def _move(self, group: str, split: str) -> None:
        for name in self.classes_of[group]:
            self.counts[name, self.split_of[group]] -= 1
            self.counts[name, split] += 1
        self.split_of[group] = split
        self.moves[group] += 1
