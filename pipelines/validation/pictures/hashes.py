"""`FrameHashes`: what a shard's pictures look like, in 26 bytes each."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MOST_FRAMES = 1 << 20
"""Pictures of a dataset that are compared; where there are more, each record gives as many less."""
_LEAST_SPREAD = 8
"""Twice the standard deviation, in levels, of a thumbnail; what has less looks like many others."""


def hash_text(text: bytes, seed: int = 0) -> int:
    """64 bits that depend on the seed and the text.

    Among 100 million texts, the chance that any two have the same is 1 in 3,700.
    """
    digest = hashlib.blake2b(text, digest_size=8, salt=seed.to_bytes(8, "little", signed=True))
    return int.from_bytes(digest.digest(), "little")


def _numbers(kind: str) -> array[int]:
    return array(kind)


@dataclass
class FrameHashes:
    """Hashes and tones of pictures (`Pictures.hashes`, `Pictures.tones`), and where each one lies."""

    hashes_: array[int] = field(default_factory=lambda: _numbers("Q"))
    tones_: array[int] = field(default_factory=lambda: _numbers("Q"))
    offsets_: array[int] = field(default_factory=lambda: _numbers("Q"))
    frames_: array[int] = field(default_factory=lambda: _numbers("H"))

    def add(
        self, hashes: NDArray[np.uint64], tones: NDArray[np.uint8], offset: int, most: int
    ) -> None:
        """Takes the pictures of a record.

        Args:
            hashes: of its frames without padding.
            tones: of the same.
            offset: of the record.
            most: pictures that are taken of it: those that the hash itself decides on, so that two records
                of the same pictures give the same ones.
        """
        firsts: dict[int, int] = {}
        for place, (value, spread) in enumerate(
            zip(hashes.tolist(), tones[:, 4].tolist(), strict=True)
        ):
            if spread >= _LEAST_SPREAD:
                firsts.setdefault(value, place)
        places = list(firsts.values())
        if len(places) > most:
            # Multiplied by an odd number, the bits are mixed, and neighbours are not chosen together.
            places.sort(key=lambda place: int(hashes[place]) * 0x9E3779B97F4A7C15 % (1 << 64))
            places = places[:most]
        if not places:
            return
        chosen = np.array(places)
        self.hashes_.frombytes(hashes[chosen].tobytes())
        self.tones_.frombytes(tones[chosen].tobytes())
        self.offsets_.extend([offset] * len(chosen))
        self.frames_.frombytes(chosen.astype(np.uint16).tobytes())

    def __len__(self) -> int:
        return len(self.hashes_)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """In the order they were added."""
        return np.frombuffer(self.hashes_, np.uint64)

    @property
    def tones(self) -> NDArray[np.uint8]:
        """``[pictures, 8]``."""
        return np.frombuffer(self.tones_, np.uint8).reshape(-1, 8)

    @property
    def offsets(self) -> NDArray[np.uint64]:
        """Of the records they are of."""
        return np.frombuffer(self.offsets_, np.uint64)

    @property
    def frames(self) -> NDArray[np.uint16]:
        """Their place in the record."""
        return np.frombuffer(self.frames_, np.uint16)


def frames_per_record(records: int, num_frames: int) -> int:
    """How many pictures each record of a dataset gives, so that all together are `MOST_FRAMES` at most.

    Each gives one at least: beyond a million records, some give none (see `takes_part`).
    """
    return max(1, min(num_frames, MOST_FRAMES // max(records, 1)))


def takes_part(rank: int, records: int) -> bool:
    """Whether a record of a dataset of so many gives a picture: all do, up to `MOST_FRAMES` of them."""
    return rank * records < MOST_FRAMES << 64 if records > MOST_FRAMES else True
