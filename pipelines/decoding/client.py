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
from typing import TypeVar

from pipelines.decoding import protocol
from pipelines.decoding.protocol import BuildRequest, DecodingFailure, SegmentResult
from pipelines.images.frame_names import is_image
from pipelines.labels.array_pairs import is_pairs, pairs_status
from pipelines.options.dataset import FootageOptions, RunOptions
from pipelines.plan.descriptors import Boundary, Extent, FrameSpan, Probe, SideFile, Source
from pipelines.runners.child_process import ChildError, ChildProcess
from pipelines.runners.python_child import child_environment, python_command
from pipelines.storage.staging import Staging, StagingError
from tfrecords_schema import storage
from tfrecords_schema.codec import from_json, to_json
from tfrecords_schema.machine import usable_cpus
from tfrecords_schema.paths import is_url
from tfrecords_schema.store_clients import StorageError, Stored

MEMORY_LIMIT = 4 * 2**30
"""Max bytes of a decoder's address space: the reference frames of 8K video fit, a leak does not."""

T = TypeVar("T")


class DecoderProcess:
    """A child process that decodes, restarted after it had to be killed. For one thread at a time.

    Every request raises `DecodingFailure` if its source cannot be used, or killed the child.

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

    def probe(self, path: str, options: FootageOptions = FootageOptions()) -> Probe:  # noqa: B008
        """Returns the header's hints about the file at ``path``."""
        try:
            with self._staging.outline(path) as outline:
                if outline is not None:
                    with contextlib.suppress(DecodingFailure):
                        return _result(self._ask(protocol.ProbeRequest(outline, options), Probe))
        except StagingError as error:
            raise DecodingFailure("staging", str(error)) from error
        return _result(self._ask(protocol.ProbeRequest(path, options), Probe))

    def extent(self, path: str, options: FootageOptions = FootageOptions()) -> Extent:  # noqa: B008
        """Returns the time range of the footage in the file at ``path``."""
        return _result(self._ask(protocol.ExtentRequest(path, options), Extent))

    def spans(self, request: protocol.SpansRequest) -> tuple[FrameSpan, ...]:
        """Returns the spans of a file with their times."""
        return _result(self._ask(request, tuple[FrameSpan, ...]))

    def index(self, request: protocol.IndexRequest) -> tuple[Boundary, ...]:
        """Returns the places where a clip may be cut into segments."""
        return _result(self._ask(request, tuple[Boundary, ...]))

    def build(self, request: BuildRequest, on_record: Callable[[bytes], None]) -> SegmentResult:
        """Builds a segment; ``on_record`` receives its records in order.

        If it fails, the records received so far must be discarded.
        """
        return _result(self.records(request), on_record)

    def records(self, request: BuildRequest) -> Generator[bytes, None, SegmentResult]:
        """Builds a segment: yields its records in order, on demand, and returns its result.

        Closing the generator before its end kills the child.
        """
        result = yield from self._ask(request, SegmentResult)
        check_unchanged(request.segment.source)
        return result

    def draw(self, request: protocol.OverlayRequest) -> int:
        """Writes a video of footage with captions, and returns its number of frames."""
        return _result(self._ask(request, int))

    def close(self) -> None:
        """Ends the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _ask(self, request: protocol.Request, answer: type[T]) -> Generator[bytes, None, T]:
        """Sends a request; yields the records of the answer, and returns its result."""
        try:
            with self._staging.localized(request) as local:
                child = self._running_child()
                message = protocol.request_to_json(local)
                child.send(protocol.pack_json(protocol.REQUEST, message))
                for kind, payload in child.messages():
                    if kind == protocol.RECORD:
                        yield payload
                    elif kind == protocol.RESULT:
                        return _parse(payload, answer)
                    elif kind == protocol.FAILURE:
                        raise _parse(payload, DecodingFailure)
                raise ChildError(child.describe_exit())
        except StagingError as error:
            raise DecodingFailure("staging", str(error)) from error
        except ChildError as error:
            self.close()
            raise DecodingFailure("process", f"the decoder {error}") from error
        except DecodingFailure as failure:
            if failure.stage in ("process", "limits"):
                self.close()  # its state is not to be trusted
            raise
        except BaseException:
            self.close()  # the unread answer must not be taken for the next one
            raise

    def _running_child(self) -> ChildProcess:
        if self._child is None or not self._child.is_ready():
            self.close()
            # Without what opens object stores.
            environment = {k: v for k, v in child_environment().items() if not k.startswith("AWS_")}
            # Memory that glibc returns to the system after a record costs page faults in the next one.
            environment["MALLOC_MMAP_THRESHOLD_"] = environment["MALLOC_TRIM_THRESHOLD_"] = (
                "33554432"
            )
            self._child = ChildProcess(
                [*self._program, str(self._memory_limit)],
                environment,
                kinds=protocol.ANSWERS,
                timeout=self._timeout,
            )
        return self._child


def check_unchanged(source: Source) -> None:
    """Raises a `DecodingFailure` if a file of a source was replaced since it was listed."""
    files: list[Source | SideFile] = [source, *source.parts]
    files += [file for part in source.parts for file in [part.telemetry] if file]
    files += [source.telemetry] if source.telemetry else []
    for file in files:
        if not file.mtime_ns or (file is source and source.parts):
            continue
        is_folder = file is source and source.kind == "frames"
        try:
            state = pairs_status if is_pairs(file.path) else storage.status
            found = (_frames_state if is_folder else state)(file.path)
        except StorageError:
            raise  # the store fails, not the source
        except OSError as error:
            raise DecodingFailure("open", error.strerror or str(error)) from error
        # Some answers of a store have no fractions of a second.
        unit = 10**9 if is_url(file.path) else 1
        seconds = found.mtime_ns // unit - file.mtime_ns // unit
        # The time of a folder of frames may be that of its annotation.
        if found.bytes != file.bytes or (seconds > 0 if is_folder else seconds):
            raise DecodingFailure(
                "open",
                f"{file.data_path} has changed since it was listed: it had {file.bytes} bytes and has "
                f"{found.bytes}, or another modification time. Type the command again",
            )


def _frames_state(folder: str) -> Stored:
    """Returns the size of all frames in a folder, and the time of the latest."""
    found = [state for name, state in storage.list_folder(folder).items() if is_image(name)]
    return Stored(sum(s.bytes for s in found), max((s.mtime_ns for s in found), default=0))


class DecoderPool:
    """Decoder processes shared by the threads of this process, at most one per usable CPU.

    Children are started at their first use and live as long as the pool.
    """

    def __init__(self, size: int, *, timeout: float, staging: Staging | None = None):
        staging = staging or Staging()  # one for all of them
        self._all = [DecoderProcess(timeout=timeout, staging=staging) for _ in range(size)]
        self._idle: queue.LifoQueue[DecoderProcess] = queue.LifoQueue()
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


def _refuse_record(_: bytes) -> None:
    raise DecodingFailure("process", "the decoder sent a record that was not asked for")


def _result(
    answer: Generator[bytes, None, T], on_record: Callable[[bytes], None] = _refuse_record
) -> T:
    """Returns the result of an answer after passing its records to ``on_record``."""
    with contextlib.closing(answer):
        while True:
            try:
                record = next(answer)
            except StopIteration as end:
                return end.value
            on_record(record)


def _parse(payload: bytes, cls: type[T]) -> T:
    try:
        fields = json.loads(payload)
        found = from_json(cls, fields)
        if isinstance(fields, dict) and fields.keys() != to_json(found).keys():
            raise ValueError("a default would stand for what the child did not say")
    except ValueError as error:
        raise DecodingFailure(
            "process", "the decoder sent an answer that cannot be read"
        ) from error
    return found
