"""Finds similar pictures of two splits, among a million in bounded time and memory.

Two hashes that differ in few bits agree in one of their bands, if there is one more band than bits. So the
pictures are sorted by each band in turn, and each is compared with those after it that share the band.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_MAX_NEIGHBOURS = 48
"""Pictures after each one in the order of a band that it is compared with."""
_MAX_PAIRS = 100_000
_MAX_SHAPE_DIFFERENCE = 0.4
"""Difference of the brightness of quarters, in standard deviations of the picture."""


def find_similar(
    hashes: NDArray[np.uint64],
    tones: NDArray[np.uint8],
    splits: NDArray[np.uint8],
    *,
    bits: int,
) -> NDArray[np.int64]:
    """Returns pairs of pictures of different splits that may show the same.

    Args:
        hashes: ``[pictures]``.
        tones: ``[pictures, 8]``.
        splits: ``[pictures]``, the number of each picture's split.
        bits: maximum number of bits in which the hashes of a pair differ.

    Returns:
        ``[pairs, 2]`` indices, most similar hashes first.
    """
    # The brightness of quarters, whatever the brightness and contrast of all.
    quarters = tones[:, :4] - tones[:, :4].mean(1, keepdims=True, dtype=np.float32)
    shapes = quarters / np.maximum(tones[:, 4:5] / 2, 1).astype(np.float32)
    found = [np.zeros((0, 2), np.int64)]
    for turned, mask in _bands(hashes, bits):
        order = np.argsort(turned, kind="stable")
        bands = turned[order] & mask
        for step in range(1, min(_MAX_NEIGHBOURS, len(order) - 1) + 1):
            near = np.flatnonzero(bands[step:] == bands[:-step])
            if not len(near):
                break
            pairs = np.column_stack([order[near], order[near + step]])
            pairs = pairs[splits[pairs[:, 0]] != splits[pairs[:, 1]]]
            pairs = pairs[_hash_differences(hashes, pairs) <= bits]
            differences = np.abs(shapes[pairs[:, 0]] - shapes[pairs[:, 1]]).max(1, initial=0)
            found.append(np.sort(pairs[differences <= _MAX_SHAPE_DIFFERENCE], axis=1))
        if sum(map(len, found)) > _MAX_PAIRS:
            break
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[np.argsort(_hash_differences(hashes, pairs), kind="stable")]


def _hash_differences(hashes: NDArray[np.uint64], pairs: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])


def _bands(hashes: NDArray[np.uint64], bits: int) -> Iterator[tuple[NDArray[np.uint64], np.uint64]]:
    """Yields, for each of ``bits + 1`` bands, the hashes rotated with the band in front, and its mask."""
    edges = [64 * band // (bits + 1) for band in range(bits + 2)]
    for start, end in itertools.pairwise(edges):
        width = end - start
        # NumPy's shift by 64 gives 0.
        turned = (hashes << np.uint64(start)) | (hashes >> np.uint64(64 - start))
        yield turned, np.uint64(((1 << width) - 1) << (64 - width))
