"""Programs run as a user runs them: as processes of their own."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_python(*arguments, cwd=ROOT, timeout=300, environment=None, **settings):
    """``python ARGUMENTS`` to its end, with this checkout to import from.

    Args:
        arguments: of Python: ``-m``, ``-c`` or a script, and what follows.
        cwd: where to run.
        timeout: seconds.
        environment: variables to set beside those of this process.
        settings: others of `subprocess.run`.
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
    """Processes of this machine that have ``marker`` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # A process may end, or be a zombie without an environment, while it is looked at.
        with contextlib.suppress(OSError):
            if marker in (process / "environ").read_text(errors="replace"):
                found.append(process.name)
    return found


def wait_until(holds, seconds: float = 10) -> None:
    """Returns as soon as ``holds()`` does; fails if it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
