"""Probes footage for planning: durations, rates, the order of a drive's files, and places to cut."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from pipelines.decoding.client import DecoderPool, DecoderProcess, shared_pool
from pipelines.decoding.protocol import DecodingFailure, IndexRequest, SpansRequest
from pipelines.errors import FailedWorkError, UserError
from pipelines.options.dataset import DatasetOptions, FootageOptions, RunOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import (
    Extent,
    FrameSpan,
    Listing,
    Part,
    Probe,
    Segment,
    Source,
    SourceFailure,
    file_id,
)
from pipelines.plan.drive_files import cut_by_time, place_parts
from pipelines.plan.shards import clip_seconds, cut_segments, time_boundaries
from tfrecords_schema.running.progress import progress_bar
from tfrecords_schema.tables import name_some

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
class Survey:
    """Sources that were probed and cut.

    Attributes:
        sources: those that can be used.
        probes: by source path.
        failures: of the other sources.
        segments: of the sources in order.
        by_file: spans of one file count as one source, because ``--split_by time`` cut them.
        notes: lines for the user about how footage was read.
    """

    sources: tuple[Source, ...]
    probes: dict[str, Probe]
    failures: tuple[SourceFailure, ...]
    segments: tuple[Segment, ...] = ()
    by_file: bool = False
    notes: tuple[str, ...] = ()

    @property
    def num_sources(self) -> int:
        """Number of the sources, with those that failed."""
        failed = {failure.source for failure in self.failures}
        if self.by_file:
            return len({*map(file_id, failed), *(file_id(source.id) for source in self.sources)})
        return len(self.sources) + len(failed)


def survey_footage(listing: Listing, options: DatasetOptions, run: RunOptions) -> Survey:
    """Probes the sources of a listing, and cuts them into segments; raises as `probe_sources` does."""
    pool, workers = shared_pool(run.decode_timeout, run.staging_size), run.local_workers
    survey = probe_sources(
        listing.sources, options, pool, workers, max_failure_rate=run.max_failure_rate
    )
    sampling, length = options.sampling, options.shard.segment_length

    def cut(source: Source) -> list[Segment] | DecodingFailure:
        """Returns the segments of a source: one if it is short or cannot be cut."""
        probe = survey.probes[source.path]
        seconds = clip_seconds(source, probe.duration)
        if sampling.sampling != "windows" or not probe.cuttable or seconds <= length:
            return cut_segments(source, seconds, [])
        if sampling.frame_rate is not None:
            return cut_segments(source, seconds, time_boundaries(seconds, sampling, length))
        request = IndexRequest(source=source, segment_length=length, footage=options.footage)
        boundaries = _ask(pool, lambda decoder: decoder.index(request))
        if isinstance(boundaries, DecodingFailure):
            return boundaries
        return cut_segments(source, seconds, boundaries)

    sources: list[Source] = []
    failures, segments = [*listing.failures, *survey.failures], []
    pieces = in_parallel(cut, survey.sources, workers, "Indexing")
    for source, own in zip(survey.sources, pieces, strict=True):
        if isinstance(own, DecodingFailure):
            failures.append(_failure(source.id, own))
        else:
            sources.append(source)
            segments += own
    return Survey(
        sources=tuple(sources),
        probes=survey.probes,
        failures=tuple(failures),
        segments=tuple(segments),
        by_file=options.split.split_by == "time",
        notes=survey.notes,
    )


def _ask(pool: DecoderPool, question: Callable[[DecoderProcess], R]) -> R | DecodingFailure:
    """Returns a decoder's answer, or why there is none."""
    with pool.borrow() as decoder:
        try:
            return question(decoder)
        except DecodingFailure as failure:
            return failure


