"""Compares consecutive pictures: single foreign ones, and swapped red and blue."""

from __future__ import annotations

import numpy as np

from pipelines.validation.pictures.thumbnails import Pictures

ALIKE = 3.0
"""Alike pictures differ at least this many times less than a foreign one does."""
CODING_NOISE = 2.0
"""Levels by which thumbnails of one picture may differ after it was coded again."""


def find_foreign(pictures: Pictures, limit: float) -> list[int]:
    """Returns the indices of pictures that are unlike both their neighbours, which are alike.

    Args:
        pictures: consecutive ones.
        limit: levels from which on two pictures are unlike.
    """
    if len(pictures) < 3:
        return []
    steps = pictures.differences(1)
    smaller = np.minimum(steps[:-1], steps[1:])
    if not (smaller > limit).any():
        return []
    around = pictures.differences(2)
    return (np.flatnonzero((smaller > limit) & (around * ALIKE < smaller)) + 1).tolist()


def find_swapped_colours(pictures: Pictures) -> list[int]:
    """Returns the indices of pictures that are like the one before only with red and blue swapped."""
    if len(pictures) < 2 or pictures.thumbnails.shape[-1] != 3:
        return []
    same, colours = pictures.colour_differences(), pictures.colours
    # Differences of means are never larger than means of differences, and quick to compute.
    bound = np.abs(colours[1:] - colours[:-1, ::-1]).mean(1)
    if not (bound * ALIKE + CODING_NOISE < same).any():
        return []
    swapped = pictures.swapped_differences()
    return (np.flatnonzero(swapped * ALIKE + CODING_NOISE < same) + 1).tolist()
