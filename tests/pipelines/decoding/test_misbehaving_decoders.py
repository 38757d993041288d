"""A run whose decoders misbehave on purpose: each costs the source it was reading, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from pathlib import Path

import pytest

from tests.processes import processes_with, run_python, wait_until
from tfrecords_schema.example_pb2 import SequenceExample
from tfrecords_schema.records import read_file

FLAGS = (
    "--num_frames",
    "4",
    "--size",
    "24x32",
    "--splits",
    "train=1",
    "--max_failure_rate",
    "1",
    "--name",
    "x",
)
# What a decoder does half-way through a file of that name, and a part of the reason that is given.
HABITS = {
    "segfault": ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    "abort": ("os.abort()", "killed by SIGABRT"),
    "loop": ("while True: pass", "no progress for 15 s"),
    "deaf": (
        "[signal.signal(s, signal.SIG_IGN) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]\n"
        "while True: time.sleep(1)",
        "no progress for 15 s",
    ),
    "stopped": ("os.kill(os.getpid(), signal.SIGSTOP)", "no progress for 15 s"),
    "memory": ("bytearray(2**33)", "MemoryError"),
    "garbage": (
        "[os.write(fd, b'ffmpeg says hello ' * 100) for fd in range(3, 9) if is_pipe(fd)]",
        "bytes that are not a message",
    ),
    "success": ("os._exit(0)", "exit code 0"),
    "exit": ("os._exit(7)", "exit code 7"),
}
# Python runs a module of this name at its start, whatever its program.
HOOK = """
import os, signal, stat, sys, time

def is_pipe(fd):
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False

def misbehave(name):
    {habits}

if any("pipelines.decoding.child" in word for word in sys.orig_argv):
    from pipelines.decoding import segments
    build = segments.build_segment

    def build_half(request, send, on_progress):
        name = os.path.splitext(os.path.basename(request.segment.source.path))[0]
        def send_one(record):
            send(record)
            misbehave(name)
        return build(request, send_one, on_progress)

    segments.build_segment = build_half
"""


def records(output: Path) -> list[bytes]:
    return [stored.data for path in sorted(output.glob("*.tfrecord")) for stored in read_file(path)]


@pytest.fixture
def hook(tmp_path) -> Path:
    """A folder for PYTHONPATH."""
    lines = []
    for name, (does, _) in HABITS.items():
        lines += [f"if name == {name!r}:", *textwrap.indent(does, "    ").splitlines()]
    folder = tmp_path / "hook"
    folder.mkdir()
    source = HOOK.replace("{habits}", "\n    ".join(lines))
    (folder / "sitecustomize.py").write_text(source)
    return folder


@pytest.mark.slow
def test_each_failure_costs_one_source(write_video, hook, tmp_path) -> None:
    whole = write_video(tmp_path / "whole.mp4", frames=16)
    for folder in ("alone/act", "in/act"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(4):
            shutil.copy2(whole, tmp_path / folder / f"good{number}.mp4")
    for name in HABITS:
        shutil.copy(whole, tmp_path / f"in/act/{name}.mp4")
    marker, temporary = f"marker-{os.getpid()}-habits", tmp_path / "temporary"
    temporary.mkdir()

    def build(name: str, **environment: str) -> None:
        done = run_python(
            *("-m", "pipelines", "videos", "--input", tmp_path / name),
            *("--output", tmp_path / f"out-{name}", *FLAGS, "--decode_timeout", "15"),
            environment=environment,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "Traceback" not in done.stderr

    build("alone")
    build("in", PYTHONPATH=str(hook), REELBEAM_TEST=marker, TMPDIR=str(temporary))

    lines = (tmp_path / "out-in/failures.jsonl").read_text().splitlines()
    failures = {Path(failure["source"]).stem: failure for failure in map(json.loads, lines)}
    assert failures.keys() == HABITS.keys()
    for name, (_, reason) in HABITS.items():
        assert reason in failures[name]["reason"], failures[name]
        assert failures[name]["stage"] == ("limits" if name == "memory" else "process")
    # Nothing stays of what a decoder sent before it misbehaved, and the others are as if it had not been.
    assert sorted(records(tmp_path / "out-in")) == sorted(records(tmp_path / "out-alone"))
    names = {
        SequenceExample.FromString(data).context.feature["clip/media_id"].bytes_list.value[0]
        for data in records(tmp_path / "out-in")
    }
    assert names == {f"act/good{number}.mp4".encode() for number in range(4)}
    assert list(temporary.iterdir()) == []
    # The last decoders end when they see that the run has.
    wait_until(lambda: not processes_with(marker))
