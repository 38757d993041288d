"""The chunks' reports to the output: complete, or not there at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.build.finish import failure_line, one_a_source, say_too_many_failed
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
    """What became of a chunk.

    Attributes:
        chunk: which.
        part: the file with its lines.
        sequences: how many lines that are.
        short_clips: clips with fewer frames than a sequence.
        failures: of its sources.
    """

    chunk: int
    part: str
    sequences: int
    short_clips: int
    failures: tuple[SourceFailure, ...]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is known before anything is predicted.

    Attributes:
        sources: that were listed.
        chunks: that are to be predicted.
        failures: of sources that never came so far.
        max_failure_rate: fraction of the sources that may fail.
        num_frames: of a sequence.
    """

    sources: int
    chunks: int
    failures: tuple[SourceFailure, ...]
    max_failure_rate: float
    num_frames: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How predicting ended.

    Attributes:
        sequences: predictions in the output.
        failed, truncated: sources, see `SourceFailure`.
        short_clips: clips with fewer frames than a sequence.
        error: why there is no output, in one line; None when there is.
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
        chunk: which.
        items: its predictions and ends of segments, in any order.
        label: what the model was trained to say.
        work: where the part goes.

    Raises:
        OSError: when it cannot be written.
        RuntimeError: when predictions were lost on the way.
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
    """Publishes the predictions and the failures, or says why there are no predictions.

    Args:
        reports: of the chunks, each once.
        expected: what there should be.
        work: where the parts lie.

    Raises:
        OSError: when they cannot be written.
    """
    found = [*expected.failures, *(failure for report in reports for failure in report.failures)]
    failures = one_a_source(found)
    failed = [failure for failure in failures if not failure.truncated]
    sequences = sum(report.sequences for report in reports)
    error = say_too_many_failed(failed, expected.sources, expected.max_failure_rate)
    if error is None and len(reports) < expected.chunks:
        error = f"{expected.chunks - len(reports)} of {expected.chunks} chunks were not predicted"
    if error is None and not sequences:
        error = (
            f"no source gave a sequence: clips may be shorter than {expected.num_frames} frames, which the "
            "model takes"
        )
    work.store_failures([failure_line(failure) for failure in failures])
    if error is None:
        work.publish([report.part for report in sorted(reports, key=lambda report: report.chunk)])
    outcome = Outcome(
        sequences=sequences,
        failed=len(failed),
        truncated=len(failures) - len(failed),
        short_clips=sum(report.short_clips for report in reports),
        error=error,
    )
    work.store_outcome(to_json(outcome))
    return outcome
