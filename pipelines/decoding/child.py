"""The main program of a decoder process: answers requests from standard input until it ends.

Standard output carries messages only (see `protocol`). Output of native libraries goes to standard error.
"""

from __future__ import annotations

import io
import json
import os
import queue
import resource
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO

import av
import cv2

from pipelines.decoding import protocol
from pipelines.decoding.damage import count_errors
from pipelines.decoding.overlay import draw_overlay
from pipelines.decoding.protocol import (
    BuildRequest,
    DecodingFailure,
    ExtentRequest,
    IndexRequest,
    OverlayRequest,
    ProbeRequest,
    SegmentResult,
)
from pipelines.decoding.segments import build_segment, find_extent, index_clip, probe_file
from pipelines.runners.child_process import HEADER, pack
from tfrecords_schema.codec import to_json

_MAX_CHARACTERS = 300
_PROGRESS_SECONDS = 0.5
_BUFFER_BYTES = 1 << 16  # larger messages bypass the buffer and are not copied


def main() -> None:
    """Answers requests; the only argument is the memory limit of this process in bytes."""
    memory_limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    av.logging.set_level(None)
    cv2.setNumThreads(1)  # the pool has a child per CPU
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=_BUFFER_BYTES)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(
        target=_read_requests, args=(sys.stdin.fileno(), requests), daemon=True
    ).start()
    while True:
        answers.write(_answer(requests.get(), answers))
        answers.flush()


def _read_requests(pipe: int, requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Queues requests; ends the process when the client has ended, even during a request."""
    # Not `sys.stdin`: Python aborts if it exits while a thread waits for the lock of that.
    with open(pipe, "rb", buffering=0, closefd=False) as stream:
        while len(header := _read(stream, HEADER.size)) == HEADER.size:
            _, length = HEADER.unpack(header)
            message = _read(stream, length)
            if len(message) < length:
                break
            requests.put(json.loads(message))
    os._exit(0)


def _read(stream: io.FileIO, count: int) -> bytes:
    """Returns ``count`` bytes, or fewer if the stream ends."""
    parts = []
    while count and (part := stream.read(min(count, _BUFFER_BYTES))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _answer(fields: dict[str, Any], answers: BinaryIO) -> bytes:
    """Returns the last message of the answer to a request; writes the messages before it to ``answers``."""
    try:
        result = _handle(protocol.request_from_json(fields), answers)
        return _pack_json(protocol.RESULT, result)
    except DecodingFailure as failure:
        return _pack_json(protocol.FAILURE, failure.to_json())
    except (MemoryError, cv2.error) as error:
        failure = DecodingFailure("limits", f"{type(error).__name__}: {error}")
        return _pack_json(protocol.FAILURE, failure.to_json())
    except BrokenPipeError:
        raise  # the client has ended
    except Exception as error:
        failure = DecodingFailure("process", _describe_exception(error))
        return _pack_json(protocol.FAILURE, failure.to_json())


def _pack_json(kind: bytes, fields: dict[str, Any]) -> bytes:
    return pack(kind, protocol.encode(fields))


def _handle(request: protocol.Request, answers: BinaryIO) -> dict[str, Any]:
    """Returns the result of a request as a JSON object."""
    match request:
        case BuildRequest():
            return to_json(_build(request, answers))
        case OverlayRequest():
            return {"frames": draw_overlay(request, _Heartbeat(answers))}
        case ExtentRequest():
            return to_json(find_extent(request.path, _Heartbeat(answers)))
        case IndexRequest():
            return to_json(index_clip(request, _Heartbeat(answers)))
        case ProbeRequest():
            return to_json(probe_file(request.path))


def _describe_exception(error: Exception) -> str:
    """Returns an exception's type and text, and where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_CHARACTERS]
    return f"{text} ({os.path.basename(last.filename)}:{last.lineno})"


def _build(request: BuildRequest, answers: BinaryIO) -> SegmentResult:
    heartbeat, errors = _Heartbeat(answers), count_errors()

    def on_progress() -> None:
        heartbeat()
        if request.threads > 1 and count_errors() != errors:
            raise DecodingFailure(
                "decode", "the decoder reports errors; one thread finds the place"
            )

    result = build_segment(request, lambda record: _send_record(answers, record), on_progress)
    on_progress()
    return result


def _send_record(answers: BinaryIO, record: bytes) -> None:
    answers.write(HEADER.pack(protocol.RECORD, len(record)))
    answers.write(record)


class _Heartbeat:
    """A progress callback that sends PROGRESS to the client, at most every `_PROGRESS_SECONDS`."""

    def __init__(self, answers: BinaryIO):
        self._answers = answers
        self._last = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last >= _PROGRESS_SECONDS:
            self._last = now
            self._answers.write(pack(protocol.PROGRESS))
            self._answers.flush()
