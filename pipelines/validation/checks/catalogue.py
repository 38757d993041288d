"""The catalogue of all checks: ``from pipelines.validation import checks``.

Every check is a module-level function under its own name, which yields the problems of what it looks at: a
`RecordView`, two `Neighbours`, the `ShardFacts` of a file, or a `DatasetView`. `ALL_CHECKS` has them in the
order of the report, and `BY_NAME` by what findings call them.
"""

from __future__ import annotations

from typing import Any

from pipelines.validation.checks.balance import (
    empty_splits,
    label_skew,
    shard_sizes,
    shuffle_quality,
)
from pipelines.validation.checks.dataset import (
    DATASET_CHECKS,
    counts,
    shard_files,
    source_names,
    unique_ids,
)
from pipelines.validation.checks.drift import (
    drift_classes,
    drift_labels,
    drift_records,
    drift_spec,
    drift_splits,
    drift_values,
)
from pipelines.validation.checks.frames import (
    frames_decode,
    frames_gaps,
    frames_order,
    frames_padding,
    frames_rate,
    frames_signals,
    frames_start,
)
from pipelines.validation.checks.labels import (
    labels_classes,
    labels_finite,
    labels_frames,
)
from pipelines.validation.checks.leaks import (
    duplicate_pictures,
    leaked_groups,
    leaked_sources,
    leaked_spans,
)
from pipelines.validation.checks.neighbours import (
    NEIGHBOUR_CHECKS,
    adjoining_pictures,
    shared_frames,
)
from pipelines.validation.checks.pictures import (
    pictures_colours,
    pictures_flat,
    pictures_foreign,
    pictures_frozen,
    pictures_repeated,
    pictures_sizes,
)
from pipelines.validation.checks.records import (
    RECORD_CHECKS,
    agreement,
    decodes,
    schema,
)
from pipelines.validation.checks.shards import (
    SHARD_CHECKS,
    checksums,
    framing,
)
from pipelines.validation.checks.sources import swapped_red_blue, unlike_source
from pipelines.validation.checks.statistics import (
    class_imbalance,
    constant_targets,
    label_coverage,
    label_names,
    label_statistics,
    pixel_statistics,
)
from pipelines.validation.checks.values import (
    source_labels,
    value_jumps,
    value_outliers,
)
from pipelines.validation.findings import Check

__all__ = [
    "ALL_CHECKS",
    "BY_NAME",
    "DATASET_CHECKS",
    "NEIGHBOUR_CHECKS",
    "RECORD_CHECKS",
    "SHARD_CHECKS",
    "adjoining_pictures",
    "agreement",
    "checksums",
    "class_imbalance",
    "constant_targets",
    "counts",
    "decodes",
    "drift_classes",
    "drift_labels",
    "drift_records",
    "drift_spec",
    "drift_splits",
    "drift_values",
    "duplicate_pictures",
    "empty_splits",
    "frames_decode",
    "frames_gaps",
    "frames_order",
    "frames_padding",
    "frames_rate",
    "frames_signals",
    "frames_start",
    "framing",
    "label_coverage",
    "label_names",
    "label_skew",
    "label_statistics",
    "labels_classes",
    "labels_finite",
    "labels_frames",
    "leaked_groups",
    "leaked_sources",
    "leaked_spans",
    "pictures_colours",
    "pictures_flat",
    "pictures_foreign",
    "pictures_frozen",
    "pictures_repeated",
    "pictures_sizes",
    "pixel_statistics",
    "schema",
    "shard_files",
    "shard_sizes",
    "shared_frames",
    "shuffle_quality",
    "source_labels",
    "source_names",
    "swapped_red_blue",
    "unique_ids",
    "unlike_source",
    "value_jumps",
    "value_outliers",
]

ALL_CHECKS: tuple[Check[Any], ...] = (
    framing,
    checksums,
    shard_files,
    schema,
    agreement,
    decodes,
    unique_ids,
    source_names,
    counts,
    frames_decode,
    frames_order,
    frames_rate,
    frames_start,
    frames_gaps,
    frames_signals,
    frames_padding,
    shared_frames,
    labels_classes,
    labels_finite,
    labels_frames,
    label_names,
    label_statistics,
    constant_targets,
    label_coverage,
    class_imbalance,
    value_outliers,
    value_jumps,
    source_labels,
    pictures_sizes,
    pictures_repeated,
    pictures_frozen,
    pictures_flat,
    pictures_foreign,
    pictures_colours,
    adjoining_pictures,
    pixel_statistics,
    swapped_red_blue,
    unlike_source,
    leaked_sources,
    leaked_groups,
    leaked_spans,
    duplicate_pictures,
    empty_splits,
    shard_sizes,
    shuffle_quality,
    label_skew,
    drift_spec,
    drift_splits,
    drift_records,
    drift_classes,
    drift_labels,
    drift_values,
)

BY_NAME: dict[str, Check[Any]] = {check.name: check for check in ALL_CHECKS}
