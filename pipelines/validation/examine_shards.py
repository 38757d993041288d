"""The Beam transform of a validation, with as little logic as possible.

    work lists -> DealTasks -> ExamineShards -> FinishOnce

Only the names of shards and small summaries are shuffled: records stay inside `_ExamineShards`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from pipelines.runners.tasks import DealTasks, FinishOnce, LocalRun, ProgressReporter
from pipelines.validation.conclude import Conclusion
from pipelines.validation.examine import ShardExaminer, ShardJob, ShardSummary
from pipelines.validation.examiner_process import ChildExaminer
from tfrecords_schema.storage import write_bytes


class ValidateDataset(beam.PTransform):
    """Work lists of `ShardJob`s in, the path of the result out.

    Args:
        examiner: the common part of all shards.
        conclusion: makes the result from the summaries.
        result_path: file for the result, as JSON.
        local: None unless the workers are threads of the driver's process.
        children: examine in a child process per worker; only for local workers.
    """

    def __init__(
        self,
        examiner: ShardExaminer,
        conclusion: Conclusion,
        *,
        result_path: str,
        local: LocalRun | None,
        children: bool,
    ):
        super().__init__()
        self._examine = _ExamineShards(examiner, local, children)
        self._finish = _ResultWriter(conclusion, result_path)
        self._local = local

    def expand(self, work: beam.PCollection[bytes]) -> beam.PCollection[str]:
        """Examines each shard, and writes the result once all are examined."""
        return (
            work  # bytes: numbered `ShardJob`s, pickled
            | DealTasks(self._local)  # ShardJob
            | "ExamineShards" >> beam.ParDo(self._examine)  # ShardSummary
            | FinishOnce(self._finish, place=self._finish.path, local=self._local)  # str
        )


class _ExamineShards(beam.DoFn):
    def __init__(self, examiner: ShardExaminer, local: LocalRun | None, children: bool):
        self._examiner = examiner
        self._local = local
        self._children = children

    def setup(self) -> None:
        self._child = ChildExaminer(self._examiner) if self._children else None
        self._progress = ProgressReporter(self._local, "validated_bytes")

    def process(self, job: ShardJob) -> Iterator[ShardSummary]:
        examiner = self._child or self._examiner
        yield examiner.examine(job, self._progress.add)
        self._progress.end_task()

    def teardown(self) -> None:
        if self._child is not None:
            self._child.close()


@dataclass(frozen=True)
class _ResultWriter:
    """Writes the result of a validation to ``path``."""

    conclusion: Conclusion
    path: str

    def __call__(self, summaries: list[ShardSummary]) -> str:
        result = self.conclusion.conclude(summaries)
        write_bytes(self.path, json.dumps(result.to_json()).encode())
        return self.path
