"""Tests the demo from end to end, as `make demo` runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.mark.slow
def test_demo_model_beats_mean_speed(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, DEMO, "--output", output], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    metrics = json.loads((output / "run/metrics.json").read_text())
    error = metrics["splits"]["test"]["metrics"]["speed_mae"]
    assert error["model"] < 0.5 * error["baseline"]
    assert (
        2.5 < error["baseline"] < 3.5
    )  # speeds are uniform from 3 to 15 m/s, whose mean deviation is 3
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert len({line["source"] for line in lines}) == 10
    assert all(0 < line["values"]["speed"] < 20 for line in lines)
    assert {line["units"]["speed"] for line in lines} == {"m/s"}
    assert len(list((output / "overlay").glob("*.mp4"))) == 10
    for part in ("report.html", "run/curves.png", "run/model.keras", "run/export/saved_model.pb"):
        assert (output / part).stat().st_size > 0
        assert str(output / part).removesuffix("/saved_model.pb") in done.stdout


def test_demo_refuses_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    done = subprocess.run(
        [sys.executable, DEMO, "--output", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "choose another folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
