"""`Places`: where names occur, in 16 bytes each."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def _numbers() -> array[int]:
    return array("Q")


@dataclass
class Places:
    """64-bit hashes of names, and beside each the byte offset of a record that has the name."""

    _hashes: array[int] = field(default_factory=_numbers)
    offsets: array[int] = field(default_factory=_numbers)

    def add(self, name_hash: int, offset: int) -> None:
        """Takes a name."""
        self._hashes.append(name_hash)
        self.offsets.append(offset)

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """In the order they were added."""
        return np.frombuffer(self._hashes, np.uint64)
