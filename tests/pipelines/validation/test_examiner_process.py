"""Shards examined in a process of its own: the same summary, and a death that is a finding."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import time

import pytest

from pipelines.validation.conclude import conclude
from pipelines.validation.examiner_process import ChildExaminer
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.pipeline import prepare
from pipelines.validation.thresholds import ValidationOptions
from tests.processes import wait_until


@pytest.fixture
def prepared(make):
    folder = DatasetFolder(str(make("regression").path))
    options = ValidationOptions(tfrecords=folder.path)
    return prepare(folder, folder.load_info(), options)


def test_child_examiner_equals_examiner(prepared):
    examiner, jobs = prepared
    expected = [examiner.examine(job, lambda count: None) for job in jobs]
    with contextlib.closing(ChildExaminer(examiner)) as child:
        found = [child.examine(job, lambda count: None) for job in jobs]
    assert conclude(examiner, found) == conclude(examiner, expected)
    assert pickle.dumps(found[0].tally) == pickle.dumps(expected[0].tally)


def test_child_examiner_reports_death_and_restarts(prepared):
    examiner, jobs = prepared
    with contextlib.closing(ChildExaminer(examiner)) as child:
        first = child.examine(jobs[0], lambda count: None)
        os.kill(child._child.pid, signal.SIGKILL)
        wait_until(lambda: child._child.poll() is not None)
        second = child.examine(jobs[1], lambda count: None)
        rest = [child.examine(job, lambda count: None) for job in jobs[2:]]
    result = conclude(examiner, [first, second, *rest])
    framing = [f for f in result.findings if f.check == "format.framing"]
    assert [f.where.shard for f in framing] == [jobs[1].shard.file]
    assert "the process that examined it was killed by SIGKILL" in framing[0].message
    assert result.records == 21 - jobs[1].shard.records


class StuckFolder(DatasetFolder):
    def open(self, shard):
        time.sleep(60)


class GreedyFolder(DatasetFolder):
    def open(self, shard):
        return bytearray(8 * 2**30)


@pytest.mark.parametrize(
    ("folder", "timeout", "reason"),
    [(StuckFolder, 2, "made no progress for 2 s"), (GreedyFolder, 60, "MemoryError")],
)
def test_child_examiner_is_limited(prepared, folder, timeout, reason):
    examiner, jobs = prepared
    limited = dataclasses.replace(examiner, folder=folder(examiner.folder.path))
    with contextlib.closing(ChildExaminer(limited, timeout)) as child:
        summary = child.examine(jobs[0], lambda count: None)
    (finding,) = conclude(examiner, [summary]).findings[:1]
    assert finding.check == "format.framing"
    assert reason in finding.message


def test_child_examiner_raises_errors_of_the_child(prepared):
    examiner, jobs = prepared
    broken = dataclasses.replace(examiner, expected=None)
    child = ChildExaminer(broken)
    with pytest.raises(RuntimeError, match="AttributeError"):
        child.examine(jobs[0], lambda count: None)
    child.close()


def test_child_examiner_reports_bytes_during_examination(prepared, monkeypatch):
    examiner, jobs = prepared
    path = os.path.join(examiner.folder.path, jobs[0].shard.file)
    with open(path, "ab") as file:
        file.write(bytes(3 << 20))
    told = []
    with contextlib.closing(ChildExaminer(examiner)) as child:
        child.examine(jobs[0], told.append)
    assert sum(told) >= 2 << 20