def probe_sources(
    sources: Sequence[Source],
    options: DatasetOptions,
    pool: DecoderPool,
    workers: int,
    *,
    max_failure_rate: float = 1.0,
) -> Survey:
    """Probes the headers of videos, and the packets of drives in several files.

    Raises:
        UserError: if the first files all fail for one reason, and ``max_failure_rate`` does not allow as many
            failures. The other files are not tried.
    """
    sources, failures = _find_spans(sources, options.footage, pool, workers)
    by_time = options.split.split_by == "time"
    # Each block of a drive is a source.
    max_blocks = len(options.split.splits) if by_time else 1
    parts = [part.path for source in sources for part in source.parts]
    extents = _probe_files(
        *(parts, DecoderProcess.extent, options.footage, pool, workers),
        max_failure_rate,
        max_blocks * len(parts),
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
    paths = [source.path for source in placed if source.path not in found]
    found |= _probe_files(
        *(paths, DecoderProcess.probe, options.footage, pool, workers),
        max_failure_rate,
        max_blocks * len(placed),
    )
    failures += [
        _failure(source.id, probe)
        for source in placed
        if isinstance(probe := found[source.path], DecodingFailure)
    ]
    probes = {path: probe for path, probe in found.items() if isinstance(probe, Probe)}
    unmeasured, notes = _guessed_rates(placed, probes, options)
    failures += unmeasured
    by_clock = options.telemetry is not None and options.telemetry.time_origin == "clock"
    usable: list[Source] = []
    for drive in drives:
        runs = [
            replace(run, clock_start=probes[run.path].created)
            if by_clock and not run.parts
            else run
            for run in drive
            if run.path in probes
        ]
        if not by_time or not runs:
            usable += runs
            continue
        blocks = _blocks(runs, probes, options)
        if not blocks:
            reason = "too short to be cut into blocks by --split_by time"
            failures.append(SourceFailure(source=runs[0].id, stage="list", reason=reason))
        usable += blocks
    lost = {failure.source for failure in unmeasured}
    usable = [source for source in usable if source.id not in lost]
    return Survey(
        sources=tuple(usable), probes=probes, failures=tuple(failures), notes=tuple(notes)
    )


def _guessed_rates(
    sources: Sequence[Source], probes: dict[str, Probe], options: DatasetOptions
) -> tuple[list[SourceFailure], list[str]]:
    """Returns failures of videos whose labels have times while their frames have none; notes on others."""
    if options.footage.source_rate is not None:
        return [], []
    guessed = [s for s in sources if s.path in probes and not probes[s.path].states_rate]
    telemetry = options.telemetry
    failures = [
        SourceFailure(
            source=source.id,
            stage="open",
            reason="it states no frame rate, so that its frames have no times: give --source_rate",
        )
        for source in guessed
        if telemetry and _is_by_time(source, telemetry)
    ]
    if len(failures) == len(guessed):
        return failures, []
    rate = probes[guessed[0].path].frame_rate
    return failures, [
        f"warning: no frame rate is stated by {name_some([source.id for source in guessed])}: {rate:g} "
        "frames/s is a guess, by which times are counted. --source_rate gives it"
    ]


def _find_spans(
    sources: Sequence[Source], footage: FootageOptions, pool: DecoderPool, workers: int
) -> tuple[Sequence[Source], list[SourceFailure]]:
    """Returns the sources with the times of spans that are in frames, and failures of those without."""
    spans: defaultdict[str, list[FrameSpan]] = defaultdict(list)  # by path
    for source in sources:
        if source.frame_span is not None:
            spans[source.path].append(source.frame_span)
    if not spans:
        return sources, []

    def ask(path: str) -> Iterator[FrameSpan] | DecodingFailure:
        request = SpansRequest(path, tuple(spans[path]), footage)
        answer = _ask(pool, lambda decoder: decoder.spans(request))
        return answer if isinstance(answer, DecodingFailure) else iter(answer)

    answers = dict(zip(spans, in_parallel(ask, list(spans), workers, "Counting"), strict=True))
    found: list[Source] = []
    failures: list[SourceFailure] = []
    for source in sources:
        answer = answers[source.path] if source.frame_span else iter(())
        if isinstance(answer, DecodingFailure):
            failures.append(_failure(source.id, answer))
            continue
        span = next(answer, None)
        if span is not None and span.start is None:
            reason = f"the file ends before frame {(span.stop or span.first + 1) - 1}"
            failures.append(SourceFailure(source=source.id, stage="list", reason=reason))
            continue
        start, end = (span.start, span.end) if span else (source.start, source.end)
        start, end = (None if t is None else float(t) for t in (start, end))
        found.append(replace(source, start=start, end=end, frame_span=span))
    return found, failures


def _probe_files(
    paths: Sequence[str],
    look: Callable[[DecoderProcess, str, FootageOptions], R],
    footage: FootageOptions,
    pool: DecoderPool,
    workers: int,
    max_failure_rate: float,
    max_sources: int,
) -> dict[str, R | DecodingFailure]:
    """Returns what ``look`` finds in each file; a path occurs once for each of its sources.

    Raises:
        UserError: if too many of at most ``max_sources`` sources failed, all for one reason.
    """
    sources = Counter(paths)
    failed: Counter[tuple[str, str] | None] = Counter()  # sources by reason; None is success
    tried = 0

    def ask(path: str) -> R | DecodingFailure:
        return _ask(pool, lambda decoder: look(decoder, path, footage))

    def check(path: str, answer: R | DecodingFailure) -> None:
        nonlocal tried
        tried += 1
        if not isinstance(answer, DecodingFailure):
            failed[None] += 1
            return
        failed[answer.stage, answer.reason] += sources[path]
        files = len(sources)
        too_many = failed.total() > Fraction(str(max_failure_rate)) * max_sources
        if len(failed) == 1 and _MIN_FAILED_FILES <= tried < files and too_many:
            raise FailedWorkError(
                f"the first {tried} of {files} files all failed with the same error, and the others were not "
                f"tried (--max_failure_rate {max_failure_rate:g}). The error at the stage {answer.stage}: "
                f"{answer.reason} (for example {path}). {_ADVICE[answer.stage]}. "
                "Use --max_failure_rate 1 to try all files"
            )

    ordered = sorted(sources)
    answers = in_parallel(ask, ordered, workers, "Probing", check)
    return dict(zip(ordered, answers, strict=True))


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
    runs, lost = place_parts(
        replace(source, parts=tuple(parts)),
        by_time=_is_by_time(source, telemetry),
        by_clock=telemetry.time_origin == "clock",
    )
    return runs, failures + lost


def _is_by_time(source: Source, telemetry: TelemetryOptions) -> bool:
    files = [source.telemetry, *(part.telemetry for part in source.parts)]
    return any(telemetry.has_times(file.path) for file in files if file is not None)


def _known_probe(source: Source, options: DatasetOptions) -> Probe | None:
    """Returns the probe of a source whose duration is known from listing or its packets, else None."""
    rate = options.sampling.frame_rate
    if source.parts:
        extents = [part.extent for part in source.parts if part.extent is not None]
        seconds = float(source.parts[-1].end - source.parts[0].start)
        frames = sum(extent.frames for extent in extents)
        cuttable = all(extent.cuttable for extent in extents)
        return Probe(
            duration=seconds,
            frame_rate=frames / seconds if seconds else 1.0,
            cuttable=cuttable,
            states_rate=all(extent.states_rate for extent in extents),
        )
    if source.seconds is None:
        return None
    if source.frames is not None and source.seconds:
        own_rate = source.frames / source.seconds
    else:
        own_rate = float(rate or 1)
    return Probe(
        duration=source.seconds,
        frame_rate=own_rate,
        cuttable=source.kind == "frames",
        created=source.clock_start,
    )


def _blocks(
    runs: Sequence[Source], probes: dict[str, Probe], options: DatasetOptions
) -> list[Source]:
    for source in runs:
        if source.frame_span is not None:
            raise UserError(
                f"--split_by time cannot divide {source.id!r}, whose span is in frames. "
                "Leave out --split_by time, or give the span in seconds"
            )
        if source.split is not None:
            raise UserError(
                f"--split_by time cannot divide {source.id!r}, which a list, column or folder of splits puts "
                f"into {source.split}. Leave out --split_by time, or the split that is given"
            )
    seconds = [clip_seconds(source, probes[source.path].duration) for source in runs]
    rate = float(options.sampling.frame_rate or probes[runs[0].path].frame_rate)
    ahead = options.telemetry.label_ahead if options.telemetry else ()
    guard = options.sampling.num_frames / rate + max(ahead, default=0.0)
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
        done = progress_bar(
            threads.map(work, items),
            total=len(items),
            desc=description,
            unit="source",
            leave=False,
            delay=1,
        )
        for item, result in zip(items, done, strict=True):
            check(item, result)
            results.append(result)
        return results
    finally:
        # Without waiting, because a file may hang when the run is interrupted.
        threads.shutdown(wait=False, cancel_futures=True)
