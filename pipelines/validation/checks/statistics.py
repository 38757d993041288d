"""The checks of what is said of all records together: their statistics, classes and names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipelines.validation.dataset_view import DatasetView, list_names
from pipelines.validation.findings import Check, Problem, check, error, note, warning
from pipelines.validation.tallies import Moments, Tally
from pipelines.validation.views import signal_column, target_column
from tfrecords_schema.info import SplitInfo

_PIXEL_LEVELS = 6.0
_PIXEL_SPREAD = 100.0


@check(
    "labels.statistics",
    reason="Class weights, baselines and the scaling of targets are taken from "
    "dataset_info.json; when it is not what the records say, training starts from wrong numbers "
    "without a word.",
    remedy="Build again with `pipelines --overwrite`; do not edit dataset_info.json.",
)
def label_statistics(dataset: DatasetView) -> Iterator[Problem]:
    """The statistics of ``dataset_info.json`` are those of the records."""
    spec = dataset.info.spec
    for split, info in dataset.info.splits.items():
        tally = dataset.tallies[split]
        if tally.records != info.num_records or not tally.records:
            continue  # records are missing, which other checks say; no sum can be right
        if spec.label.num_classes and list(info.label_counts) != tally.labels:
            yield error(
                f"{split}: dataset_info.json says label_counts {list(info.label_counts)}, the records have "
                f"{tally.labels}"
            )
        yield from _check_targets(split, info, tally, dataset)


@check(
    "labels.constant",
    reason="A target that never changes can be predicted without looking; the loss falls and "
    "nothing is learnt.",
    remedy="Look whether the right column was given, and whether its values arrived; add footage "
    "in which it changes.",
)
def constant_targets(dataset: DatasetView) -> Iterator[Problem]:
    """Targets and signals vary."""
    spec, tally = dataset.info.spec, dataset.training
    if tally.records < 2:
        return
    if spec.label.num_classes == 1 and spec.label.task == "classification":
        yield warning(f"every record is of the one class {spec.label.class_names[0]!r}")
    for name, moments in tally.columns.items():
        if moments.count > 1 and moments.min == moments.max:
            problem = warning if name.startswith(target_column("")) else note
            yield problem(f"{name} is {moments.min:g} in all {moments.count} values")


@check(
    "labels.coverage",
    reason="A class that training never sees is never predicted; one that the test never sees is "
    "never measured.",
    remedy="Add footage of the class, leave it out, or choose --splits, --seed or the manifest's "
    "split so that it comes in.",
)
def label_coverage(dataset: DatasetView) -> Iterator[Problem]:
    """Every class has records, in the training split above all."""
    names = dataset.info.spec.label.class_names
    if not names or not dataset.total.records:
        return
    absent = _absent(names, dataset.total)
    if absent:
        yield warning(f"no record is of class {list_names(absent)}")
    for split, tally in dataset.tallies.items():
        own = [name for name in _absent(names, tally) if name not in absent]
        if own and tally.records:
            problem = warning if split == "train" else note
            yield problem(f"{split} holds no record of class {list_names(own)}")


@check(
    "labels.imbalance",
    reason="With one class a hundred times as frequent as another, a model may never name the "
    "rare one and still score well.",
    remedy="Add footage of the rare class, or train with class weights (trainer's default) and "
    "look at results by class.",
)
def class_imbalance(dataset: DatasetView) -> Iterator[Problem]:
    """No class is very much more frequent than another."""
    names = dataset.info.spec.label.class_names
    counts = [
        (count, name) for count, name in zip(dataset.total.labels, names, strict=False) if count
    ]
    if len(counts) > 1 and max(counts)[0] > dataset.thresholds.imbalance * min(counts)[0]:
        (most, frequent), (least, rare) = max(counts), min(counts)
        yield warning(f"{frequent!r} has {most:,} records (or frames), {rare!r} has {least:,}")


@check(
    "labels.names",
    reason="Names and units are all that says what a model predicts; without them a speed in km/h "
    "is taken for one in m/s.",
    remedy="Build again with --label_names and --label_units, or rename the classes' folders.",
)
def label_names(dataset: DatasetView) -> Iterator[Problem]:
    """Classes and targets have names that tell them apart, and targets have units."""
    label = dataset.info.spec.label
    for what, names in (("class", label.class_names), ("target", label.target_names)):
        known: dict[str, str] = {}
        for place, name in enumerate(names):
            if not name.strip():
                yield warning(f"{what} {place} has no name, got {name!r}")
            same = known.setdefault(name.strip().casefold(), name)
            if same != name:
                yield warning(f"{what} names {same!r} and {name!r} differ by case or spaces alone")
    bare = [
        name
        for place, name in enumerate(label.target_names)
        if place >= len(label.target_units) or not label.target_units[place].strip()
    ]
    if bare:
        yield note(f"no unit is given for {list_names(bare)}")


@check(
    "pictures.statistics",
    reason="Pixels are normalised by the mean in dataset_info.json; where it is not that of the "
    "pictures, they were exchanged, or their colours were.",
    remedy="Build again with `pipelines --overwrite`; do not edit records.",
)
def pixel_statistics(dataset: DatasetView) -> Iterator[Problem]:
    """The mean of the pictures' pixels is what ``dataset_info.json`` says."""
    for split, info in dataset.info.splits.items():
        tally = dataset.tallies[split]
        stated, frames = info.pixel_mean, tally.pixel_frames
        if not frames or tally.records != info.num_records or len(stated) != len(tally.pixel_sums):
            continue
        found = [total / frames for total in tally.pixel_sums]
        # Points of the pictures are looked at, and the mean stated may be a sample's; of a few pictures both
        # say less.
        sampled = min(frames, info.pixel_frames or frames)
        limit = _PIXEL_LEVELS + _PIXEL_SPREAD / math.sqrt(sampled)
        if max(abs(a - b) for a, b in zip(stated, found, strict=True)) <= limit:
            continue
        swapped = max(abs(a - b) for a, b in zip(stated, reversed(found), strict=True)) <= limit
        yield error(
            f"{split}: dataset_info.json says pixel_mean {_levels(stated)}, the pictures have "
            f"{_levels(found)}" + (", as if red and blue were swapped" if swapped else "")
        )


