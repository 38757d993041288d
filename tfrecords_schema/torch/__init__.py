"""Datasets for PyTorch's ``DataLoader``; the only module that imports torch (``reelbeam[torch]``).

Sequences are those of `tfrecords_schema.open_dataset`. The loader makes tensors of their arrays.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import distributed
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from tfrecords_schema.info import DatasetInfo, DatasetInfoError
from tfrecords_schema.paths import StrPath
from tfrecords_schema.reading.dataset import SequenceSplit

Transform = Callable[[dict[str, Any]], Any]


def _open_split(directory: StrPath, split: str) -> SequenceSplit:
    info = DatasetInfo.load(directory)
    if split not in info.splits:
        raise DatasetInfoError(
            f"{directory}: expected one of the splits {', '.join(info.splits)}, got {split!r}"
        )
    return SequenceSplit(directory, info, split)


class SequenceDataset(Dataset):
    """A split for random access: for ``shuffle=True``, ``DistributedSampler`` and other samplers.

    Example: batches of 8, with frames ``[8, T, height, width, channels]`` uint8 and labels ``[8]`` int64::

        loader = DataLoader(SequenceDataset("dataset", "train"), 8, shuffle=True, num_workers=4)

    Args:
        directory: folder of a dataset, local or on an object store.
        split: such as ``train``.
        transform: called with each sequence, a dict of NumPy arrays; its result is batched.

    Raises:
        DatasetInfoError: if the folder is no complete dataset, or has no such split.
    """

    def __init__(
        self, directory: StrPath, split: str = "train", *, transform: Transform | None = None
    ):
        self.sequences, self.transform = _open_split(directory, split), transform

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> Any:
        sequence = self.sequences[index]
        return sequence if self.transform is None else self.transform(sequence)


class IterableSequenceDataset(IterableDataset):
    """A split as a stream, which reads shards one after another.

    Each rank of a distributed training gets the same number of sequences; if they do not divide evenly, some
    come twice. The workers of a loader share those of their rank, and each makes batches of its own.

    Example: each epoch in another order::

        dataset = IterableSequenceDataset("dataset", "train", shuffle=True)
        loader = DataLoader(dataset, batch_size=8, num_workers=4, drop_last=True)
        for epoch in range(10):
            dataset.set_epoch(epoch)
            for batch in loader: ...

    Args:
        directory, split, transform: see `SequenceDataset`.
        shuffle: read the shards in another order each epoch, and mix their sequences.
        buffer: number of sequences that are mixed. It holds their places, not their frames.
        seed: with the epoch, decides the order.
        rank, num_replicas: of the process; by default those of ``torch.distributed``.
        skip_damaged: log and leave out records that cannot be read, so that ranks may differ in length.
            Without it they raise a CorruptRecordError.

    Raises:
        DatasetInfoError: as `SequenceDataset` does.
        ValueError: if the rank is not below ``num_replicas``, or the buffer is empty.
    """

    def __init__(
        self,
        directory: StrPath,
        split: str = "train",
        *,
        transform: Transform | None = None,
        shuffle: bool = False,
        buffer: int = 10_000,
        seed: int = 0,
        rank: int | None = None,
        num_replicas: int | None = None,
        skip_damaged: bool = False,
    ):
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = rank if rank is not None else distributed.get_rank() if joined else 0
        replicas = distributed.get_world_size() if joined else 1
        self.num_replicas = replicas if num_replicas is None else num_replicas
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(
                f"rank must be 0 to {self.num_replicas - 1} for {self.num_replicas} replicas, got {self.rank}"
            )
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1, got {buffer}")
        self.sequences, self.transform = _open_split(directory, split), transform
        self.shuffle, self.buffer, self.seed = shuffle, buffer, seed
        self.skip_damaged = skip_damaged
        # Shared with workers that stay from epoch to epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the next epoch, which decides its order."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Returns the number of sequences of this rank."""
        return -(-len(self.sequences) // self.num_replicas)

    def __iter__(self) -> Iterator[Any]:
        indices = self._indices()
        found = (
            self.sequences.intact(indices)
            if self.skip_damaged
            else map(self.sequences.__getitem__, indices)
        )
        return found if self.transform is None else map(self.transform, found)

    def _indices(self) -> Iterator[int]:
        """Yields the indices of the sequences of this rank and worker."""
        bounds, worker = self.sequences.offsets.bounds, get_worker_info()
        shards = list(itertools.starmap(range, itertools.pairwise(bounds)))
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        key = f"{self.seed} {int(self._epoch)}"
        if self.shuffle:
            random.Random(key).shuffle(shards)
        begin, end = (
            len(self) * self.rank + len(self) * own // count for own in (number, number + 1)
        )
        endless = itertools.chain.from_iterable(itertools.cycle(shards))
        indices = itertools.islice(endless, begin, end)
        if not self.shuffle:
            return indices
        return _mix(indices, self.buffer, random.Random(f"{key} {self.rank} {number}"))


def _mix(indices: Iterator[int], size: int, generator: random.Random) -> Iterator[int]:
    """Yields each index once, drawn at random from the next ``size``, as ``tf.data``'s shuffle does."""
    waiting = list(itertools.islice(indices, size))
    for index in indices:
        place = generator.randrange(len(waiting))
        yield waiting[place]
        waiting[place] = index
    generator.shuffle(waiting)
    yield from waiting
