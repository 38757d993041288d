"""The checks that no footage of one split is in another."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator

from pipelines.validation.dataset_view import MAX_NAMED, DatasetView, hashed_names, shared_names
from pipelines.validation.findings import Problem, check, error, note, warning
from pipelines.validation.pictures.leak_pairs import RecordPair, find_pairs
from pipelines.validation.shard_summary import Span, file_of
from pipelines.validation.times import format_seconds
from tfrecords_schema import spec as keys


@check(
    reason="Sequences of one video in two splits are nearly the same pictures. A model that has "
    "memorised them passes its test.",
    remedy="Build again with groups that decide the split: --group_by, or the manifest's group and "
    "split columns.",
)
def leaks_sources(dataset: DatasetView) -> Iterator[Problem]:
    """No source (``clip/media_id``) has records in two splits."""
    yield from _find_shared_names(dataset, keys.MEDIA_ID, "source")


@check(
    reason="If a group (person, drive, original video) is in two splits, a model can pass its test "
    "by recognising the group.",
    remedy="Build again with a --group_by that captures what must stay together, or set the "
    "manifest's split by group.",
)
def leaks_groups(dataset: DatasetView) -> Iterator[Problem]:
    """No group (``clip/group_id``) has records in two splits."""
    yield from _find_shared_names(dataset, keys.GROUP_ID, "group")


def _find_shared_names(dataset: DatasetView, key: str, what: str) -> Iterator[Problem]:
    names = {split: hashed_names(shards, key) for split, shards in dataset.by_split.items()}
    for (one, mine), (other, theirs) in itertools.combinations(names.items(), 2):
        pairs, more = shared_names(mine, theirs)
        for (shard, offset), own in pairs:
            name = dataset.read_text(*own, key)
            yield error(
                f"{what} {name!r} is in {one} ({shard}, byte {offset}) and in {other}",
                dataset.where(*own),
                other=dataset.where(shard, offset),
            )
        if more:
            yield error(f"{more} more {what}s are in {one} and in {other}")


@check(
    reason="Clips of one file that overlap in time hold the same frames. In two splits, test "
    "frames also occur in train.",
    remedy="Give clips of one file one group (--group_by, or the manifest's group), or leave a gap "
    "of a sequence's length between them, as --split_by time does.",
)
def leaks_spans(dataset: DatasetView) -> Iterator[Problem]:
    """No two splits show the same time of one file, whatever the names of their clips."""
    for (one, mine), (other, theirs) in itertools.combinations(dataset.by_split.items(), 2):
        known: dict[int, list[tuple[Span, str]]] = {}
        for shard in mine:
            for file_hash, spans in shard.spans.by_file.items():
                known.setdefault(file_hash, []).extend((span, shard.file) for span in spans)
        overlaps = [
            (shard.file, span, first_shard, first)
            for shard in theirs
            for file_hash, spans in shard.spans.by_file.items()
            for (first, first_shard), span in _find_overlaps(known.get(file_hash, []), spans)
        ]
        for file, span, first_shard, first in overlaps[:MAX_NAMED]:
            start = format_seconds(max(first.start, span.start))
            end = format_seconds(min(first.end, span.end))
            yield error(
                f"{start} to {end} of its file are in {other} and in {one}",
                dataset.where(file, span.offset),
                other=dataset.where(first_shard, first.offset),
            )
        if (more := len(overlaps) - MAX_NAMED) > 0:
            yield error(f"{more} more spans of files are in {one} and in {other}")


def _find_overlaps(
    known: list[tuple[Span, str]], spans: list[Span]
) -> Iterator[tuple[tuple[Span, str], Span]]:
    """Yields each of ``spans`` that overlaps with one of ``known``, after the first such one."""
    known = sorted(known)
    # The largest end so far: the order of starts is not that of ends.
    ends = list(itertools.accumulate((span.end for span, _ in known), max))
    for span in spans:
        first = bisect.bisect_left(ends, span.start)
        if first < len(known) and known[first][0].start <= span.end:
            yield known[first], span


@check(
    reason="Nearly the same pictures in two splits are a leak that no name shows: a video uploaded "
    "twice, coded again or cut differently, or a scene that one camera filmed twice.",
    remedy="Look at the pairs. Give footage that belongs together one group, or leave one of the "
    "two out. Raise duplicate_correlation in validation.json if they only look alike.",
)
def leaks_duplicates(dataset: DatasetView) -> Iterator[Problem]:
    """No picture of a split is nearly the same as one of another split."""
    pairs, more = find_pairs(dataset)
    named = [_describe_pair(dataset, pair) for pair in pairs[:MAX_NAMED]]
    yield from named
    more += len(pairs) - len(named)
    if more:
        problem = note if all(one.level == "note" for one in named) else warning
        yield problem(f"{more} more pairs of records in two splits look alike")


def _describe_pair(dataset: DatasetView, pair: RecordPair) -> Problem:
    one, other, (split, other_split), is_same_footage = pair
    if is_same_footage:
        message = f"its footage, in {split}, is also in {other.record!r}, in {other_split}"
        return error(message, one, other=other)
    message = (
        f"frame {one.frame}, in {split}, looks like frame {other.frame} of {other.record!r}, in "
        f"{other_split}"
    )
    sources = [dataset.read_text(w.shard, w.offset or 0, keys.MEDIA_ID) for w in (one, other)]
    if len({file_of(source.encode(errors="surrogateescape")) for source in sources}) == 1:
        return note(f"{message}, at another time of the same file", one, other=other)
    return warning(message, one, other=other)
