"""Checks of a dataset's folder that need no TensorFlow, so that a training that cannot work ends at once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo, SplitInfo
from tfrecords_schema.reading.offsets import shard_paths as own_paths
from tfrecords_schema.running.terminal import printable_name as printable
from tfrecords_schema.sources import SOURCES_COUNT, SOURCES_FILE, check_distinct, read_sources
from tfrecords_schema.tables import (
    class_warnings,
    describe_label,
    empty_classes,
    explain_losses,
    label_table,
    name_some,
    shorten,
    value_warnings,
)
from tfrecords_schema.union import differences_beyond_classes, unite
from trainer.errors import TrainerError

# Names that `trainer.data.parsed_records` gives to the origins of a sequence.
_ORIGINS = ("id", "source", "group", "timestamps")
# Squares of larger values overflow float32, in which losses and metrics are computed.
_MAX_VALUE = 1e17
_SIDES = ("in the model", "in the dataset")


T = TypeVar("T")
Datasets = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A dataset folder, or several that are read as one."""


class DatasetError(TrainerError):
    """A split or shard that cannot be read, or a dataset that no model can be trained on."""


class Folders(tuple[str, ...]):
    """The folders of one or several datasets, as text separated by commas."""

    __slots__ = ()

    def __str__(self) -> str:
        return ", ".join(self)


class Selection(Folders):
    """The folders of datasets, of which only some records are read, as other splits: a fold.

    Attributes:
        info: describes the records that are read.
        parts: by split, the files, and for each of its records in stored order if it is read.
    """

    info: DatasetInfo
    parts: dict[str, list[tuple[str, npt.NDArray[np.bool_]]]]


def select_records(
    directory: Datasets, split: str, shard: int, records: Iterable[T]
) -> Iterable[T]:
    """Returns those of all ``records`` of a shard that are read."""
    if isinstance(directory, Selection) and split in directory.parts:
        return itertools.compress(records, directory.parts[split][shard][1])
    return records


def folders_of(directory: Datasets) -> Folders:
    """Returns the folders that ``directory`` names."""
    if isinstance(directory, Folders):
        return directory
    if isinstance(directory, str | os.PathLike):
        directory = (directory,)
    return Folders(os.fspath(folder) for folder in directory)


def load_dataset(directory: Datasets) -> DatasetInfo:
    """Returns the description of a dataset, or of several as one (`tfrecords_schema.union.unite`).

    Raises:
        DatasetInfoError: if a folder is no complete dataset, or records differ in more than classes.
    """
    if isinstance(directory, Selection):
        return directory.info
    infos = _load_each(directory)
    return infos[0] if len(infos) == 1 else unite(infos, folders_of(directory)).info


def _load_each(directory: Datasets) -> list[DatasetInfo]:
    return list(map(DatasetInfo.load, folders_of(directory)))


def has_mixed_indices(directory: Datasets) -> bool:
    """Returns True if one class has different indices in several datasets."""
    folders = folders_of(directory)
    return len(folders) > 1 and any(unite(_load_each(directory), folders).remaps)


def check_separate(directory: Datasets) -> str | None:
    """Checks that several datasets share no source, and no group in different splits.

    Returns:
        A note if that is unknown, since one of them has no table of sources.

    Raises:
        DatasetInfoError: names what they share.
    """
    folders = folders_of(directory)
    infos = _load_each(directory) if len(folders) > 1 else []
    for folder, info in zip(folders, infos, strict=False):
        if SOURCES_COUNT not in info.counts:
            return (
                f"note: sources and groups of the datasets were not compared, as {folder} has no "
                f"{SOURCES_FILE}. `pipelines merge` compares those of records"
            )
    check_distinct([*map(read_sources, folders, infos)], folders)
    return None


def has_split(info: DatasetInfo, split: str) -> bool:
    """Returns True if the dataset has records in ``split``."""
    return split in info.splits and info.splits[split].num_records > 0


