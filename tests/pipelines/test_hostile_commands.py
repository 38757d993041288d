"""Datasets and runs that are forged: every command ends in time and memory, with a line that says why."""

import json

import pytest

from tests.processes import run_python

SLOW = "show,validate,adopt,evaluate,trainer,merge,predict"


@pytest.mark.parametrize(
    ("names", "count"),
    [("show,validate,adopt,merge", 12), pytest.param(SLOW, 70, marks=pytest.mark.slow)],
)
def test_commands_on_forged_datasets(names, count, tmp_path, write_video):
    for number in range(8):
        clip = tmp_path / "clips" / "ab"[number % 2] / f"{number}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        write_video(clip, frames=8, size=(64, 48), rate=10)
    (tmp_path / "clips/a/bad.mp4").write_bytes(b"no video" * 50)
    program = ("-m", "tests.hostile_commands", tmp_path, count, 0, names)
    done = run_python(*program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
    assert [json.loads(line) for line in done.stdout.splitlines()] == []
