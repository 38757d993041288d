"""Probes footage for planning: durations, rates, the order of a drive's files, and places to cut."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from tqdm.auto import tqdm

from pipelines.decoding.client import DecoderPool, DecoderProcess
from pipelines.decoding.protocol import DecodingFailure, IndexRequest
from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import Extent, Part, Probe, Segment, Source, SourceFailure
from pipelines.plan.drive_files import cut_by_time, place_parts
from pipelines.plan.shards import clip_seconds, cut_segments, time_boundaries

_MIN_FAILED_FILES = 20
"""Number of failed files before probing stops early."""

_ADVICE = defaultdict(
    lambda: "Check that --input names footage, and that its files are complete",
    process="The decoder itself failed, perhaps not because of the files. Report it with this message",
    limits="Such frames need more memory than a decoder may take. Scale the footage down",
    staging="Check that the object store can be read",
)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class ProbedSources:
    """Sources that were probed.

    Attributes:
        sources: those that can be planned.
        probes: by source path.
        failures: of the other sources.
    """

    sources: tuple[Source, ...]
    probes: dict[str, Probe]
    failures: tuple[SourceFailure, ...]


def probe_sources(
    sources: Sequence[Source],
    options: DatasetOptions,
    pool: DecoderPool,
    workers: int,
    *,
    max_failure_rate: float = 1.0,
) -> ProbedSources:
    """Probes the headers of videos, and the packets of drives in several files.

    Raises:
        UserError: if the first files all fail for one reason, and ``max_failure_rate`` does not allow as many
            failures. The other files are not tried.
    """
    failures: list[SourceFailure] = []
    # Each block of a drive is a source.
    max_blocks = 1 if options.split.split_by == "group" else len(options.split.splits)
    parts = [part.path for source in sources for part in source.parts]
    stop = _EarlyStop(parts, max_blocks * len(parts), max_failure_rate)
    extents = _probe_files(parts, DecoderProcess.extent, pool, workers, stop)
    drives: list[list[Source]] = []
    for source in sources:
        own, own_failures = _place(source, extents, options)
        drives.append(own)
        failures += own_failures
    placed = [run for drive in drives for run in drive]
    found: dict[str, Probe | DecodingFailure] = {
        source.path: known for source in placed if (known := _known_probe(source, options))
    }
    paths = [source.path for source in placed if source.path not in found]
    stop = _EarlyStop(paths, max_blocks * len(placed), max_failure_rate)
    found |= _probe_files(paths, DecoderProcess.probe, pool, workers, stop)
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
    return ProbedSources(sources=tuple(usable), probes=probes, failures=tuple(failures))


def cut_sources(
    probed: ProbedSources, options: DatasetOptions, pool: DecoderPool, workers: int
) -> tuple[list[Segment], list[SourceFailure]]:
    """Returns the segments of the sources in order, and a failure for each whose packets are unreadable."""

    def cut(source: Source) -> list[Segment] | DecodingFailure:
        return _cut(pool, source, probed.probes[source.path], options)

    segments: list[Segment] = []
    failures: list[SourceFailure] = []
    pieces = in_parallel(cut, probed.sources, workers, "Indexing")
    for source, own in zip(probed.sources, pieces, strict=True):
        if isinstance(own, DecodingFailure):
            failures.append(_failure(source.id, own))
        else:
            segments += own
    return segments, failures


def _cut(
    pool: DecoderPool, source: Source, probe: Probe, options: DatasetOptions
) -> list[Segment] | DecodingFailure:
    """Returns the segments of a source: one if it is short or cannot be cut."""
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


def _probe_files(
    paths: Sequence[str],
    look: Callable[[DecoderProcess, str], R],
    pool: DecoderPool,
    workers: int,
    stop: _EarlyStop,
) -> dict[str, R | DecodingFailure]:
    """Probes each file once, on decoder processes."""

    def ask(path: str) -> R | DecodingFailure:
        with pool.borrow() as decoder:
            try:
                return look(decoder, path)
            except DecodingFailure as failure:
                return failure

    paths = sorted(set(paths))
    answers = in_parallel(ask, paths, workers, "Probing", stop.check)
    return dict(zip(paths, answers, strict=True))


class _EarlyStop:
    """Ends probing early if too many files fail, all of them for one reason.

    Args:
        paths: of the files, one for each source.
        max_sources: upper limit of the number of sources.
        max_failure_rate: fraction of the sources that may fail.
    """

    def __init__(self, paths: Sequence[str], max_sources: int, max_failure_rate: float):
        self._sources = Counter(paths)
        self._allowed = Fraction(str(max_failure_rate)) * max_sources
        self._max_failure_rate = max_failure_rate
        self._files = self._failed = 0
        self._reasons: set[tuple[str, str]] = set()
        self._is_off = False

    def check(self, path: str, answer: object) -> None:
        """Counts the answer for the next file.

        Raises:
            UserError: if the other files need not be tried.
        """
        if not isinstance(answer, DecodingFailure):
            self._is_off = True
            return
        self._reasons.add((answer.stage, answer.reason))
        if self._is_off or len(self._reasons) > 1:
            return
        self._files += 1
        self._failed += self._sources[path]
        files = len(self._sources)
        if _MIN_FAILED_FILES <= self._files < files and self._failed > self._allowed:
            raise UserError(
                f"the first {self._files} of {files} files all failed for one reason, more than "
                f"--max_failure_rate {self._max_failure_rate:g} allows, so the others were not tried: "
                f"{answer.stage}: {answer.reason} (for example {path}). {_ADVICE[answer.stage]}. "
                "Use --max_failure_rate 1 to try all files"
            )


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
    """Returns the probe of a source whose duration is known from listing or its packets, else None."""
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
                f"--split_by time and the input both decide the split of {source.id!r}. Use one of them"
            )
    seconds = [clip_seconds(source, probes[source.path].duration) for source in runs]
    rate = float(options.sampling.frame_rate or probes[runs[0].path].frame_rate)
    guard = options.sampling.num_frames / rate
    return cut_by_time(list(zip(runs, seconds, strict=True)), options.split.splits, guard)


def _failure(source_id: str, failure: DecodingFailure) -> SourceFailure:
    return SourceFailure(source=source_id, stage=failure.stage, reason=failure.reason)


def in_parallel(
    work: Callable[[T], R],
    items: Sequence[T],
    workers: int,
    description: str,
    check: Callable[[T, R], None] = lambda item, result: None,
) -> list[R]:
    """Returns ``work`` of each item, computed by threads; shows a progress bar after one second.

    ``check`` receives each item and its result in order. An exception from it ends the work.
    """
    threads = ThreadPoolExecutor(workers)
    results: list[R] = []
    try:
        done = tqdm(
            threads.map(work, items),
            total=len(items),
            desc=description,
            unit="source",
            leave=False,
            delay=1,
            disable=None,
        )
        for item, result in zip(items, done, strict=True):
            check(item, result)
            results.append(result)
        return results
    finally:
        # Without waiting, because a file may hang when the run is interrupted.
        threads.shutdown(wait=False, cancel_futures=True)
