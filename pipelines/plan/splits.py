"""Assigns groups to splits: pure, and the same in every run and on every machine.

The split of a group depends only on its name and the seed, so adding footage never moves existing groups, and
later steps (windows, segments, shards) never separate a group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from pipelines.errors import UserError
from pipelines.options.dataset import SplitOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.plan.hashing import hash_fraction
from pipelines.plan.stratify import stratify
from tfrecords_schema.tables import name_some


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


def place_unlisted(listing: Listing, listed: Collection[str], options: SplitOptions) -> Listing:
    """Returns the listing without sources that have no place beside ``listed`` splits, and with notes.

    A split is listed if sources name it, whether by a list, a column or a folder.

    Raises:
        UserError: if a group is in two listed splits, or the options do not fit the sources.
    """
    if not listed and options.unlisted is not None:
        raise UserError(
            "--unlisted needs splits that a split list, a column or folders name, but there are none"
        )
    named = assign_splits((s for s in listing.sources if s.split is not None), (), options.seed)
    if options.split_by == "time" or not listed:
        return listing
    leaves_out = options.unlisted == "leave_out" or (not options.unlisted and "train" in listed)
    shares = join_names(_open_splits(listed, options))
    kept: list[Source] = []
    unlisted: dict[str, list[str]] = {}  # ids by what happens to them
    for source in listing.sources:
        split = named.get(source.group, "train")
        if source.split is not None:
            kept.append(source)
            continue
        if split != "train":
            reason = f"share a group with sources of {split} and were left out"
        elif leaves_out:
            reason = "were left out (--unlisted train trains on them)"
        else:
            kept.append(source)
            reason = f"go to {shares} (--unlisted leave_out leaves them out)"
        unlisted.setdefault(reason, []).append(source.id)
    grows = "train" in listed and not leaves_out and bool(unlisted)
    note = f"listed splits, which do not grow: {join_names(sorted(listed))}"
    notes = [note + (", except train" if grows else "")]
    for reason, ids in unlisted.items():
        notes.append(f"{len(ids)} sources are in no listed split and {reason}: {name_some(ids)}")
    return replace(listing, sources=tuple(kept), notes=(*listing.notes, *notes))


def settle_splits(listing: Listing, listed: Collection[str], options: SplitOptions) -> Listing:
    """Returns the listing with the splits that the hash of a group does not decide alone, and with notes.

    ``listed`` splits stay as they are, but other splits may be taken out of ``train``.

    Raises:
        UserError: if the options do not fit the sources.
    """
    if options.split_by == "time" or not (listed or options.stratify):
        return listing
    sources, notes = listing.sources, list(listing.notes)
    shares = _open_splits(listed, options)
    named = {source.group: source.split for source in sources if source.split}
    # Groups whose hash says a listed split train, so that others stay where they would be without lists.
    ranges = tuple(shares.items()) if "train" in listed else options.splits
    home = max(shares, key=lambda name: (name == "train", shares[name]))
    hashed = {
        group: hashed_split(group, ranges, options.seed)
        for group in dict.fromkeys(source.group for source in sources)
        if named.get(group, "train") == "train"
    }
    settled = {group: split if split in shares else home for group, split in hashed.items()}
    moved = _stratify(sources, settled, shares, options.seed, notes) if options.stratify else {}
    settled |= moved
    if "train" in listed and len(shares) > 1:
        taken = sum(split != "train" for split in settled.values())
        names = join_names(name for name in shares if name != "train")
        notes.append(f"{names} are {taken} of the {len(settled)} groups of the listed train")
    elif "train" in listed and "validation" not in listed:
        notes.append(
            "no validation split is listed, and train stays as it is. --splits train=0.9,validation=0.1 "
            "takes groups of train for it"
        )
    changed = settled if listed else moved
    sources = tuple(
        source
        if changed.get(source.group, source.split) == source.split
        else replace(source, split=changed[source.group])
        for source in sources
    )
    return replace(listing, sources=sources, notes=tuple(notes))


def _open_splits(listed: Collection[str], options: SplitOptions) -> dict[str, float]:
    """Returns the splits, with shares, that unlisted groups and those of ``train`` may go to."""
    if "train" in listed and "splits" not in options.changed():
        return {"train": 1.0}  # a published split is divided only if that is asked for
    shares = {n: f for n, f in options.splits if f > 0 and (n == "train" or n not in listed)}
    if "train" in listed and "train" not in shares:
        raise UserError(
            "--splits must leave a fraction of the listed train to train, such as "
            "train=0.9,validation=0.1, got none"
        )
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()} or {"train": 1.0}


def _stratify(
    sources: Sequence[Source],
    split_of: Mapping[str, str],
    shares: Mapping[str, float],
    seed: int,
    notes: list[str],
) -> dict[str, str]:
    """Returns the new splits of groups that ``--stratify on`` moves, and adds a note."""
    if not any(source.labels for source in sources):
        raise UserError(
            "--stratify on needs sources with classes, of class folders or a manifest, but they have none"
        )
    classes_of: dict[str, dict[str, None]] = {group: {} for group in split_of}
    for source in sources:
        if source.group in split_of:
            classes_of[source.group].update(dict.fromkeys(source.labels))
    sizes = Counter(source.group for source in sources)
    moved, lacking = stratify(classes_of, sizes, split_of, shares, seed)
    note = f"{len(moved)} of {len(split_of)} groups were moved to have each class in {join_names(shares)}"
    if scarce := [name for name, groups in lacking.items() if groups < len(shares)]:
        note += f". Classes with fewer groups than splits are in some: {name_some(scarce)}"
    if stuck := [name for name, groups in lacking.items() if groups >= len(shares)]:
        note += f". Classes for which their groups with other classes do not allow it: {name_some(stuck)}"
    notes.append(note)
    return moved


def join_names(names: Iterable[str]) -> str:
    """Returns ``train, validation and test``."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
