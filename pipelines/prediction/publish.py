"""Writes the answers for chunks, and turns them into the rows of the output once all chunks are done."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from pipelines.build.finish import Expected, check_run
from pipelines.build.shard import CURABLE_STAGES, find_empty, is_whole, segment_truncation
from pipelines.decoding.protocol import SegmentResult
from pipelines.plan.descriptors import Segment, SourceFailure
from pipelines.prediction.chunks import Chunk
from pipelines.prediction.columns import filled
from pipelines.prediction.formats import RowFormat
from pipelines.prediction.lines import ModelOutput, likely_classes
from pipelines.prediction.rows import FrameTimes, Row, RowOptions, Window, make_rows
from pipelines.prediction.sequences import Answer, Item
from pipelines.prediction.work import Outcome, WorkFolder

_MAX_SHOWN = 10
_BAR = 20  # characters of the longest bar


@dataclass(frozen=True, kw_only=True)
class ChunkReport:
    """A chunk whose answers are written.

    Attributes:
        chunk: index of the chunk.
        sequences: number of its answers.
        failures, kept, empty: as in `ShardReport`; clips shorter than a sequence have failed.
    """

    chunk: int
    sequences: int
    failures: tuple[SourceFailure, ...]
    kept: tuple[str, ...]
    empty: tuple[SourceFailure, ...]

    @property
    def is_final(self) -> bool:
        """True if predicting the chunk again would give the same."""
        return not any(failure.stage in CURABLE_STAGES for failure in self.failures)


@dataclass(frozen=True, kw_only=True)
class Publication:
    """The settings of an output: its rows, their format, and the plan that it is checked against.

    Attributes:
        expected: numbers of the plan.
        name: of the footage.
        num_frames: of a sequence.
        rows, format: what a row is, and how it is written.
        fill: values by target for missing answers; None leaves them empty.
        kept: reports of chunks that an earlier run has predicted.
    """

    expected: Expected
    name: str
    num_frames: int
    rows: RowOptions
    format: RowFormat
    fill: tuple[float, ...] | None
    kept: tuple[ChunkReport, ...] = ()


def write_chunk(
    chunk: Chunk, items: Iterable[Item], num_frames: int, work: WorkFolder
) -> ChunkReport:
    """Writes the answers for a chunk, whose items are in order of source and time.

    Raises:
        OSError: if they cannot be written.
        RuntimeError: if a runner lost answers.
    """
    contents = (item.content for item in items)
    failures: list[SourceFailure] = []
    written: list[tuple[str, Window | FrameTimes]] = []
    built: list[tuple[Segment, SegmentResult]] = []
    sequences = 0
    for segment in chunk.segments:
        answers: list[Answer] = []
        # The answers of a segment come first, then its result or its failure.
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
        elif end.short_clips and not answers:
            reason = f"the clip is shorter than the {num_frames} frames of a sequence"
            failures.append(SourceFailure(source=source, stage="decode", reason=reason))
        built.append((segment, end))
        sequences += len(answers)
        origin = end.first_timestamp
        if end.frame_times:
            times = FrameTimes(tuple(_seconds(time, origin) for time in end.frame_times))
            written.append((source, times))
        written += [(source, make_window(answer, origin)) for answer in answers]
    report = ChunkReport(
        chunk=chunk.index,
        sequences=sequences,
        failures=tuple(failures),
        kept=tuple(sorted({s.source.id for s, r in built if r.sequences and not is_whole(s)})),
        empty=find_empty(built),
    )
    work.write_part(chunk.index, written, report)
    return report


def make_window(answer: Answer, origin: int) -> Window:
    """Returns an answer with its times in seconds after ``origin``, microseconds."""
    return Window(
        start=_seconds(answer.start, origin),
        end=_seconds(answer.end, origin),
        times=tuple(_seconds(time, origin) for time in answer.times),
        values=answer.values,
    )


def _seconds(timestamp: int, origin: int) -> float:
    return (timestamp - origin) / 1_000_000


def conclude(reports: Iterable[ChunkReport], publication: Publication, work: WorkFolder) -> Outcome:
    """Writes the output and the list of failures; the output is missing only if chunks are."""
    by_chunk = {report.chunk: report for report in (*publication.kept, *reports)}
    expected = publication.expected
    failures, error = check_run(list(by_chunk.values()), expected, "chunks were not predicted")
    work.store_failures(failures)
    if len(by_chunk) < expected.tasks:
        outcome = Outcome(text=str(error), failed=True, written=False)
        work.store_outcome(outcome)
        return outcome
    reasons = {f.source: f"{f.stage}: {f.reason}" for f in failures if not f.truncated}
    summary = _Summary(publication.rows.output)
    rows = _all_rows(work, expected.tasks, publication, reasons)
    work.write_output(lambda file: publication.format.write(summary.count(rows), file))
    failed, truncated = len(reasons), len(failures) - len(reasons)
    sequences = sum(report.sequences for report in by_chunk.values())
    counted = f"{expected.sources - failed} of {expected.sources} sources are predicted"
    said = f"{publication.name}: {sequences} sequences of {counted}: {summary.rows} rows in {work.output}"
    lines = [said, *summary.lines()]
    lines += [
        f"{count} sources {what}: see {work.failures_path}"
        for what, count in (("failed", failed), ("were truncated", truncated))
        if count
    ]
    if error is not None:
        lines = [f"{error} (see {work.failures_path}). The others are predicted in {work.output}"]
    outcome = Outcome(text="\n".join(lines), failed=error is not None, written=True)
    work.store_outcome(outcome)
    return outcome


def _all_rows(
    work: WorkFolder, chunks: int, publication: Publication, reasons: dict[str, str]
) -> Iterator[Row]:
    """Yields the rows of all sources in order; one with a reason for a source without an answer."""
    by_source = itertools.groupby(work.answers(chunks), key=itemgetter(0))
    answered = next(by_source, None)
    for source in work.sources():
        given = False
        if answered is not None and answered[0] == source:
            events = (event for _, event in answered[1])
            for row in make_rows(source, events, publication.rows):
                given = True
                yield filled(row, publication.fill)
            answered = next(by_source, None)
        if not given and source in reasons:
            yield filled(Row(place={"source": source}, reason=reasons[source]), publication.fill)


@dataclass
class _Summary:
    """Counts the rows on their way to the output."""

    output: ModelOutput
    rows: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    ranges: dict[str, tuple[float, float, float, int]] = field(default_factory=dict)

    def count(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Passes rows on."""
        for row in rows:
            self.rows += 1
            if not row.reason:
                self._add(row)
            yield row

    def _add(self, row: Row) -> None:
        if "class" in row.place:
            self.classes[row.place["class"]] += 1
        for values in [own for _, own in row.frames] or ([row.values] if row.values else []):
            if self.output.label.task != "regression":
                self.classes.update(likely_classes(values, self.output))
                continue
            label = self.output.label
            targets = zip(label.target_names, values, label.offsets, strict=True)
            for name, stored, offset in targets:
                value = stored + offset
                if math.isfinite(value):
                    low, high, total, count = self.ranges.get(name, (value, value, 0.0, 0))
                    self.ranges[name] = min(low, value), max(high, value), total + value, count + 1

    def lines(self) -> Iterator[str]:
        """Yields a histogram by class, or the range of each target."""
        total, common = self.classes.total(), self.classes.most_common(_MAX_SHOWN)
        width = max((len(name) for name, _ in common), default=0)
        for name, count in common:
            bar = "#" * round(_BAR * count / common[0][1])
            yield f"  {name:<{width}} {count:>8} {count / total:>6.1%}  {bar}"
        if len(self.classes) > len(common):
            yield f"  and {len(self.classes) - len(common)} other classes"
        label = self.output.label
        units = dict(zip(label.target_names, label.target_units, strict=False))
        for name, (low, high, total_value, count) in self.ranges.items():
            unit = units.get(name, "")
            mean = total_value / count
            yield f"  {name}: {low:.6g} to {high:.6g} {unit}".rstrip() + f", mean {mean:.6g}"
