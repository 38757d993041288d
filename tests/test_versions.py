import ast
import os
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests import versions
from tests.processes import ROOT
from tests.versions import Trial, applies, check_bounds, compare_digests, find_pythons

DECLARED = [
    Requirement(line)
    for line in (
        "av>=17.1,<20",
        'tensorflow>=2.19,<3; python_version < "3.13" and extra == "trainer"',
        'tensorflow>=2.20,<3; python_version >= "3.13" and extra == "trainer"',
        'gcsfs>=2026.10; extra == "gcp"',
    )
]


def trial(python="3.12", resolution="lowest", **fields):
    return Trial(python, Path("python"), resolution, Path("environment"), **fields)


@pytest.mark.parametrize(("python", "bound"), [("3.12", "<3,>=2.19"), ("3.13", "<3,>=2.20")])
def test_applies_takes_what_is_declared_for_a_python_and_an_extra(python, bound):
    wanted = [str(r.specifier) for r in DECLARED if applies(r, python, ("trainer",))]
    assert wanted == ["<20,>=17.1", bound]
    assert [r.name for r in DECLARED if applies(r, python, ())] == ["av"]


def test_check_bounds_names_a_bound_that_is_never_installed():
    assert check_bounds(DECLARED[:2], {"av": "17.1.0", "tensorflow": "2.19.0"}) == []
    assert check_bounds(DECLARED[:2], {"av": "17.2.0", "tensorflow": "2.19.0"}) == [
        "setup.py allows av>=17.1, but the lowest that can be installed is 17.2.0"
    ]


def test_extras_of_finds_all():
    assert versions.extras_of(DECLARED) == {"trainer", "gcp"}


def test_compare_digests_names_trials_that_differ_with_the_same_libraries():
    same = {"av": "17.1.0"}
    a = trial("3.10", deciding=same, digest="a")
    b = trial("3.11", deciding=same, digest="b")
    other = trial("3.12", deciding={"av": "19.0.2"}, digest="c")
    assert compare_digests([a, a, other]) == []
    assert compare_digests([a, b, other]) == [
        "shards differ with the same libraries (av 17.1.0): 3.10-lowest and 3.11-lowest"
    ]


def test_find_pythons_passes_over_shims_that_do_not_run(tmp_path, monkeypatch):
    def program(path, script):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    program(tmp_path / "shims" / "python3.12", "exit 127")
    program(tmp_path / "pyenv" / "versions" / "3.12.1" / "bin" / "python", "echo 3.12")
    latest = program(tmp_path / "pyenv/versions/3.12.10/bin/python", "echo 3.12")
    first = program(tmp_path / "shims" / "python3.13", "echo 3.13")
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}{os.pathsep}/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert find_pythons(("3.12", "3.13", "3.99")) == {"3.12": latest, "3.13": first}


def test_a_failure_is_the_exit_status_and_in_the_table(monkeypatch, tmp_path, capsys):
    def fail(tried):
        raise versions.VersionsError("build failed with status 1")

    monkeypatch.setattr(versions, "find_pythons", lambda wanted: {"3.12": Path("python")})
    monkeypatch.setattr(versions, "build_wheel", lambda folder: folder)
    monkeypatch.setattr(versions, "install", lambda tried, wheel: None)
    monkeypatch.setattr(versions, "try_out", lambda tried: None)
    arguments = ["--folder", str(tmp_path), "--resolution", "lowest"]
    assert versions.main(arguments) == 0
    assert "not tried: Python 3.10, 3.11, 3.13" in capsys.readouterr().out
    monkeypatch.setattr(versions, "try_out", fail)
    assert versions.main(arguments) == 1
    assert "3.12-lowest: build failed with status 1" in capsys.readouterr().out


def test_alternate_tries_each_python_once_and_both_resolutions(monkeypatch, tmp_path, capsys):
    found = {python: Path("python") for python in versions.PYTHONS}
    monkeypatch.setattr(versions, "find_pythons", lambda wanted: found)
    for step in ("build_wheel", "install", "try_out"):
        monkeypatch.setattr(versions, step, lambda *arguments: None)
    assert versions.main(["--folder", str(tmp_path), "--alternate"]) == 0
    tried = re.findall(r"== (\S+): passed", capsys.readouterr().out)
    assert tried == ["3.10-lowest", "3.11-newest", "3.12-lowest", "3.13-newest"]


def test_the_pythons_are_those_of_setup_py_the_readme_and_the_workflow():
    setup, readme, workflow = (
        (versions.ROOT / name).read_text(encoding="utf-8")
        for name in ("setup.py", "README.md", ".github/workflows/ci.yml")
    )
    allowed = SpecifierSet(re.search(r'python_requires="(.+?)"', setup)[1])
    assert tuple(f"3.{i}" for i in range(30) if f"3.{i}" in allowed) == versions.PYTHONS
    assert f"Python {versions.PYTHONS[0]} to {versions.PYTHONS[-1]}" in readme
    quoted = ", ".join(f'"{python}"' for python in versions.PYTHONS)
    assert f"python: [{quoted}]" in workflow


def test_every_requirement_has_bounds_on_both_sides():
    setup = (versions.ROOT / "setup.py").read_text(encoding="utf-8")
    lines = re.findall(r'"([a-z0-9-]+(?:\[\w+\])?[<>=][^"]+)"', setup)
    assert len(lines) > 20
    by_year = {"fsspec", "gcsfs", "packaging", "s3fs"}
    for requirement in (Requirement(line) for line in lines if not line.startswith(">")):
        operators = {s.operator for s in requirement.specifier}
        assert operators == {">="} | ({"<"} if requirement.name not in by_year else set()), (
            requirement
        )


@pytest.mark.parametrize("name", versions.TESTS)
def test_the_selected_tests_exist(name):
    path, *parts = name.split("::")
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    for part in (part.partition("[")[0] for part in parts):
        found = [node for node in body if getattr(node, "name", "") == part]
        assert found, f"{path} has no {part}"
        body = found[0].body
