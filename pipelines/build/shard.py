"""Building one shard: the unit of work, of retry, of resume and of determinism.

A shard's bytes depend on its segments, the dataset's options and the library versions, and on nothing else.
So its fingerprint tells whether a shard that is there already is the one that would be built.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, BinaryIO, Protocol

from pipelines.build.output import OutputFolder
from pipelines.decoding.client import DecoderProcess
from pipelines.decoding.protocol import BuildRequest, DecodingFailure, SegmentResult
from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import Segment, Shard, SourceFailure
from tfrecords_schema.codec import drop_paths, from_json, to_json
from tfrecords_schema.moments import add_each
from tfrecords_schema.records import frame_parts
from tfrecords_schema.spec import SequenceSpec


class Listener(Protocol):
    """Hears how a shard comes along."""

    def sequences(self, count: int) -> None:
        """``count`` more sequences were built (fewer, when negative: thrown away)."""

    def failed(self, failure: SourceFailure) -> None:
        """A source failed or ended early."""


class ShardWriter:
    """Frames records into a file; can go back to where a segment began.

    Attributes:
        bytes: written so far.
    """

    def __init__(self, file: BinaryIO, listener: Listener):
        self._file = file
        self._listener = listener
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.mark()

    @property
    def sha256(self) -> str:
        """Of the file so far."""
        return self._digest.hexdigest()

    def write(self, record: bytes) -> None:
        """Appends a serialized record."""
        # One by one: to join them would copy the record.
        for part in frame_parts(record):
            self._file.write(part)
            self._digest.update(part)
            self.bytes += len(part)
        self._since_mark += 1
        self._listener.sequences(1)

    def mark(self) -> None:
        """Notes where a segment begins."""
        self._marked = (self.bytes, self._digest.copy())
        self._since_mark = 0

    def go_back(self) -> None:
        """Throws away what was written since the mark."""
        self.bytes, self._digest = self._marked
        self._file.seek(self.bytes)
        self._file.truncate()
        self._listener.sequences(-self._since_mark)
        self.mark()


_ADDED_FIELDS = (
    "sequences",
    "frames",
    "repeated_frames",
    "padded_frames",
    "short_clips",
    "breaks",
    "unordered_frames",
    "pixel_count",
    "pixel_frames",
    "frames_without_telemetry",
)
_ADDED_SUMS = ("pixel_sum", "pixel_square_sum", "label_counts", "telemetry_frames")
_ADDED_MOMENTS = ("targets", "signals")
_SHORTEST_FOR_THREADS = 5.0
"""Seconds. To start a decoder's threads takes as long as to decode some tens of small frames."""
_DECIDING_PACKAGES = ("reelbeam", "av", "opencv-python-headless", "simplejpeg", "protobuf")


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """A complete shard: what is in it and what became of its segments.

    Attributes:
        file, split: of the shard.
        fingerprint: of what it was built from.
        records, bytes, sha256: of the file.
        segments: the segments' results, added up.
        failures: of sources in this shard.
    """

    file: str
    split: str
    fingerprint: str
    records: int
    bytes: int
    sha256: str
    segments: SegmentResult
    failures: tuple[SourceFailure, ...]


