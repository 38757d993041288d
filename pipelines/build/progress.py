"""Shows the progress of a build on machines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

from tqdm.auto import tqdm

from pipelines.build.output import OutputFolder

_POLL_SECONDS = 5.0


class ShardWatcher:
    """A bar of the shards that have appeared in the output folder; workers elsewhere send no events.

    Attributes:
        errors: always empty; such workers leave their errors in the folder.
    """

    def __init__(self, output: OutputFolder, *, planned: int):
        self.errors: list[str] = []
        self._output = output
        self._bar = tqdm(total=planned, desc="Building", unit="shard", file=sys.stderr)
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ShardWatcher:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watcher.join()
        self._update()
        self._bar.close()

    def on_event(self, event: dict[str, Any]) -> None:
        """Ignores the events of local workers; there are none."""

    def _watch(self) -> None:
        self._update()
        while not self._ended.wait(_POLL_SECONDS):
            self._update()

    def _update(self) -> None:
        with contextlib.suppress(OSError):  # the next poll may succeed
            self._bar.n = len(self._output.complete_shards())
            self._bar.refresh()
