"""The folder beside the output: kept for a run that goes on, and for one run at a time."""

import contextlib
import errno
import itertools
import subprocess
import sys

import pytest

from pipelines.build.finish import Expected
from pipelines.errors import UserError
from pipelines.plan.descriptors import SourceFailure
from pipelines.prediction.chunks import Chunk
from pipelines.prediction.formats import RowFormat
from pipelines.prediction.lines import ModelOutput
from pipelines.prediction.publish import ChunkReport, Publication, conclude
from pipelines.prediction.rows import RowOptions, Window
from pipelines.prediction.work import WorkFolder
from tests.power_cuts import FailingDisk
from tfrecords_schema.spec import LabelSpec

PROGRAM = """
import sys
from pipelines.prediction.work import WorkFolder
with WorkFolder.locked(sys.argv[1]) as work:
    print(work.path, flush=True)
    sys.stdin.read()
"""
REPORT = ChunkReport(chunk=0, sequences=1, failures=(), kept=(), empty=())


def test_another_run_is_refused_until_the_first_is_killed(tmp_path):
    output = str(tmp_path / "p[1].jsonl")
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        child.stdout.readline()
        with (
            pytest.raises(UserError, match="another run is predicting in"),
            WorkFolder.locked(output),
        ):
            pass
    finally:
        child.kill()
        child.communicate()
    with WorkFolder.locked(output) as work:
        work.remove()
    assert list(tmp_path.iterdir()) == []


def test_begin_keeps_parts_of_the_same_key_only(tmp_path):
    with WorkFolder.locked(str(tmp_path / "p.csv")) as work:
        work.begin("one", [], [])
        work.write_part(0, [], REPORT)
        work.begin("one", [], [])
        assert work.reports(ChunkReport) == {0: REPORT}
        work.begin("two", [], [])
        assert work.reports(ChunkReport) == {}


def test_an_output_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is a folder"), WorkFolder.locked(str(tmp_path)):
        pass


def predict(folder):
    """Writes predictions of two chunks as a run does; returns all files that it leaves."""
    label = LabelSpec(task="regression", target_names=("speed",))
    output, failure = ModelOutput(label=label), SourceFailure(source="2", stage="open", reason="?")
    with WorkFolder.locked(str(folder / "p.csv")) as work:
        work.begin("key", [Chunk(index=index, segments=()) for index in range(2)], ["0", "1", "2"])
        for index in range(2):
            report = ChunkReport(
                chunk=index, sequences=1, failures=(failure,) if index else (), kept=(), empty=()
            )
            window = Window(start=0.0, end=1.0, values=(float(index),))
            work.write_part(index, [(str(index), window)], report)
        publication = Publication(
            expected=Expected(sources=3, tasks=2, failures=(), max_failure_rate=1),
            name="footage",
            num_frames=4,
            rows=RowOptions(per="sequence", output=output),
            format=RowFormat.of(work.output, (), "sequence", output),
            fill=None,
        )
        assert conclude(work.reports(ChunkReport).values(), publication, work).written
        work.remove()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("first", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_predictions_whose_write_fails_are_whole_or_absent(first, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = predict(tmp_path / "whole")
    assert whole["p.csv"].splitlines()[1:] == [
        b"0,0.0,1.0,0.0,",
        b"1,0.0,1.0,1.0,",
        b"2,,,,open: ?",
    ]
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
