"""Errors that the command line prints as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A wrong path, flag, file or label. The message says what happened, what was expected and what to do."""


class FailedWorkError(UserError):
    """Work that was done, and whose result is refused: more sources failed than may."""


class InterruptedWorkError(UserError):
    """Work that stopped for a reason outside, such as a full disk: the same command may succeed later."""


class UsageError(UserError):
    """A wrong flag or option, found before any work began."""


class UnknownFlagError(UsageError):
    """A flag that neither Reelbeam nor Beam knows."""

    def __init__(self, flag: str):
        super().__init__(f"unknown flag {flag}: neither Reelbeam nor Beam has it")
        self.flag = flag


def as_interrupted_work(error: OSError, place: str) -> InterruptedWorkError:
    """Returns the error for a failure of the system at ``place``, such as a full disk."""
    return InterruptedWorkError(
        f"{place}: {error.strerror or error}. Remove the cause and type the same command again"
    )
