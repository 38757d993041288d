"""``python -m pipelines`` is the ``pipelines`` command."""

from pipelines.cli import run

if __name__ == "__main__":
    run()
