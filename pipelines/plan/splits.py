"""Assigns groups to splits: pure, and the same in every run and on every machine.

The split of a group depends only on its name and the seed, so adding footage never moves existing groups, and
later steps (windows, segments, shards) never separate a group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from pipelines.errors import UserError
from pipelines.plan.descriptors import Source


def hash_fraction(*parts: object) -> float:
    """Returns a number in [0, 1) that depends only on ``parts``, and is uniform over different parts."""
    text = "\0".join(str(part) for part in parts)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    # 53 bits fit a float's mantissa, so the result never rounds up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def hashed_split(group: str, splits: Sequence[tuple[str, float]], seed: int) -> str:
    """Returns the split of ``group`` when [0, 1) is divided among ``splits`` in order."""
    position, edge = hash_fraction("split", seed, group), 0.0
    for name, fraction in splits:
        edge += fraction
        if position < edge:
            return name
    # Fractions may sum to just under 1: the rest belongs to the last split above 0.
    return [name for name, fraction in splits if fraction > 0][-1]


def assign_splits(
    sources: Iterable[Source], splits: Sequence[tuple[str, float]], seed: int
) -> dict[str, str]:
    """Returns the split of each group: the one that its sources name, else the hashed one.

    A source that names no split follows the others of its group.
    """
    named: dict[str, tuple[str, str]] = {}
    groups: dict[str, None] = {}
    for source in sources:
        groups[source.group] = None
        if source.split is None:
            continue
        split, first_id = named.setdefault(source.group, (source.split, source.id))
        if split != source.split:
            raise UserError(
                f"a group must lie in one split, but group {source.group!r} has {first_id!r} in {split} "
                f"and {source.id!r} in {source.split}: give them one split, or different groups"
            )
    return {
        group: named[group][0] if group in named else hashed_split(group, splits, seed)
        for group in groups
    }
