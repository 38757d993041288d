"""The checks of labels and signals that need all records: outliers, jumps, classes that may be swapped."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.validation.dataset_view import DatasetView
from pipelines.validation.findings import Check, Problem, check, error, warning
from pipelines.validation.sketches import Sketch
from pipelines.validation.views import target_column

_MOST_SHOWN = 5
_LEAST_CHANGE = 0.1
"""Of a target's spread, that its changes are taken to be spread at least: where all are equal, one is far."""
_USUAL = 0.95
"""Fraction of the records in folders of class names from which on folders are taken for labels."""


@check(
    "labels.outliers",
    reason="One value that is far from all others, a sensor's error or another unit, outweighs "
    "thousands in a squared loss and in the mean and spread that scale all of them.",
    remedy="Look at the telemetry or annotation of these records; remove or repair these rows. "
    "Raise outlier_scale in validation.json if such values are real.",
)
def value_outliers(dataset: DatasetView) -> Iterator[Problem]:
    """No target or signal is very far from the others, in robust standard deviations."""
    for name, sketch in dataset.total.sketches.items():
        far = sketch.outliers(dataset.thresholds.outlier_scale)
        for extreme, scale in far[:_MOST_SHOWN]:
            yield warning(
                f"{name} is {extreme.value:g}, {scale:.0f} robust standard deviations from the median",
                dataset.where(extreme.shard, extreme.offset),
            )
        if len(far) > _MOST_SHOWN:
            yield warning(f"{name} is that far off in {len(far) - _MOST_SHOWN} more records or so")


@check(
    "labels.jumps",
    reason="From one sequence of a drive to the next, a speed changes a little; where it jumps as "
    "nowhere else, labels were swapped, or rows of the telemetry are missing or wrong.",
    remedy="Look at the telemetry or annotation of these records and of the ones before them. "
    "Raise outlier_scale in validation.json if such changes are real.",
)
def value_jumps(dataset: DatasetView) -> Iterator[Problem]:
    """From one record of a source to the next, no target changes very much more than it usually does."""
    for name, sketch in dataset.total.changes.items():
        if not name.startswith(target_column("")):
            continue
        _, spread = dataset.total.sketches.get(name, Sketch()).scale()
        far = sketch.outliers(dataset.thresholds.outlier_scale, least_scale=_LEAST_CHANGE * spread)
        for extreme, _ in far[:_MOST_SHOWN]:
            yield warning(
                f"{name} is {extreme.value:g} off the record before it of its source, far more than usual",
                dataset.where(extreme.shard, extreme.offset),
            )


@check(
    "labels.sources",
    reason="A record with another class than the rest of its video, or than the folder the video "
    "lies in, has somebody else's label.",
    remedy="Build the dataset again; look whether the manifest names the source twice.",
)
def source_labels(dataset: DatasetView) -> Iterator[Problem]:
    """Records of one source have one class, and where folders are called as classes, that of their folder."""
    labels = dataset.labels
    for where, said in labels.mixed.places:
        yield error(said, where)
    if labels.mixed.more:
        yield error(f"{labels.mixed.more} more records are like that")
    misnamed = labels.misnamed
    if not labels.named or misnamed.count > (1 - _USUAL) * (labels.named + misnamed.count):
        return  # folders are called otherwise, or after something else
    for where, said in misnamed.places:
        yield warning(said, where)


VALUE_CHECKS: tuple[Check[DatasetView], ...] = (value_outliers, value_jumps, source_labels)
