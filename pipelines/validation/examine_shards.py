"""The Beam steps of a validation, with as little logic as possible.

    tasks -> ExamineShards -> reports

Only the names of shards and small summaries are shuffled: records stay inside `_ExamineShards`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import apache_beam as beam

from pipelines.runners.tasks import Job, LocalRun, ProgressReporter
from pipelines.validation.conclude import conclude
from pipelines.validation.examine import ShardExaminer, ShardJob
from pipelines.validation.examiner_process import ChildExaminer
from pipelines.validation.shard_summary import ShardSummary
from tfrecords_schema.codec import to_json
from tfrecords_schema.storage import write_bytes


def validation_job(
    examiner: ShardExaminer, result_path: str, local: LocalRun | None, *, children: bool
) -> Job:
    """Returns the job that examines the shards of `ShardJob`s, and writes the result.

    Args:
        examiner: examines a shard; it holds what all shards share, such as the spec.
        result_path: file for the result, as JSON.
        local: state shared with workers that are threads of the driver's process; None for other workers.
        children: examine in a child process per worker; only for local workers.
    """

    def finish(summaries: list[ShardSummary]) -> str:
        write_bytes(result_path, json.dumps(to_json(conclude(examiner, summaries))).encode())
        return result_path

    steps = "ExamineShards" >> beam.ParDo(_ExamineShards(examiner, local, children))
    return Job(steps, finish, place=result_path, local=local)


class _ExamineShards(beam.DoFn):
    def __init__(self, examiner: ShardExaminer, local: LocalRun | None, children: bool):
        self._examiner = examiner
        self._progress = ProgressReporter(local, "validated_bytes")
        self._children = children

    def setup(self) -> None:
        self._child = ChildExaminer(self._examiner) if self._children else None

    def process(self, job: ShardJob) -> Iterator[ShardSummary]:
        examiner = self._child or self._examiner
        yield examiner.examine(job, self._progress.add)
        self._progress.end_task()

    def teardown(self) -> None:
        if self._child is not None:
            self._child.close()
