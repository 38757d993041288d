"""Assigns groups to splits: pure, and the same in every run and on every machine.

The split of a group depends only on its name and the seed, so adding footage never moves existing groups, and
later steps (windows, segments, shards) never separate a group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

from pipelines.errors import UserError
from pipelines.options.dataset import SplitOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.plan.hashing import hash_fraction
from pipelines.plan.stratify import stratify

_MAX_NAMED = 3


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


def settle_splits(listing: Listing, options: SplitOptions) -> Listing:
    """Returns the listing with the splits that the hash of a group does not decide alone, and with notes.

    A split is listed if sources name it, whether by a list, a column or a folder. Listed splits stay as they
    are, but other splits may be taken out of ``train``, and other sources may join it.

    Raises:
        UserError: if a group is in two listed splits, or the options do not fit the sources.
    """
    sources, seed = listing.sources, options.seed
    named = assign_splits((source for source in sources if source.split is not None), (), seed)
    if not named and options.unlisted is not None:
        raise UserError(
            "--unlisted needs splits that a split list, a column or folders name, but there are none"
        )
    if options.split_by == "time" or not (named or options.stratify):
        return listing
    listed = set(named.values())
    notes: list[str] = []
    shares = _open_splits(listed, options)
    # Groups whose hash says a listed split train, so that others stay where they would be without lists.
    ranges = shares if "train" in listed else options.splits
    home = max(shares, key=lambda share: (share[0] == "train", share[1]))[0]
    if named:
        sources, notes = _place_unlisted(sources, named, shares, options)
    free = {s.group: home for s in sources if named.get(s.group, "train") == "train"}
    if len(shares) > 1:
        for group in free:
            split = hashed_split(group, ranges, seed)
            free[group] = split if split in dict(shares) else home
    moved: dict[str, str] = {}
    if options.stratify:
        moved, note = _stratify(listing, sources, free, shares, seed)
        notes.append(note)
    if "train" in listed and len(shares) > 1:
        taken = sum(split != "train" for split in (free | moved).values())
        names = join_names(name for name, _ in shares if name != "train")
        notes.append(
            f"--splits takes {names} by groups out of the listed train: {taken} of {len(free)} groups"
        )
    elif "train" in listed and "validation" not in listed:
        notes.append(
            "no validation split is listed, and train stays as it is. --splits train=0.9,validation=0.1 "
            "takes groups of train for it"
        )
    settled = free | moved if named else moved
    sources = tuple(
        replace(source, split=settled[source.group]) if source.group in settled else source
        for source in sources
    )
    return replace(listing, sources=sources, notes=(*listing.notes, *notes))


def _open_splits(listed: Set[str], options: SplitOptions) -> Sequence[tuple[str, float]]:
    """Returns the splits, with shares, that unlisted groups and those of ``train`` may go to."""
    if "train" in listed and "splits" not in options.changed():
        return [("train", 1.0)]  # a published split is divided only if that is asked for
    shares = [(n, f) for n, f in options.splits if f > 0 and n not in listed - {"train"}]
    if "train" in listed and "train" not in dict(shares):
        raise UserError(
            "--splits must leave a fraction of the listed train to train, such as "
            "train=0.9,validation=0.1, got none"
        )
    total = sum(share for _, share in shares)
    return [(name, share / total) for name, share in shares] or [("train", 1.0)]


def _place_unlisted(
    sources: Sequence[Source],
    named: Mapping[str, str],
    shares: Sequence[tuple[str, float]],
    options: SplitOptions,
) -> tuple[tuple[Source, ...], list[str]]:
    """Returns the sources to build, without those that have no place, and notes for the user."""
    listed = set(named.values())
    leaves_out = options.unlisted == "leave_out" or (not options.unlisted and "train" in listed)
    kept: list[Source] = []
    joined: list[str] = []
    left: list[str] = []
    bound: dict[str, list[str]] = {}  # by split; elsewhere they would leak from it
    for source in sources:
        split = named.get(source.group, "train")
        if source.split is None and split != "train":
            bound.setdefault(split, []).append(source.id)
        elif source.split is None and leaves_out:
            left.append(source.id)
        else:
            kept.append(source)
            if source.split is None:
                joined.append(source.id)
    notes = [
        f"{join_names(sorted(listed))} {'is' if len(listed) == 1 else 'are'} listed. No other source "
    ]
    notes[0] += "joins them, but train" if joined and "train" in listed else "joins them"
    if left:
        notes.append(
            f"{len(left)} sources are in no listed split and were left out (--unlisted train trains on "
            f"them): {name_some(left)}"
        )
    for split, ids in sorted(bound.items()):
        notes.append(
            f"{len(ids)} sources share a group with {split}, which does not list them, and were left out: "
            f"{name_some(ids)}"
        )
    if joined:
        notes.append(
            f"{len(joined)} sources are in no listed split and go to {join_names(n for n, _ in shares)} "
            f"(--unlisted leave_out leaves them out): {name_some(joined)}"
        )
    return tuple(kept), notes


def _stratify(
    listing: Listing,
    sources: Sequence[Source],
    free: Mapping[str, str],
    shares: Sequence[tuple[str, float]],
    seed: int,
) -> tuple[dict[str, str], str]:
    """Returns the groups that are moved for ``--stratify on`` with their new splits, and a note on them."""
    if not any(source.labels for source in sources):
        raise UserError(
            "--stratify on needs sources with classes, of class folders or a manifest, but they have none"
        )
    classes_of: dict[str, tuple[str, ...]] = {}
    sizes: Counter[str] = Counter()
    for source in sources:
        if source.group in free:
            sizes[source.group] += 1
            own = classes_of.setdefault(source.group, source.labels)
            if not set(source.labels).issubset(own):
                classes_of[source.group] = tuple(sorted({*own, *source.labels}))
    moved, lacking = stratify(classes_of, sizes, free, shares, seed)
    names = join_names(name for name, _ in shares)
    note = f"--stratify on moved {len(moved)} of {len(free)} groups, to have each class in {names}"
    scarce = [name for name, groups in lacking.items() if groups < len(shares)]
    if scarce:
        note += f". Classes with fewer groups than these splits are in some of them: {name_some(scarce)}"
    if stuck := [name for name in lacking if name not in set(scarce)]:
        note += (
            f". No division was found for {name_some(stuck)}, which share groups with other classes"
        )
    return moved, note


def name_some(names: Iterable[str]) -> str:
    """Returns the first names, and the number of the others: ``'a', 'b', 'c' and 4 more``."""
    names = list(names)
    more = len(names) - _MAX_NAMED
    return ", ".join(map(repr, names[:_MAX_NAMED])) + (f" and {more} more" if more > 0 else "")


def join_names(names: Iterable[str]) -> str:
    """Returns ``train, validation and test``."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
