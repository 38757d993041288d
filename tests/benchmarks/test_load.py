"""Tests `benchmarks/load.py` on loads too small for meaningful figures."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_load_prints_time_and_memory_of_each_load():
    command = [sys.executable, BENCHMARKS / "load.py", "--part", "0.001"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "peak" in line]
    assert [line.split(":")[0].strip() for line in lines] == [
        "clips",
        "manifest",
        "telemetry",
        "validate",
    ]
