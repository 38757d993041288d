"""Groups segments into chunks, the tasks of a prediction: pure, and the same for any number of workers.

A chunk holds consecutive segments in order of source and time, so the predictions of all chunks, one after
the other, are in that order too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipelines.plan.descriptors import Segment, file_id
from tfrecords_schema.natural_order import natural_parts

CHUNK_SECONDS = 600.0
"""Estimated footage of a chunk of a large input."""

MIN_CHUNKS = 16
"""A small input is cut finer, so that every worker has something to do."""

MAX_CHUNKS = 10_000
"""One worker receives the reports of all chunks."""

_MIN_SECONDS = 1.0  # a segment of unknown duration takes some time as well


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive segments, and the index of the chunk among all chunks."""

    index: int
    segments: tuple[Segment, ...]


def plan_chunks(segments: Iterable[Segment]) -> list[Chunk]:
    """Sorts segments and groups them into chunks of similar duration."""
    ordered = sorted(segments, key=_order)
    durations = [max(segment.seconds, _MIN_SECONDS) for segment in ordered]
    total = sum(durations)
    size = max(min(CHUNK_SECONDS, total / MIN_CHUNKS), total / MAX_CHUNKS)
    chunks: dict[int, list[Segment]] = {}
    before = 0.0
    for segment, seconds in zip(ordered, durations, strict=True):
        chunks.setdefault(int(before / size), []).append(segment)
        before += seconds
    return [Chunk(index=i, segments=tuple(own)) for i, own in enumerate(chunks.values())]


def source_order(
    source_id: str, data_path: str = "", start: float | None = None
) -> tuple[Any, ...]:
    """Returns the sort key of a source: its path in natural order (2 before 10), then its start."""
    return natural_parts(data_path or file_id(source_id)), start or 0.0, source_id


def _order(segment: Segment) -> tuple[Any, ...]:
    source = segment.source
    return *source_order(source.id, source.data_path, source.start), segment.first_slot
