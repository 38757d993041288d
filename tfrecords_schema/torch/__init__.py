"""Datasets for PyTorch's ``DataLoader``; the only module that imports torch (``reelbeam[torch]``)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import distributed
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from tfrecords_schema.paths import StrPath
from tfrecords_schema.reading.dataset import open_dataset


@dataclass(eq=False)
class SequenceDataset(Dataset):
    """A split for random access, with any sampler; elements are those of `tfrecords_schema.open_dataset`.

    ``DataLoader(SequenceDataset("dataset"), 8)`` gives frames ``[8, T, height, width, channels]`` uint8.

    Attributes:
        directory: folder of a dataset, local or on an object store.
        split: such as ``train``.
        transform: called with each sequence, a dict of NumPy arrays; its result is batched.
    """

    directory: StrPath
    split: str = "train"
    _: KW_ONLY
    transform: Callable[[dict[str, Any]], Any] | None = None

    def __post_init__(self) -> None:
        self.sequences = open_dataset(self.directory)[self.split]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> Any:
        return (self.transform or dict)(self.sequences[index])


@dataclass(eq=False)
class IterableSequenceDataset(SequenceDataset, IterableDataset):
    """A split as a stream, which reads shards one after another.

    Each rank gets the same number of sequences; if they do not divide evenly, some come twice. The workers of
    a loader share those of their rank, and each makes batches of its own. Call ``set_epoch`` before each.

    Attributes:
        shuffle: read shards in another order each epoch, and mix ``buffer`` sequences (their places).
        seed: decides the order, with the epoch.
        rank, num_replicas: of the process; by default those of ``torch.distributed``.
        skip_damaged: log and leave out corrupt records, so that ranks may differ in length.
    """

    _: KW_ONLY
    shuffle: bool = False
    buffer: int = 10_000
    seed: int = 0
    rank: int | None = None
    num_replicas: int | None = None
    skip_damaged: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        joined = distributed.is_available() and distributed.is_initialized()
        if self.num_replicas is None:
            self.num_replicas = distributed.get_world_size() if joined else 1
        if self.rank is None:
            self.rank = distributed.get_rank() if joined else 0
        if not 0 <= self.rank < self.num_replicas or self.buffer < 1:
            raise ValueError(
                f"expected a rank below num_replicas and a buffer of at least 1, got {self}"
            )
        # Shared with workers that stay from epoch to epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the next epoch, which decides its order."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return -(-len(self.sequences) // (self.num_replicas or 1))

    def __iter__(self) -> Iterator[Any]:
        bounds, worker = self.sequences.offsets.bounds, get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        shards = list(itertools.starmap(range, itertools.pairwise(bounds)))
        generator = random.Random(f"{self.seed} {int(self._epoch)}")
        if self.shuffle:
            generator.shuffle(shards)
        first = len(self) * (self.rank or 0)
        span = (first + len(self) * i // count for i in (number, number + 1))
        indices: Iterator[int] = itertools.islice(
            itertools.chain.from_iterable(itertools.cycle(shards)), *span
        )
        if self.shuffle:
            indices = _mix(indices, self.buffer, generator)
        if self.skip_damaged:
            return map(self.transform or dict, self.sequences.intact(indices))
        return map(self.__getitem__, indices)


def _mix(indices: Iterator[int], size: int, generator: random.Random) -> Iterator[int]:
    """Yields each index once, drawn at random from the next ``size``, as ``tf.data``'s shuffle does."""
    waiting = list(itertools.islice(indices, size))
    for index in indices:
        place = generator.randrange(len(waiting))
        yield waiting[place]
        waiting[place] = index
    generator.shuffle(waiting)
    yield from waiting
