"""Ctrl-C and SIGTERM: a `KeyboardInterrupt` in the main thread, and an end that does not depend on it.

The exception alone may be lost, as Python ignores it in finalizers and in callbacks of C extensions; or held
up by a library that cleans up on its way.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

_GRACE_SECONDS = 1.0


def listen(end: Callable[[], NoReturn]) -> None:
    """From now on, an interrupted program has a moment to clean up; then ``end`` is called.

    Args:
        end: ends the process; called in the main thread, between any two of its instructions.
    """
    signal.signal(signal.SIGALRM, lambda _signal, _frame: end())
    # Of SIGINT as well: shells have scripts' background jobs ignore it, which is inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def take_time() -> None:
    """Asks for as long as it takes: something elsewhere would go on if it were not told to stop."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)
    raise KeyboardInterrupt
