"""Sends progress events from local workers to the driver, through a pipe inside one process.

The local runner returns, with its metrics, only at the end of a job. Its workers are threads of the
driver's own process, so a pipe carries their events at once, needs no disk, and passes into a Beam worker
as a number. Workers elsewhere have no such pipe; they report by Beam's metrics only.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

# Writes up to this size are atomic on a pipe (POSIX promises 512; Linux gives 4096).
_MAX_BYTES = 4000


class EventWriter:
    """The workers' end of the pipe; without a descriptor, events are dropped."""

    def __init__(self, descriptor: int | None):
        self._descriptor = descriptor

    def send(self, kind: str, **fields: Any) -> None:
        """Sends an event to the driver; long texts are cut so that it fits into one atomic write."""
        if self._descriptor is None:
            return
        line, longest = self._line(kind, fields, _MAX_BYTES), _MAX_BYTES
        while len(line) > _MAX_BYTES and longest:  # a character may take up to 12 bytes
            longest //= 2
            line = self._line(kind, fields, longest)
        os.write(self._descriptor, line)

    @staticmethod
    def _line(kind: str, fields: dict[str, Any], longest: int) -> bytes:
        cut = {k: v[:longest] if isinstance(v, str) else v for k, v in fields.items()}
        return json.dumps({"kind": kind, **cut}).encode() + b"\n"


class EventReader:
    """The driver's end of the pipe: calls ``handle`` with each event, in a thread, while it is open.

    If ``handle`` raises, it is not called again, and the error is raised on exit. If the body raises, as
    when the user interrupts it, events are read until the process ends.
    """

    def __init__(self, handle: Callable[[dict[str, Any]], None]):
        self._handle = handle
        self._reading, self.descriptor = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: Exception | None = None

    def __enter__(self) -> EventReader:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            # Workers of an interrupted job may still write. Were the pipe closed, they would fail, or write
            # to the next file that gets its descriptor.
            return
        os.close(self.descriptor)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        with os.fdopen(self._reading, "rb") as lines:
            for line in lines:
                # Keep reading after an error: workers would wait at a full pipe forever.
                if self._error is None:
                    try:
                        self._handle(json.loads(line))
                    except Exception as error:
                        self._error = error
