"""The errors that a user can cause and mend."""

from __future__ import annotations


class TrainerError(ValueError):
    """What was expected, what came, and what to do, in one line that needs no traceback."""
