"""The catalogue of all checks, collected from the modules that declare them.

`ALL_CHECKS` lists the checks in the order of the report, `BY_NAME` finds one by its name. The other tuples
list the checks of one kind of subject:

    from pipelines.validation.checks import catalogue as checks

    for finding in checks.BY_NAME["labels.finite"](record):
        print(finding.level, finding.message)
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pipelines.validation.checks import (
    balance,
    dataset,
    drift,
    frames,
    labels,
    leaks,
    neighbours,
    pictures,
    records,
    shards,
    sources,
    statistics,
    values,
)
from pipelines.validation.findings import Check

_FAMILIES = ("format", "frames", "labels", "pictures", "leaks", "balance", "drift")


def _checks_of(*modules: ModuleType) -> tuple[Check[Any], ...]:
    """Returns the checks that the modules declare, in the order of their declarations."""
    return tuple(v for module in modules for v in vars(module).values() if isinstance(v, Check))


SHARD_CHECKS = _checks_of(shards)
"""Checks of the `ShardFacts` of a file."""

RECORD_CHECKS = tuple(
    check for check in _checks_of(records, frames, labels, pictures) if check is not records.decodes
)
"""Checks of a `RecordView`, without `records.decodes`: it is for records in which these find nothing."""

NEIGHBOUR_CHECKS = _checks_of(neighbours)
"""Checks of `Neighbours`, two consecutive records of a source."""

DATASET_CHECKS = _checks_of(dataset, statistics, values, sources, leaks, balance, drift)
"""Checks of a `DatasetView`."""

ALL_CHECKS = tuple(
    sorted(
        (*SHARD_CHECKS, *RECORD_CHECKS, records.decodes, *NEIGHBOUR_CHECKS, *DATASET_CHECKS),
        key=lambda check: _FAMILIES.index(check.family),
    )
)

BY_NAME: dict[str, Check[Any]] = {check.name: check for check in ALL_CHECKS}
