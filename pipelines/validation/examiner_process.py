"""Examines shards in a child process, for local workers.

Threads of one process wait for each other's Python code between two pictures, which costs a third of the
speed of two threads. A picture that crashes the image decoder ends only the child. Payloads are pickles,
between two ends of one program.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, BinaryIO

from pipelines.runners.child_process import HEADER, ChildError, ChildProcess, pack
from pipelines.runners.python_child import child_environment, python_command
from pipelines.validation.checks.shards import ShardFacts, framing
from pipelines.validation.examine import ShardExaminer, ShardJob, ShardSummary
from pipelines.validation.findings import FindingLog, Where
from pipelines.validation.shard_index import ShardIndex
from pipelines.validation.tallies import Tally

_REQUEST, _PROGRESS, _SUMMARY, _ERROR = b"Q", b"P", b"S", b"E"
_COUNT = struct.Struct("<Q")
_REPORT_BYTES = 1 << 20


class ChildExaminer:
    """Examines shards as ``examiner`` does, in a child process that is started at the first shard."""

    def __init__(self, examiner: ShardExaminer):
        self._examiner = examiner
        self._child: ChildProcess | None = None

    def close(self) -> None:
        """Ends the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def examine(self, job: ShardJob, on_bytes: Callable[[int], None]) -> ShardSummary:
        """Returns what `ShardExaminer.examine` returns, or a finding if the child died while it examined.

        Raises:
            RuntimeError: if the examiner raised an error in the child.
        """
        child = self._child = self._child or self._start()
        try:
            child.send(pack(_REQUEST, pickle.dumps(job)))
            for kind, payload in child.messages():
                if kind == _PROGRESS:
                    on_bytes(*_COUNT.unpack(payload))
                elif kind == _SUMMARY:
                    return pickle.loads(payload)  # noqa: S301 - sent by our own child
                else:
                    raise RuntimeError(payload.decode())
            raise ChildError(child.describe_exit())
        except ChildError as error:
            self.close()
            return _summarize_crash(job, str(error))

    def _start(self) -> ChildProcess:
        child = ChildProcess(
            python_command("pipelines.validation.examiner_process"),
            child_environment(),
            kinds=(_PROGRESS, _SUMMARY, _ERROR),
        )
        child.send(pack(_REQUEST, pickle.dumps(self._examiner)))
        return child


def _summarize_crash(job: ShardJob, reason: str) -> ShardSummary:
    """Returns the summary of a shard that ended its examiner process, with one finding that says how."""
    facts = ShardFacts(
        declared=job.shard,
        records=0,
        bytes=0,
        sha256="",
        unreadable=f"the process that examined it {reason}",
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
    """Examines the shards that the parent names, until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # prints must not be taken for answers
    requests = sys.stdin.buffer
    examiner: ShardExaminer | None = _read_request(requests)
    while (job := _read_request(requests)) is not None and examiner is not None:
        try:
            summary = examiner.examine(job, _ProgressSender(answers))
            answer = pack(_SUMMARY, pickle.dumps(summary))
        except Exception as error:
            answer = pack(_ERROR, f"{type(error).__name__}: {error}".encode())
        answers.write(answer)
        answers.flush()


def _read_request(requests: BinaryIO) -> Any:
    """Returns the next request; None when the parent has closed the pipe."""
    if len(header := requests.read(HEADER.size)) < HEADER.size:
        return None
    _, length = HEADER.unpack(header)
    return pickle.loads(requests.read(length))  # noqa: S301 - sent by our own parent


class _ProgressSender:
    """Sends the number of bytes read to the parent, a MiB at a time."""

    def __init__(self, answers: BinaryIO):
        self._answers = answers
        self._unsent = 0

    def __call__(self, count: int) -> None:
        self._unsent += count
        if self._unsent >= _REPORT_BYTES:
            self._answers.write(pack(_PROGRESS, _COUNT.pack(self._unsent)))
            self._answers.flush()
            self._unsent = 0
