"""Runs the ``pipelines`` command as ``python -m pipelines``."""

from pipelines.cli import run

if __name__ == "__main__":
    run()
