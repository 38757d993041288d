"""Shows the progress of a local job."""

from __future__ import annotations

from tfrecords_schema.running.progress import progress_bar


class ProgressBar:
    """A bar of units done, per second and to go, with the tasks left and the sources that failed.

    Args:
        description: the word before the bar, such as ``Building``.
        unit: name of a unit.
        total: estimated units; None or 0 if unknown.
        tasks: number of tasks to do; None leaves them out.
        scaled: show large numbers with a prefix, ``1.2G``.
    """

    def __init__(
        self,
        description: str,
        unit: str,
        total: int | None,
        *,
        tasks: int | None = None,
        scaled: bool = False,
    ):
        self._tasks_left = tasks
        self._failed: set[str] = set()
        self._bar = progress_bar(
            total=total or None, desc=description, unit=unit, unit_scale=scaled
        )

    def __enter__(self) -> ProgressBar:
        self._show()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            # The total was an estimate; the count is what there was.
            self._bar.total = self._bar.n
        self._bar.close()

    def add(self, count: int) -> None:
        """Counts units; negative after a rollback."""
        self._bar.update(count)
        self._show()

    def add_failure(self, source: str) -> None:
        """Counts a source that failed, once."""
        self._failed.add(source)
        self._show()

    def end_task(self) -> None:
        """Counts a task that is done."""
        if self._tasks_left is not None:
            self._tasks_left -= 1
        self._show()

    def _show(self) -> None:
        counts = {} if self._tasks_left is None else {"tasks_left": self._tasks_left}
        if self._failed or self._tasks_left is not None:
            counts["failed"] = len(self._failed)
        self._bar.set_postfix(counts, refresh=False)
