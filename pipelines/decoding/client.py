"""Starts decoder processes, sends them requests, watches them, and kills those that misbehave.

A child that crashes, hangs, takes too much memory or sends invalid messages fails the source that it was
reading and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import json
import queue
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
from pipelines.runners.child_process import ChildError, ChildProcess, pack
from pipelines.runners.python_child import child_environment, python_command
from pipelines.storage.staging import Staging, StagingError
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.machine import usable_cpus

MEMORY_LIMIT = 4 * 2**30
"""Max bytes of a decoder's address space: the reference frames of 8K video fit, a leak does not."""

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
        self._child: ChildProcess | None = None

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
            DecodingFailure: if the source cannot be used, or killed the child. The records received so
                far must be discarded.
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
            child.send(pack(protocol.REQUEST, protocol.encode(protocol.request_to_json(request))))
            for kind, payload in child.messages():
                if kind == protocol.RECORD:
                    yield payload
                elif kind == protocol.RESULT:
                    return _parse(payload, lambda fields: _read_answer(answer, fields))
                elif kind == protocol.FAILURE:
                    raise _parse(payload, lambda fields: DecodingFailure(**fields))
            raise ChildError(child.describe_exit())
        except ChildError as error:
            self._kill()
            raise DecodingFailure("process", f"the decoder {error}") from error
        except DecodingFailure as failure:
            if failure.stage in ("process", "limits"):
                self._kill()  # its state is not to be trusted
            raise
        except BaseException:
            self._kill()  # the unread answer must not be taken for the next one
            raise

    def _running_child(self) -> ChildProcess:
        if self._child is None or not self._child.is_ready():
            self._kill()
            self._child = ChildProcess(
                [*self._program, str(self._memory_limit)],
                _child_environment(),
                kinds=protocol.ANSWERS,
                timeout=self._timeout,
            )
        return self._child

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()


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


def _refuse_record(_: bytes) -> None:
    raise DecodingFailure("process", "the decoder sent an unexpected record")
