"""The findings of checks, and the `check` decorator that declares one."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from tfrecords_schema.tables import shorten

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""The levels, worst first."""
MAX_FINDINGS = 50
"""Findings kept per check and level; all are counted."""
_MAX_MESSAGE = 2000

S_contra = TypeVar("S_contra", contravariant=True)


@dataclass(frozen=True, kw_only=True)
class Where:
    """A place in a dataset. Parts that do not apply are left at their defaults.

    Attributes:
        shard: file name.
        offset: byte of the shard at which the record's framing starts.
        record: ``example/id``.
        frame: index within the record.
    """

    shard: str = ""
    offset: int | None = None
    record: str = ""
    frame: int | None = None

    def __str__(self) -> str:
        parts = [
            self.shard,
            "" if self.offset is None else f"byte {self.offset}",
            f"record {self.record}" if self.record else "",
            "" if self.frame is None else f"frame {self.frame}",
        ]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Finding:
    """A problem that a check found.

    Attributes:
        check: name of the check.
        level: how bad it is.
        message: one sentence.
        where: the place.
        other: the second place, for a problem of a pair.
    """

    check: str
    level: Level
    message: str
    where: Where = Where()
    other: Where | None = None


@dataclass(frozen=True)
class Problem:
    """A problem as the function of a check yields it; `Check` makes it a `Finding`."""

    level: Level
    message: str
    where: Where | None = None
    other: Where | None = None


error = functools.partial(Problem, "error")
"""Makes a problem due to which readers fail, or a model learns wrong data."""
warning = functools.partial(Problem, "warning")
"""Makes a problem that a person should look at before training."""
note = functools.partial(Problem, "note")
"""Makes a problem that needs no action."""


@dataclass(frozen=True)
class Check(Generic[S_contra]):
    """One check: a function from a subject, such as a record, to its problems.

    Attributes:
        name: ``family.name``, as findings, options and tests call it.
        reason: why a problem matters, for readers who are new to the subject.
        remedy: what to do about a problem.
        function: yields the problems of a subject. Its docstring says what holds when there are none.
    """

    name: str
    reason: str
    remedy: str
    function: Callable[[S_contra], Iterable[Problem]]

    @property
    def family(self) -> str:
        """The first part of the name: ``labels`` of ``labels.finite``."""
        return self.name.partition(".")[0]

    @property
    def summary(self) -> str:
        """One sentence: what holds when the check finds nothing."""
        return (self.function.__doc__ or self.name).splitlines()[0].replace("``", "")

    def __call__(self, subject: S_contra, where: Where = Where()) -> Iterator[Finding]:
        """Yields the findings on ``subject``. Problems without a place of their own are at ``where``."""
        for problem in self.function(subject):
            place = where if problem.where is None else problem.where
            message = shorten(problem.message, _MAX_MESSAGE)
            yield Finding(self.name, problem.level, message, place, problem.other)


def check(
    *, reason: str, remedy: str
) -> Callable[[Callable[[S_contra], Iterable[Problem]]], Check[S_contra]]:
    """Declares the decorated function as a `Check`, which `checks.catalogue` collects.

    @check(reason="One NaN makes the loss NaN.", remedy="Repair the telemetry.")
    def labels_finite(record: RecordView) -> Iterator[Problem]:  # the check ``labels.finite``
        # its docstring says what holds: "All targets are finite numbers."
        ...
    """

    def declare(function: Callable[[S_contra], Iterable[Problem]]) -> Check[S_contra]:
        return Check(function.__name__.replace("_", ".", 1), reason, remedy, function)

    return declare


class FindingLog:
    """Findings in bounded memory: all are counted, the first ``max_kept`` per check and level are kept.

    Attributes:
        counts: of all findings, by check and level.
    """

    def __init__(self, max_kept: int = MAX_FINDINGS):
        self._max_kept = max_kept
        self._kept: list[Finding] = []
        self.counts: Counter[tuple[str, Level]] = Counter()

    def add(self, findings: Iterable[Finding]) -> None:
        """Adds findings in the order in which they are to be shown."""
        for finding in findings:
            key = (finding.check, finding.level)
            self.counts[key] += 1
            if self.counts[key] <= self._max_kept:
                self._kept.append(finding)

    def merge(self, other: FindingLog) -> None:
        """Adds the findings of another log, and its counts."""
        room = {key: self._max_kept - self.counts[key] for key in other.counts}
        for finding in other.kept:
            key = (finding.check, finding.level)
            if room[key] > 0:
                room[key] -= 1
                self._kept.append(finding)
        self.counts.update(other.counts)

    @property
    def kept(self) -> tuple[Finding, ...]:
        """The kept findings, worst level first, otherwise in the order of addition."""
        return tuple(sorted(self._kept, key=lambda finding: LEVELS.index(finding.level)))
