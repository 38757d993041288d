"""Deals the groups of a dataset to folds, and describes the records of a fold as splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_schema.info import DatasetInfo, ShardInfo, SplitInfo, statistics_of
from tfrecords_schema.moments import moments_by_column
from trainer.config.dataset import (
    Datasets,
    Selection,
    folders_of,
    has_split,
    load_dataset,
    shard_paths,
)
from trainer.data.buffers import without_autotune
from trainer.data.elements import ElementBuilder
from trainer.data.read_options import Outputs
from trainer.data.shuffling import do_not_convert
from trainer.data.stored_records import StoredRecords
from trainer.errors import ConfigError

Array = npt.NDArray[Any]
_POOLED = ("train", "validation")


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The N records of the splits train and validation, in stored order.

    Attributes:
        directory, info: the dataset.
        labels, weights: see `trainer.data.reader.read_sequences`.
        groups, sources: ``[N]`` int32, numbers of their names in order of appearance.
    """

    directory: Datasets
    info: DatasetInfo
    labels: Array
    weights: Array
    groups: Array
    sources: Array

    def select(self, splits: Mapping[str, Array]) -> Selection:
        """Returns the dataset with these splits, given as ``[N]`` bool, and its own split test otherwise.

        Labels are counted anew. Statistics of pixels and signals, which only scale inputs, stay those of the
        split train.
        """
        selection, info = Selection(folders_of(self.directory)), self.info
        paths: list[str] = []
        shards: list[ShardInfo] = []
        for split in filter(info.splits.get, _POOLED):
            if has_split(info, split):
                paths += shard_paths(self.directory, info, split)
                shards += info.splits[split].shards
        ends = np.cumsum([shard.records for shard in shards])[:-1]
        masks = {split: np.split(mask, ends) for split, mask in splits.items()}
        described = {
            split: self._describe(mask, list(zip(shards, masks[split], strict=True)))
            for split, mask in splits.items()
        }
        kept = {"test": info.splits["test"]} if has_split(info, "test") else {}
        selection.info = replace(info, splits={**kept, **described})
        selection.parts = {
            split: list(zip(paths, own, strict=True)) for split, own in masks.items()
        }
        return selection

    def _describe(self, mask: Array, shards: list[tuple[ShardInfo, Array]]) -> SplitInfo:
        label, valid = self.info.spec.label, self.weights[mask] > 0
        labels = self.labels[mask][valid]
        counts: tuple[int, ...] = ()
        if label.task == "multilabel":
            counts = tuple(labels.sum(axis=0).astype(int).tolist())
        elif label.task == "classification":
            counts = tuple(np.bincount(labels, minlength=label.num_classes).tolist())
        values = labels.tolist() if label.task == "regression" else []
        return replace(
            self.info.splits["train"],
            # Their sums tell cached frames of folds apart.
            shards=tuple(
                replace(
                    shard,
                    records=int(own.sum()),
                    sha256=hashlib.sha256(shard.sha256.encode() + own.tobytes()).hexdigest(),
                )
                for shard, own in shards
            ),
            label_counts=counts,
            class_sources=(),
            targets=statistics_of(moments_by_column(values)),
            groups=len(np.unique(self.groups[mask])),
            sources=len(np.unique(self.sources[mask])),
        )


def read_pool(directory: Datasets) -> Pool:
    """Reads the labels and the groups of the splits train and validation, without frames."""
    info = load_dataset(directory)
    outputs = Outputs(sample_weights=True, metadata=True)
    elements = ElementBuilder(info=info, outputs=outputs)
    groups: dict[bytes, int] = {}
    sources: dict[bytes, int] = {}
    parts = []
    for features, labels, weights in _batches(directory, info, elements):
        numbers = [
            np.array([known.setdefault(name, len(known)) for name in features[key]], np.int32)
            for known, key in ((groups, "group"), (sources, "source"))
        ]
        parts.append((labels, weights, *numbers))
    names = ("labels", "weights", "groups", "sources")
    joined = map(np.concatenate, zip(*parts, strict=True))
    return Pool(directory=directory, info=info, **dict(zip(names, joined, strict=True)))


def _batches(directory: Datasets, info: DatasetInfo, elements: ElementBuilder) -> Iterator[Any]:
    for split in _POOLED:
        if has_split(info, split):
            stored = StoredRecords(directory, info, split)

            def build(record: Any, stored: StoredRecords = stored) -> Any:
                return elements.build(stored.parse(record, frames=False), None, 0)

            built = stored.in_order().map(do_not_convert(build))
            yield from without_autotune(built).batch(1024).as_numpy_iterator()


def deal_folds(pool: Pool, folds: int, seed: int) -> Array:
    """Returns the fold of each record, ``[N]``: groups stay whole, and folds alike in classes and size.

    Groups are dealt from the largest on, each to the fold with the fewest labels of its classes.

    Raises:
        ConfigError: if there are fewer groups than folds.
    """
    label, groups = pool.info.spec.label, int(pool.groups.max()) + 1
    if groups < folds:
        raise ConfigError(
            f"--folds must be at most the number of groups in train and validation, which is {groups}; "
            f"got {folds}"
        )
    counts = np.bincount(pool.groups, minlength=groups)[:, None]
    if label.task != "regression":
        valid = pool.weights > 0
        by_label = np.repeat(pool.groups, valid.reshape(len(valid), -1).sum(axis=1))
        counts = np.zeros((groups, label.num_classes), np.int64)
        if label.task == "multilabel":
            np.add.at(counts, by_label, pool.labels[valid].astype(np.int64))
        else:
            np.add.at(counts, (by_label, pool.labels[valid]), 1)
    sizes, held, fold_of = np.bincount(pool.groups), np.zeros((folds, counts.shape[1])), {}
    filled = np.zeros(folds, np.int64)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(groups)
    for place, group in enumerate(order[np.argsort(-sizes[order], kind="stable")]):
        # The first groups go to one fold each, so that none is empty.
        own = (held @ shares[group], filled) if place >= folds else (filled, filled)
        fold = int(np.lexsort(own[::-1])[0])
        held[fold] += shares[group]
        filled[fold] += sizes[group]
        fold_of[group] = fold
    return np.array([fold_of[group] for group in range(groups)])[pool.groups]
