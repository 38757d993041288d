"""What local workers tell the driver while a build runs: a pipe inside one process.

The local runner returns, with its metrics, only when all is over. Its workers are threads of the driver's own
process, so a pipe carries their news at once, needs no disk, and passes into a Beam worker as a number.
Workers elsewhere have no such pipe; there, Beam's metrics are all.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

# Writes up to this size are atomic on a pipe (POSIX promises 512; Linux gives 4096).
_MOST_BYTES = 4000


class EventWriter:
    """The workers' end; ``descriptor`` None swallows all events."""

    def __init__(self, descriptor: int | None):
        self._descriptor = descriptor

    def send(self, kind: str, **fields: Any) -> None:
        """Tells the driver of something; texts are cut to fit into one write."""
        if self._descriptor is None:
            return
        line, longest = self._line(kind, fields, _MOST_BYTES), _MOST_BYTES
        while len(line) > _MOST_BYTES and longest:  # a character may take up to 12 bytes
            longest //= 2
            line = self._line(kind, fields, longest)
        os.write(self._descriptor, line)

    @staticmethod
    def _line(kind: str, fields: dict[str, Any], longest: int) -> bytes:
        cut = {k: v[:longest] if isinstance(v, str) else v for k, v in fields.items()}
        return json.dumps({"kind": kind, **cut}).encode() + b"\n"


class EventReader:
    """The driver's end: calls ``handle`` with each event, from a thread of its own, while it is open.

    When ``handle`` raises it is not called again, and the error is raised at the end.
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
        os.close(self.descriptor)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        with os.fdopen(self._reading, "rb") as lines:
            for line in lines:
                # Whatever becomes of the events, they are read: workers would wait at a full pipe forever.
                if self._error is None:
                    try:
                        self._handle(json.loads(line))
                    except Exception as error:
                        self._error = error
