"""Threads that decode and transform frames, shared by all readers of the process."""

from __future__ import annotations

import atexit
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tfrecords_schema.machine import usable_cpus

# Seconds without a call after which no more calls are expected.
_QUIET_SECONDS = 0.2


class FrameThreads:
    """One thread per usable CPU, started at the first call.

    TensorFlow's threads call `run`. Python must not exit during a call: the thread would never return, and
    TensorFlow would wait for it forever. So `stop`, which runs at exit, lets calls finish.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(usable_cpus(), thread_name_prefix="frames")
        self._active_calls = 0
        self._last_call = -math.inf
        self._stopping = False

    def run(self, work: Callable[[int], None], count: int) -> None:
        """Calls ``work(i)`` for each ``i`` below ``count``, in parallel; does nothing while Python exits."""
        with self._lock:
            self._active_calls += 1
        try:
            if not self._stopping:
                list(self._pool.map(work, range(count)))
        except RuntimeError as error:
            if "shutdown" not in str(error):
                raise
        finally:
            with self._lock:
                self._active_calls -= 1
                self._last_call = time.monotonic()

    def stop(self) -> None:
        """Waits for active calls to finish; later calls do nothing."""
        self._stopping = True
        while self._active_calls or time.monotonic() < self._last_call + _QUIET_SECONDS:
            time.sleep(0.01)


frame_threads = FrameThreads()
atexit.register(frame_threads.stop)
