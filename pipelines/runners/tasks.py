"""Runs one Beam job over many tasks: deals the tasks to workers, collects their reports, finishes once.

Building, validating and predicting share this line of steps, which every runner gets right:

    Create(work lists) -> Deal -> Claim -> the job's own steps -> GroupReports -> Finish

Only descriptions of tasks and reports are shuffled, pickled (see `GroupReports`). A distributed runner gets
a work list for each task. The local runner deals its elements to workers beforehand, so each worker gets
the whole list and takes the tasks that no other has claimed: none is idle while there is work.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipelines.errors import as_interrupted_work
from pipelines.runners.local import Execution
from pipelines.runners.progress import ProgressBar

_SHOW_SECONDS = 0.2


class LocalRun:
    """Connects the workers of a local run with each other and with the driver, whose threads they are.

    It stays the same object when Beam pickles it, so that no copy of it ever claims a task twice.

    Attributes:
        errors: what workers could not do.
    """

    _live: ClassVar[MutableMapping[int, LocalRun]] = weakref.WeakValueDictionary()

    def __init__(self, bar: ProgressBar):
        self.errors: list[Exception] = []
        self._bar: ProgressBar | None = bar
        self._claimed: set[int] = set()
        self._lock = threading.Lock()
        self._live[id(self)] = self

    def __reduce__(self) -> tuple[Callable[[int], LocalRun], tuple[int]]:
        return self._find, (id(self),)

    @classmethod
    def _find(cls, key: int) -> LocalRun:
        return cls._live[key]

    def claim(self, task: int) -> bool:
        """Returns True for the first caller that asks for the task."""
        with self._lock:
            is_first = task not in self._claimed
            self._claimed.add(task)
        return is_first

    def show(self, change: Callable[[ProgressBar], None]) -> None:
        """Changes the progress bar. If that fails, as when the terminal is gone, the workers go on."""
        with self._lock:
            if self._bar is not None:
                try:
                    change(self._bar)
                except Exception as error:
                    self.errors.append(error)
                    self._bar = None


class Job(beam.PTransform):
    """Pickled lists of numbered tasks in, the message of ``finish`` out.

    Args:
        steps: the job's own transform, tasks in and reports out.
        finish: receives all reports, in any order, and returns a message. A runner that retries may deliver
            a report twice.
        place: the output, for messages about failures of its disk or store.
        local: None unless the workers are threads of the driver's process.
    """

    def __init__(
        self,
        steps: beam.PTransform,
        finish: Callable[[list[Any]], str],
        *,
        place: str,
        local: LocalRun | None,
    ):
        super().__init__()
        self._steps = steps
        self._local = local
        self._finish = (finish, place, local)

    def expand(self, work: beam.PCollection[bytes]) -> beam.PCollection[str]:
        """Takes each task just before it is begun, and calls ``finish`` once."""
        return (
            work  # bytes: a pickled list of numbered tasks
            | "Deal" >> beam.Reshuffle()
            | "Claim" >> beam.FlatMap(_unclaimed, self._local)  # task
            | "Steps" >> self._steps  # report
            | "Collect" >> beam.WithKeys(None)  # (None, report)
            | GroupReports()  # (None, Iterable[report])
            | "Finish" >> beam.FlatMap(_finish, *self._finish)  # str
        )


def _unclaimed(work: bytes, local: LocalRun | None) -> Iterator[Any]:
    for number, task in pickle.loads(work):  # noqa: S301 - pickled by `run_tasks`
        if local is None or local.claim(number):
            yield task


def _finish(
    keyed: tuple[None, Iterable[Any]],
    finish: Callable[[list[Any]], str],
    place: str,
    local: LocalRun | None,
) -> Iterator[str]:
    with reported_errors(local, place):
        yield finish([*keyed[1]])


class GroupReports(beam.PTransform):
    """Pairs of a key and a report in, pairs of a key and all its reports out.

    Reports are pickled before Beam sees them. Beam's workers send their streams on once per second from
    another thread, also in the middle of an element that Beam is pickling, which can then not be decoded
    (`TimeBasedBufferingClosableOutputStream` of Beam 2.77). Bytes are written in one step.
    """

    def expand(self, keyed: beam.PCollection[tuple[Any, Any]]) -> beam.PCollection[tuple[Any, Any]]:
        """Groups the reports."""
        return (
            keyed  # (key, report)
            | "Pickle" >> beam.MapTuple(lambda key, report: (key, pickle.dumps(report)))
            | "Group" >> beam.GroupByKey()
            | "Unpickle" >> beam.MapTuple(lambda key, reports: (key, map(pickle.loads, reports)))
        )


def run_tasks(
    execution: Execution,
    tasks: Sequence[Any],
    make_job: Callable[[LocalRun | None], Job],
    view: AbstractContextManager[Any],
) -> None:
    """Runs a job over ``tasks``, in the order in which they should begin, to its end.

    Args:
        execution: where it runs.
        tasks: what can be pickled.
        make_job: gets None unless the workers are threads of this process.
        view: shows the progress; a `ProgressBar` for local workers.

    Raises:
        UserError: if the engine cannot be used, the job failed there, or a local worker reported an error.
    """
    numbered = list(enumerate(tasks))
    if execution.local:
        work = [pickle.dumps(numbered)] * execution.workers
    else:
        work = [pickle.dumps([task]) for task in numbered]
    with view as bar:
        local = LocalRun(bar) if execution.local else None
        pipeline = execution.pipeline()
        job = make_job(local)
        _ = pipeline | "Work" >> beam.Create(work, reshuffle=False) | "Run" >> job
        execution.run(pipeline)
        if local is not None and local.errors:
            raise local.errors[0]


@contextlib.contextmanager
def reported_errors(local: LocalRun | None, place: str) -> Iterator[None]:
    """Reports an `OSError` of a local worker at ``place`` to the driver, and lets it pass elsewhere.

    A distributed runner tries the task again on another machine, so there the error must be raised. The local
    one would only repeat it: the driver prints it at the end, and other tasks go on.
    """
    try:
        yield
    except OSError as error:
        if local is None:
            raise
        local.errors.append(as_interrupted_work(error, place))


class ProgressReporter:
    """Counts the progress of a worker in Beam's metrics, and shows it in a local run.

    The bar changes several times per second, not for every single unit.

    ``unit`` is the name of the metric that `add` counts, such as ``sequences``.
    """

    def __init__(self, local: LocalRun | None, unit: str):
        self._local = local
        self._units = Metrics.counter("reelbeam", unit)
        self._failures = Metrics.counter("reelbeam", "source_failures")
        self._tasks = Metrics.counter("reelbeam", "tasks")
        self._hidden = 0
        self._shown_at = 0.0

    def add(self, count: int) -> None:
        """Counts units; negative after a rollback."""
        self._units.inc(count)
        self._hidden += count
        if time.monotonic() - self._shown_at > _SHOW_SECONDS:
            self.flush()

    def add_failure(self, source: str, *, truncated: bool) -> None:
        """Counts a source that failed or was truncated."""
        self._failures.inc()
        if not truncated:
            self._show(lambda bar: bar.add_failure(source))

    def end_task(self) -> None:
        """Counts a task that is done."""
        self._tasks.inc()
        self.flush()
        self._show(lambda bar: bar.end_task())

    def flush(self) -> None:
        """Shows what was counted since the last time."""
        count, self._hidden, self._shown_at = self._hidden, 0, time.monotonic()
        self._show(lambda bar: bar.add(count))

    def _show(self, change: Callable[[ProgressBar], None]) -> None:
        if self._local is not None:
            self._local.show(change)
