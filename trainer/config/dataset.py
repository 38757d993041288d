"""Checks of a dataset's folder that need no TensorFlow, so that a training that cannot work ends at once."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tfrecords_schema.info import DatasetInfo, SplitInfo
from tfrecords_schema.paths import join
from tfrecords_schema.storage import list_folder
from tfrecords_schema.tables import (
    class_warnings,
    describe_label,
    empty_classes,
    explain_losses,
    label_table,
)
from tfrecords_schema.terminal import printable_name as printable
from trainer.errors import TrainerError

# Names that `trainer.data.parsed_records` gives to the origins of a sequence.
_ORIGINS = ("id", "source", "group", "timestamps")
_CLASS_NAMES = "label.class_names: "
_SIDES = ("in the model", "in the dataset")
_MAX_NAMES = 5


class DatasetError(TrainerError):
    """A split or shard that cannot be read, or a dataset that no model can be trained on."""


def has_split(info: DatasetInfo, split: str) -> bool:
    """Returns True if the dataset has records in ``split``."""
    return split in info.splits and info.splits[split].num_records > 0


def default_split(info: DatasetInfo) -> str:
    """Returns the split to evaluate on: ``test``, else ``validation``, else ``train``."""
    return next((split for split in ("test", "validation") if has_split(info, split)), "train")


def split_contents(info: DatasetInfo, directory: str | os.PathLike[str], split: str) -> SplitInfo:
    """Returns the description of a split, which must have records."""
    if not has_split(info, split):
        held = [
            f"{name} ({s.num_records} records)" for name, s in info.splits.items() if s.num_records
        ]
        raise DatasetError(
            f"{directory} has no records in a split {split!r}, but in {', '.join(held) or 'none'}. "
            "Name another split, or build the dataset with other --splits"
        )
    return info.splits[split]


def shard_paths(directory: str | os.PathLike[str], info: DatasetInfo, split: str) -> list[str]:
    """Returns the files of a split in order, after checking that each exists and has the recorded size."""
    shards = split_contents(info, directory, split).shards
    files = list_folder(directory)
    paths = [join(directory, shard.file) for shard in shards]
    for shard, path in zip(shards, paths, strict=True):
        if shard.file not in files:
            raise DatasetError(
                f"{path} is missing, and dataset_info.json lists it with {shard.records} records. "
                "Copy the whole folder again, or build the dataset again"
            )
        if files[shard.file].bytes != shard.bytes:
            raise DatasetError(
                f"{path} has {files[shard.file].bytes} bytes, and dataset_info.json says {shard.bytes}. "
                "Copy the file again, or build the dataset again"
            )
    return paths


def check_trainable(
    directory: str | os.PathLike[str], info: DatasetInfo, *, allow_empty_classes: bool = False
) -> None:
    """Checks that a dataset has labels, records of all classes to train on, statistics and all shards."""
    label = info.spec.label
    for signal in info.spec.signals:
        if signal.name in _ORIGINS:
            raise DatasetError(
                f"the signal {signal.name!r} has the name of an output of the reader. Build the dataset with "
                "another name for it"
            )
    if label.task == "none":
        raise DatasetError(f"{directory} has no labels to learn. Build it with labels")
    for split in ("train", "validation", "test"):
        if split == "train" or has_split(info, split):
            shard_paths(directory, info, split)
    train = info.splits["train"]
    held = [n for n, c in zip(label.class_names, train.label_counts, strict=False) if c]
    if label.task == "classification" and len(held) < 2:
        raise DatasetError(
            f"the train split of {directory} must hold at least 2 classes, and holds {held}. "
            "Build it from more footage, or with other --splits"
        )
    channels = info.spec.image.channels if info.spec.image else 0
    counted = {
        "label_counts": (train.label_counts, label.num_classes),
        "targets": (train.targets, len(label.target_names)),
        "pixel_mean": (train.pixel_mean, channels),
        "pixel_std": (train.pixel_std, channels),
        **{f"signals.{s.name}": (train.signals.get(s.name, ()), s.size) for s in info.spec.signals},
    }
    for name, (values, expected) in counted.items():
        if len(values) != expected:
            raise DatasetError(
                f"dataset_info.json in {directory} must hold {expected} values in {name} of the train "
                f"split, and holds {len(values)}. Build the dataset again"
            )
    if not allow_empty_classes and (empty := empty_classes(info, "train")):
        raise DatasetError(
            f"the train split of {directory} has no record of {len(empty)} of {label.num_classes} classes: "
            f"{explain_losses(info, empty)}. No model can learn these: build the "
            "dataset again, or give --allow_empty_classes to train without them"
        )


def describe_dataset(directory: str | os.PathLike[str], info: DatasetInfo) -> list[str]:
    """Returns lines about the records of a dataset, its task, its splits and their classes or targets."""
    spec = info.spec
    shape = "signals only" if spec.image is None else "x".join(map(str, spec.image_shape))
    signals = f", signals {', '.join(s.name for s in spec.signals)}" if spec.signals else ""
    records = ", ".join(f"{name} {split.num_records}" for name, split in info.splits.items())
    return [
        f"dataset: {directory} ({printable(info.name)}), {shape}{printable(signals)}",
        f"task: {describe_label(spec.label)}",
        f"records: {printable(records)}",
        *label_table(info),
        *(f"warning: {text}" for text in class_warnings(info)),
    ]


def check_compatible(
    run: str | os.PathLike[str], trained_on: DatasetInfo, info: DatasetInfo
) -> None:
    """Checks that the model of ``run``, trained on ``trained_on``, takes the records of ``info``."""
    differences = trained_on.spec.differences(info.spec, sides=_SIDES)
    if not differences:
        return
    ours, theirs = trained_on.spec.label.class_names, info.spec.label.class_names
    if ours and theirs and ours != theirs:
        differences = [d for d in differences if not d.startswith(_CLASS_NAMES)]
        differences.append(_CLASS_NAMES + _differing_classes(ours, theirs))
    raise DatasetError(
        f"the model in {run} was trained on other records than {info.name!r} holds: "
        f"{'; '.join(differences)}. Build the dataset with the options of the one it was trained on, or "
        "train another model"
    )


def _differing_classes(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Describes the class names that differ; the others may be many."""
    if set(ours) == set(theirs):
        place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        return (
            f"the same in another order, class {place} is {ours[place]!r} {_SIDES[0]}, "
            f"{theirs[place]!r} {_SIDES[1]}"
        )
    found = []
    for where, names, others in zip(_SIDES, (ours, theirs), (theirs, ours), strict=True):
        if only := [repr(name) for name in names if name not in others]:
            more = f" and {len(only) - _MAX_NAMES} more" if len(only) > _MAX_NAMES else ""
            found.append(f"{', '.join(only[:_MAX_NAMES])}{more} only {where}")
    return ", ".join(found)
