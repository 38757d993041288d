"""Python processes of the package import what their parent does, not what the current folder holds."""

import os
import subprocess
import sys

import pytest

from pipelines.runners.python_child import child_environment, python_command
from tests.processes import ROOT

PLANTED = (
    *("av", "cv2", "json", "numpy", "queue", "random", "resource", "runpy", "sitecustomize"),
    *("pipelines/__init__", "trainer/__init__", "tfrecords_schema/__init__"),
)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """The current folder, with modules that leave a mark when they are imported."""
    folder = tmp_path / "footage"
    for name in PLANTED:
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'marks')!r}, 'a').write({name!r} + chr(10))\n")
    monkeypatch.chdir(folder)
    return folder


def marks(folder):
    path = folder.parent / "marks"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("python_path", [None, "", f"{ROOT}{os.pathsep}", os.curdir])
def test_a_child_imports_nothing_from_the_current_folder(planted, monkeypatch, python_path):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if python_path is not None:
        monkeypatch.setenv("PYTHONPATH", python_path)
    monkeypatch.setattr(sys, "path", ["", str(planted), *sys.path])
    child = subprocess.run(
        [*python_command("pipelines.decoding.child"), str(2**32)],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stderr, marks(planted)) == (0, "", [])


def test_a_child_imports_what_its_parent_does(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text("def main():\n    print('found')\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert subprocess.check_output(python_command("own_module"), text=True) == "found\n"


def test_the_program_builds_and_validates_in_a_folder_of_planted_modules(planted, write_video):
    """The console script has its own folder first on its path, and so has what stands for it here."""
    (planted / "in" / "a").mkdir(parents=True)
    for number in range(2):
        write_video(planted / "in" / "a" / f"{number}.mp4", frames=20)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = planted.parent / "bin" / "pipelines"
    script.parent.mkdir()
    script.write_text(
        f"import sys\nsys.path.append({str(ROOT)!r})\nfrom pipelines.cli import run\nrun()\n"
    )
    for words in (
        ("videos", "--input", "in", "--output", "out", "--size", "16x16", "--splits", "train=1"),
        ("validate", "--tfrecords", "out", "--workers", "2"),
    ):
        done = subprocess.run(
            [sys.executable, script, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, marks(planted)) == (0, []), done.stderr
