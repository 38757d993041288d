"""Chooses the pictures of a record that are compared, and keeps their hashes in 26 bytes each."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from pipelines.validation.pictures.thumbnails import Pictures

MAX_FRAMES = 1 << 20
"""Pictures of a dataset that are compared; in larger datasets, each record has fewer of them."""
_MIN_SPREAD = 8
"""Twice the standard deviation, in levels, of a thumbnail; flatter pictures look like many others."""
_ODD_FACTOR = 0x9E3779B97F4A7C15
PICTURE_ROW = np.dtype([("hash", "u8"), ("tones", "u1", 8), ("offset", "u8"), ("frame", "u2")])
"""Hash and tones of a picture (see `Pictures`), the offset of its record and its index there."""


def hash_text(text: bytes, seed: int = 0) -> int:
    """Returns a 64-bit hash; the chance of two equal ones among 100 million texts is 1 in 3,700."""
    digest = hashlib.blake2b(text, digest_size=8, salt=seed.to_bytes(8, "little", signed=True))
    return int.from_bytes(digest.digest(), "little")


def choose_pictures(pictures: Pictures, offset: int, count: int) -> NDArray[np.void]:
    """Returns rows of `PICTURE_ROW` for at most ``count`` pictures of the record at ``offset``.

    Their hashes decide which, so that two records with the same pictures give the same ones.
    """
    hashes, tones = pictures.hashes, pictures.tones
    spreads = tones[:, 4].tolist()
    firsts: dict[int, int] = {}
    for index, value in enumerate(hashes.tolist()):
        if spreads[index] >= _MIN_SPREAD:
            firsts.setdefault(value, index)
    chosen = list(firsts.values())
    if len(chosen) > count:
        # Multiplication mixes the bits, so that not only neighbours are chosen.
        chosen.sort(key=lambda index: int(hashes[index]) * _ODD_FACTOR % (1 << 64))
        chosen = chosen[:count]
    rows = np.empty(len(chosen), PICTURE_ROW)
    rows["hash"], rows["tones"] = hashes[chosen], tones[chosen]
    rows["offset"], rows["frame"] = offset, chosen
    return rows


def frames_to_compare(rank: int, records: int, num_frames: int) -> int:
    """Returns the number of pictures to compare of a record, so that a dataset has at most `MAX_FRAMES`.

    Of more than `MAX_FRAMES` records, those with a high ``rank``, a hash of 64 bits, have none.
    """
    if records > MAX_FRAMES and rank * records >= MAX_FRAMES << 64:
        return 0
    return max(1, min(num_frames, MAX_FRAMES // max(records, 1)))
