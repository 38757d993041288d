"""The Beam pipeline: wiring and labels, with as little logic as possible.

The graph is a line, which is what every runner gets right:

    Create(work lists) -> Reshuffle -> ExamineShards -> group all summaries -> Conclude

Only the names of shards and small summaries are shuffled; records stay inside `ExamineShards`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipelines.runners.events import EventWriter, claim
from pipelines.validation.conclude import Conclusion
from pipelines.validation.examine import ShardExaminer, ShardJob, ShardSummary
from pipelines.validation.examiner_process import ChildExaminer
from tfrecords_schema.storage import write_bytes

_NEWS_BYTES = 1 << 20


@dataclass(frozen=True)
class LocalRun:
    """What threads of the driver's own process share.

    Attributes:
        claims: a folder in which a worker claims a shard by making a file.
        events: descriptor of the driver's event pipe.
        children: each thread examines shards in a process of its own.
    """

    claims: str
    events: int
    children: bool = False

    def claim(self, shard: str) -> bool:
        """Whether the caller is the first to ask for the shard."""
        return claim(Path(self.claims) / shard)


class ValidateDataset(beam.PTransform):
    """Lists of shards in, the path of the result out.

    On a distributed runner each shard is a list of its own. The local one deals elements to its workers
    beforehand, so there each worker gets the whole list and examines what no other has claimed: none is idle
    while there is work.

    Args:
        examiner: what the shards have in common.
        conclusion: what makes the result of the summaries.
        result_path: where the result is written, as JSON.
        local: None when workers are not in the driver's process.
    """

    def __init__(
        self,
        examiner: ShardExaminer,
        conclusion: Conclusion,
        *,
        result_path: str,
        local: LocalRun | None,
    ):
        super().__init__()
        self._examiner = examiner
        self._conclusion = conclusion
        self._result_path = result_path
        self._local = local

    def expand(self, work: beam.PCollection[list[ShardJob]]) -> beam.PCollection[str]:
        """Wires the stages."""
        return (
            work  # list[ShardJob]
            | "Deal" >> beam.Reshuffle()
            | "ExamineShards" >> beam.ParDo(_ExamineShards(self._examiner, self._local))
            | "Collect" >> beam.Map(lambda summary: (None, summary))  # (None, ShardSummary)
            | "GroupSummaries" >> beam.GroupByKey()
            | "Conclude" >> beam.ParDo(_Conclude(self._conclusion, self._result_path))  # str
        )


class _ExamineShards(beam.DoFn):
    def __init__(self, examiner: ShardExaminer, local: LocalRun | None):
        self._examiner = examiner
        self._local = local

    def process(self, work: list[ShardJob]) -> Iterator[ShardSummary]:
        progress = _Progress(None if self._local is None else self._local.events)
        with contextlib.ExitStack() as stack:
            examiner: ShardExaminer | ChildExaminer = self._examiner
            if self._local is not None and self._local.children:
                examiner = stack.enter_context(ChildExaminer(self._examiner))
            yield from self._examine(examiner, work, progress)

    def _examine(
        self, examiner: ShardExaminer | ChildExaminer, work: list[ShardJob], progress: _Progress
    ) -> Iterator[ShardSummary]:
        for job in work:
            if self._local is None or self._local.claim(
                ("old-" if job.old else "") + job.shard.file
            ):
                yield examiner.examine(job, progress.read)
                progress.tell()


class _Progress:
    """Counts bytes for Beam's metrics, and tells the driver of every MiB."""

    def __init__(self, events: int | None):
        self._events = EventWriter(events)
        self._metric = Metrics.counter("reelbeam", "validated_bytes")
        self._untold = 0

    def read(self, count: int) -> None:
        self._untold += count
        if self._untold >= _NEWS_BYTES:
            self.tell()

    def tell(self) -> None:
        self._metric.inc(self._untold)
        self._events.send("bytes", count=self._untold)
        self._untold = 0


class _Conclude(beam.DoFn):
    def __init__(self, conclusion: Conclusion, result_path: str):
        self._conclusion = conclusion
        self._result_path = result_path

    def process(self, keyed: tuple[None, Iterable[ShardSummary]]) -> Iterator[str]:
        result = self._conclusion.conclude(keyed[1])
        write_bytes(self._result_path, json.dumps(result.to_json()).encode())
        yield self._result_path
