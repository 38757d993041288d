"""Writes the predictions of chunks, and puts them together as the output once all chunks are done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.build.finish import Expected, check_run
from pipelines.build.shard import find_empty, is_whole, segment_truncation
from pipelines.decoding.protocol import SegmentResult
from pipelines.plan.descriptors import Segment, SourceFailure
from pipelines.prediction.chunks import Chunk
from pipelines.prediction.lines import prediction_line
from pipelines.prediction.sequences import Answer, Item
from pipelines.prediction.work import Outcome, WorkFolder
from tfrecords_schema.spec import LabelSpec


@dataclass(frozen=True, kw_only=True)
class ChunkReport:
    """A chunk whose predictions are written.

    Attributes:
        chunk: index of the chunk.
        part: name of the file with its lines.
        sequences: number of its lines.
        short_clips: clips with fewer frames than a sequence.
        failures, kept, empty: as in `ShardReport`.
    """

    chunk: int
    part: str
    sequences: int
    short_clips: int
    failures: tuple[SourceFailure, ...]
    kept: tuple[str, ...]
    empty: tuple[SourceFailure, ...]


def write_chunk(
    chunk: Chunk,
    items: Iterable[Item],
    label: LabelSpec,
    work: WorkFolder,
    thresholds: Sequence[float] = (),
) -> ChunkReport:
    """Writes the lines of a chunk, in order of source and time, whatever the order of its items.

    Raises:
        OSError: if the part cannot be written.
        RuntimeError: if a runner lost predictions.
    """
    contents = iter([item.content for item in sorted(items, key=lambda item: item.number)])
    failures: list[SourceFailure] = []
    lines: list[dict[str, Any]] = []
    built: list[tuple[Segment, SegmentResult]] = []
    short_clips = 0
    for segment in chunk.segments:
        answers: list[Answer] = []
        # By number, the answers of a segment come first, then its result or its failure.
        while isinstance(end := next(contents, None), Answer):
            answers.append(end)
        if isinstance(end, SourceFailure):
            # Keep nothing of a failed segment: how far it got may differ from run to run.
            failures.append(end)
            continue
        source = segment.source.id
        if not isinstance(end, SegmentResult) or end.sequences != len(answers):
            raise RuntimeError(
                f"{source}: expected a prediction for each sequence of {end!r}, got {len(answers)}"
            )
        if truncation := segment_truncation(segment, end):
            failures.append(truncation)
        built.append((segment, end))
        short_clips += end.short_clips
        lines += [
            prediction_line(
                *(answer, label), source=source, origin=end.first_timestamp, thresholds=thresholds
            )
            for answer in answers
        ]
    return ChunkReport(
        chunk=chunk.index,
        part=work.write_part(chunk.index, lines),
        sequences=len(lines),
        short_clips=short_clips,
        failures=tuple(failures),
        kept=tuple(sorted({s.source.id for s, r in built if r.sequences and not is_whole(s)})),
        empty=find_empty(built),
    )


def conclude(
    reports: Sequence[ChunkReport], expected: Expected, num_frames: int, work: WorkFolder
) -> Outcome:
    """Publishes the predictions and the failures, or returns the reason why there is no output."""
    failures, error = check_run(reports, expected, "chunks were not predicted")
    sequences = sum(report.sequences for report in reports)
    if error is None and not sequences:
        error = (
            f"no source gave a sequence: the model takes {num_frames} frames, and the clips may be "
            "shorter"
        )
    work.store_failures(failures)
    if error is not None:
        listed = f" (see {work.failures_path})" if failures else ""
        outcome = Outcome(text=f"{error}{listed}", failed=True)
    else:
        ordered = sorted(reports, key=lambda report: report.chunk)
        work.write_output([report.part for report in ordered])
        truncated = sum(failure.truncated for failure in failures)
        failed = len(failures) - truncated
        short_clips = sum(report.short_clips for report in reports)
        lines = [
            f"{sequences} sequences of {expected.sources - failed} sources are predicted in {work.output}",
            *(
                f"{count} sources {what}: see {work.failures_path}"
                for what, count in (("failed", failed), ("truncated", truncated))
                if count
            ),
        ]
        if short_clips:
            lines.append(f"{short_clips} clips were shorter than {num_frames} frames")
        outcome = Outcome(text="\n".join(lines), failed=False)
    work.store_outcome(outcome)
    return outcome
