"""Starts Python processes of this package that import what this process does.

Python's own ``-m`` puts the current folder first on the path of imports: a folder of footage that holds an
``av.py`` would decide what a child runs.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable

_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))


def python_command(module: str) -> list[str]:
    """Returns the command that runs ``main()`` of ``module``; arguments may follow.

    Example: ``python_command("pipelines.decoding.child")``.
    """
    path = _without_current_folder(sys.path)
    path = path if _ROOT in path else [_ROOT, *path]
    # `sys` is part of the interpreter, so that nothing is imported before the path is set.
    program = f"import sys; sys.path[:] = {path!a}; from {module} import main; main()"
    return [sys.executable, "-c", program]


def child_environment() -> dict[str, str]:
    """Returns this process's environment, in which ``PYTHONPATH`` never means the current folder."""
    environment = dict(os.environ)
    # A child reads it at its very start, in search of ``sitecustomize``.
    kept = _without_current_folder(environment.pop("PYTHONPATH", "").split(os.pathsep))
    if kept:
        environment["PYTHONPATH"] = os.pathsep.join(kept)
    return environment


def _without_current_folder(path: Iterable[str]) -> list[str]:
    # Python makes entries absolute, so that an empty one, too, looks like the folder's own name.
    return [
        entry
        for entry in path
        if os.path.isabs(entry) and (entry == _ROOT or not _is_current_folder(entry))
    ]


def _is_current_folder(entry: str) -> bool:
    try:
        return os.path.samefile(entry, os.curdir)
    except OSError:
        return False  # one of them is gone


def limit_memory(limit: int) -> None:
    """Limits the address space to ``limit`` bytes, or to a lower limit that this process already has.

    It writes no core files either, which would be as large.
    """
    known = [own for own in resource.getrlimit(resource.RLIMIT_AS) if own != resource.RLIM_INFINITY]
    allowed = min(limit, *known) if known else limit
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
