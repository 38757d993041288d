"""The Beam transforms of a build, with as little logic as possible.

    work lists -> DealTasks -> ReadShard -> BuildShards -> FinishOnce

Only descriptors and reports are shuffled: frames go from a decoder to a file inside `BuildShards`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from pipelines.build.finish import finish_build
from pipelines.build.plan_file import read_shard, read_totals
from pipelines.build.shard import ShardBuilder, ShardReport
from pipelines.decoding.client import shared_pool
from pipelines.plan.descriptors import Shard, SourceFailure
from pipelines.runners.tasks import (
    DealTasks,
    FinishOnce,
    LocalRun,
    ProgressReporter,
    reported_errors,
)


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A shard to build, and the number of threads to decode it with."""

    shard: Shard
    threads: int = 1


class BuildDataset(beam.PTransform):
    """Work lists in, one sentence about the complete dataset out.

    A task is the byte offset of a shard in the plan file (see `pipelines.build.plan_file`) and its threads: a
    plan of a million sources is too large for a runner's graph.

    Args:
        builder: the common part of all shards.
        decode_timeout: seconds a decoder may go without progress.
        staging_size: bytes of a worker's disk for copies of sources on an object store.
        local: None unless the workers are threads of the driver's process.
    """

    def __init__(
        self,
        builder: ShardBuilder,
        *,
        decode_timeout: float,
        staging_size: int,
        local: LocalRun | None,
    ):
        super().__init__()
        self._builder = builder
        self._pool = (decode_timeout, staging_size)
        self._local = local

    def expand(self, work: beam.PCollection[bytes]) -> beam.PCollection[str]:
        """Builds each shard, and describes the dataset once all are built."""
        builder, output = self._builder, self._builder.output
        return (
            work  # bytes: numbered tasks, pickled
            | DealTasks(self._local)  # (offset, threads)
            | "ReadShard"
            >> beam.MapTuple(
                lambda at, threads: ShardTask(shard=read_shard(output, at), threads=threads)
            )
            | "BuildShards"
            >> BuildShards(builder, pool=self._pool, local=self._local)  # ShardReport
            | FinishOnce(_DatasetFinisher(builder), place=output.path, local=self._local)  # str
        )


class BuildShards(beam.PTransform):
    """Shards to build in, the reports of those that are complete out.

    Args:
        builder: the common part of all shards.
        pool: arguments of `pipelines.decoding.client.shared_pool`.
        local: None unless the workers are threads of the driver's process.
    """

    def __init__(self, builder: ShardBuilder, *, pool: tuple[float, int], local: LocalRun | None):
        super().__init__()
        self._make_shards = _BuildShards(builder, pool, local)

    def expand(self, tasks: beam.PCollection[ShardTask]) -> beam.PCollection[ShardReport]:
        """Builds each shard."""
        return tasks | beam.ParDo(self._make_shards)


class _BuildShards(beam.DoFn):
    def __init__(self, builder: ShardBuilder, pool: tuple[float, int], local: LocalRun | None):
        self._builder = builder
        self._pool = pool
        self._local = local

    def setup(self) -> None:
        self._progress = _ShardProgress(self._local)

    def process(self, task: ShardTask) -> Iterator[ShardReport]:
        with (
            reported_errors(self._local, task.shard.file),
            shared_pool(*self._pool).borrow() as decoder,
        ):
            report = self._builder.build(task.shard, decoder, self._progress, threads=task.threads)
            self._progress.end_task()
            yield report


class _ShardProgress(ProgressReporter):
    """Reports the callbacks of `pipelines.build.shard.ShardProgress`."""

    def __init__(self, local: LocalRun | None):
        super().__init__(local, "sequences")

    def add_sequences(self, count: int) -> None:
        self.add(count)

    def add_source_failure(self, failure: SourceFailure) -> None:
        self.add_failure(failure.source, truncated=failure.truncated)


@dataclass(frozen=True)
class _DatasetFinisher:
    """Describes the dataset once all its shards are built."""

    builder: ShardBuilder

    def __call__(self, reports: list[ShardReport]) -> str:
        builder = self.builder
        by_file = {
            report.file: report for report in reports
        }  # a retried shard reports twice the same
        problem = finish_build(builder, list(by_file.values()), read_totals(builder.output)).error
        if problem is None:
            return f"{builder.options.name} is complete in {builder.output.path}"
        # Not raised: the runner would try again, which changes nothing. The driver reads it from the folder.
        builder.output.store_error(problem)
        return problem
