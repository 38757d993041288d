"""The checks of labels and signals that need all records: outliers, jumps, contradicting classes."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.validation.dataset_view import DatasetView
from pipelines.validation.findings import Problem, check, error, warning
from pipelines.validation.shard_summary import Conflicts
from pipelines.validation.sketches import Sketch
from pipelines.validation.views import is_target_column

_MAX_SHOWN = 5
_MIN_CHANGE = 0.1
"""Lower limit of the spread of changes, as a fraction of the target's: equal changes have no spread."""
_MIN_NAMED = 0.95
"""Fraction of records in the folder of their class above which folders are taken for labels."""


@check(
    reason="One value far from all others, from a sensor's error or another unit, outweighs "
    "thousands in a squared loss, and in the mean and spread that scale all values.",
    remedy="Look at the telemetry or annotation of these records; remove or repair these rows. "
    "Raise outlier_scale in validation.json if such values are real.",
)
def labels_outliers(dataset: DatasetView) -> Iterator[Problem]:
    """No target or signal is many robust standard deviations from the others."""
    for name, sketch in dataset.total.sketches.items():
        outliers = sketch.outliers(dataset.thresholds.outlier_scale)
        for extreme, scale in outliers[:_MAX_SHOWN]:
            yield warning(
                f"{name} is {extreme.value:g}, {scale:.0f} robust standard deviations from the median",
                dataset.where(extreme.shard, extreme.offset),
            )
        if (more := len(outliers) - _MAX_SHOWN) > 0:
            yield warning(f"{name} is as far off in at least {more} more records")


@check(
    reason="From one sequence of a drive to the next, a speed changes a little. A jump that is "
    "much larger than all others means swapped labels, or missing or wrong rows of telemetry.",
    remedy="Look at the telemetry or annotation of these records and of the ones before them. "
    "Raise outlier_scale in validation.json if such changes are real.",
)
def labels_jumps(dataset: DatasetView) -> Iterator[Problem]:
    """From one record of a source to the next, no target changes very much more than usual."""
    for name, sketch in dataset.total.changes.items():
        if not is_target_column(name):
            continue
        _, spread = dataset.total.sketches.get(name, Sketch()).scale()
        outliers = sketch.outliers(dataset.thresholds.outlier_scale, min_scale=_MIN_CHANGE * spread)
        for extreme, _ in outliers[:_MAX_SHOWN]:
            yield warning(
                f"{name} differs by {extreme.value:g} from the record before it of its source, far more "
                "than usual",
                dataset.where(extreme.shard, extreme.offset),
            )


@check(
    reason="A record with another class than the rest of its video, or than the folder of the "
    "video, has the label of another record.",
    remedy="Build the dataset again. Check if the manifest names the source twice.",
)
def labels_sources(dataset: DatasetView) -> Iterator[Problem]:
    """Records of a source have one class: that of their folder, if folders are named after classes."""
    mixed = sum((shard.mixed for shard in dataset.shards), Conflicts())
    yield from mixed.problems(error)
    named = sum(shard.named for shard in dataset.shards)
    misnamed = sum((shard.misnamed for shard in dataset.shards), Conflicts())
    if named >= _MIN_NAMED * (named + misnamed.count) > 0:
        for where, message in misnamed.places:
            yield warning(message, where)
