"""`Validation`: a validated dataset, for the terminal, for programs and for the report."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pipelines.validation.checks.catalogue import ALL_CHECKS
from pipelines.validation.findings import LEVELS, Check, Level
from pipelines.validation.result import Result
from pipelines.validation.thresholds import ValidationOptions
from tfrecords_schema.info import DatasetInfo


@dataclass(frozen=True)
class Validation:
    """A validated dataset: its description, the result, and how long it took in seconds."""

    options: ValidationOptions
    info: DatasetInfo
    result: Result
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether a check of the level that matters, or of a worse one, has a finding."""
        return self.result.fails(self.options.fail_on)

    def to_json(self) -> dict[str, Any]:
        """The result with what is needed to understand it elsewhere."""
        fields = self.result.to_json()
        version = fields.pop("format_version")
        return {
            "format_version": version,
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
            **fields,
            "checks": {c.name: {"reason": c.reason, "remedy": c.remedy} for c in ALL_CHECKS},
            "thresholds": dataclasses.asdict(self.options.thresholds),
        }


def describe(validation: Validation, *, most: int = 3) -> str:
    """What the command line says: the verdict, then each check that found something.

    Args:
        validation: what was done.
        most: findings of a check and level that are shown.
    """
    result = validation.result
    levels = ", ".join(plural(result.count(level), level) for level in LEVELS)
    verdict = "FAILED" if validation.failed else "PASSED"
    shards = sum(split.shards for split in result.splits.values())
    lines = [
        f"{verdict}: {validation.info.name} in {validation.options.tfrecords}: {levels}",
        f"  {plural(result.records, 'record')} in {plural(shards, 'shard')} examined in "
        f"{validation.seconds:.1f} s",
    ]
    for level in LEVELS:
        for check in ALL_CHECKS:
            lines += _describe_check(result, check, level, most)
    for what, path in (("result", validation.options.json), ("report", validation.options.report)):
        if path is not None:
            lines.append(f"{what}: {path}")
    return "\n".join(map(printable, lines))


def printable(text: str) -> str:
    """``text`` with what a terminal would act upon, and what it cannot show, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _describe_check(result: Result, check: Check[Any], level: Level, most: int) -> list[str]:
    count = result.count(level, check.name)
    if not count:
        return []
    lines = [f"{level}: {check.name}: {plural(count, 'finding')}"]
    kept = [f for f in result.findings if f.check == check.name and f.level == level]
    for finding in kept[:most]:
        place = f"{finding.where}: " if str(finding.where) else ""
        lines.append(f"    {place}{finding.message}")
    if count > most:
        lines.append(f"    ... and {count - most} more")
    lines.append(f"    remedy: {check.remedy}")
    return lines


def plural(count: int, what: str) -> str:
    """``1 record``, ``2 records``."""
    return f"{count} {what}" if count == 1 else f"{count:,} {what}s"
