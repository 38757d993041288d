"""The Beam steps of a build, with as little logic as possible.

    tasks -> ReadShard -> BuildShards -> reports

Only descriptors and reports are shuffled: frames go from a decoder to a file inside `BuildShards`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from pipelines.build.finish import Totals, finish_build
from pipelines.build.shard import ShardBuilder, ShardReport
from pipelines.decoding.client import shared_pool
from pipelines.plan.descriptors import Shard
from pipelines.runners.tasks import Job, LocalRun, ProgressReporter, reported_errors


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A shard to build, and the number of threads to decode it with."""

    shard: Shard
    threads: int = 1


def build_job(builder: ShardBuilder, pool: tuple[float, int], local: LocalRun | None) -> Job:
    """Returns the job that builds shards, and describes the dataset once all are built.

    A task is the byte offset of a shard in the plan file and its threads: a plan of a million sources is too
    large for a runner's graph. ``pool`` holds the arguments of `pipelines.decoding.client.shared_pool`.
    """
    output = builder.output

    def read(offset: int, threads: int) -> ShardTask:
        return ShardTask(shard=output.planned(Shard, offset), threads=threads)

    steps = "ReadShard" >> beam.MapTuple(read) | "BuildShards" >> beam.ParDo(
        BuildShards(builder, pool, local)
    )
    return Job(steps, functools.partial(_finish, builder), place=output.path, local=local)


class BuildShards(beam.DoFn):
    """Shards to build in, the reports of those that are complete out; see `build_job` for the arguments."""

    def __init__(self, builder: ShardBuilder, pool: tuple[float, int], local: LocalRun | None):
        self._builder = builder
        self._pool = pool
        self._local = local
        self._progress = ProgressReporter(local, "sequences")

    def process(self, task: ShardTask) -> Iterator[ShardReport]:
        """Builds a shard."""
        with (
            reported_errors(self._local, task.shard.file),
            shared_pool(*self._pool).borrow() as decoder,
        ):
            report = self._builder.build(task.shard, decoder, self._progress, threads=task.threads)
            self._progress.end_task()
            yield report


def _finish(builder: ShardBuilder, reports: list[ShardReport]) -> str:
    by_file = {report.file: report for report in reports}  # a retried shard reports twice the same
    totals = builder.output.planned(Totals, 0)
    problem = finish_build(builder, list(by_file.values()), totals).error
    if problem is None:
        return f"{builder.options.name} is complete in {builder.output.path}"
    # Not raised: the runner would try again, which changes nothing. The driver reads it from the folder.
    builder.output.store_error(problem)
    return problem
