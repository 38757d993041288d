"""`FrameHashes`: hashes of a shard's pictures, in 26 bytes each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_FRAMES = 1 << 20
"""Pictures of a dataset that are compared; in larger datasets, each record has fewer of them."""
_MIN_SPREAD = 8
"""Twice the standard deviation, in levels, of a thumbnail; flatter pictures look like many others."""
_ODD_FACTOR = 0x9E3779B97F4A7C15
_ROW = np.dtype([("hash", "u8"), ("tones", "u1", 8), ("offset", "u8"), ("frame", "u2")])


def hash_text(text: bytes, seed: int = 0) -> int:
    """Returns a 64-bit hash of the text and the seed.

    Among 100 million texts, the chance of any two equal hashes is 1 in 3,700.
    """
    digest = hashlib.blake2b(text, digest_size=8, salt=seed.to_bytes(8, "little", signed=True))
    return int.from_bytes(digest.digest(), "little")


@dataclass
class FrameHashes:
    """Hashes and tones of pictures (see `Pictures`) and the place of each, as rows of `_ROW`."""

    data: bytearray = field(default_factory=bytearray)

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
        rows = np.empty(len(chosen), _ROW)
        rows["hash"], rows["tones"] = hashes[chosen], tones[chosen]
        rows["offset"], rows["frame"] = offset, chosen
        self.data += rows.tobytes()

    @property
    def rows(self) -> NDArray[np.void]:
        """The pictures in the order of addition: ``hash``, ``tones``, ``offset`` of the record, ``frame``."""
        return np.frombuffer(self.data, _ROW)


def frames_per_record(records: int, num_frames: int) -> int:
    """Returns the number of pictures per record with which a dataset has at most `MAX_FRAMES`.

    It is at least one: of more than `MAX_FRAMES` records, some have none (see `takes_part`).
    """
    return max(1, min(num_frames, MAX_FRAMES // max(records, 1)))


def takes_part(rank: int, records: int) -> bool:
    """Returns True if pictures of a record are compared: of all records, or of `MAX_FRAMES` of them."""
    return rank * records < MAX_FRAMES << 64 if records > MAX_FRAMES else True
