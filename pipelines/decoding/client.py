"""Starts decoder processes, sends them requests, watches them, and kills those that misbehave.

A child that crashes, hangs, takes too much memory or sends invalid messages fails the source that it was
reading and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import os
import queue
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

from pipelines.decoding import protocol
from pipelines.decoding.protocol import (
    BuildRequest,
    DecodingFailure,
    ExtentRequest,
    Index,
    IndexRequest,
    OverlayRequest,
    ProbeRequest,
    SegmentResult,
)
from pipelines.options.dataset import RunOptions
from pipelines.plan.descriptors import Extent, Probe
from pipelines.runners.python_child import child_environment, python_command
from pipelines.storage.staging import Staging, StagingError
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.machine import usable_cpus

MEMORY_LIMIT = 4 * 2**30
"""Max bytes of a decoder's address space: the reference frames of 8K video fit, a leak does not."""

_PIPE_BYTES = 1 << 20
_LAST_ERROR_BYTES = 1 << 16
_LAST_WORDS_CHARACTERS = 300

T = TypeVar("T")


class DecoderProcess:
    """A child process that decodes, restarted after it had to be killed. For one thread at a time.

    Args:
        timeout: max seconds without a packet read or a record sent.
        memory_limit: max bytes of the child's address space.
        staging: fetches files from object stores, as the child reads only local files.
        program: command of the child in place of the decoder's, for tests of children that misbehave.
    """

    def __init__(
        self,
        *,
        timeout: float,
        memory_limit: int = MEMORY_LIMIT,
        staging: Staging | None = None,
        program: Sequence[str] | None = None,
    ):
        self._timeout = timeout
        self._memory_limit = memory_limit
        self._staging = staging or Staging()
        self._program = program or python_command("pipelines.decoding.child")
        self._child: subprocess.Popen[bytes] | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()

    def probe(self, path: str) -> Probe:
        """Returns the header's hints about the file at ``path``.

        Raises:
            DecodingFailure: if it cannot be opened as a video.
        """
        try:
            with self._staging.outline(path) as outline:
                if outline is not None:
                    with contextlib.suppress(DecodingFailure):
                        return self._probe(outline)
        except StagingError as error:
            raise DecodingFailure("staging", str(error)) from error
        return self._probe(path)

    def _probe(self, path: str) -> Probe:
        return _result(self._ask(ProbeRequest(path), Probe), _refuse_record)

    def extent(self, path: str) -> Extent:
        """Returns the time range of the footage in the file at ``path``.

        Raises:
            DecodingFailure: if it cannot be opened as a video.
        """
        return _result(self._ask(ExtentRequest(path), Extent), _refuse_record)

    def index(self, request: IndexRequest) -> Index:
        """Returns the places where a clip may be cut into segments.

        Raises:
            DecodingFailure: if it cannot be opened as a video.
        """
        return _result(self._ask(request, Index), _refuse_record)

    def build(self, request: BuildRequest, on_record: Callable[[bytes], None]) -> SegmentResult:
        """Builds a segment; ``on_record`` receives its records in order.

        Raises:
            DecodingFailure: if the source cannot be used, or killed the child. The records received until
            then
                must be discarded.
        """
        return _result(self.records(request), on_record)

    def records(self, request: BuildRequest) -> Generator[bytes, None, SegmentResult]:
        """Builds a segment: yields its records in order, on demand, and returns its result.

        Closing the generator before its end kills the child.

        Raises:
            DecodingFailure: see `build`.
        """
        return self._ask(request, SegmentResult)

    def draw(self, request: OverlayRequest) -> int:
        """Writes a video of footage with captions, and returns its number of frames.

        Raises:
            DecodingFailure: if the footage cannot be used, or the video cannot be written.
        """
        return _result(self._ask(request, dict[str, int]), _refuse_record)["frames"]

    def close(self) -> None:
        """Ends the child."""
        self._kill()
        self._stderr.close()

    def _ask(self, request: protocol.Request, answer: type[T]) -> Generator[bytes, None, T]:
        """Sends a request; yields the records of the answer, and returns its result."""
        try:
            with self._staging.localized(request) as local:
                return (yield from self._ask_child(local, answer))
        except StagingError as error:
            raise DecodingFailure("staging", str(error)) from error

    def _ask_child(self, request: protocol.Request, answer: type[T]) -> Generator[bytes, None, T]:
        child = self._running_child()
        try:
            fields = protocol.request_to_json(request)
            self._send(child, protocol.pack_json(protocol.REQUEST, fields))
            for kind, payload in self._messages(child):
                if kind == protocol.RECORD:
                    yield payload
                elif kind == protocol.RESULT:
                    return _parse(payload, lambda fields: _read_answer(answer, fields))
                elif kind == protocol.FAILURE:
                    raise _parse(payload, lambda fields: DecodingFailure(**fields))
        except DecodingFailure as failure:
            if failure.stage in ("process", "limits"):
                self._kill()  # its state is not to be trusted
            raise
        except BaseException:
            self._kill()  # the unread answer must not be taken for the next one
            raise
        raise self._death()

    def _send(self, child: subprocess.Popen[bytes], message: bytes) -> None:
        """Writes a request without blocking on a child that does not read it."""
        pipe = child.stdin.fileno()  # type: ignore[union-attr]
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        rest = memoryview(message)
        while rest:
            if not poll.poll(self._timeout * 1000):
                raise self._no_progress()
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return  # it has ended; the end of its output tells how

    def _no_progress(self) -> DecodingFailure:
        return DecodingFailure("process", f"the decoder made no progress for {self._timeout:g} s")

    def _messages(self, child: subprocess.Popen[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Yields messages until the child closes its output."""
        output = child.stdout.fileno()  # type: ignore[union-attr]
        poll = select.poll()
        poll.register(output, select.POLLIN | select.POLLHUP)

        def read(count: int) -> bytes | None:
            """Returns ``count`` bytes; None if the output ends before."""
            parts = []
            while count:
                if not poll.poll(self._timeout * 1000):
                    raise self._no_progress()
                part = os.read(output, min(count, _PIPE_BYTES))
                if not part:
                    return None
                parts.append(part)
                count -= len(part)
            return b"".join(parts)

        while (header := read(protocol.HEADER.size)) is not None:
            kind, length = protocol.HEADER.unpack(header)
            if kind not in protocol.ANSWERS or length > protocol.MAX_MESSAGE_BYTES:
                raise DecodingFailure("process", "the decoder sent an invalid message")
            if (payload := read(length)) is None:
                return
            yield kind, payload

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None or self._has_unread_output():
            self._kill()
            # The child shares the position in the file, too.
            self._stderr.seek(0)
            self._stderr.truncate()
            self._child = subprocess.Popen(
                [*self._program, str(self._memory_limit)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=_child_environment(),
                # Ctrl-C goes to the parent, which ends its children.
                start_new_session=True,
            )
            _widen(self._child.stdout.fileno())  # type: ignore[union-attr]
            os.set_blocking(self._child.stdin.fileno(), False)  # type: ignore[union-attr]
        return self._child

    def _has_unread_output(self) -> bool:
        """Returns True if output followed the last answer, which must not be taken for the next one."""
        poll = select.poll()
        poll.register(self._child.stdout.fileno(), select.POLLIN)  # type: ignore[union-attr]
        return bool(poll.poll(0))

    def _death(self) -> DecodingFailure:
        """Returns the failure that describes how the child ended."""
        child = self._child
        if child is None:
            return DecodingFailure("process", "the decoder has ended")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(5)  # its output has ended; its exit follows
        code = child.poll()
        self._kill()
        if code is not None and code < 0:
            how = f"was killed by {_signal_name(-code)}"
        else:
            how = f"ended with exit code {code}"
        said = self._last_error()
        return DecodingFailure("process", f"the decoder {how}" + (f": {said}" if said else ""))

    def _last_error(self) -> str:
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - _LAST_ERROR_BYTES))
        lines = self._stderr.read(_LAST_ERROR_BYTES).decode(errors="replace").strip().splitlines()
        return (_exception_text(lines) or (lines[-1] if lines else ""))[:_LAST_WORDS_CHARACTERS]

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


class DecoderPool:
    """Decoder processes shared by the threads of this process, at most one per usable CPU.

    Children are started at their first use and live as long as the pool.
    """

    def __init__(
        self,
        size: int,
        *,
        timeout: float,
        memory_limit: int = MEMORY_LIMIT,
        staging: Staging | None = None,
    ):
        staging = staging or Staging()  # one for all of them
        self._idle: queue.LifoQueue[DecoderProcess] = queue.LifoQueue()
        self._all = [
            DecoderProcess(timeout=timeout, memory_limit=memory_limit, staging=staging)
            for _ in range(size)
        ]
        for decoder in self._all:
            self._idle.put(decoder)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[DecoderProcess]:
        """Waits for a free decoder, and lends it to the calling thread."""
        decoder = self._idle.get()
        try:
            yield decoder
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """Ends all children."""
        for decoder in self._all:
            decoder.close()


@functools.cache
def shared_pool(timeout: float, staging_size: int = RunOptions.staging_size) -> DecoderPool:
    """Returns the pool of this process; its children end with the process."""
    return DecoderPool(usable_cpus(), timeout=timeout, staging=Staging(staging_size))


def _child_environment() -> dict[str, str]:
    """Returns the environment of a Python child, without what opens object stores."""
    environment = child_environment()
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")}


def _widen(pipe: int) -> None:
    """Enlarges a pipe to hold most records, so that its two ends wait less for each other."""
    # Not every system allows it, and a user may have too many of them.
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _result(answer: Generator[bytes, None, T], on_record: Callable[[bytes], None]) -> T:
    """Returns the result of an answer after passing its records to ``on_record``."""
    with contextlib.closing(answer):
        while True:
            try:
                record = next(answer)
            except StopIteration as end:
                return end.value
            on_record(record)


def _read_answer(answer: type[T], fields: dict[str, Any]) -> T:
    found = from_json(answer, fields)
    if (
        fields.keys() != to_json(found).keys()
    ):  # a default would stand for what the child did not say
        raise ValueError(f"expected all fields of a {answer.__name__}, got {', '.join(fields)}")
    return found


def _parse(payload: bytes, read: Callable[[dict[str, Any]], T]) -> T:
    try:
        return read(json.loads(payload))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DecodingFailure("process", "the decoder sent an invalid answer") from error


def _exception_text(lines: Sequence[str]) -> str:
    """Returns the exception that the last traceback among ``lines`` ends with; "" where there is none."""
    begins = [number for number, line in enumerate(lines) if line.startswith("Traceback (most ")]
    if not begins:
        return ""
    said = lines[begins[-1] + 1 :]
    # Its calls are indented; its text may have several lines, and Python or a library may go on after it.
    first = next((number for number, line in enumerate(said) if line[:1].strip()), len(said))
    text = itertools.takewhile(lambda line: not line.startswith("Fatal Python error"), said[first:])
    return " ".join(" ".join(text).split())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal has no name


def _refuse_record(_: bytes) -> None:
    raise DecodingFailure("process", "the decoder sent an unexpected record")
