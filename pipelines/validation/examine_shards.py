"""The Beam transform of a validation, with as little logic as possible.

    work lists -> DealTasks -> ExamineShards -> FinishOnce

Only the names of shards and small summaries are shuffled: records stay inside `_ExamineShards`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator

import apache_beam as beam

from pipelines.runners.tasks import DealTasks, FinishOnce, LocalRun, ProgressReporter
from pipelines.validation.conclude import conclude
from pipelines.validation.examine import ShardExaminer, ShardJob
from pipelines.validation.examiner_process import ChildExaminer
from pipelines.validation.shard_summary import ShardSummary
from tfrecords_schema.codec import to_json
from tfrecords_schema.storage import write_bytes


class ValidateDataset(beam.PTransform):
    """Work lists of `ShardJob`s in, the path of the result out.

    Args:
        examiner: the common part of all shards.
        result_path: file for the result, as JSON.
        local: None unless the workers are threads of the driver's process.
        children: examine in a child process per worker; only for local workers.
    """

    def __init__(
        self, examiner: ShardExaminer, *, result_path: str, local: LocalRun | None, children: bool
    ):
        super().__init__()
        self._examine = _ExamineShards(examiner, local, children)
        finish = functools.partial(_write_result, examiner, result_path)
        self._finish = FinishOnce(finish, place=result_path, local=local)
        self._local = local

    def expand(self, work: beam.PCollection[bytes]) -> beam.PCollection[str]:
        """Examines each shard, and writes the result once all are examined."""
        return (
            work  # bytes: numbered `ShardJob`s, pickled
            | DealTasks(self._local)  # ShardJob
            | "ExamineShards" >> beam.ParDo(self._examine)  # ShardSummary
            | self._finish  # str
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


def _write_result(examiner: ShardExaminer, path: str, summaries: list[ShardSummary]) -> str:
    write_bytes(path, json.dumps(to_json(conclude(examiner, summaries))).encode())
    return path
