"""What is to be known of footage to plan it: durations, rates, where a drive's files belong, where to cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from tqdm import tqdm

from pipelines.decoding.client import DecoderPool, DecoderProcess
from pipelines.decoding.protocol import DecodingFailure, IndexRequest
from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import Extent, Part, Probe, Segment, Source, SourceFailure
from pipelines.plan.drive_files import cut_by_time, place_parts
from pipelines.plan.shards import clip_seconds, cut_segments, time_boundaries

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Footage that was looked at.

    Attributes:
        sources: that can be planned.
        probes: by source path.
        failures: of the others.
    """

    sources: tuple[Source, ...]
    probes: dict[str, Probe]
    failures: tuple[SourceFailure, ...]


def survey_sources(
    sources: Sequence[Source], options: DatasetOptions, pool: DecoderPool, workers: int
) -> Survey:
    """Looks at the headers of videos, and at the packets of drives in several files."""
    failures: list[SourceFailure] = []
    extents = _look_at(
        [part.path for source in sources for part in source.parts],
        DecoderProcess.extent,
        pool,
        workers,
    )
    drives: list[list[Source]] = []
    for source in sources:
        own, own_failures = _place(source, extents, options)
        drives.append(own)
        failures += own_failures
    placed = [run for drive in drives for run in drive]
    found: dict[str, Probe | DecodingFailure] = {
        source.path: known for source in placed if (known := _known_probe(source, options))
    }
    found |= _look_at(
        [source.path for source in placed if source.path not in found],
        DecoderProcess.probe,
        pool,
        workers,
    )
    failures += [
        _failure(source.id, probe)
        for source in placed
        if isinstance(probe := found[source.path], DecodingFailure)
    ]
    probes = {path: probe for path, probe in found.items() if isinstance(probe, Probe)}
    usable: list[Source] = []
    for drive in drives:
        runs = [_with_clock(run, probes[run.path], options) for run in drive if run.path in probes]
        if options.split.split_by == "group" or not runs:
            usable += runs
            continue
        blocks = _blocks(runs, probes, options)
        if not blocks:
            reason = "too short to be cut into blocks by --split_by time"
            failures.append(SourceFailure(source=runs[0].id, stage="list", reason=reason))
        usable += blocks
    return Survey(sources=tuple(usable), probes=probes, failures=tuple(failures))


def cut_sources(
    survey: Survey, options: DatasetOptions, pool: DecoderPool, workers: int
) -> tuple[list[Segment], list[SourceFailure]]:
    """The segments of the sources, in their order; and failures of those whose packets cannot be read."""

    def cut(source: Source) -> list[Segment] | DecodingFailure:
        return _cut(pool, source, survey.probes[source.path], options)

    segments: list[Segment] = []
    failures: list[SourceFailure] = []
    pieces = in_parallel(cut, survey.sources, workers, "Indexing")
    for source, own in zip(survey.sources, pieces, strict=True):
        if isinstance(own, DecodingFailure):
            failures.append(_failure(source.id, own))
        else:
            segments += own
    return segments, failures


def _cut(
    pool: DecoderPool, source: Source, probe: Probe, options: DatasetOptions
) -> list[Segment] | DecodingFailure:
    """The segments of a source; one, when it is short or cannot be cut."""
    sampling, length = options.sampling, options.shard.segment_length
    seconds = clip_seconds(source, probe.duration)
    if sampling.sampling != "windows" or not probe.cuttable or seconds <= length:
        return cut_segments(source, seconds, [])
    if sampling.frame_rate is not None:
        return cut_segments(source, seconds, time_boundaries(seconds, sampling, length))
    request = IndexRequest(source=source, segment_length=length)
    with pool.borrow() as decoder:
        try:
            boundaries = decoder.index(request).boundaries
        except DecodingFailure as failure:
            return failure
    return cut_segments(source, seconds, boundaries)


def _with_clock(source: Source, probe: Probe, options: DatasetOptions) -> Source:
    by_clock = options.telemetry is not None and options.telemetry.time_origin == "clock"
    return replace(source, clock_start=probe.created) if by_clock and not source.parts else source


def _look_at(
    paths: Sequence[str],
    look: Callable[[DecoderProcess, str], R],
    pool: DecoderPool,
    workers: int,
) -> dict[str, R | DecodingFailure]:
    """Asks decoders about each file once."""

    def ask(path: str) -> R | DecodingFailure:
        with pool.borrow() as decoder:
            try:
                return look(decoder, path)
            except DecodingFailure as failure:
                return failure

    paths = sorted(set(paths))
    return dict(zip(paths, in_parallel(ask, paths, workers, "Probing"), strict=True))


def _place(
    source: Source, extents: dict[str, Extent | DecodingFailure], options: DatasetOptions
) -> tuple[list[Source], list[SourceFailure]]:
    if not source.parts or options.telemetry is None:
        return [source], []
    parts: list[Part] = []
    failures: list[SourceFailure] = []
    for part in source.parts:
        extent = extents[part.path]
        if isinstance(extent, DecodingFailure):
            failures.append(_failure(part.data_path, extent))
            parts.append(part)
        else:
            parts.append(replace(part, extent=extent))
    telemetry = options.telemetry
    files = [source.telemetry, *(part.telemetry for part in source.parts)]
    by_time = any(telemetry.has_times(file.path) for file in files if file is not None)
    runs, lost = place_parts(
        replace(source, parts=tuple(parts)),
        by_time=by_time,
        by_clock=telemetry.time_origin == "clock",
    )
    return runs, failures + lost


def _known_probe(source: Source, options: DatasetOptions) -> Probe | None:
    """What listing, or the packets, told already."""
    rate = options.sampling.frame_rate
    if source.parts:
        extents = [part.extent for part in source.parts if part.extent is not None]
        seconds = float(source.parts[-1].end - source.parts[0].start)
        frames = sum(extent.frames for extent in extents)
        cuttable = all(extent.cuttable for extent in extents)
        return Probe(
            duration=seconds, frame_rate=frames / seconds if seconds else 1.0, cuttable=cuttable
        )
    if source.seconds is None:
        return None
    if source.frames is not None and source.seconds:
        own_rate = source.frames / source.seconds
    else:
        own_rate = float(rate or 1)
    return Probe(duration=source.seconds, frame_rate=own_rate, cuttable=source.kind == "frames")


def _blocks(
    runs: Sequence[Source], probes: dict[str, Probe], options: DatasetOptions
) -> list[Source]:
    for source in runs:
        if source.split is not None:
            raise UserError(
                f"--split_by time and the input both decide the split of {source.id!r}: use one of them"
            )
    seconds = [clip_seconds(source, probes[source.path].duration) for source in runs]
    rate = float(options.sampling.frame_rate or probes[runs[0].path].frame_rate)
    guard = options.sampling.num_frames / rate
    return cut_by_time(list(zip(runs, seconds, strict=True)), options.split.splits, guard)


def _failure(source_id: str, failure: DecodingFailure) -> SourceFailure:
    return SourceFailure(source=source_id, stage=failure.stage, reason=failure.reason)


def in_parallel(
    work: Callable[[T], R], items: Sequence[T], workers: int, description: str
) -> list[R]:
    """``work`` done on ``items`` by threads, with a progress bar when it takes longer than a second."""
    threads = ThreadPoolExecutor(workers)
    try:
        return list(
            tqdm(
                threads.map(work, items),
                total=len(items),
                desc=description,
                unit="source",
                leave=False,
                delay=1,
                disable=None,
            )
        )
    finally:
        # An interrupted run does not wait for a file that hangs.
        threads.shutdown(wait=False, cancel_futures=True)
