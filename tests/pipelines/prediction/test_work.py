"""The folder beside the output: removed when its run was killed, and only then."""

import contextlib
import errno
import itertools
import pickle
import subprocess
import sys

import pytest

from pipelines.build.finish import Expected
from pipelines.errors import UserError
from pipelines.plan.descriptors import SourceFailure
from pipelines.prediction.chunks import Chunk
from pipelines.prediction.publish import ChunkReport, conclude
from pipelines.prediction.work import WorkFolder
from tests.power_cuts import FailingDisk

PROGRAM = """
import sys
from pipelines.prediction.work import WorkFolder
work = WorkFolder.make(sys.argv[1])
work.write_part(0, [])
print(work.path, flush=True)
sys.stdin.read()
"""


def test_make_removes_folders_of_killed_runs_and_keeps_those_in_use(tmp_path):
    output = str(tmp_path / "p[1].jsonl")
    words = [sys.executable, "-c", PROGRAM, output]
    children = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        paths = [child.stdout.readline().strip() for child in children]
        children[0].kill()
        children[0].wait()
        (tmp_path / "p[1].jsonl.work-of-the-user").mkdir()
        work = WorkFolder.make(output)
        names = {str(path) for path in tmp_path.iterdir()}
        assert names == {paths[1], work.path, str(tmp_path / "p[1].jsonl.work-of-the-user")}
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_workers_get_the_folder_without_its_lock(tmp_path):
    work = WorkFolder.make(str(tmp_path / "p.jsonl"))
    assert work.lock is not None
    copy = pickle.loads(pickle.dumps(work))
    assert (copy, copy.lock) == (work, None)


def predict(folder):
    """Writes predictions of two chunks as a run does; returns all files that it leaves."""
    work = WorkFolder.make(str(folder / "p.jsonl"))
    try:
        work.store_plan([Chunk(index=index, segments=()) for index in range(2)])
        failure = SourceFailure(source="b", stage="open", reason="no video")
        reports = [
            ChunkReport(
                chunk=index,
                part=work.write_part(index, [{"sequence": index}] * 9),
                sequences=9,
                short_clips=0,
                failures=(failure,) if index else (),
                kept=(),
                empty=(),
            )
            for index in range(2)
        ]
        expected = Expected(sources=2, tasks=2, failures=(), max_failure_rate=1)
        assert not conclude(reports, expected, 4, work).failed
    finally:
        work.remove()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("first", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_predictions_whose_write_fails_are_whole_or_absent(first, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = predict(tmp_path / "whole")
    assert len(whole) == 2
    for call in itertools.count(first) if first else range(3):
        folder = tmp_path / f"out{call}"
        folder.mkdir()
        code = (errno.ENOSPC, errno.EIO)[call % 2]
        with (
            FailingDisk(folder, call, code) as disk,
            contextlib.suppress(OSError, UserError),
        ):
            predict(folder)
        if disk.failed is None:
            break
        left = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        assert left.items() <= whole.items(), disk.failed
        assert predict(folder) == whole, disk.failed
    assert call == 2 or call > 15
