"""Beam sends its streams of data on from another thread, even between the parts of an element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from pipelines import build_videos, validate
from pipelines.build.shard import ShardReport
from pipelines.runners.local import parse_beam_args
from pipelines.runners.tasks import DealTasks, FinishOnce, GroupReports, LocalRun, run_tasks
from pipelines.validation.examine import ShardJob, ShardSummary


@dataclass(frozen=True)
class Task:
    """A task of the job below."""

    number: int


class Numbers(beam.PTransform):
    """Writes the numbers of tasks, which pass all shuffles of a job, to a file."""

    def __init__(self, path: Path, local: LocalRun | None):
        super().__init__()
        self._path, self._local = str(path), local

    def expand(self, work: beam.PCollection[bytes]) -> beam.PCollection[str]:
        return (
            work
            | DealTasks(self._local)
            | beam.WithKeys(lambda task: task.number % 2)
            | "GroupByParity" >> GroupReports()
            | beam.FlatMapTuple(lambda _, tasks: tasks)
            | FinishOnce(self._write, place=self._path, local=self._local)
        )

    def _write(self, tasks: list[Task]) -> str:
        Path(self._path).write_text(" ".join(str(task.number) for task in tasks))
        return self._path


class NoProgress:
    """A view of the progress that shows nothing."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def on_event(self, event: dict[str, Any]) -> None:
        """Ignores the event."""

    def __enter__(self) -> NoProgress:
        return self

    def __exit__(self, *_: object) -> None:
        pass


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
        lambda local: Numbers(out, local),
        NoProgress(),
        tmp_path,
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
