"""Imports go one way: between the packages, between their folders, and to heavy libraries."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, run_python

PACKAGES = ("pipelines", "tfrecords_schema", "trainer")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Runs import-linter on the packages in ``root`` with the contracts of its pyproject.toml."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache"]
    return subprocess.run(
        command,
        cwd=root,
        env={"PATH": "", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", root)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return root


def test_contracts_are_kept():
    run = lint_imports(ROOT)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert "0 broken" in run.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("trainer/cli.py", "import pipelines.errors", "The programs meet only in the records"),
        (
            "tfrecords_schema/spec.py",
            "import trainer.errors",
            "The programs meet only in the records",
        ),
        ("pipelines/plan/splits.py", "import pipelines.build.build", "The folders of pipelines"),
        (
            "pipelines/options/base.py",
            "import pipelines.runners.progress",
            "The folders of pipelines",
        ),
        ("trainer/data/labels.py", "import trainer.models.network", "The folders of trainer"),
        ("pipelines/build/probe.py", "import av", "Only decoder processes load FFmpeg"),
        ("tfrecords_schema/storage.py", "import apache_beam", "The trainer runs without Beam"),
        ("pipelines/labels/gpx.py", "import keras", "runs without TensorFlow"),
        ("pipelines/plan/sampling.py", "import cv2", "Index arithmetic and specs are pure"),
    ],
)
def test_wrong_import_breaks_its_contract(copied, file, line, contract):
    path = copied / file
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\n\ndef wrong():\n    {line}\n", encoding="utf-8")
    try:
        run = lint_imports(copied)
    finally:
        path.write_text(before, encoding="utf-8")
    broken = [text for text in run.stdout.splitlines() if " BROKEN" in text]
    assert run.returncode == 1
    assert any(contract in text for text in broken), run.stdout[-3000:]


@pytest.mark.parametrize("package", ["pipelines", "trainer"])
def test_help_imports_neither_tensorflow_nor_av(package):
    run = run_python("-X", "importtime", "-m", package, "--help")
    assert run.returncode == 0, run.stderr[-2000:]
    assert "usage:" in run.stdout.lower()
    # "import time:   self [us] | cumulative | imported package"
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    assert package in imported
    assert imported & {"tensorflow", "keras", "av"} == set()


def test_writing_and_reading_records_imports_no_tensorflow():
    modules = [
        f"tfrecords_schema.{path.stem}"
        for path in sorted((ROOT / "tfrecords_schema").glob("*.py"))
        if path.stem not in ("__init__", "parse")
    ]
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    run = run_python("-c", program)
    assert run.returncode == 0, run.stderr[-2000:]
    imported = {name.split(".")[0] for name in run.stdout.split()}
    assert "tfrecords_schema" in imported
    assert imported & {"tensorflow", "keras", "av", "apache_beam"} == set()
