"""Reuses the memory of batches, since the operating system takes long to clear new memory."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

# Freed batches whose memory is kept.
MAX_SPARE_BATCHES = 2
# TensorFlow's tensors begin at multiples of this many bytes; it copies arrays that do not.
_ALIGNMENT = 64


class BatchMemory:
    """Hands out arrays, and reuses the memory of those that have been freed."""

    def __init__(self) -> None:
        self._spare: deque[npt.NDArray[np.uint8]] = deque(maxlen=MAX_SPARE_BATCHES)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Returns an uninitialised array that TensorFlow can use without a copy."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        try:  # not by a check of the length: other threads take memory too
            memory = self._spare.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if memory.size < size + _ALIGNMENT:
            memory = np.empty(size + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        # Slices of the batch keep ``whole`` alive, not ``memory``: its end is the end of the batch.
        whole = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(whole, self._spare.append, memory).atexit = False
        return whole[start : start + size].view(dtype).reshape(shape)
