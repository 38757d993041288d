"""The main program of a decoder process: answers requests from standard input until it ends.

Standard output carries messages only (see `protocol`). Output of native libraries goes to standard error.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import av
import cv2

from pipelines.decoding import protocol
from pipelines.decoding.damage import count_errors
from pipelines.decoding.live import watch
from pipelines.decoding.overlay import draw_overlay
from pipelines.decoding.protocol import BuildRequest, DecodingFailure, SegmentResult
from pipelines.decoding.segments import (
    build_segment,
    find_boundaries,
    find_extent,
    find_spans,
    probe_file,
)
from pipelines.runners.child_process import HEADER, pack
from pipelines.runners.python_child import limit_memory

_MAX_CHARACTERS = 300
_PROGRESS_SECONDS = 0.5
_BUFFER_BYTES = 1 << 16  # larger messages bypass the buffer and are not copied


def main() -> None:
    """Answers requests; the only argument is the memory limit of this process in bytes."""
    limit_memory(int(sys.argv[1]))
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
    with open(pipe, "rb", closefd=False) as stream:
        while len(header := stream.read(HEADER.size)) == HEADER.size:
            _, length = HEADER.unpack(header)
            message = stream.read(length)
            if len(message) < length:
                break
            requests.put(json.loads(message))
    os._exit(0)


def _answer(fields: dict[str, Any], answers: BinaryIO) -> bytes:
    """Returns the last message of the answer to a request; writes the messages before it to ``answers``."""
    try:
        result = _handle(protocol.request_from_json(fields), answers)
        return protocol.pack_json(protocol.RESULT, result)
    except DecodingFailure as error:
        failure = error
    except (MemoryError, cv2.error) as error:
        failure = DecodingFailure("limits", f"{type(error).__name__}: {error}")
    except BrokenPipeError:
        raise  # the client has ended
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_CHARACTERS]
        place = f"{os.path.basename(last.filename)}:{last.lineno}"
        failure = DecodingFailure("process", f"{text} ({place})")
    return protocol.pack_json(protocol.FAILURE, failure)


def _handle(request: protocol.Request, answers: BinaryIO) -> Any:
    """Returns the result of a request."""
    on_progress = _Heartbeat(answers)
    match request:
        case protocol.LiveRequest():
            return watch(request, answers, on_progress)
        case BuildRequest():
            return _build(request, answers, on_progress)
        case protocol.OverlayRequest():
            return draw_overlay(request, on_progress)
        case protocol.ExtentRequest():
            return find_extent(request.path, on_progress, request.footage)
        case protocol.SpansRequest():
            return find_spans(request, on_progress)
        case protocol.IndexRequest():
            return find_boundaries(request, on_progress)
        case protocol.ProbeRequest():
            return probe_file(request.path, request.footage)


def _build(
    request: BuildRequest, answers: BinaryIO, heartbeat: Callable[[], None]
) -> SegmentResult:
    errors = count_errors()

    def on_progress() -> None:
        heartbeat()
        if request.threads > 1 and count_errors() != errors:
            raise DecodingFailure(
                "decode",
                "errors with several threads; the caller tries one, which tells the damaged frame",
            )

    def send(record: bytes) -> None:
        answers.write(HEADER.pack(protocol.RECORD, len(record)))
        answers.write(record)

    result = build_segment(request, send, on_progress)
    on_progress()
    return result


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
