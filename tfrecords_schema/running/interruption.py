"""Turns Ctrl-C and SIGTERM into a `KeyboardInterrupt`, and ends the process if that has no effect.

The exception alone may be lost, because Python ignores it in finalizers and in callbacks of C extensions. A
library may also turn it into an error of its own, or delay it by cleaning up.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

_GRACE_SECONDS = 1.0
_received = False


def install_handlers(end: Callable[[], NoReturn]) -> None:
    """Installs the signal handlers: an interrupted program has a second to clean up, then ``end`` is called.

    That happens in the main thread, between any two instructions.
    """

    def end_late(_signal: int, _frame: FrameType | None) -> None:
        try:
            end()
        except BaseException:
            # It may fail in the middle of what it interrupted, such as printing, and is then tried again.
            signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)
            raise

    signal.signal(signal.SIGALRM, end_late)
    # SIGINT too: background jobs of shell scripts inherit that it is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def is_received() -> bool:
    """Returns True after an interruption: then any error may be its consequence."""
    return _received


def lift_time_limit() -> None:
    """Lifts the time limit for cleaning up, to cancel a job that would otherwise go on elsewhere."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    global _received
    _received = True
    logging.disable()  # libraries log the exception with a traceback
    signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)
    raise KeyboardInterrupt
