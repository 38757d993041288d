"""Examines shards in a process of its own, and the client that asks it to.

Threads of one process wait for each other's Python between two pictures, which costs a third of the speed of
two of them; and a picture that crashes the decoder ends the process that decodes it. Requests and answers are
pickles on the child's standard input and output, between two ends of one program.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from pipelines.runners.python_child import child_environment, python_command
from pipelines.validation.checks.shards import ShardFacts, framing
from pipelines.validation.examine import ShardExaminer, ShardJob, ShardSummary
from pipelines.validation.findings import FindingLog, Where
from pipelines.validation.shard_index import ShardIndex
from pipelines.validation.tallies import Tally

_NEWS_BYTES = 1 << 20


class ChildExaminer:
    """Examines shards as ``examiner`` does, in a process of its own that is started at the first one."""

    def __init__(self, examiner: ShardExaminer):
        self._examiner = examiner
        self._child: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._end(self._child)

    def examine(self, job: ShardJob, on_bytes: Callable[[int], None]) -> ShardSummary:
        """What `ShardExaminer.examine` gives; when the child dies of the shard, a finding says so."""
        child = self._child = self._child or self._start()
        requests, answers = cast(BinaryIO, child.stdin), cast(BinaryIO, child.stdout)
        try:
            pickle.dump(job, requests)
            requests.flush()
            while True:
                answer: Any = pickle.load(answers)  # noqa: S301 - what our own child says
                if isinstance(answer, ShardSummary):
                    return answer
                if isinstance(answer, BaseException):
                    raise answer
                on_bytes(answer)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self._child = None
            return _dead(job, self._end(child))

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            python_command("pipelines.validation.examiner_process"),
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with contextlib.suppress(BrokenPipeError):  # its end is noticed when it should answer
            pickle.dump(self._examiner, cast(BinaryIO, child.stdin))
        return child

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        with contextlib.suppress(BrokenPipeError):
            cast(BinaryIO, child.stdin).close()
        cast(BinaryIO, child.stdout).close()
        try:
            return child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()


def _dead(job: ShardJob, status: int) -> ShardSummary:
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    facts = ShardFacts(
        declared=job.shard,
        records=0,
        bytes=0,
        sha256="",
        unreadable=f"the process that examined it ended {how}",
    )
    log = FindingLog(1)
    log.add(framing(facts, Where(shard=job.shard.file)))
    return ShardSummary(
        bytes=0,
        findings=log.kept,
        counts=Counter(log.counts),
        tally=Tally(),
        index=ShardIndex(split=job.split, file=job.shard.file),
        old=job.old,
    )


def main() -> None:
    """Examines the shards that the parent names, until it closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints is no answer
    requests = sys.stdin.buffer
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        examiner: ShardExaminer = pickle.load(requests)  # noqa: S301 - what our parent says
        while True:
            job: ShardJob = pickle.load(requests)  # noqa: S301
            try:
                _answer(answers, examiner.examine(job, _News(answers)))
            except BrokenPipeError:
                raise
            except Exception as error:
                _answer(answers, RuntimeError(f"{type(error).__name__}: {error}"))


def _answer(answers: BinaryIO, what: object) -> None:
    pickle.dump(what, answers)
    answers.flush()


class _News:
    """Tells the parent of bytes that were read, a MiB at a time."""

    def __init__(self, answers: BinaryIO):
        self._answers = answers
        self._untold = 0

    def __call__(self, count: int) -> None:
        self._untold += count
        if self._untold >= _NEWS_BYTES:
            _answer(self._answers, self._untold)
            self._untold = 0
