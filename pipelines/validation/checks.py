"""The catalogue of all checks: ``from pipelines.validation import checks``.

Every check is a module-level function under its own name; `ALL_CHECKS` has them in the order of the report.
"""

from __future__ import annotations

from typing import Any

from pipelines.validation.dataset_checks import (
    DATASET_CHECKS,
    constant_targets,
    empty_splits,
    label_coverage,
    label_statistics,
    leaked_groups,
    leaked_sources,
    shard_files,
    unique_ids,
)
from pipelines.validation.findings import Check
from pipelines.validation.record_checks import (
    RECORD_CHECKS,
    agreement,
    decodes,
    frames_decode,
    frames_order,
    frames_padding,
    frames_rate,
    labels_classes,
    labels_finite,
    pictures_flat,
    pictures_repeated,
    schema,
)
from pipelines.validation.shard_checks import SHARD_CHECKS, checksums, framing

__all__ = [
    "ALL_CHECKS",
    "DATASET_CHECKS",
    "RECORD_CHECKS",
    "SHARD_CHECKS",
    "agreement",
    "checksums",
    "constant_targets",
    "decodes",
    "empty_splits",
    "frames_decode",
    "frames_order",
    "frames_padding",
    "frames_rate",
    "framing",
    "label_coverage",
    "label_statistics",
    "labels_classes",
    "labels_finite",
    "leaked_groups",
    "leaked_sources",
    "pictures_flat",
    "pictures_repeated",
    "schema",
    "shard_files",
    "unique_ids",
]

ALL_CHECKS: tuple[Check[Any], ...] = (
    framing,
    checksums,
    shard_files,
    schema,
    agreement,
    decodes,
    unique_ids,
    frames_decode,
    frames_order,
    frames_rate,
    frames_padding,
    labels_classes,
    labels_finite,
    label_statistics,
    constant_targets,
    label_coverage,
    leaked_sources,
    leaked_groups,
    pictures_repeated,
    pictures_flat,
    empty_splits,
)
