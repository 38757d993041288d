"""Examines shards in a child process, for local workers.

Threads of one process wait for each other's Python code between two pictures, which costs a third of the
speed of two threads. A picture that crashes the image decoder ends only the child.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

from pipelines.runners.child_process import HEADER, ChildError, ChildProcess, pack
from pipelines.runners.python_child import child_environment, limit_memory, python_command
from pipelines.validation.checks.shards import ShardFacts, format_framing
from pipelines.validation.examine import ShardExaminer, ShardJob
from pipelines.validation.findings import Where
from pipelines.validation.shard_summary import ShardSummary

_REQUEST, _PROGRESS, _SUMMARY, _ERROR = b"Q", b"P", b"S", b"E"
_REPORT_BYTES = 1 << 20
_REPORT_SECONDS = 0.5
_TIMEOUT_SECONDS = 60.0
_MAX_MEMORY = 4 * 2**30


class ChildExaminer:
    """Examines shards as ``examiner`` does, in a child process that is started at the first shard.

    A child that reads nothing for ``timeout`` seconds, or needs too much memory, is ended.
    """

    def __init__(self, examiner: ShardExaminer, timeout: float = _TIMEOUT_SECONDS):
        self._examiner = examiner
        self._timeout = timeout
        self._child: ChildProcess | None = None

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.kill()
        self._child = None

    def examine(self, job: ShardJob, on_bytes: Callable[[int], None]) -> ShardSummary:
        """Returns what `ShardExaminer.examine` returns, or a finding if the child died while it examined.

        An error that the examiner raised in the child is raised as a `RuntimeError`.
        """
        try:
            if self._child is None:
                self._child = ChildProcess(
                    python_command("pipelines.validation.examiner_process"),
                    child_environment(),
                    kinds=(_PROGRESS, _SUMMARY, _ERROR),
                    timeout=self._timeout,
                )
                self._child.send(pack(_REQUEST, pickle.dumps(self._examiner)))
            child = self._child
            child.send(pack(_REQUEST, pickle.dumps(job)))
            for kind, payload in child.messages():
                if kind == _PROGRESS:
                    on_bytes(pickle.loads(payload))  # noqa: S301 - sent by our own child
                elif kind == _SUMMARY:
                    return pickle.loads(payload)  # noqa: S301 - sent by our own child
                else:
                    raise RuntimeError(payload.decode())
            raise ChildError(child.describe_exit())
        except ChildError as error:
            self.close()
            summary = ShardSummary(split=job.split, file=job.shard.file, old=job.old)
            facts = ShardFacts(job.shard, unreadable=f"the process that examined it {error}")
            summary.log.add(format_framing(facts, Where(shard=summary.file)))
            return summary


def main() -> None:
    """Examines the shards that the parent names, until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # prints must not be taken for answers
    limit_memory(_MAX_MEMORY)
    unsent, sent_at = 0, time.monotonic()

    def answer(kind: bytes, payload: bytes) -> None:
        answers.write(pack(kind, payload))
        answers.flush()

    def report(count: int) -> None:
        nonlocal unsent, sent_at
        unsent += count
        if unsent >= _REPORT_BYTES or time.monotonic() > sent_at + _REPORT_SECONDS:
            answer(_PROGRESS, pickle.dumps(unsent))
            unsent, sent_at = 0, time.monotonic()

    examiner: ShardExaminer | None = _read_request()
    while (job := _read_request()) is not None and examiner is not None:
        try:
            answer(_SUMMARY, pickle.dumps(examiner.examine(job, report)))
        except MemoryError:
            raise  # ends this process, which the parent reports
        except Exception as error:
            answer(_ERROR, f"{type(error).__name__}: {error}".encode())


def _read_request() -> Any:
    """Returns the next request; None when the parent has closed the pipe."""
    requests = sys.stdin.buffer
    if len(header := requests.read(HEADER.size)) < HEADER.size:
        return None
    _, length = HEADER.unpack(header)
    return pickle.loads(requests.read(length))  # noqa: S301 - sent by our own parent
