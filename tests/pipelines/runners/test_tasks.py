"""Jobs over tasks: who takes a task, what is reported, and what Beam's streams make of it.

Beam sends its streams of data on from another thread, even between the parts of an element.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from pipelines import build_videos, validate
from pipelines.build.shard import ShardReport
from pipelines.errors import UserError
from pipelines.runners.local import parse_beam_args
from pipelines.runners.progress import ProgressBar
from pipelines.runners.tasks import (
    GroupReports,
    Job,
    LocalRun,
    ProgressReporter,
    reported_errors,
    run_tasks,
)
from pipelines.validation.examine import ShardJob
from pipelines.validation.shard_summary import ShardSummary


@dataclass(frozen=True)
class Task:
    """A task of the job below."""

    number: int


class Counter(ProgressBar):
    """A bar that counts without a terminal, or fails when it is changed."""

    def __init__(self, error: Exception | None = None):
        self.count = self.tasks = 0
        self.failed: set[str] = set()
        self._error = error

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, count: int) -> None:
        if self._error is not None:
            raise self._error
        self.count += count

    def add_failure(self, source: str) -> None:
        self.failed.add(source)

    def end_task(self) -> None:
        self.tasks += 1


def numbers(path: Path, local: LocalRun | None) -> Job:
    """Writes the numbers of tasks, which pass all shuffles of a job, to a file."""

    def write(tasks: list[Task]) -> str:
        path.write_text(" ".join(str(task.number) for task in tasks))
        return str(path)

    steps = (
        beam.WithKeys(lambda task: task.number % 2)
        | "GroupByParity" >> GroupReports()
        | beam.FlatMapTuple(lambda _, tasks: tasks)
    )
    return Job(steps, write, place=str(path), local=local)


@pytest.fixture
def clips(tmp_path: Path, write_video: Callable[..., Any]) -> Path:
    """Two classes of one short clip each."""
    for name in ("fall", "run"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        write_video(tmp_path / "clips" / name / "clip.mp4", frames=20)
    return tmp_path / "clips"


@pytest.mark.parametrize("workers", [1, 2])
def test_run_tasks_flushed_while_pickling(
    tmp_path: Path, flush_while_pickling: Callable[..., None], workers: int
) -> None:
    flush_while_pickling(Task)
    out = tmp_path / "numbers"
    run_tasks(
        parse_beam_args([], workers=workers),
        [Task(number) for number in range(6)],
        lambda local: numbers(out, local),
        ProgressBar("Counting", "task", None),
    )
    assert sorted(map(int, out.read_text().split())) == [0, 1, 2, 3, 4, 5]


def test_build_and_validate_flushed_while_pickling(
    clips: Path, tmp_path: Path, flush_while_pickling: Callable[..., None]
) -> None:
    flush_while_pickling(ShardReport, ShardSummary, ShardJob)
    output = tmp_path / "dataset"
    info = build_videos(
        str(clips),
        str(output),
        num_frames=4,
        size=(24, 32),
        shards=4,
        splits={"train": 1},
        workers=2,
    )
    assert info is not None
    assert info.splits["train"].num_records == 10
    assert validate(str(output), workers=2).result.records == 10


class TestLocalRun:
    def test_pickling_gives_the_same_run(self) -> None:
        run = LocalRun(ProgressBar("Counting", "task", None))
        assert pickle.loads(pickle.dumps([run]))[0] is run

    def test_claim_gives_each_task_to_one_of_many_threads(self) -> None:
        run = LocalRun(ProgressBar("Counting", "task", None))
        start, taken = threading.Barrier(8), []

        def work() -> None:
            start.wait()
            taken.extend(number for number in range(1000) if run.claim(number))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == list(range(1000))

    def test_progress_of_many_threads_adds_up(self) -> None:
        bar = Counter()
        run = LocalRun(bar)

        def work() -> None:
            progress = ProgressReporter(run, "sequences")
            for _ in range(1000):
                progress.add(1)
            progress.add(-10)
            progress.add_failure("a.mp4", truncated=False)
            progress.add_failure("b.mp4", truncated=True)
            progress.end_task()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (bar.count, bar.tasks, bar.failed) == (8 * 990, 8, {"a.mp4"})

    def test_a_bar_that_fails_is_not_changed_again_and_workers_go_on(self) -> None:
        run = LocalRun(Counter(BrokenPipeError("the terminal is gone")))
        progress = ProgressReporter(run, "sequences")
        for _ in range(3):
            progress.end_task()
        (error,) = run.errors
        assert isinstance(error, BrokenPipeError)


class TestReportedErrors:
    def test_a_local_worker_leaves_its_error_to_the_driver(self) -> None:
        run = LocalRun(Counter())
        with reported_errors(run, "shard"):
            raise OSError(28, "No space left on device")
        (error,) = run.errors
        assert isinstance(error, UserError)
        assert str(error).startswith("shard: No space left on device. Remove the cause")

    def test_a_worker_elsewhere_raises_it(self) -> None:
        with pytest.raises(OSError, match="No space"), reported_errors(None, "shard"):
            raise OSError(28, "No space left on device")

    @pytest.mark.parametrize("bar_fails", [True, False])
    def test_run_tasks_raises_the_first_error_at_the_end(self, tmp_path, bar_fails) -> None:
        done = tmp_path / "done"

        def make_job(local: LocalRun | None) -> Job:
            def work(number: int) -> int:
                ProgressReporter(local, "sequences").end_task()
                with reported_errors(local, f"task {number}"):
                    raise OSError(28, "No space left on device")
                return number

            def finish(reports: list[int]) -> str:
                done.write_text(str(sorted(reports)))
                return ""

            return Job(beam.Map(work), finish, place="out", local=local)

        error = BrokenPipeError("the terminal is gone") if bar_fails else None
        expected = BrokenPipeError if bar_fails else UserError
        with pytest.raises(expected, match="terminal" if bar_fails else "^task [012]: No space"):
            run_tasks(parse_beam_args([], workers=2), [0, 1, 2], make_job, Counter(error))
        assert done.read_text() == "[0, 1, 2]"


def test_a_bar_that_is_interrupted_keeps_its_total() -> None:
    bar = ProgressBar("Building", "seq", 40)
    with pytest.raises(KeyboardInterrupt), bar:  # noqa: PT012
        bar.add(10)
        raise KeyboardInterrupt
    assert (bar._bar.n, bar._bar.total) == (10, 40)
