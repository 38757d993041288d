"""Runs one Beam job over many tasks: deals the tasks to workers, collects their reports, finishes once.

Building, validating and predicting share this line of steps, which every runner gets right:

    Create(work lists) -> DealTasks -> the job's own steps -> FinishOnce

Only descriptions of tasks and reports are shuffled, pickled (see `GroupReports`). A distributed runner gets
a work list for each task. The local runner deals its elements to workers beforehand, so each worker gets
the whole list and takes the tasks that no other has claimed: none is idle while there is work.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipelines.errors import describe_os_error
from pipelines.runners.events import EventReader, EventWriter
from pipelines.runners.local import Execution

T = TypeVar("T")
R = TypeVar("R")

_REPORT_SECONDS = 0.2


class ProgressView(AbstractContextManager[Any], Protocol):
    """Shows the progress of a job while it is open.

    Attributes:
        errors: messages of workers that could not do a task.
    """

    errors: list[str]

    def on_event(self, event: dict[str, Any]) -> None:
        """Takes an event that a local worker sent."""


@dataclass(frozen=True)
class LocalRun:
    """Connects the worker threads of a local run with each other and with the driver.

    Attributes:
        claims: folder in which a worker claims a task by making a file.
        events: descriptor of the driver's event pipe.
    """

    claims: str
    events: int

    def claim(self, number: int) -> bool:
        """Returns True for the first caller that asks for the task."""
        try:
            os.close(os.open(f"{self.claims}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True


def run_tasks(
    execution: Execution,
    tasks: Sequence[T],
    make_job: Callable[[LocalRun | None], beam.PTransform],
    view: ProgressView,
    scratch: Path,
) -> None:
    """Runs a job over ``tasks`` to its end.

    Args:
        execution: where it runs.
        tasks: in the order in which they should begin.
        make_job: returns the transform from work lists to the message of the finished job. It gets None
            unless the workers are threads of this process.
        view: receives the events of local workers.
        scratch: folder for the claims of local workers; it must be removed when the process ends.

    Raises:
        UserError: if the engine cannot be used, or the job failed there.
    """
    numbered = list(enumerate(tasks))
    if execution.local:
        work = [pickle.dumps(numbered)] * execution.workers
    else:
        work = [pickle.dumps([task]) for task in numbered]
    # Not removed when the user interrupts: workers that are still running would begin other workers' tasks.
    claims = tempfile.mkdtemp(dir=scratch)
    with view, EventReader(view.on_event) as events:
        job = make_job(LocalRun(claims, events.descriptor) if execution.local else None)
        pipeline = execution.pipeline()
        _ = pipeline | "Work" >> beam.Create(work, reshuffle=False) | "Run" >> job
        execution.run(pipeline)
    shutil.rmtree(claims)


class DealTasks(beam.PTransform):
    """Pickled lists of numbered tasks in, single tasks out, each just before it is begun."""

    def __init__(self, local: LocalRun | None):
        super().__init__()
        self._local = local

    def expand(self, work: beam.PCollection[bytes]) -> beam.PCollection[T]:
        """Shuffles the work lists, and yields the tasks that no other worker has claimed."""
        return (
            work  # bytes: pickled list[tuple[int, T]]
            | "Deal" >> beam.Reshuffle()
            | "Claim" >> beam.FlatMap(_unclaimed, self._local)  # T
        )


def _unclaimed(work: bytes, local: LocalRun | None) -> Iterator[Any]:
    for number, task in pickle.loads(work):  # noqa: S301 - pickled by `run_tasks`
        if local is None or local.claim(number):
            yield task


class GroupReports(beam.PTransform):
    """Pairs of a key and a report in, pairs of a key and all its reports out.

    Reports are pickled before Beam sees them. Beam's workers send their streams on once per second from
    another thread, also in the middle of an element that Beam is pickling, which can then not be decoded
    (`TimeBasedBufferingClosableOutputStream` of Beam 2.77). Bytes are written in one step.
    """

    def expand(self, keyed: beam.PCollection[tuple[Any, R]]) -> beam.PCollection[tuple[Any, Any]]:
        """Groups the reports."""
        return (
            keyed  # (key, R)
            | "Pickle" >> beam.MapTuple(_pickle_report)  # (key, bytes)
            | "Group" >> beam.GroupByKey()
            | "Unpickle" >> beam.MapTuple(lambda key, reports: (key, map(pickle.loads, reports)))
        )


def _pickle_report(key: T, report: object) -> tuple[T, bytes]:
    return key, pickle.dumps(report)


class FinishOnce(beam.PTransform):
    """All reports in, the message of ``finish`` out.

    Args:
        finish: receives all reports, in any order, and returns a message. A runner that retries may deliver
            a report twice.
        place: the output, for messages about failures of its disk or store.
        local: None unless the workers are threads of the driver's process.
    """

    def __init__(self, finish: Callable[[list[R]], str], *, place: str, local: LocalRun | None):
        super().__init__()
        self._finish = finish
        self._place = place
        self._local = local

    def expand(self, reports: beam.PCollection[R]) -> beam.PCollection[str]:
        """Groups all reports, and calls ``finish`` on them once."""
        return (
            reports  # R
            | "Collect" >> beam.WithKeys(None)  # (None, R)
            | GroupReports()  # (None, Iterable[R])
            | "Finish" >> beam.ParDo(_Finish(self._finish, self._place, self._local))  # str
        )


class _Finish(beam.DoFn):
    def __init__(self, finish: Callable[[list[R]], str], place: str, local: LocalRun | None):
        self._finish = finish
        self._place = place
        self._local = local

    def process(self, keyed: tuple[None, Iterable[Any]]) -> Iterator[str]:
        with reported_errors(self._local, self._place):
            yield self._finish([*keyed[1]])


@contextlib.contextmanager
def reported_errors(local: LocalRun | None, place: str) -> Iterator[None]:
    """Reports an `OSError` of a local worker to the driver, and lets it pass elsewhere.

    A distributed runner tries the task again on another machine, so there the error must be raised. The local
    one would only repeat it: the driver prints it at the end, and other tasks go on.

    Args:
        local: None unless the workers are threads of the driver's process.
        place: the file or folder that the message names.
    """
    try:
        yield
    except OSError as error:
        if local is None:
            raise
        EventWriter(local.events).send("error", message=describe_os_error(error, place))


class ProgressReporter:
    """Counts the progress of a worker in Beam's metrics, and sends it to the driver of a local run.

    The driver hears of it several times per second, not for every single unit.

    Args:
        local: None unless the workers are threads of the driver's process.
        unit: name of the metric that `add` counts, such as ``sequences``.
    """

    def __init__(self, local: LocalRun | None, unit: str):
        self._events = EventWriter(None if local is None else local.events)
        self._units = Metrics.counter("reelbeam", unit)
        self._failures = Metrics.counter("reelbeam", "source_failures")
        self._tasks = Metrics.counter("reelbeam", "tasks")
        self._unsent = 0
        self._sent_at = 0.0

    def add(self, count: int) -> None:
        """Counts units; negative after a rollback."""
        self._units.inc(count)
        self._unsent += count
        if time.monotonic() - self._sent_at > _REPORT_SECONDS:
            self.flush()

    def add_failure(self, source: str, *, truncated: bool = False) -> None:
        """Counts a source that failed or was truncated."""
        self._failures.inc()
        self._events.send("failure", source=source, truncated=truncated)

    def end_task(self) -> None:
        """Counts a task that is done."""
        self._tasks.inc()
        self.flush()
        self._events.send("task")

    def flush(self) -> None:
        """Sends what was counted since the last message."""
        self._events.send("progress", count=self._unsent)
        self._unsent, self._sent_at = 0, time.monotonic()
