"""What docs/validation.md says of checks and thresholds is so."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from pipelines.validation.checks import catalogue as checks
from pipelines.validation.thresholds import DEFAULTS

TEXT = (Path(__file__).parents[3] / "docs" / "validation.md").read_text(encoding="utf-8")


def test_every_check_is_documented_and_no_other():
    named = set(re.findall(r"`(\w+\.[\w*]+)`", TEXT.split("## Thresholds")[0]))
    for check in checks.ALL_CHECKS:
        assert check.name in named or f"{check.name.partition('.')[0]}.*" in named
    families = {check.name.partition(".")[0] for check in checks.ALL_CHECKS}
    for name in named:
        if name.partition(".")[0] in families and not name.endswith("*"):
            assert name in checks.BY_NAME


def test_every_threshold_is_documented_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", TEXT, re.M))
    assert {name: float(value) for name, value in rows.items()} == dataclasses.asdict(DEFAULTS)


def test_all_checks_are_exported_under_their_own_names():
    exported = [getattr(checks, name) for name in checks.__all__]
    for check in checks.ALL_CHECKS:
        assert check in exported
        assert getattr(checks, check.function.__name__) is check
