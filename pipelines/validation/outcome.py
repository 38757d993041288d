"""`Validation`: a validated dataset, for the terminal, for programs and for the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.validation.checks.catalogue import (
    ALL_CHECKS,
    DRIFT_CHECKS,
    NEIGHBOUR_CHECKS,
    RECORD_CHECKS,
    SOURCE_CHECKS,
)
from pipelines.validation.findings import LEVELS, Check, Finding, Level
from pipelines.validation.result import Result
from pipelines.validation.thresholds import ValidationOptions
from tfrecords_schema.codec import to_json
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.report.pages import plural, printable

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class FindingGroup:
    """The findings of one check at one level; ``count`` includes those that were not kept."""

    check: Check[Any]
    level: Level
    count: int
    findings: list[Finding]


@dataclass(frozen=True)
class Validation:
    """A validated dataset.

    Attributes:
        options: how it was validated.
        info: its description.
        result: what was found.
        seconds: how long validation took.
    """

    options: ValidationOptions
    info: DatasetInfo
    result: Result
    seconds: float

    @property
    def failed(self) -> bool:
        """True if a finding has the level ``fail_on`` or a worse one."""
        return self.result.fails(self.options.fail_on)

    @property
    def shards(self) -> int:
        """Number of shards read."""
        return sum(split.shards for split in self.result.splits.values())

    @property
    def levels(self) -> str:
        """The number of findings by level: ``1 error, 0 warnings, 2 notes``."""
        return ", ".join(plural(self.result.count(level), level) for level in LEVELS)

    @property
    def not_run(self) -> dict[str, str]:
        """Why a check was not made, by the check's name; it finds nothing, but that says nothing."""
        reasons = dict.fromkeys(
            SOURCE_CHECKS, "" if self.options.sources else "--sources is not given"
        )
        reasons |= dict.fromkeys(
            DRIFT_CHECKS, "" if self.options.against else "--against is not given"
        )
        if not self.result.records:
            of_records = (*RECORD_CHECKS, *NEIGHBOUR_CHECKS)
            reasons |= dict.fromkeys(of_records, "no record could be read")
        return {check.name: reason for check, reason in reasons.items() if reason}

    def finding_groups(self) -> Iterator[FindingGroup]:
        """Yields the findings by level, worst first, then by check in the order of the catalogue."""
        for level in LEVELS:
            for check in ALL_CHECKS:
                count = self.result.count(level, check.name)
                if count:
                    found = self.result.findings
                    kept = [f for f in found if (f.check, f.level) == (check.name, level)]
                    yield FindingGroup(check, level, count, kept)

    def to_json(self) -> dict[str, Any]:
        """Returns the result with everything that is needed to understand it elsewhere."""
        return {
            "format_version": _FORMAT_VERSION,
            "dataset": self.info.name,
            "fingerprint": self.info.fingerprint,
            "folder": self.options.tfrecords,
            "against": self.options.against,
            "passed": not self.failed,
            "fail_on": self.options.fail_on,
            "levels": {level: self.result.count(level) for level in LEVELS},
            "records": self.result.records,
            "bytes": self.result.bytes,
            "seconds": round(self.seconds, 3),
            **to_json(self.result),
            "not_run": self.not_run,
            "checks": {c.name: {"reason": c.reason, "remedy": c.remedy} for c in ALL_CHECKS},
            "thresholds": dataclasses.asdict(self.options.thresholds),
        }


def describe(validation: Validation, *, max_shown: int = 3) -> str:
    """Returns the verdict for the terminal, and ``max_shown`` findings of each check and level."""
    options, result = validation.options, validation.result
    lines = [
        f"{'FAILED' if validation.failed else 'PASSED'}: {validation.info.name} in {options.tfrecords}: "
        f"{validation.levels}",
        f"  {plural(result.records, 'record')} in {plural(validation.shards, 'shard')} examined in "
        f"{validation.seconds:.1f} s",
    ]
    for group in validation.finding_groups():
        lines.append(f"{group.level}: {group.check.name}: {plural(group.count, 'finding')}")
        for finding in group.findings[:max_shown]:
            place = f"{finding.where}: " if str(finding.where) else ""
            lines.append(f"    {place}{finding.message}")
        if group.count > max_shown:
            lines.append(f"    ... and {group.count - max_shown} more")
        lines.append(f"    remedy: {group.check.remedy}")
    for what, path in (("result", options.json), ("report", options.report)):
        if path is not None:
            lines.append(f"{what}: {path}")
    return "\n".join(map(printable, lines))
