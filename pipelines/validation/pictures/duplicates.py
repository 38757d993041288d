"""Pictures of two splits that look alike, found among a million in bounded time and memory.

Two hashes that differ in few bits agree in one of their bands, if there is one band more than bits. So for
each band the pictures are sorted by it, and each is compared with those that follow it and share the band.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_NEIGHBOURS = 48
"""Pictures that follow one in the order of a band and are compared with it."""
_MOST_PAIRS = 100_000
_SHAPE = 0.4
"""Standard deviations of a picture by which the brightness of its quarters may differ from the other's."""
_BYTES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def find_alike(
    hashes: NDArray[np.uint64],
    tones: NDArray[np.uint8],
    splits: NDArray[np.uint8],
    *,
    bits: int,
) -> NDArray[np.int64]:
    """Pairs of pictures of different splits that may show the same.

    Args:
        hashes: ``[pictures]``, of 64 bits.
        tones: ``[pictures, 8]``.
        splits: ``[pictures]``, the number of the split of each.
        bits: in which the hashes of a pair may differ.

    Returns:
        ``[pairs, 2]`` places, those with the most equal hashes first.
    """
    found: list[NDArray[np.int64]] = []
    shapes = _shapes(tones)
    count = 0
    for turned, mask in _bands(hashes, bits):
        order = np.argsort(turned, kind="stable")
        bands = turned[order] & mask
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            together = bands[step:] == bands[:-step]
            if not together.any():
                break
            near = np.flatnonzero(together)
            one, other = order[near], order[near + step]
            keep = splits[one] != splits[other]
            one, other = one[keep], other[keep]
            keep = count_bits(hashes[one] ^ hashes[other]) <= bits
            one, other = one[keep], other[keep]
            keep = np.abs(shapes[one] - shapes[other]).max(1, initial=0) <= _SHAPE
            pairs = np.column_stack([np.minimum(one, other), np.maximum(one, other)])[keep]
            found.append(pairs.astype(np.int64))
            count += len(pairs)
        if count > _MOST_PAIRS:
            break
    if not found:
        return np.zeros((0, 2), np.int64)
    pairs = np.unique(np.concatenate(found), axis=0)
    distance = count_bits(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
    return pairs[np.argsort(distance, kind="stable")]


def _shapes(tones: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How bright quarters are beside each other, ``[pictures, 4]``, whatever brightness and contrast."""
    quarters = tones[:, :4].astype(np.float32)
    spread = np.maximum(tones[:, 4:5] / 2, 1).astype(np.float32)
    return (quarters - quarters.mean(1, keepdims=True)) / spread


def count_bits(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Bits that are set in each."""
    return _BYTES[values.reshape(-1, 1).view(np.uint8)].sum(1, dtype=np.uint8)


def _bands(hashes: NDArray[np.uint64], bits: int) -> Iterator[tuple[NDArray[np.uint64], np.uint64]]:
    """The hashes turned until a band is in front, and the mask of the band; one band more than ``bits``."""
    edges = [64 * band // (bits + 1) for band in range(bits + 2)]
    for start, end in itertools.pairwise(edges):
        width = end - start
        turned = hashes
        if start:
            turned = (hashes << np.uint64(start)) | (hashes >> np.uint64(64 - start))
        yield turned, np.uint64(((1 << width) - 1) << (64 - width))