def default_split(info: DatasetInfo) -> str:
    """Returns the split to evaluate on: ``test``, else ``validation``, else ``train``."""
    return next((split for split in ("test", "validation") if has_split(info, split)), "train")


def split_contents(info: DatasetInfo, directory: Datasets, split: str) -> SplitInfo:
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


def shard_paths(directory: Datasets, info: DatasetInfo, split: str) -> list[str]:
    """Returns the files of a split in order, after checking that each exists and has the recorded size."""
    split_contents(info, directory, split)
    if isinstance(directory, Selection) and split in directory.parts:
        return [path for path, _ in directory.parts[split]]
    folders, paths = folders_of(directory), []
    infos = [info] if len(folders) == 1 else _load_each(directory)
    for folder, own in zip(folders, infos, strict=True):
        paths += own_paths(folder, own, split, DatasetError)
    return paths


def check_trainable(
    directory: Datasets, info: DatasetInfo, *, allow_empty_classes: bool = False
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
    columns = dict(zip(label.target_names, train.targets, strict=True)) | {
        name: value for name, values in train.signals.items() for value in values
    }
    for name, value in columns.items():
        if max(abs(value.min), abs(value.max)) > _MAX_VALUE:
            raise DatasetError(
                f"{name!r} in {directory} reaches {max(value.min, value.max, key=abs):g}, and must be below "
                f"{_MAX_VALUE:g}, since its square would not be a float32: give it in another unit, or "
                "repair the records that `pipelines validate` names"
            )
    if not allow_empty_classes and (empty := empty_classes(info, "train")):
        raise DatasetError(
            f"the train split of {directory} has no record of {len(empty)} of {label.num_classes} classes: "
            f"{explain_losses(info, empty)}. No model can learn these: build the "
            "dataset again, or give --allow_empty_classes to train without them"
        )


def describe_dataset(directory: Datasets, info: DatasetInfo) -> list[str]:
    """Returns lines about the records of a dataset, its task, its splits and their classes or targets."""
    spec = info.spec
    shape = "signals only" if spec.image is None else "x".join(map(str, spec.image_shape))
    signals = f", signals {', '.join(s.name for s in spec.signals)}" if spec.signals else ""
    records = ", ".join(f"{name} {split.num_records}" for name, split in info.splits.items())
    return [
        f"dataset: {directory} ({shorten(printable(info.name))}), {shape}{printable(signals):.1000}",
        f"task: {describe_label(spec.label)}",
        f"records: {printable(records):.1000}",
        *label_table(info),
        *(f"warning: {text}" for text in [*class_warnings(info), *value_warnings(info)]),
    ]


def check_compatible(
    run: str | os.PathLike[str], trained_on: DatasetInfo, info: DatasetInfo
) -> None:
    """Checks that the model of ``run``, trained on ``trained_on``, takes the records of ``info``."""
    differences = differences_beyond_classes(trained_on.spec, info.spec, _SIDES)
    ours, theirs = trained_on.spec.label.class_names, info.spec.label.class_names
    if ours != theirs:
        differences.append(f"label.class_names: {_differing_classes(ours, theirs)}")
    if differences:
        raise DatasetError(
            f"the model in {run} was trained on other records than {info.name!r:.300} holds: "
            f"{'; '.join(differences):.3000}. Build the dataset with the options of the one it was trained "
            "on, or train another model"
        )


def _differing_classes(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Describes the class names that differ; the others may be many."""
    if set(ours) == set(theirs):
        place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        return (
            f"the same in another order, class {place} is {shorten(ours[place])!r} {_SIDES[0]}, "
            f"{shorten(theirs[place])!r} {_SIDES[1]}"
        )
    only = [[n for n in names if n not in s] for names, s in ((ours, {*theirs}), (theirs, {*ours}))]
    pairs = zip(_SIDES, only, strict=True)
    return ", ".join(
        f"{name_some(map(shorten, names))} only {where}" for where, names in pairs if names
    )
