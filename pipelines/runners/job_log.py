"""Collects the output of an engine in a log file, which is shown to the user only if the job fails.

A job server, Beam and Beam's threads print pages, tracebacks included, even when a job succeeds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import grpc

from pipelines.errors import InterruptedWorkError, UsageError, UserError
from tfrecords_schema.running.scratch import keep_file, scratch_folder

_ERROR = re.compile(r"(?:Caused by: )?((?:[\w$]+\.)*[A-Z]\w*(?:Error|Exception)): .*")
_BEAM_THREADS = "read_grpc_client_inputs"
_JOIN_SECONDS = 5


@contextlib.contextmanager
def job_log() -> Iterator[BinaryIO]:
    """Yields a log file for the engine and for Beam's own log; the file stays only if the job fails.

    Raises:
        UserError: in place of the errors by which Beam reports a failed job.
    """
    with tempfile.NamedTemporaryFile(
        prefix="reelbeam-", suffix=".log", dir=scratch_folder("logs"), delete=False
    ) as log:
        try:
            with _logging_to(log.name):
                yield log
        except UsageError:
            raise
        except UserError as error:
            if os.path.getsize(log.name):
                raise UserError(f"{error}; log: {keep_file(log.name)}") from error
            raise
        except (RuntimeError, grpc.RpcError) as error:
            raise InterruptedWorkError(
                f"the job failed: {find_reason(str(error))}. Remove the cause and type the same command "
                f"again; log: {keep_file(log.name)}"
            ) from error
        finally:
            Path(log.name).unlink(missing_ok=True)


def find_reason(text: str) -> str:
    """Returns the innermost error of an engine's stack traces, as one line."""
    text = re.sub(r"^Pipeline \S+ failed in state \w+: ", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.fullmatch(line)]
    python = [line for line in errors if "[while running" in line]
    reason = [*(lines[:1] or ["no reason given"]), *errors, *python][-1]
    return reason.removeprefix("RuntimeError: ")  # Beam's, around a worker's own error


@contextlib.contextmanager
def _logging_to(path: str) -> Iterator[None]:
    root, handler = logging.getLogger(), logging.FileHandler(path, errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    usual, hook = root.handlers, threading.excepthook
    root.handlers = [handler]
    threading.excepthook = lambda failed: logging.error(
        "in %s", failed.thread, exc_info=failed.exc_value
    )
    try:
        # Workers that are threads of this process print tracebacks.
        with contextlib.redirect_stderr(handler.stream):
            yield
    finally:
        # These threads raise when the engine closes the connection.
        for thread in threading.enumerate():
            if thread.name == _BEAM_THREADS:
                thread.join(_JOIN_SECONDS)
        root.handlers, threading.excepthook = usual, hook
        handler.close()
