"""Chooses the dataset on which two runs are compared, and refuses runs whose test sets differ."""

from __future__ import annotations

from collections.abc import Sequence

from tfrecords_schema.info import DatasetInfo
from trainer.config.dataset import (
    Datasets,
    check_compatible,
    default_split,
    folders_of,
    load_dataset,
    shard_paths,
)
from trainer.config.run_folder import open_run, saved_values
from trainer.errors import TrainerError


def choose_dataset(runs: Sequence[str], directory: Datasets | None, split: str | None) -> Datasets:
    """Returns the dataset to compare two runs on: ``directory``, or the one that both were trained on.

    Raises:
        TrainerError: if a run does not take its records; or, without ``directory``, if the split of both is
            not the same.
    """
    folders = [open_run(run) for run in runs]
    if directory is None:
        directory = folders_of(saved_values(runs[0])["tfrecords"])
        info = load_dataset(directory)
        split = split or default_split(info)
        named = [f"the dataset of {run}" for run in runs]
        _check_same(split, folders[0][1], folders[1][1], named)
        _check_same(split, folders[0][1], info, [named[0], f"that in {directory} today"])
    info = load_dataset(directory)
    for run, (_, trained_on) in zip(runs, folders, strict=True):
        check_compatible(run, trained_on, info)
    shard_paths(directory, info, split or default_split(info))
    return directory


def _check_same(split: str, first: DatasetInfo, second: DatasetInfo, named: Sequence[str]) -> None:
    """Refuses two datasets whose records of ``split`` differ, and says how."""
    ours, theirs = first.splits.get(split), second.splits.get(split)
    if ours is not None and theirs is not None and ours.shards == theirs.shards:
        return
    found = []
    for info in (first, second):
        own = info.splits.get(split)
        found.append(
            f"no split {split!r}"
            if own is None
            else f"{own.num_records:,} sequences of {own.sources:,} sources in {len(own.shards)} shards"
        )
    how = " and ".join(f"{name} has {what}" for name, what in zip(named, found, strict=True))
    same = ", with other contents" if found[0] == found[1] else ""
    raise TrainerError(
        f"the runs cannot be compared on {split}, which differs: {how}{same}. Give --tfrecords, a dataset "
        "on which both are scored and neither was trained"
    )
