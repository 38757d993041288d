"""Runs a child process that answers requests with messages, and describes how it failed.

Both directions of its standard input and output carry messages: a kind of one byte, the length of the
payload, and the payload. What native libraries print goes to standard error, and its end is part of the
description of a failed child.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import select
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

HEADER = struct.Struct("<cI")

_MAX_MESSAGE_BYTES = 2**30  # a longer one can only be garbage
_PIPE_BYTES = 1 << 20
_ERROR_BYTES = 1 << 16
_ERROR_CHARACTERS = 300
_EXIT_SECONDS = 5


class ChildError(Exception):
    """A child that made no progress or sent an invalid message; its text continues the words "the child"."""


class ChildProcess(subprocess.Popen[bytes]):
    """A process that is spoken to in messages, by one thread at a time.

    Example::

        child = ChildProcess(python_command("package.child"), environment, kinds=(b"P", b"R"), timeout=60)
        child.send(pack(b"Q", request))
        for kind, payload in child.messages():
            ...  # until the kind that ends the answer
        child.kill()

    Args:
        command: program and arguments.
        environment: environment variables of the child.
        kinds: kinds of messages that it may send.
        timeout: max seconds that a read or write waits for the child; None waits forever.
    """

    stdin: IO[bytes]
    stdout: IO[bytes]

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        kinds: Sequence[bytes],
        timeout: float | None = None,
    ):
        self._kinds = kinds
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by kill()
        super().__init__(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            # Ctrl-C goes to the parent, which ends its children.
            start_new_session=True,
        )
        os.set_blocking(self.stdin.fileno(), False)
        # The two ends of a pipe that holds most records wait less for each other. Not every system allows it,
        # and a user may have too many of them.
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):
                fcntl.fcntl(self.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def is_ready(self) -> bool:
        """Returns True if the child runs and has no unread output, which would be taken for an answer."""
        return self.poll() is None and not _becomes_ready(self.stdout, select.POLLIN, 0)

    def send(self, message: bytes) -> None:
        """Writes a message.

        If the child has ended, nothing is raised: the end of its `messages` tells.

        Raises:
            ChildError: if the child does not read it in time.
        """
        rest = memoryview(message)
        while rest:
            self._wait_for(self.stdin, select.POLLOUT)
            try:
                rest = rest[os.write(self.stdin.fileno(), rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return

    def messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields kind and payload of messages until the child closes its output.

        Raises:
            ChildError: if the child sends nothing in time, or an invalid message.
        """
        while (header := self._read(HEADER.size)) is not None:
            kind, length = HEADER.unpack(header)
            if kind not in self._kinds or length > _MAX_MESSAGE_BYTES:
                raise ChildError("sent bytes that are not a message")
            if (payload := self._read(length)) is None:
                return
            yield kind, payload

    def describe_exit(self) -> str:
        """Returns how a child ended that has closed its output, such as ``was killed by SIGSEGV: ...``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(_EXIT_SECONDS)
        how = f"ended with exit code {self.poll()}"
        if (number := -(self.poll() or 0)) > 0:
            # A real-time signal has no name.
            names = {known.value: known.name for known in signal.Signals}
            how = f"was killed by {names.get(number, f'signal {number}')}"
        said = self.last_error()
        return f"{how}: {said}" if said else how

    def last_error(self) -> str:
        """Returns the last exception or line on standard error; empty if there is none."""
        end = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, end - _ERROR_BYTES))
        lines = self._errors.read(_ERROR_BYTES).decode(errors="replace").strip().splitlines()
        return (_exception_text(lines) or (lines[-1] if lines else ""))[:_ERROR_CHARACTERS]

    def kill(self) -> None:
        """Ends the child, whatever it does."""
        super().kill()
        self.wait()
        for pipe in (self.stdin, self.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._errors.close()

    def _wait_for(self, pipe: IO[bytes], event: int) -> None:
        if not _becomes_ready(pipe, event, self._timeout):
            raise ChildError(f"made no progress for {self._timeout:g} s")

    def _read(self, count: int) -> bytes | None:
        """Returns ``count`` bytes; None if the output ends before."""
        parts = []
        while count:
            self._wait_for(self.stdout, select.POLLIN | select.POLLHUP)
            part = os.read(self.stdout.fileno(), min(count, _PIPE_BYTES))
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """Returns a message as bytes."""
    return HEADER.pack(kind, len(payload)) + payload


def _becomes_ready(pipe: IO[bytes], event: int, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(pipe, event)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def _exception_text(lines: Sequence[str]) -> str:
    """Returns the exception at the end of the last traceback among ``lines``; empty if there is none."""
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most ")]
    if not starts:
        return ""
    rest = lines[starts[-1] + 1 :]
    # Calls are indented. The text may have several lines, and Python or a library may print more after it.
    first = next((number for number, line in enumerate(rest) if line[:1].strip()), len(rest))
    text = itertools.takewhile(lambda line: not line.startswith("Fatal Python error"), rest[first:])
    return " ".join(" ".join(text).split())
