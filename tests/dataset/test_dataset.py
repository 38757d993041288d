"""One test a check, on a dataset of yours: ``pytest tests/dataset --tfrecords DIR``.

A test fails for findings of level error; warnings are shown in pytest's summary of warnings. Each names the
records and the remedy.
"""

from __future__ import annotations

import warnings

import pytest

from pipelines.validation.checks.catalogue import ALL_CHECKS
from pipelines.validation.outcome import printable


class DatasetWarning(UserWarning):
    """A problem of the dataset that a person should look at before training."""


def describe(check, level, result):
    found = [f for f in result.findings if f.check == check.name and f.level == level]
    count = result.count(level, check.name)
    lines = [f"{check.name}: {count} of level {level}", check.reason]
    lines += [f"- {finding.where}: {finding.message}" for finding in found[:10]]
    if count > 10:
        lines.append(f"- and {count - 10} more")
    return "\n".join(map(printable, [*lines, f"remedy: {check.remedy}"]))


@pytest.mark.parametrize("check", ALL_CHECKS, ids=[check.name for check in ALL_CHECKS])
def test_check(validation, check):
    result = validation.result
    if result.count("warning", check.name):
        warnings.warn(DatasetWarning(describe(check, "warning", result)), stacklevel=1)
    if result.count("error", check.name):
        pytest.fail(describe(check, "error", result), pytrace=False)


def test_all_records_were_examined(validation):
    assert validation.result.records == sum(
        split.num_records for split in validation.info.splits.values()
    )
