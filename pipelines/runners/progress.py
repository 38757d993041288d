"""Shows the progress of a local job in the terminal or in a notebook."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm


class ProgressBar:
    """A bar of units done, per second and to go, with the tasks left and the sources that failed.

    Args:
        description: the word before the bar, such as ``Building``.
        unit: name of a unit.
        total: estimated units; None or 0 if unknown.
        tasks: number of tasks to do; None leaves them out.
        scaled: show large numbers with a prefix, ``1.2G``.
        terminal_only: show nothing in a redirected log.

    Attributes:
        errors: messages of workers that could not do a task.
    """

    def __init__(
        self,
        description: str,
        unit: str,
        total: int | None,
        *,
        tasks: int | None = None,
        scaled: bool = False,
        terminal_only: bool = False,
    ):
        self.errors: list[str] = []
        self._tasks_left = tasks
        self._failed: set[str] = set()
        self._bar = tqdm(
            total=total or None,
            desc=description,
            unit=unit,
            unit_scale=scaled,
            file=sys.stderr,
            disable=None if terminal_only else False,
        )

    def __enter__(self) -> ProgressBar:
        self._show()
        return self

    def __exit__(self, *_: object) -> None:
        # The total was an estimate; the count is what there was.
        self._bar.total = self._bar.n
        self._bar.refresh()
        self._bar.close()

    def on_event(self, event: dict[str, Any]) -> None:
        """Takes an event of a `pipelines.runners.tasks.ProgressReporter`."""
        if event["kind"] == "progress":
            self._bar.update(event["count"])
        elif event["kind"] == "task" and self._tasks_left is not None:
            self._tasks_left -= 1
        elif event["kind"] == "failure" and not event["truncated"]:
            self._failed.add(event["source"])
        elif event["kind"] == "error":
            self.errors.append(event["message"])
        self._show()

    def _show(self) -> None:
        counts = {} if self._tasks_left is None else {"tasks_left": self._tasks_left}
        if self._failed or self._tasks_left is not None:
            counts["failed"] = len(self._failed)
        self._bar.set_postfix(counts, refresh=False)
