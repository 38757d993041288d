"""Claims: how local workers agree, without talking, on who takes a piece of work."""

from __future__ import annotations

import os


def claim(path: str | os.PathLike[str]) -> bool:
    """Makes the file ``path``; whether the caller is the first to."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
