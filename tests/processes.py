"""Helpers that run programs as separate processes, as a user does."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_python(*arguments, cwd=ROOT, timeout=300, environment=None, **settings):
    """Runs ``python ARGUMENTS`` to its end; it imports the packages of this checkout.

    Args:
        arguments: arguments of Python: ``-m``, ``-c`` or a script, and its arguments.
        cwd: the current folder.
        timeout: seconds.
        environment: variables to add to those of this process.
        settings: other arguments of `subprocess.run`.
    """
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **settings,
    )


def processes_with(marker: str) -> list[str]:
    """Returns the ids of processes with ``marker`` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # A process may end, or become a zombie without an environment, at any moment.
        with contextlib.suppress(OSError):
            if marker in (process / "environ").read_text(errors="replace"):
                found.append(process.name)
    return found


def wait_until(holds, seconds: float = 10) -> None:
    """Waits until ``holds()`` is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.02)
