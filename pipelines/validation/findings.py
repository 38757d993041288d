"""What a check finds, and what a check is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""Worst first."""

S_contra = TypeVar("S_contra", contravariant=True)


@dataclass(frozen=True, kw_only=True)
class Where:
    """A place in a dataset; what does not apply is left out.

    Attributes:
        shard: file name.
        offset: byte of the shard at which the record's framing starts.
        record: ``example/id``.
        frame: its place in the record.
    """

    shard: str = ""
    offset: int | None = None
    record: str = ""
    frame: int | None = None

    def __str__(self) -> str:
        parts = [self.shard] if self.shard else []
        if self.offset is not None:
            parts.append(f"byte {self.offset}")
        if self.record:
            parts.append(f"record {self.record}")
        if self.frame is not None:
            parts.append(f"frame {self.frame}")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something a check found: which check, how bad, what, where; ``other`` is the second place of a pair."""

    check: str
    level: Level
    message: str
    where: Where = Where()
    other: Where | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Finding:
        """The finding that `dataclasses.asdict` described."""
        other = fields["other"]
        return cls(
            **{
                **fields,
                "where": Where(**fields["where"]),
                "other": None if other is None else Where(**other),
            }
        )


@dataclass(frozen=True)
class Problem:
    """What the function of a check yields; the check makes it a `Finding`."""

    level: Level
    message: str
    where: Where | None = None
    other: Where | None = None


def error(message: str, where: Where | None = None, *, other: Where | None = None) -> Problem:
    """A problem that makes the dataset wrong: a reader breaks, or a model learns what is not so."""
    return Problem("error", message, where, other)


def warning(message: str, where: Where | None = None, *, other: Where | None = None) -> Problem:
    """A problem that somebody should look at before training."""
    return Problem("warning", message, where, other)


def note(message: str, where: Where | None = None, *, other: Where | None = None) -> Problem:
    """Something worth knowing that needs no action."""
    return Problem("note", message, where, other)


@dataclass(frozen=True)
class Check(Generic[S_contra]):
    """One check: a function from what it looks at to problems.

    Attributes:
        name: ``family.name``, as findings, options and tests call it.
        reason: why it matters, for somebody who never heard of it.
        remedy: what to do about a finding.
        function: yields the problems of a subject, and nothing for a subject that is all right.
    """

    name: str
    reason: str
    remedy: str
    function: Callable[[S_contra], Iterable[Problem]]

    @property
    def summary(self) -> str:
        """What holds when it finds nothing, in one sentence."""
        return (self.function.__doc__ or self.name).splitlines()[0].replace("``", "")

    def __call__(self, subject: S_contra, where: Where = Where()) -> Iterator[Finding]:
        """Yields the findings on ``subject``; ``where`` is for problems that do not say so themselves."""
        for problem in self.function(subject):
            yield Finding(
                check=self.name,
                level=problem.level,
                message=problem.message,
                where=where if problem.where is None else problem.where,
                other=problem.other,
            )


def check(
    name: str, *, reason: str, remedy: str
) -> Callable[[Callable[[S_contra], Iterable[Problem]]], Check[S_contra]]:
    """Makes the function below it a `Check`."""

    def decorate(function: Callable[[S_contra], Iterable[Problem]]) -> Check[S_contra]:
        return Check(name, reason, remedy, function)

    return decorate


class FindingLog:
    """Findings in bounded memory: all are counted, the first ``most`` of each check and level are kept."""

    def __init__(self, most: int):
        self._most = most
        self._kept: list[Finding] = []
        self.counts: Counter[tuple[str, Level]] = Counter()

    def add(self, findings: Iterable[Finding]) -> None:
        """Takes findings in the order in which they are to be shown."""
        for finding in findings:
            key = (finding.check, finding.level)
            self.counts[key] += 1
            if self.counts[key] <= self._most:
                self._kept.append(finding)

    def merge(self, kept: Iterable[Finding], counts: Counter[tuple[str, Level]]) -> None:
        """Takes what another log kept and counted."""
        room = {key: self._most - self.counts[key] for key in counts}
        for finding in kept:
            key = (finding.check, finding.level)
            if room[key] > 0:
                room[key] -= 1
                self._kept.append(finding)
        self.counts.update(counts)

    @property
    def kept(self) -> tuple[Finding, ...]:
        """The findings that were kept, worst first, otherwise in the order they came."""
        return tuple(sorted(self._kept, key=lambda finding: LEVELS.index(finding.level)))
