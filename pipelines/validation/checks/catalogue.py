"""The catalogue of all checks, collected from the modules that declare them.

`ALL_CHECKS` lists the checks in the order of the report, `BY_NAME` finds one by its name. The other tuples
list the checks of one kind of subject: ``BY_NAME["labels.finite"](record)`` yields findings on a record.
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

_FAMILIES = ("format", "frames", "labels", "pictures", "leaks", "balance")


def _checks_of(*modules: ModuleType) -> tuple[Check[Any], ...]:
    """Returns the checks that the modules declare, in the order of their declarations."""
    return tuple(v for module in modules for v in vars(module).values() if isinstance(v, Check))


SHARD_CHECKS = _checks_of(shards)
"""Checks of the `ShardFacts` of a file."""

_RECORD = _checks_of(records, frames, labels, pictures)
RECORD_CHECKS = tuple(check for check in _RECORD if check is not records.format_decode)
"""Checks of a `RecordView`, without `format_decode`, which is for records in which these find nothing."""

NEIGHBOUR_CHECKS = _checks_of(neighbours)
"""Checks of `Neighbours`, two consecutive records of a source."""

DATASET_CHECKS = _checks_of(dataset, statistics, values, sources, leaks, balance)
"""Checks of a `DatasetView`."""

SOURCE_CHECKS = _checks_of(sources)
"""Those among them that compare records with the footage, by ``--sources``."""

DRIFT_CHECKS = _checks_of(drift)
"""Checks of two `Versions` of a dataset."""

_ALL = (*SHARD_CHECKS, *_RECORD, *NEIGHBOUR_CHECKS, *DATASET_CHECKS)
ALL_CHECKS = (*sorted(_ALL, key=lambda check: _FAMILIES.index(check.family)), *DRIFT_CHECKS)

BY_NAME: dict[str, Check[Any]] = {check.name: check for check in ALL_CHECKS}
