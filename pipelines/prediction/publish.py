"""Writes the predictions of chunks, and puts them together as the output once all chunks are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.build.finish import describe_excess_failures, failure_line, one_failure_per_source
from pipelines.build.shard import segment_truncation
from pipelines.decoding.protocol import SegmentResult
from pipelines.plan.descriptors import SourceFailure
from pipelines.prediction.chunks import Chunk
from pipelines.prediction.lines import prediction_line
from pipelines.prediction.sequences import Prediction, SegmentEnd
from pipelines.prediction.work import WorkFolder
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.spec import LabelSpec


@dataclass(frozen=True, kw_only=True)
class ChunkReport:
    """A chunk whose predictions are written.

    Attributes:
        chunk: index of the chunk.
        part: name of the file with its lines.
        sequences: number of its lines.
        short_clips: clips with fewer frames than a sequence.
        failures: sources in this chunk that failed or were truncated.
    """

    chunk: int
    part: str
    sequences: int
    short_clips: int
    failures: tuple[SourceFailure, ...]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The numbers that are known before anything is predicted.

    Attributes:
        sources: number of listed sources.
        chunks: number of planned chunks.
        failures: sources that failed while they were listed or probed.
        max_failure_rate: fraction of the sources that may fail.
        num_frames: frames per sequence.
    """

    sources: int
    chunks: int
    failures: tuple[SourceFailure, ...]
    max_failure_rate: float
    num_frames: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a prediction run.

    Attributes:
        sequences: predictions in the output.
        failed, truncated: number of such sources; see `SourceFailure`.
        short_clips: clips with fewer frames than a sequence.
        error: one line if there is no output, else None.
    """

    sequences: int
    failed: int
    truncated: int
    short_clips: int
    error: str | None


def write_chunk(
    chunk: Chunk,
    items: Iterable[Prediction | SegmentEnd],
    label: LabelSpec,
    work: WorkFolder,
) -> ChunkReport:
    """Writes the lines of a chunk, in order of source and time.

    Args:
        chunk: the chunk.
        items: its predictions and ends of segments, in any order.
        label: the classes or targets of the model.
        work: the folder for the part.

    Raises:
        OSError: if the part cannot be written.
        RuntimeError: if a runner lost predictions.
    """
    predictions: dict[int, list[Prediction]] = {}
    ends: dict[int, SegmentEnd] = {}
    for item in sorted(items, key=lambda item: item.place.number):
        if isinstance(item, SegmentEnd):
            ends[item.place.segment] = item
        else:
            predictions.setdefault(item.place.segment, []).append(item)
    failures: list[SourceFailure] = []
    sequences = short_clips = 0
    complete: list[tuple[str, int, list[Prediction]]] = []  # source, origin
    for number, segment in enumerate(chunk.segments):
        end, own = ends[number], predictions.get(number, [])
        source = segment.source.id
        if end.result is None:
            # Keep nothing of a failed segment: how far it got may differ from run to run.
            failures.append(SourceFailure(source=source, **(end.failure or {})))
            continue
        result = from_json(SegmentResult, end.result)
        if result.sequences != len(own):
            raise RuntimeError(f"{source}: {len(own)} predictions of {result.sequences} sequences")
        if result.truncated is not None:
            failures.append(segment_truncation(segment, result))
        sequences += len(own)
        short_clips += result.short_clips
        complete.append((source, result.first_timestamp, own))
    return ChunkReport(
        chunk=chunk.index,
        part=work.write_part(chunk.index, _lines(complete, label)),
        sequences=sequences,
        short_clips=short_clips,
        failures=tuple(failures),
    )


def _lines(
    complete: Iterable[tuple[str, int, list[Prediction]]], label: LabelSpec
) -> Iterator[str]:
    for source, origin, predictions in complete:
        for prediction in predictions:
            yield prediction_line(prediction.answer, label, source=source, origin=origin)


def conclude(reports: Sequence[ChunkReport], expected: Expected, work: WorkFolder) -> Outcome:
    """Publishes the predictions and the failures, or returns the reason why there is no output.

    Args:
        reports: one per chunk.
        expected: the plan's numbers.
        work: the folder that holds the parts.

    Raises:
        OSError: if the output or the failures cannot be written.
    """
    found = [*expected.failures, *(failure for report in reports for failure in report.failures)]
    failures = one_failure_per_source(found)
    failed = [failure for failure in failures if not failure.truncated]
    sequences = sum(report.sequences for report in reports)
    error = describe_excess_failures(failed, expected.sources, expected.max_failure_rate)
    if error is None and len(reports) < expected.chunks:
        error = f"{expected.chunks - len(reports)} of {expected.chunks} chunks were not predicted"
    if error is None and not sequences:
        error = (
            f"no source gave a sequence: the model takes {expected.num_frames} frames, and the clips may be "
            "shorter"
        )
    work.store_failures([failure_line(failure) for failure in failures])
    if error is None:
        work.write_output(
            [report.part for report in sorted(reports, key=lambda report: report.chunk)]
        )
    outcome = Outcome(
        sequences=sequences,
        failed=len(failed),
        truncated=len(failures) - len(failed),
        short_clips=sum(report.short_clips for report in reports),
        error=error,
    )
    work.store_outcome(to_json(outcome))
    return outcome
