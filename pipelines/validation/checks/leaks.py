"""The checks that no footage of one split is in another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from pipelines.validation.dataset_view import MOST_NAMED, DatasetView, concatenate, locate
from pipelines.validation.findings import Check, Problem, check, error, note, warning
from pipelines.validation.notes import Places, Span, name_of_file
from pipelines.validation.pictures.leak_pairs import RecordPair, find_pairs
from pipelines.validation.times import seconds
from tfrecords_schema import spec as keys


@check(
    "leaks.sources",
    reason="Sequences of one video in two splits are nearly the same pictures: a model that has "
    "learnt them by heart passes its test.",
    remedy="Build again and let groups decide the split: --group_by, or the manifest's group and "
    "split columns.",
)
def leaked_sources(dataset: DatasetView) -> Iterator[Problem]:
    """No source (``clip/media_id``) has records in two splits."""
    places = {
        split: [(shard.file, shard.media) for shard in shards]
        for split, shards in dataset.by_split.items()
    }
    yield from _leaks(dataset, places, keys.MEDIA_ID, "source")


@check(
    "leaks.groups",
    reason="A group (person, drive, original video) in two splits lets a model pass its test by "
    "recognizing who or where it is.",
    remedy="Build again with a --group_by that captures what must stay together, or set the "
    "manifest's split by group.",
)
def leaked_groups(dataset: DatasetView) -> Iterator[Problem]:
    """No group (``clip/group_id``) has records in two splits."""
    places = {
        split: [(shard.file, shard.groups) for shard in shards]
        for split, shards in dataset.by_split.items()
    }
    yield from _leaks(dataset, places, keys.GROUP_ID, "group")


@check(
    "leaks.spans",
    reason="Clips of one file that overlap in time hold the same frames; in two splits, the test "
    "asks for what the training has shown.",
    remedy="Give clips of one file one group (--group_by, or the manifest's group), or leave a "
    "sequence's length out between them, as --split_by time does.",
)
def leaked_spans(dataset: DatasetView) -> Iterator[Problem]:
    """No two splits show the same time of one file, in clips of whatever names."""
    for (one, mine), (other, theirs) in itertools.combinations(dataset.by_split.items(), 2):
        known: dict[int, list[tuple[Span, str]]] = {}
        for shard in mine:
            for file_hash, spans in shard.spans.by_file.items():
                known.setdefault(file_hash, []).extend((span, shard.file) for span in spans)
        count = 0
        for shard in theirs:
            for file_hash, spans in shard.spans.by_file.items():
                for (first, first_shard), span in _overlaps(known.get(file_hash, []), spans):
                    count += 1
                    if count > MOST_NAMED:
                        continue
                    where = dataset.where(shard.file, span.offset)
                    start, end = max(first.start, span.start), min(first.end, span.end)
                    yield error(
                        f"{seconds(start)} to {seconds(end)} of its file are in {other} and in {one}",
                        where,
                        other=dataset.where(first_shard, first.offset),
                    )
        if count > MOST_NAMED:
            yield error(f"{count - MOST_NAMED} more spans of files are in {one} and in {other}")


@check(
    "leaks.duplicates",
    reason="Pictures that are nearly the same in two splits are a leak that no name tells of: a "
    "video uploaded twice, coded again or cut differently, or one camera that saw one scene.",
    remedy="Look at the pairs; give footage that belongs together one group, or leave one of it "
    "out. Raise duplicate_correlation in validation.json if they only look alike.",
)
def duplicate_pictures(dataset: DatasetView) -> Iterator[Problem]:
    """No picture of a split is nearly the same as one of another split."""
    pairs, more = find_pairs(dataset)
    named = [_describe_pair(dataset, pair) for pair in pairs[:MOST_NAMED]]
    yield from named
    more += len(pairs) - len(named)
    if more:
        problem = note if all(one.level == "note" for one in named) else warning
        yield problem(f"{more} more pairs of records in two splits look alike")


LEAK_CHECKS: tuple[Check[DatasetView], ...] = (
    leaked_sources,
    leaked_groups,
    leaked_spans,
    duplicate_pictures,
)


def _describe_pair(dataset: DatasetView, pair: RecordPair) -> Problem:
    where = dataset.where(pair.shard, pair.offset, pair.frame)
    other = dataset.where(pair.other_shard, pair.other_offset, pair.other_frame)
    if pair.whole:
        return error(
            f"its footage, in {pair.split}, is also in {other.record!r}, in {pair.other_split}",
            where,
            other=other,
        )
    said = (
        f"frame {pair.frame}, in {pair.split}, looks like frame {pair.other_frame} of "
        f"{other.record!r}, in {pair.other_split}"
    )
    files = {
        name_of_file(dataset.name(shard, offset, keys.MEDIA_ID).encode(errors="surrogateescape"))
        for shard, offset in ((pair.shard, pair.offset), (pair.other_shard, pair.other_offset))
    }
    if len(files) == 1:
        return note(f"{said}, at another time of the same file", where, other=other)
    return warning(said, where, other=other)


def _overlaps(
    known: list[tuple[Span, str]], spans: list[Span]
) -> Iterator[tuple[tuple[Span, str], Span]]:
    """Yields what of ``known`` overlaps with each of ``spans``, the first of it."""
    known = sorted(known)
    starts = np.array([span.start for span, _ in known], np.int64)
    ends = np.maximum.accumulate(np.array([span.end for span, _ in known], np.int64))
    for span in spans:
        # The first that ends, or has one before it that ends, at or after the start.
        place = int(np.searchsorted(ends, span.start)) if len(known) else 0
        if place < len(known) and starts[place] <= span.end:
            yield known[place], span


def _leaks(
    dataset: DatasetView,
    places: dict[str, list[tuple[str, Places]]],
    key: str,
    what: str,
) -> Iterator[Problem]:
    for (one, mine), (other, theirs) in itertools.combinations(places.items(), 2):
        hashes, places_one, places_other = np.intersect1d(
            concatenate([p.hashes for _, p in mine]),
            concatenate([p.hashes for _, p in theirs]),
            return_indices=True,
        )
        for rank in range(min(len(hashes), MOST_NAMED)):
            first, first_offset = locate(mine, int(places_one[rank]))
            second, second_offset = locate(theirs, int(places_other[rank]))
            name = dataset.name(second, second_offset, key)
            yield error(
                f"{what} {name!r} is in {one} ({first}, byte {first_offset}) and in {other}",
                dataset.where(second, second_offset),
                other=dataset.where(first, first_offset),
            )
        if len(hashes) > MOST_NAMED:
            yield error(f"{len(hashes) - MOST_NAMED} more {what}s are in {one} and in {other}")
