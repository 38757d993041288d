"""How far a build has come, for its user to see."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tqdm.auto import tqdm

from pipelines.build.output import OutputFolder

_LOOK_SECONDS = 5.0


class Progress:
    """The bar of a local build: sequences built, a second and to go; shards; failures.

    Attributes:
        errors: that workers told of.
    """

    def __init__(self, *, sequences: int, shards: int):
        self.errors: list[str] = []
        self._shards_left = shards
        self._failures: set[str] = set()
        self._bar = tqdm(
            total=sequences or None,
            desc="Building",
            unit="seq",
            file=sys.stderr,
        )

    def __enter__(self) -> Progress:
        self._show()
        return self

    def __exit__(self, *_: object) -> None:
        # The total was an estimate; what was built is what there was.
        self._bar.total = self._bar.n
        self._bar.refresh()
        self._bar.close()

    def hear(self, event: dict[str, Any]) -> None:
        """Takes what a worker tells."""
        if event["kind"] == "sequences":
            self._bar.update(event["count"])
        elif event["kind"] == "shard":
            self._shards_left -= 1
        elif event["kind"] == "failure" and not event["truncated"]:
            self._failures.add(event["source"])
        elif event["kind"] == "error":
            self.errors.append(event["message"])
        self._show()

    def _show(self) -> None:
        self._bar.set_postfix(
            shards_left=self._shards_left, failed=len(self._failures), refresh=False
        )


@contextlib.contextmanager
def shards_shown(output: OutputFolder, *, planned: int) -> Iterator[None]:
    """The bar of a build elsewhere: workers have no pipe to here, but their shards appear in the folder."""
    over = threading.Event()
    with tqdm(total=planned, desc="Building", unit="shard", file=sys.stderr) as bar:

        def look() -> None:
            with contextlib.suppress(OSError):  # the next look may succeed
                bar.n = len(output.complete_shards())
                bar.refresh()

        def watch() -> None:
            look()
            while not over.wait(_LOOK_SECONDS):
                look()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            look()
