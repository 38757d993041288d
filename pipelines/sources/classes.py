"""Orders, checks and selects the classes of a listing, whatever they were read from."""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions
from pipelines.plan.descriptors import Listing
from pipelines.plan.hashing import hash_fraction
from tfrecords_schema import storage
from tfrecords_schema.natural_order import natural_key
from tfrecords_schema.options import did_you_mean
from tfrecords_schema.tables import name_some


def order_classes(names: Iterable[str], options: LabelOptions) -> tuple[str, ...]:
    """Returns distinct class names in label order, as ``--class_order`` says.

    Example: ``{"10", "2"}`` gives ``("2", "10")`` in natural order, and ``("10", "2")`` as text.

    Raises:
        UserError: if two names are one text, or the file of ``--class_order`` names other classes.
    """
    distinct = set(names)
    written: dict[str, str] = {}
    for name in sorted(distinct):
        other = written.setdefault(_plain(name), name)
        if other != name:
            raise UserError(
                f"the classes {other!a} and {name!a} look the same: they differ only in their "
                "Unicode form or in spaces around the name. Rename one, or merge them"
            )
    if options.class_order == "text":
        return tuple(sorted(distinct))
    if options.class_order == "natural":
        return tuple(sorted(distinct, key=natural_key))
    ordered = _read_order(options.class_order, written)
    missing, surplus = written.keys() - ordered, set(ordered) - written.keys()
    if missing or surplus:
        parts = [f"it lacks {name_some(sorted(missing))}"] if missing else []
        parts += [f"it names {name_some(sorted(surplus))} without a source"] if surplus else []
        raise UserError(
            f"--class_order {options.class_order} must name exactly the {len(distinct)} classes of the "
            f"input, but {' and '.join(parts)}. Adapt the file"
        )
    return tuple(written[name] for name in ordered)


def select_classes(listing: Listing, options: LabelOptions) -> Listing:
    """Returns the listing with the sources that ``--classes`` keeps.

    Raises:
        UserError: if there is no such class, or sources have no classes to select by.
    """
    typed = options.changed(("classes", "max_per_class"))
    if typed and not any(source.labels for source in listing.sources):
        raise UserError(
            f"{options.typed(typed)} selects sources by their class, but no source of this input has one. "
            "Leave it out"
        )
    if options.classes:
        listing = _choose_classes(listing, options.classes)
    notes = _describe_order(listing.label.class_names, options.class_order)
    return replace(listing, notes=(*listing.notes, *notes))


def _choose_classes(listing: Listing, typed: Sequence[str]) -> Listing:
    """Returns the listing with the ``typed`` classes alone, also of sources with several."""
    names = listing.label.class_names
    known = {_plain(name): name for name in names}
    for name in typed:
        if _plain(name) not in known:
            raise UserError(
                f"--classes must name classes of the input ({name_some(names)}), got {name!r}"
                f"{did_you_mean(name, names)}"
            )
    chosen = {known[_plain(name)] for name in typed}
    sources = tuple(
        source
        if chosen.issuperset(source.labels)
        else replace(source, labels=tuple(name for name in source.labels if name in chosen))
        for source in listing.sources
        if not chosen.isdisjoint(source.labels)
    )
    left_out = len(listing.sources) - len(sources)
    note = f"{left_out} sources of no class in --classes were left out"
    label = replace(listing.label, class_names=tuple(name for name in names if name in chosen))
    return replace(listing, sources=sources, label=label, notes=(*listing.notes, note))


def limit_classes(listing: Listing, limit: int | None, seed: int) -> Listing:
    """Returns the listing with at most ``limit`` sources per class, chosen by the hashes of their ids.

    Raises:
        UserError: if sources have several classes.
    """
    if limit is None:
        return listing
    if listing.label.task == "multilabel":
        raise UserError(
            "--max_per_class needs sources of one class each, but some have several. Leave it out"
        )
    by_class: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for source in listing.sources:
        place = hash_fraction("class", seed, source.id)
        by_class[source.labels[0]].append((place, source.id))
    chosen = {id for own in by_class.values() for _, id in heapq.nsmallest(limit, own)}
    larger = sum(len(own) > limit for own in by_class.values())
    note = (
        f"{len(listing.sources) - len(chosen)} sources of {larger} classes were left out by "
        f"--max_per_class {limit}, chosen by --seed {seed}"
    )
    sources = tuple(source for source in listing.sources if source.id in chosen)
    return replace(listing, sources=sources, notes=(*listing.notes, note))


def _describe_order(names: Sequence[str], order: str) -> list[str]:
    """Returns notes on the order of labels and on names that are easily confused."""
    notes = []
    pairs = pairwise(sorted(names, key=natural_key))
    pair = next((pair for pair in pairs if pair[0] > pair[1]), None)
    if pair and order == "natural":
        first, last = pair
        notes.append(
            f"labels are in natural order, {first} before {last}; --class_order text puts {last} first"
        )
    counts = Counter(name.casefold() for name in names)
    if alike := [name for name in names if counts[name.casefold()] > 1]:
        notes.append(
            f"classes that differ only in case are classes of their own: {name_some(alike)}"
        )
    return notes


def _read_order(path: str, classes: Collection[str]) -> list[str]:
    """Returns the plain class of each line, without the numbers of lines such as ``1 ApplyEyeMakeup``."""
    try:
        text = storage.read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UserError(
            "--class_order must be natural, text, or a file with one class per line, "
            f"got {path}: {getattr(error, 'strerror', 'it is not UTF-8')}"
        ) from error
    lines = [_plain(line) for line in text.splitlines() if line.strip()]
    numbered = [re.fullmatch(r"([0-9]{1,9})[\s,]+(.+)", line) for line in lines]
    if all(numbered) and not set(lines) <= set(classes):
        numbers = [int(found[1]) for found in numbered if found]
        if numbers not in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            raise UserError(
                f"--class_order {path}: the numbers of the classes must count up from 0 or 1, one per line. "
                "Sort the lines, or leave the numbers out"
            )
        lines = [found[2] for found in numbered if found]
    if len(lines) > len(set(lines)):
        ((name, count),) = Counter(lines).most_common(1)
        raise UserError(
            f"--class_order {path}: must name each class once, got {name!r} {count} times"
        )
    return lines


def _plain(name: str) -> str:
    """Returns the name in the form that equal-looking names share."""
    return unicodedata.normalize("NFC", name).strip()