@dataclass(frozen=True, kw_only=True)
class ShardBuilder:
    """What the shards of one dataset have in common; sent to every worker."""

    output: OutputFolder
    spec: SequenceSpec
    options: DatasetOptions
    versions: dict[str, str]

    def fingerprint(self, shard: Shard) -> str:
        """SHA-256 of all that decides the shard's bytes.

        Where the sources lie is not part of it; what they are called, their sizes and times are.
        """
        fields = to_json(shard)
        drop_paths(Shard, fields)
        text = f"[{json.dumps(fields, sort_keys=True)}, {self._common}]"
        return hashlib.sha256(text.encode()).hexdigest()

    @functools.cached_property
    def _common(self) -> str:
        """What decides the bytes of all shards alike."""
        parts = (self.options.to_json(), to_json(self.spec), self.versions)
        return ", ".join(json.dumps(part, sort_keys=True) for part in parts)

    def build(
        self, shard: Shard, decoder: DecoderProcess, listener: Listener, *, threads: int = 1
    ) -> ShardReport:
        """Builds the shard, or takes the one that is there if it is the same.

        Args:
            shard: which.
            decoder: that decodes its segments.
            listener: hears how it comes along.
            threads: to decode with: more than one where there are too few shards left for all CPUs.

        Raises:
            OSError: when the shard cannot be written.
        """
        fingerprint = self.fingerprint(shard)
        kept = self.output.kept_report(shard.file, fingerprint)
        if kept is not None and not _may_end_otherwise(report := from_json(ShardReport, kept)):
            listener.sequences(report.records)
            for failure in report.failures:
                listener.failed(failure)
            return report
        report = self._build(shard, fingerprint, decoder, listener, threads)
        self.output.store_report(shard.file, to_json(report))
        return report

    def _build(
        self,
        shard: Shard,
        fingerprint: str,
        decoder: DecoderProcess,
        listener: Listener,
        threads: int,
    ) -> ShardReport:
        failures: list[SourceFailure] = []
        results: list[SegmentResult] = []
        with self.output.new_shard(shard.file) as file:
            writer = ShardWriter(file, listener)
            for segment in shard.segments:
                writer.mark()
                try:
                    result = self._build_segment(segment, decoder, writer, threads)
                except DecodingFailure as failure:
                    # Nothing of a source that failed stays: how far it came may differ from run to run.
                    writer.go_back()
                    failures.append(_failure(segment, failure))
                    listener.failed(failures[-1])
                    continue
                results.append(result)
                if result.truncated is not None:
                    failures.append(_truncation(segment, result))
                    listener.failed(failures[-1])
        return ShardReport(
            file=shard.file,
            split=shard.split,
            fingerprint=fingerprint,
            bytes=writer.bytes,
            sha256=writer.sha256,
            records=sum(result.sequences for result in results),
            segments=add_results(results),
            failures=tuple(failures),
        )

    def _build_segment(
        self, segment: Segment, decoder: DecoderProcess, writer: ShardWriter, threads: int
    ) -> SegmentResult:
        request = self._request(segment)
        is_long = segment.seconds >= _SHORTEST_FOR_THREADS
        if threads > 1 and is_long and segment.source.kind == "video":
            with contextlib.suppress(DecodingFailure):
                result = decoder.build(replace(request, threads=threads), writer.write)
                if result.truncated is None:
                    return result
            # Something is the matter with it. What becomes of it then must not depend on threads.
            writer.go_back()
        return decoder.build(request, writer.write)

    def _request(self, segment: Segment) -> BuildRequest:
        names = self.spec.label.class_names
        return BuildRequest(
            segment=segment,
            spec=self.spec,
            dataset_name=self.options.name,
            sampling=self.options.sampling,
            image=self.options.image,
            label_indices=tuple(names.index(label) for label in segment.source.labels),
            label=self.options.label,
            annotation=self.options.annotation,
            telemetry=self.options.telemetry,
        )


def library_versions() -> dict[str, str]:
    """The versions of what decides a shard's bytes.

    Raises:
        UserError: when this package or one that it needs is not installed.
    """
    try:
        return {name: importlib.metadata.version(name) for name in _DECIDING_PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"{error.name} must be installed (pip install .), and is not") from error


def add_results(results: Iterable[SegmentResult]) -> SegmentResult:
    """The results of several segments as one; what only makes sense for one segment is left out."""
    total: dict[str, Any] = {}
    for result in results:
        for name in _ADDED_FIELDS:
            total[name] = total.get(name, 0) + getattr(result, name)
        for name in _ADDED_SUMS:
            own, so_far = getattr(result, name), total.get(name, ())
            total[name] = tuple(map(sum, zip_longest(so_far, own, fillvalue=0)))
        for name in _ADDED_MOMENTS:
            total[name] = add_each(total.get(name, ()), getattr(result, name))
    return SegmentResult(**total)


def _may_end_otherwise(report: ShardReport) -> bool:
    """Whether a source failed by what may have been an accident: a killed decoder, a crowded machine."""
    return any(failure.stage in ("process", "limits", "staging") for failure in report.failures)


def _failure(segment: Segment, failure: DecodingFailure) -> SourceFailure:
    return SourceFailure(
        source=segment.source.id,
        stage=failure.stage,
        reason=failure.reason,
        seconds=failure.seconds,
    )


def _truncation(segment: Segment, result: SegmentResult) -> SourceFailure:
    is_whole = not segment.first_slot and segment.end_slot is None
    return SourceFailure(
        source=segment.source.id,
        stage="decode",
        reason=result.truncated or "",
        seconds=result.last_seconds if result.damaged_seconds is None else result.damaged_seconds,
        # What gave nothing has failed.
        truncated=result.sequences > 0 or not is_whole,
    )
