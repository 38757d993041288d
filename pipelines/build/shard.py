"""Builds one shard: the unit of work, of retry, of resume and of determinism.

A shard's bytes depend on its segments, the dataset's options and the library versions, and on nothing else.
So its fingerprint tells whether an existing shard is the one that would be built.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, BinaryIO, Protocol

from pipelines.build.output import OutputFolder
from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.protocol import BuildRequest, DecodingFailure, SegmentCounts, SegmentResult
from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import Segment, Shard, SourceFailure
from tfrecords_schema.codec import from_json, to_json, without_paths
from tfrecords_schema.moments import Moments, add_each
from tfrecords_schema.records import frame_parts
from tfrecords_schema.report.pages import plural
from tfrecords_schema.spec import SequenceSpec


class ShardProgress(Protocol):
    """Receives progress callbacks while a shard is built."""

    def add(self, count: int) -> None:
        """Adds ``count`` written sequences; negative after a rollback."""

    def add_failure(self, source: str, *, truncated: bool) -> None:
        """Records a source that failed or was truncated."""


class ShardWriter:
    """Writes TFRecord frames to a file and can roll back to the last checkpoint.

    A segment that fails after some of its records were written must leave no trace in the shard::

        writer.checkpoint()
        try:
            decoder.build(request, writer.write)
        except DecodingFailure:
            writer.rollback()

    Attributes:
        size, digest: number and SHA-256 of the bytes written so far.
    """

    def __init__(self, file: BinaryIO, progress: ShardProgress):
        self._file = file
        self._progress = progress
        self.digest = hashlib.sha256()
        self.size = 0
        self.checkpoint()

    def write(self, record: bytes) -> None:
        """Appends a serialized record."""
        # Part by part: joining them would copy the record.
        for part in frame_parts(record):
            self._file.write(part)
            self.digest.update(part)
            self.size += len(part)
        self._records_since += 1
        self._progress.add(1)

    def checkpoint(self) -> None:
        """Marks the current position as the one that `rollback` returns to."""
        self._checkpoint = (self.size, self.digest.copy())
        self._records_since = 0

    def rollback(self) -> None:
        """Discards everything written since the last checkpoint."""
        self.size, self.digest = self._checkpoint
        self._file.seek(self.size)
        self._file.truncate()
        self._progress.add(-self._records_since)
        self.checkpoint()


_MIN_SECONDS_FOR_THREADS = 5.0
"""Starting a decoder's threads takes as long as decoding some tens of small frames."""
CURABLE_STAGES = ("process", "limits", "staging")
"""A source may succeed when it is tried again, for example after a killed decoder."""
_DECIDING_PACKAGES = ("reelbeam", "av", "opencv-python-headless", "simplejpeg", "protobuf")


