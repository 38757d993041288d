"""Memory of batches and frames, used again and again: the system clears what it gives, which takes long."""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

# Batches whose memory is kept for others.
SPARE_BATCHES = 2
# Bytes, at multiples of which TensorFlow's tensors begin.
_ALIGNMENT = 64


class BatchMemory:
    """Memory of batches that are gone, for later ones: the system would clear what it gives."""

    def __init__(self) -> None:
        self._spare: deque[Bytes] = deque(maxlen=SPARE_BATCHES)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array with any contents. TensorFlow takes it as it is: it copies those that begin elsewhere."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        try:  # another thread may take what was there a moment ago
            memory = self._spare.pop()
        except IndexError:
            memory = np.empty(size + _ALIGNMENT, np.uint8)
        if memory.size < size + _ALIGNMENT:
            memory = np.empty(size + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        # Parts of the batch refer to ``whole``, and not to ``memory``, since a view lies between the two.
        whole = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(whole, self._spare.append, memory).atexit = False
        return whole[start : start + size].view(dtype).reshape(shape)


class FrameMemory(threading.local):
    """Memory of each thread that is used again and again."""

    def __init__(self) -> None:
        self._blocks: dict[int, Bytes] = {}

    def take(self, number: int, shape: tuple[int, ...]) -> Bytes:
        """The block of this number, in this shape."""
        size = math.prod(shape)
        if number not in self._blocks or self._blocks[number].size < size:
            self._blocks[number] = np.empty(size, np.uint8)
        return self._blocks[number][:size].reshape(shape)
