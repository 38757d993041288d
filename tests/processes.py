"""Programs run as a user runs them: as processes of their own."""

import os
import subprocess
import sys
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
