"""Runs that are killed, stopped or refused in the middle: what is left can always be continued."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FLAGS = ("--num_frames", "4", "--size", "24x32", "--splits", "train=0.5,test=0.5")
KILLS, KILLS_IN_A_ROW = 25, 5


@pytest.fixture
def clips(write_video, tmp_path) -> Path:
    folder = tmp_path / "in/act"
    folder.mkdir(parents=True)
    for number in range(12):
        write_video(folder / f"{number}.mp4", frames=60, b_frames=2)
    (folder / "text.mp4").write_text("no video")
    cut = (folder / "0.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    return tmp_path / "in"


def command(clips: Path, output: Path) -> list[str]:
    program = [sys.executable, "-m", "pipelines", "videos", "--input", str(clips)]
    return [*program, "--output", str(output), *FLAGS, "--shards", "8", "--max_failure_rate", "0.5"]


def finish(clips: Path, output: Path) -> dict[str, str]:
    """Builds to the end; checksums of all that is there."""
    done = subprocess.run(
        command(clips, output), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
    }


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(clips, tmp_path) -> None:
    began = time.monotonic()
    whole = finish(clips, tmp_path / "whole")
    seconds = time.monotonic() - began
    chance = random.Random(3)
    killed = chains = 0
    while killed < KILLS:
        output = tmp_path / f"out-{chains}"
        chains += 1
        for _ in range(KILLS_IN_A_ROW):
            with subprocess.Popen(
                command(clips, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as child:
                try:
                    assert child.wait(chance.uniform(0, seconds)) == 0
                    break  # it was done before its moment came
                except subprocess.TimeoutExpired:
                    child.kill()
                    killed += 1
        assert finish(clips, output) == whole


def test_two_runs_at_once_make_one_dataset(clips, tmp_path) -> None:
    """Whichever comes second is refused, or finds the work done."""
    output = tmp_path / "out"
    runs = [
        subprocess.Popen(command(clips, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [run.communicate(timeout=300)[1].decode() for run in runs]
    statuses = [run.returncode for run in runs]
    assert 0 in statuses
    for status, errors in zip(statuses, said, strict=True):
        assert status == 0 or "another run is building in" in errors, errors
        assert "Traceback" not in errors
    assert finish(clips, output) == finish(clips, tmp_path / "alone")


def test_an_output_that_cannot_be_written_is_one_line(clips, tmp_path) -> None:
    folder = Path("/sys")  # where not even root may
    if os.geteuid():
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    done = subprocess.run(
        command(clips, folder / "reelbeam"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("pipelines videos: error: ")
    assert str(folder / "reelbeam") in last


def test_failures_are_complete_and_readable_by_machine(clips, tmp_path) -> None:
    finish(clips, tmp_path / "out")
    lines = (tmp_path / "out/failures.jsonl").read_text().splitlines()
    failures = {failure["source"]: failure for failure in map(json.loads, lines)}
    fields = {"source", "stage", "reason", "seconds", "truncated"}
    assert all(failure.keys() == fields for failure in failures.values())
    # The cut clip has lost the index at its end.
    assert {name: (f["stage"], f["truncated"]) for name, f in failures.items()} == {
        "act/text.mp4": ("open", False),
        "act/cut.mp4": ("open", False),
    }
    info = json.loads((tmp_path / "out/dataset_info.json").read_text())
    assert (info["counts"]["sources"], info["counts"]["failed"]) == (14, 2)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_one_worker_that_is_interrupted_ends_with_one_line(by, clips, tmp_path) -> None:
    """Also in a background job, which inherits that SIGINT is ignored."""
    dataset, temporary = tmp_path / "dataset", tmp_path / "temporary"
    temporary.mkdir()
    finish(clips, dataset)
    build = command(clips, tmp_path / "out")
    validate = [sys.executable, "-m", "pipelines", "validate", "--tfrecords", str(dataset)]
    build_goes_on = "The build goes on where it stopped: complete shards are kept"
    validate_begins = "It starts from the beginning; a file under its own name is complete"
    for words, again, folder, begun in (
        (build, build_goes_on, tmp_path / "out", "_build/lock"),
        (build, build_goes_on, temporary, "*/files/beam-pipeline-temp*"),
        (validate, validate_begins, temporary, "*/validation"),
        (validate, validate_begins, temporary, "*/files/beam-pipeline-temp*"),
    ):
        with subprocess.Popen(
            [*words, "--workers", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary)},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        ) as child:
            while not list(folder.glob(begun)):
                assert child.poll() is None
                time.sleep(0.001)
            child.send_signal(by)
            _, errors = child.communicate(timeout=60)
        assert "Traceback" not in errors
        assert child.returncode == 130, errors
        expected = f"error: interrupted. Type the same command again. {again}"
        assert errors.strip().splitlines()[-1].endswith(expected)
        assert list(temporary.iterdir()) == []
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