STATISTICS_CHECKS: tuple[Check[DatasetView], ...] = (
    label_statistics,
    constant_targets,
    label_coverage,
    class_imbalance,
    label_names,
    pixel_statistics,
)


def _levels(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _check_targets(
    split: str, info: SplitInfo, tally: Tally, dataset: DatasetView
) -> Iterator[Problem]:
    spec = dataset.info.spec
    declared = {
        target_column(name): info.targets[place] if place < len(info.targets) else None
        for place, name in enumerate(spec.label.target_names)
    }
    for signal, components in info.signals.items():
        for place, statistics in enumerate(components):
            declared[signal_column(signal, place)] = statistics
    for name, stated in declared.items():
        moments = tally.columns.get(name, Moments())
        if stated is None:
            yield error(f"{split}: dataset_info.json has no statistics of {name}")
            continue
        if not moments.count:
            continue
        # Records hold float32, so that a value of 1e6 may be off by 0.06.
        scale = max(abs(stated.min), abs(stated.max), stated.std, 1e-12)
        for field in ("mean", "std", "min", "max"):
            said, found = getattr(stated, field), getattr(moments, field)
            if not abs(said - found) <= dataset.thresholds.statistics_tolerance * scale:
                yield error(
                    f"{split}: dataset_info.json says {name} has {field} {said:g}, the records have {found:g}"
                )


def _absent(names: Sequence[str], tally: Tally) -> list[str]:
    return [
        name
        for place, name in enumerate(names)
        if place >= len(tally.labels) or not tally.labels[place]
    ]
