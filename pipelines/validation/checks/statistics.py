"""The checks of classes, names and the statistics in ``dataset_info.json``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from pipelines.validation.dataset_view import DatasetView, list_names, used_classes
from pipelines.validation.findings import Problem, check, error, note, warning
from pipelines.validation.views import is_target_column, signal_column, target_column
from tfrecords_schema.moments import Moments
from tfrecords_schema.tables import describe_dropped

_ROUNDING = 1e-4
"""Change of statistics by float32 at which labels lose precision, as a fraction of the deviation."""
_PIXEL_TOLERANCE = 6.0
"""Levels by which the mean of thumbnails may differ from the declared mean of all pixels."""
_PIXEL_SPREAD = 100.0
"""Levels by which the mean of a single frame may differ from that of all frames."""


@check(
    reason="Class weights, baselines and the scaling of targets are taken from dataset_info.json. "
    "If it differs from the records, training silently starts from wrong numbers.",
    remedy="Build again with `pipelines --overwrite`; do not edit dataset_info.json.",
)
def labels_statistics(dataset: DatasetView) -> Iterator[Problem]:
    """The statistics of ``dataset_info.json`` are those of the records."""
    for split, info in dataset.info.splits.items():
        tally = dataset.tallies[split]
        if tally.records != info.num_records or not tally.records:
            continue  # other checks report the missing records
        if dataset.info.spec.label.num_classes and list(info.label_counts) != tally.labels:
            yield error(
                f"{split}: dataset_info.json says label_counts {list(info.label_counts)}, the records have "
                f"{tally.labels}"
            )
        targets = [target_column(name) for name in dataset.info.spec.label.target_names]
        declared = dict(itertools.zip_longest(targets, info.targets[: len(targets)]))
        for signal, components in info.signals.items():
            declared |= {signal_column(signal, i): own for i, own in enumerate(components)}
        for name, statistics in declared.items():
            if statistics is None:
                yield error(f"{split}: dataset_info.json has no statistics of {name}")
                continue
            moments = tally.columns.get(name, Moments())
            # Records hold float32, so that a value of 1e6 may be off by 0.06.
            scale = max(abs(statistics.min), abs(statistics.max), statistics.std, 1e-12)
            for field in ("mean", "std", "min", "max") if moments.count else ():
                said, found = getattr(statistics, field), getattr(moments, field)
                if not abs(said - found) <= dataset.thresholds.statistics_tolerance * scale:
                    yield error(
                        f"{split}: dataset_info.json says {name} has {field} {said:g}, the records have "
                        f"{found:g}"
                    )
                elif (
                    abs(said - found) > _ROUNDING * statistics.std + 1e-12 * scale
                    and statistics.std > 1e-12 * scale  # more than noise
                ):
                    problem = warning if is_target_column(name) else note
                    yield problem(
                        f"{split}: {name} had {field} {said!r} when it was measured, and the records, which "
                        f"hold float32, have {found!r} (std {statistics.std:g}): differences are lost. Build "
                        "again with --target_offset, or from differences"
                    )
                    break


@check(
    reason="A target that never changes can be predicted without the frames. The loss falls, but "
    "nothing is learnt.",
    remedy="Check if the right column was given and its values were read; add footage in which it "
    "changes.",
)
def labels_constant(dataset: DatasetView) -> Iterator[Problem]:
    """Targets and signals vary."""
    label, tally = dataset.info.spec.label, dataset.tallies.get("train", dataset.total)
    tally = tally if tally.records else dataset.total
    if tally.records < 2:
        return
    if label.num_classes == 1 and label.task == "classification":
        yield warning(f"every record is of the one class {label.class_names[0]!r}")
    for name, moments in tally.columns.items():
        if moments.count > 1 and moments.min == moments.max:
            problem = warning if is_target_column(name) else note
            yield problem(f"{name} is {moments.min:g} in all {moments.count} values")


@check(
    reason="A class without training records is never predicted; one without test records is never "
    "measured.",
    remedy="Add footage of the class, leave the class out, or choose --splits, --seed or the "
    "manifest's split so that each split has it.",
)
def labels_coverage(dataset: DatasetView) -> Iterator[Problem]:
    """Every class has records in every split; sources that were dropped are counted."""
    names = dataset.info.spec.label.class_names
    if not names or not dataset.total.records:
        return
    used = {split: used_classes(dataset, tally) for split, tally in dataset.tallies.items()}
    every = set().union(*used.values())
    missing = [name for name in names if name not in every]
    if missing:
        yield warning(f"no record is of class {list_names(missing)}")
    for text in describe_dropped(dataset.info):
        yield note(text)
    for split, tally in dataset.tallies.items():
        own = [name for name in names if name in every and name not in used[split]]
        if own and tally.records:
            problem = warning if split == "train" else note
            yield problem(f"{split} holds no record of class {list_names(own)}")


@check(
    reason="If one class is a hundred times as frequent as another, a model may never predict the "
    "rare one and still score well.",
    remedy="Add footage of the rare class, or train with class weights (trainer's default) and "
    "look at the results by class.",
)
def labels_imbalance(dataset: DatasetView) -> Iterator[Problem]:
    """No class is very much more frequent than another."""
    names = dataset.info.spec.label.class_names
    counts = [pair for pair in zip(dataset.total.labels, names, strict=False) if pair[0]]
    if len(counts) > 1 and max(counts)[0] > dataset.thresholds.imbalance * min(counts)[0]:
        (largest, frequent), (smallest, rare) = max(counts), min(counts)
        yield warning(
            f"{frequent!r} has {largest:,} records (or frames), {rare!r} has {smallest:,}"
        )


@check(
    reason="Only names and units tell what a model predicts. Without them, a speed in km/h is "
    "taken for one in m/s.",
    remedy="Build again with --label_names and --label_units, or rename the classes' folders.",
)
def labels_names(dataset: DatasetView) -> Iterator[Problem]:
    """Classes and targets have distinct names, and targets have units."""
    label = dataset.info.spec.label
    for what, names in (("class", label.class_names), ("target", label.target_names)):
        known: dict[str, str] = {}
        for index, name in enumerate(names):
            if not name.strip():
                yield warning(f"{what} {index} has no name, got {name!r}")
            same = known.setdefault(name.strip().casefold(), name)
            if same != name:
                yield warning(f"{what} names {same!r} and {name!r} differ only by case or spaces")
    units = label.target_units or ("",) * len(label.target_names)
    bare = [n for n, unit in zip(label.target_names, units, strict=True) if not unit.strip()]
    if bare:
        yield note(f"no unit is given for {list_names(bare)}")


@check(
    reason="Pixels are normalised by the mean in dataset_info.json. If the pictures have another "
    "mean, they were replaced, or their colours were changed.",
    remedy="Build again with `pipelines --overwrite`; do not edit records.",
)
def pictures_statistics(dataset: DatasetView) -> Iterator[Problem]:
    """The mean of the pictures' pixels is that of ``dataset_info.json``."""
    for split, info in dataset.info.splits.items():
        tally = dataset.tallies[split]
        frames, channels = tally.pixel_frames, len(tally.pixel_sums)
        if not frames or tally.records != info.num_records or len(info.pixel_mean) != channels:
            continue
        said, found = np.array(info.pixel_mean), np.array(tally.pixel_sums) / frames
        # Means of few pictures are less exact; the declared one may be taken from a sample.
        sampled = min(frames, info.pixel_frames or frames)
        limit = _PIXEL_TOLERANCE + _PIXEL_SPREAD / math.sqrt(sampled)
        if np.abs(said - found).max() > limit:
            swapped = np.abs(said - found[::-1]).max() <= limit
            levels = [", ".join(f"{level:.1f}" for level in mean) for mean in (said, found)]
            yield error(
                f"{split}: dataset_info.json says pixel_mean {levels[0]}, the pictures have {levels[1]}"
                f"{', as if red and blue were swapped' if swapped else ''}"
            )
