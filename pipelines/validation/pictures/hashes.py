"""`FrameHashes`: hashes of a shard's pictures, in 26 bytes each."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_FRAMES = 1 << 20
"""Pictures of a dataset that are compared; in larger datasets, each record has fewer of them."""
_MIN_SPREAD = 8
"""Twice the standard deviation, in levels, of a thumbnail; flatter pictures look like many others."""
_ODD_FACTOR = 0x9E3779B97F4A7C15


def hash_text(text: bytes, seed: int = 0) -> int:
    """Returns a 64-bit hash of the text and the seed.

    Among 100 million texts, the chance of any two equal hashes is 1 in 3,700.
    """
    digest = hashlib.blake2b(text, digest_size=8, salt=seed.to_bytes(8, "little", signed=True))
    return int.from_bytes(digest.digest(), "little")


def new_array(kind: str) -> array[int]:
    """Returns an empty array of integers; ``kind`` is a type code such as ``Q``."""
    return array(kind)


@dataclass
class FrameHashes:
    """Hashes and tones of pictures (see `Pictures`), with the place of each."""

    hashes_: array[int] = field(default_factory=lambda: new_array("Q"))
    tones_: array[int] = field(default_factory=lambda: new_array("Q"))
    offsets_: array[int] = field(default_factory=lambda: new_array("Q"))
    frames_: array[int] = field(default_factory=lambda: new_array("H"))

    def add(
        self, hashes: NDArray[np.uint64], tones: NDArray[np.uint8], offset: int, count: int
    ) -> None:
        """Adds some pictures of a record.

        Args:
            hashes: of its frames without padding.
            tones: of the same frames.
            offset: of the record.
            count: maximum number of pictures to add. Their hashes decide which, so that two records with the
                same pictures add the same ones.
        """
        firsts: dict[int, int] = {}
        for index, (value, spread) in enumerate(
            zip(hashes.tolist(), tones[:, 4].tolist(), strict=True)
        ):
            if spread >= _MIN_SPREAD:
                firsts.setdefault(value, index)
        chosen = list(firsts.values())
        if len(chosen) > count:
            # Multiplication mixes the bits, so that not only neighbours are chosen.
            chosen.sort(key=lambda index: int(hashes[index]) * _ODD_FACTOR % (1 << 64))
            chosen = chosen[:count]
        if chosen:
            self.hashes_.frombytes(hashes[chosen].tobytes())
            self.tones_.frombytes(tones[chosen].tobytes())
            self.offsets_.extend([offset] * len(chosen))
            self.frames_.extend(chosen)

    def __len__(self) -> int:
        return len(self.hashes_)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Hashes of the pictures, in the order of addition."""
        return np.frombuffer(self.hashes_, np.uint64)

    @property
    def tones(self) -> NDArray[np.uint8]:
        """Tones of the pictures, ``[pictures, 8]``."""
        return np.frombuffer(self.tones_, np.uint8).reshape(-1, 8)

    @property
    def offsets(self) -> NDArray[np.uint64]:
        """Offsets of the pictures' records."""
        return np.frombuffer(self.offsets_, np.uint64)

    @property
    def frames(self) -> NDArray[np.uint16]:
        """Indices of the pictures in their records."""
        return np.frombuffer(self.frames_, np.uint16)


def frames_per_record(records: int, num_frames: int) -> int:
    """Returns the number of pictures per record with which a dataset has at most `MAX_FRAMES`.

    It is at least one: of more than `MAX_FRAMES` records, some have none (see `takes_part`).
    """
    return max(1, min(num_frames, MAX_FRAMES // max(records, 1)))


def takes_part(rank: int, records: int) -> bool:
    """Returns True if pictures of a record are compared: of all records, or of `MAX_FRAMES` of them."""
    return rank * records < MAX_FRAMES << 64 if records > MAX_FRAMES else True
