"""The Beam pipeline: wiring, labels and counters, with as little logic as possible.

The graph is a line, which is what every runner gets right:

    Create(work lists) -> Reshuffle -> BuildShards -> group all reports -> FinishDataset

Only descriptors and reports are shuffled; frames go from decoder to file inside `BuildShards`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipelines.build.finish import finish_build
from pipelines.build.plan_file import read_shard, read_totals
from pipelines.build.shard import ShardBuilder, ShardReport
from pipelines.decoding.client import shared_pool
from pipelines.errors import describe_os_error
from pipelines.plan.descriptors import SourceFailure
from pipelines.runners.events import EventWriter
from tfrecords_schema.codec import from_json, to_json

_NEWS_SECONDS = 0.2


class BuildDataset(beam.PTransform):
    """Work lists in, one sentence about the dataset out.

    An element is a list of places in the plan (see `pipelines.build.plan_file`), each with the number of
    threads to decode what is there. On a distributed runner each shard is an element of its own. On the
    local one, which deals elements to its workers beforehand, each worker gets the whole list and builds
    what no other has claimed, so that none is idle while there is work.

    Args:
        builder: what the shards have in common.
        decode_timeout: seconds a decoder may go without progress.
        staging_size: bytes of a worker's disk for copies of sources on an object store.
        events: descriptor of the driver's event pipe; None when workers are not in the driver's process.
    """

    def __init__(
        self,
        builder: ShardBuilder,
        *,
        decode_timeout: float,
        staging_size: int,
        events: int | None,
    ):
        super().__init__()
        self._builder = builder
        self._pool = (decode_timeout, staging_size)
        self._events = events

    def expand(self, work: beam.PCollection[list[tuple[int, int]]]) -> beam.PCollection[str]:
        """Wires the stages."""
        return (
            work  # list[tuple[int, int]]: places of shards in the plan, and threads
            | "Deal" >> beam.Reshuffle()
            | "BuildShards" >> beam.ParDo(_BuildShards(self._builder, self._pool, self._events))
            | "Collect" >> beam.Map(lambda report: (None, report))  # (None, report as JSON)
            | "GroupReports" >> beam.GroupByKey()
            | "FinishDataset" >> beam.ParDo(_FinishDataset(self._builder, self._events))  # str
        )


class _BuildShards(beam.DoFn):
    def __init__(self, builder: ShardBuilder, pool: tuple[float, int], events: int | None):
        self._builder = builder
        self._pool = pool
        self._events = events

    def process(self, work: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
        local = self._events is not None
        output, listener = self._builder.output, _Listener(EventWriter(self._events))
        with shared_pool(*self._pool).borrow() as decoder:
            for place, threads in work:
                file = output.path
                try:
                    shard = read_shard(output, place)
                    file = shard.file
                    if local and not output.claim(file):
                        continue
                    report = self._builder.build(shard, decoder, listener, threads=threads)
                except OSError as error:
                    if not local:
                        raise  # the runner will try again elsewhere
                    listener.error(describe_os_error(error, file))
                    return
                listener.shard()
                yield to_json(report)


class _Listener:
    """Counts for Beam's metrics, and tells the driver, not for every sequence but several times a second."""

    def __init__(self, events: EventWriter):
        self._events = events
        self._sequences = Metrics.counter("reelbeam", "sequences")
        self._failures = Metrics.counter("reelbeam", "source_failures")
        self._shards = Metrics.counter("reelbeam", "shards")
        self._untold = 0
        self._told_at = 0.0

    def sequences(self, count: int) -> None:
        self._sequences.inc(count)
        self._untold += count
        if time.monotonic() - self._told_at > _NEWS_SECONDS:
            self._tell()

    def failed(self, failure: SourceFailure) -> None:
        self._failures.inc()
        self._events.send("failure", source=failure.source, truncated=failure.truncated)

    def shard(self) -> None:
        self._shards.inc()
        self._tell()
        self._events.send("shard")

    def error(self, message: str) -> None:
        self._tell()
        self._events.send("error", message=message)

    def _tell(self) -> None:
        self._events.send("sequences", count=self._untold)
        self._untold, self._told_at = 0, time.monotonic()


class _FinishDataset(beam.DoFn):
    def __init__(self, builder: ShardBuilder, events: int | None):
        self._builder = builder
        self._events = events

    def process(self, keyed: tuple[None, Iterable[dict[str, Any]]]) -> Iterator[str]:
        builder = self._builder
        # A runner that retries may deliver a shard twice; both reports say the same.
        by_file = {fields["file"]: from_json(ShardReport, fields) for fields in keyed[1]}
        try:
            totals = read_totals(builder.output)
            problem = finish_build(builder, list(by_file.values()), totals).error
        except OSError as error:
            if self._events is None:
                raise
            problem = describe_os_error(error, builder.output.path)
        if problem is None:
            yield f"{builder.options.name} is complete in {builder.output.path}"
        elif self._events is not None:
            EventWriter(self._events).send("error", message=problem)
        else:
            # Not raised: to try again would change nothing.
            builder.output.store_error(problem)
