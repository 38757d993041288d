"""Turns Ctrl-C and SIGTERM into a `KeyboardInterrupt`, and ends the process if that has no effect.

The exception alone may be lost, because Python ignores it in finalizers and in callbacks of C extensions. A
library may also turn it into an error of its own, or delay it by cleaning up. And a signal that arrives while
the main thread waits for the GIL on its way into a lock is noticed only when that lock is released.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

_GRACE_SECONDS = 1.0
_WAKING_SECONDS = 0.1
_received = False
_announcement = ""


def install_handlers(end: Callable[[], NoReturn]) -> None:
    """Installs the signal handlers: an interrupted program has a second to clean up, then ``end`` is called.

    That happens in the main thread, between any two instructions.
    """

    def end_late(_signal: int, _frame: FrameType | None) -> None:
        try:
            end()
        except BaseException:
            # It may fail in the middle of what it interrupted, such as printing, and is then tried again.
            signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS, _GRACE_SECONDS)
            raise

    signal.signal(signal.SIGALRM, end_late)
    # SIGINT too: background jobs of shell scripts inherit that it is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    signal.signal(signal.SIGURG, lambda _signal, _frame: None)
    arrived, on_arrival = os.pipe()
    os.set_blocking(on_arrival, False)
    signal.set_wakeup_fd(on_arrival, warn_on_full_buffer=False)
    threading.Thread(target=_wake, args=(threading.get_ident(), arrived), daemon=True).start()


@contextlib.contextmanager
def delayed(announcement: str) -> Iterator[None]:
    """Lets the work inside it end at a good place, where it asks `is_received`.

    A first interruption only prints the line ``announcement`` to stderr; it is raised at the end, if the work
    has not done so. A second one, or a first one without handlers, is raised at once.
    """
    global _announcement
    _announcement = announcement
    try:
        yield
    finally:
        _announcement = ""
    if _received:
        raise KeyboardInterrupt


def is_received() -> bool:
    """Returns True after an interruption: then any error may be its consequence."""
    return _received


def lift_time_limit() -> None:
    """Lifts the time limit for cleaning up, to cancel a job that would otherwise go on elsewhere."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _wake(main_thread: int, arrived: int) -> None:
    """Interrupts what the main thread waits for, until it has run the handler of an interruption.

    ``arrived`` is a pipe that gets the number of each signal as a byte, as soon as it arrives.
    """
    while os.read(arrived, 1)[0] not in (signal.SIGINT, signal.SIGTERM):
        pass
    while not _received:
        time.sleep(_WAKING_SECONDS)
        signal.pthread_kill(main_thread, signal.SIGURG)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    global _received
    if _announcement and not _received:
        _received = True
        with contextlib.suppress(OSError):  # print may be what was interrupted
            os.write(2, f"{_announcement}\n".encode())
        return
    _received = True
    # Libraries log the exception with a traceback. Python prints one where it ignores the exception, and for
    # each thread that loses what it works with.
    logging.disable()
    sys.unraisablehook = lambda _: None
    threading.excepthook = lambda _: None
    # Again every second, because this signal, too, may arrive on the way into a lock.
    signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS, _GRACE_SECONDS)
    raise KeyboardInterrupt