@dataclass(frozen=True, kw_only=True)
class SourceCounts:
    """The sources of a shard that gave records; a source counts for each class that its records have.

    Attributes:
        whole, whole_classes: sources that lie in this shard alone, and how many of them each class has.
        cut: by id, the classes, as indices, of sources that were cut: other shards may hold parts of them.
        short_clips: of each class, clips that were dropped because they are shorter than a sequence.
    """

    whole: int = 0
    whole_classes: tuple[int, ...] = ()
    cut: dict[str, tuple[int, ...]] = field(default_factory=dict)
    short_clips: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """A complete shard: its contents, and the results of its segments.

    Attributes:
        file, split: the shard's file name and split.
        fingerprint: digest of everything that decides the shard's bytes.
        records, bytes, sha256: contents, size and checksum of the file.
        segments: sums of the segments' counts.
        failures: sources in this shard that failed or were truncated.
        sources: those that gave records; None in the report of an earlier version.
        empty: sources with a segment here that is not short and gave no sequence.
    """

    file: str
    split: str
    fingerprint: str
    records: int
    bytes: int
    sha256: str
    segments: SegmentCounts
    failures: tuple[SourceFailure, ...]
    sources: SourceCounts | None = None
    empty: tuple[SourceFailure, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """Sources in several segments that gave sequences here."""
        return tuple(self.sources.cut) if self.sources else ()


@dataclass(frozen=True, kw_only=True)
class ShardBuilder:
    """Builds the shards of one dataset; sent to every worker."""

    output: OutputFolder
    spec: SequenceSpec
    options: DatasetOptions
    versions: dict[str, str]

    def fingerprint(self, shard: Shard) -> str:
        """Returns the SHA-256 of everything that decides the shard's bytes.

        The names, sizes and modification times of the sources are part of it, the folders they lie in are
        not.
        """
        text = f"[{json.dumps(without_paths(shard), sort_keys=True)}, {self._common}]"
        return hashlib.sha256(text.encode()).hexdigest()

    @functools.cached_property
    def _common(self) -> str:
        """The part of the fingerprint that all shards share."""
        parts = (self.options.to_json(), to_json(self.spec), self.versions)
        return ", ".join(json.dumps(part, sort_keys=True) for part in parts)

    def build(
        self, shard: Shard, decoder: DecoderProcess, progress: ShardProgress, *, threads: int = 1
    ) -> ShardReport:
        """Builds the shard, or keeps the existing one if it has the same fingerprint.

        ``threads`` decode a segment, more than one when fewer shards are left than CPUs.

        Raises:
            OSError: if the shard cannot be written.
        """
        fingerprint = self.fingerprint(shard)
        kept = self.output.kept_report(shard.file, fingerprint)
        if kept is not None:
            report = from_json(ShardReport, kept)
            if not any(failure.stage in CURABLE_STAGES for failure in report.failures):
                progress.add(report.records)
                for failure in report.failures:
                    progress.add_failure(failure.source, truncated=failure.truncated)
                return report
        failures: list[SourceFailure] = []
        built: list[tuple[Segment, SegmentResult]] = []
        with self.output.new_shard(shard.file) as file:
            writer = ShardWriter(file, progress)
            for segment in shard.segments:
                writer.checkpoint()
                try:
                    result = self._build_segment(segment, decoder, writer, threads)
                    failed = segment_truncation(segment, result)
                    built.append((segment, result))
                except DecodingFailure as error:
                    # Keep nothing of a failed source: how far it got may differ from run to run.
                    writer.rollback()
                    failed = SourceFailure(source=segment.source.id, **to_json(error))
                if failed is not None:
                    failures.append(failed)
                    progress.add_failure(failed.source, truncated=failed.truncated)
        results = [result for _, result in built]
        report = ShardReport(
            file=shard.file,
            split=shard.split,
            fingerprint=fingerprint,
            bytes=writer.size,
            sha256=writer.digest.hexdigest(),
            records=sum(result.sequences for result in results),
            segments=sum_counts(results),
            failures=tuple(failures),
            sources=count_sources(built, self.spec.label.class_names),
            empty=find_empty(built),
        )
        self.output.store_report(shard.file, to_json(report))
        return report

    def _build_segment(
        self, segment: Segment, decoder: DecoderProcess, writer: ShardWriter, threads: int
    ) -> SegmentResult:
        request = record_request(segment, self.spec, self.options)
        is_long = segment.seconds >= _MIN_SECONDS_FOR_THREADS
        if threads > 1 and is_long and segment.source.kind == "video":
            with contextlib.suppress(DecodingFailure):
                result = decoder.build(replace(request, threads=threads), writer.write)
                if result.truncated is None:
                    return result
            # Retry on one thread: FFmpeg's frame threads report errors nondeterministically.
            writer.rollback()
        return decoder.build(request, writer.write)


def record_request(segment: Segment, spec: SequenceSpec, options: DatasetOptions) -> BuildRequest:
    """Returns the request for the records of a segment."""
    return BuildRequest(
        segment=segment,
        spec=spec,
        dataset_name=options.name,
        sampling=options.sampling,
        footage=options.footage,
        image=options.image,
        label_indices=tuple(map(spec.label.class_names.index, segment.source.labels)),
        label=options.label,
        annotation=options.annotation,
        telemetry=options.telemetry,
    )


def library_versions() -> dict[str, str]:
    """Returns the versions of the packages that influence a shard's bytes.

    Raises:
        UserError: if one of them is not installed.
    """
    try:
        return {name: importlib.metadata.version(name) for name in _DECIDING_PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"the package {error.name} is not installed, and builds need it: install reelbeam again with pip"
        ) from error


def count_sources(
    built: Sequence[tuple[Segment, SegmentResult]], class_names: Sequence[str]
) -> SourceCounts:
    """Returns the sources that gave records, and the clips that are too short, of built segments."""
    whole = 0
    cut: dict[str, tuple[int, ...]] = {}
    given, short = [0] * len(class_names), [0] * len(class_names)
    for segment, result in built:
        classes = tuple(i for i, count in enumerate(result.label_counts) if count)
        if not result.sequences:
            if result.short_clips and result.truncated is None:
                for name in segment.source.labels:
                    short[class_names.index(name)] += 1
        elif not is_whole(segment):
            cut[segment.source.id] = tuple(sorted({*cut.get(segment.source.id, ()), *classes}))
        else:
            whole += 1
            for index in classes:
                given[index] += 1
    return SourceCounts(whole=whole, whole_classes=tuple(given), cut=cut, short_clips=tuple(short))


def sum_counts(segments: Iterable[SegmentCounts]) -> SegmentCounts:
    """Returns the sums of the counts of several segments."""
    total, names = SegmentCounts(), [field.name for field in dataclasses.fields(SegmentCounts)]
    for counts in segments:
        sums = {name: _add(getattr(total, name), getattr(counts, name)) for name in names}
        total = SegmentCounts(**sums)
    return total


def _add(first: Any, second: Any) -> Any:
    """Adds two numbers, or two tuples of numbers or moments element by element; a tuple may be shorter."""
    if isinstance(first, int):
        return first + second
    if any(isinstance(value, Moments) for value in (*first, *second)):
        return add_each(first, second)
    return tuple(map(sum, zip_longest(first, second, fillvalue=0)))


def segment_truncation(segment: Segment, result: SegmentResult) -> SourceFailure | None:
    """Returns the failure of a source that is damaged, or ends before its header says; None for a whole one.

    It names the first damaged place, or the last frame if the end is missing. Sequences before it are kept:
    the source counts as truncated, or as failed if it is a single segment without sequences.
    """
    if result.truncated is None:
        return None
    return SourceFailure(
        source=segment.source.id,
        stage="decode",
        reason=result.truncated,
        seconds=result.last_seconds if result.damaged_seconds is None else result.damaged_seconds,
        truncated=result.sequences > 0 or not is_whole(segment),
    )


def find_empty(built: Sequence[tuple[Segment, SegmentResult]]) -> tuple[SourceFailure, ...]:
    """Returns failures for the sources of segments that are not short and gave no sequence."""
    return tuple(
        SourceFailure(
            source=segment.source.id,
            stage="decode",
            reason=result.truncated or _describe_empty(result),
        )
        for segment, result in built
        if not result.sequences and not result.short_clips
    )


def _describe_empty(result: SegmentResult) -> str:
    found = [f"the footage has {plural(result.breaks, 'break')}"]
    if missing := result.frames_without_telemetry:
        found.insert(0, f"{plural(missing, 'frame')} lie where telemetry has no values")
    if count := result.without_future:
        found.insert(
            0, f"{plural(count, 'sequence')} end where telemetry has no values at --label_ahead"
        )
    return f"no sequence: {', and '.join(found)}"


def is_whole(segment: Segment) -> bool:
    """Returns True if the segment is the only one of its source."""
    return not segment.first_slot and segment.end_slot is None
