"""The checks and thresholds in docs/validation.md are those of the code."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from pathlib import Path

from pipelines.validation import checks as checks_package
from pipelines.validation.checks import catalogue as checks
from pipelines.validation.findings import Check
from pipelines.validation.thresholds import DEFAULTS

TEXT = (Path(__file__).parents[3] / "docs" / "validation.md").read_text(encoding="utf-8")


def test_documentation_lists_exactly_the_checks():
    named = set(re.findall(r"`(\w+\.[\w*]+)`", TEXT.split("## Thresholds")[0]))
    for check in checks.ALL_CHECKS:
        assert check.name in named or f"{check.name.partition('.')[0]}.*" in named
    families = {check.name.partition(".")[0] for check in checks.ALL_CHECKS}
    for name in named:
        if name.partition(".")[0] in families and not name.endswith("*"):
            assert name in checks.BY_NAME


def test_documentation_lists_thresholds_with_defaults():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", TEXT, re.M))
    assert {name: float(value) for name, value in rows.items()} == dataclasses.asdict(DEFAULTS)


def test_catalogue_holds_each_declared_check_once():
    declared = [
        value
        for module in pkgutil.iter_modules(checks_package.__path__, f"{checks_package.__name__}.")
        for value in vars(importlib.import_module(module.name)).values()
        if isinstance(value, Check)
    ]
    assert len(declared) == len(checks.ALL_CHECKS)
    assert all(checks.ALL_CHECKS.count(check) == 1 for check in declared)
