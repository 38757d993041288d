"""Errors that the command line prints as one line, without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A wrong path, flag, file or label. The message says what happened, what was expected and what to do."""


class UsageError(UserError):
    """A wrong flag or option, found before any work began; the command line exits with status 2."""


class UnknownFlagError(UsageError):
    """A flag that neither Reelbeam nor Beam knows."""

    def __init__(self, flag: str):
        super().__init__(f"unknown flag {flag}: neither Reelbeam nor Beam has it")
        self.flag = flag


def describe_os_error(error: OSError, place: str) -> str:
    """Describes a failure of the system at ``place``, such as a full disk or a missing permission."""
    return (
        f"{place}: {error.strerror or error}. Remove the cause and type the same command again. "
        "Completed work is kept"
    )
