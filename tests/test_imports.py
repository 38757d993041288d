"""The import direction ``pipelines -> tfrecords_schema <- trainer``, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import run_python

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipelines", "tfrecords_schema", "trainer")


class Rule(NamedTuple):
    """No module of ``package`` imports any of ``banned``, except those under ``allowed``."""

    package: str
    banned: tuple[str, ...]
    allowed: tuple[str, ...] = ()


TENSORFLOW = ("tensorflow", "keras", "tfrecords_schema.parse")
RULES = (
    Rule("tfrecords_schema", ("pipelines", "trainer", "av", "apache_beam")),
    Rule("tfrecords_schema", TENSORFLOW, allowed=("tfrecords_schema.parse",)),
    Rule("trainer", ("pipelines", "av", "apache_beam")),
    Rule("pipelines", ("trainer",)),
    Rule("pipelines", TENSORFLOW, allowed=("pipelines.prediction",)),
    Rule("pipelines", ("av",), allowed=("pipelines.decoding",)),
)
PURE = (
    "pipelines.sampling",
    "pipelines.splits",
    "pipelines.planning",
    "tfrecords_schema.spec",
)
HEAVY = ("apache_beam", "av", "cv2", "tensorflow", "keras")


def find_modules(root: Path) -> dict[str, Path]:
    """The project's modules under ``root``, by dotted name."""
    modules = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def find_imports(module: str, path: Path) -> set[str]:
    """Every name ``module`` imports anywhere in its source; ``from a import b`` gives a and a.b."""
    is_package = path.name == "__init__.py"
    return set(_imported(ast.parse(path.read_text(encoding="utf-8")), module, is_package))


def _imported(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            ancestors = module.split(".") if is_package else module.split(".")[:-1]
            kept = ancestors[: len(ancestors) - node.level + 1] if node.level else []
            base = ".".join([*kept, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def is_under(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def direction_violations(root: Path) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, path in find_modules(root).items()
        for rule in RULES
        if is_under(module, (rule.package,)) and not is_under(module, rule.allowed)
        for name in sorted(find_imports(module, path))
        if is_under(name, rule.banned)
    ]


def purity_violations(root: Path, pure: tuple[str, ...] = PURE) -> list[str]:
    modules, found = find_modules(root), []
    for start in pure:
        waiting, seen = [start], set()
        while waiting:
            module = waiting.pop()
            if module in seen or module not in modules:
                continue
            seen.add(module)
            names = find_imports(module, modules[module])
            found += [f"{start} imports {n}, by {module}" for n in names if is_under(n, HEAVY)]
            # Importing a.b.c runs a and a.b too.
            for name in (*names, module):
                parts = name.split(".")
                waiting += [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return sorted(found)


def write_tree(root: Path, sources: dict[str, str]) -> Path:
    for name, source in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return root


def test_the_packages_import_in_one_direction():
    assert direction_violations(ROOT) == []


def test_the_pure_modules_import_nothing_heavy_directly_or_through_the_project():
    assert purity_violations(ROOT) == []


@pytest.mark.parametrize("module", [*PACKAGES, *PURE])
def test_the_modules_that_the_rules_name_exist(module):
    assert module in find_modules(ROOT)


@pytest.mark.parametrize(
    ("name", "source", "violation"),
    [
        ("tfrecords_schema/a.py", "import pipelines", "tfrecords_schema.a imports pipelines"),
        (
            "tfrecords_schema/a.py",
            "from trainer.config import Config",
            "tfrecords_schema.a imports trainer.config",
        ),
        (
            "tfrecords_schema/encode.py",
            "def f():\n    import tensorflow as tf",
            "tfrecords_schema.encode imports tensorflow",
        ),
        (
            "tfrecords_schema/__init__.py",
            "from . import parse",
            "tfrecords_schema imports tfrecords_schema.parse",
        ),
        ("tfrecords_schema/a.py", "import av", "tfrecords_schema.a imports av"),
        ("trainer/a/b.py", "import av.codec", "trainer.a.b imports av.codec"),
        ("trainer/a.py", "from pipelines import frames", "trainer.a imports pipelines.frames"),
        ("trainer/a.py", "async def f():\n  import apache_beam", "trainer.a imports apache_beam"),
        ("pipelines/a.py", "import os, trainer.model", "pipelines.a imports trainer.model"),
        ("pipelines/a.py", "from tensorflow import data", "pipelines.a imports tensorflow.data"),
        (
            "pipelines/a.py",
            "from tfrecords_schema import parse",
            "pipelines.a imports tfrecords_schema.parse",
        ),
        ("pipelines/a.py", "from av import open", "pipelines.a imports av"),
        ("pipelines/a.py", "__import__('av')", "pipelines.a imports av"),
        (
            "pipelines/a.py",
            "import importlib\nimportlib.import_module('tensorflow')",
            "pipelines.a imports tensorflow",
        ),
        ("pipelines/a.py", "try:\n  import av\nexcept E:\n  pass", "pipelines.a imports av"),
    ],
)
def test_the_checker_finds_an_import_in_the_wrong_direction(tmp_path, name, source, violation):
    assert violation in direction_violations(write_tree(tmp_path, {name: source}))


def test_the_checker_allows_what_the_rules_allow(tmp_path):
    tree = {
        "pipelines/prediction.py": "import tensorflow\nfrom tfrecords_schema import parse",
        "pipelines/decoding/__init__.py": "import av",
        "pipelines/decoding/child.py": "from av.video import frame",
        "pipelines/a.py": "import average\nfrom .trainer_like import x\nimport tensorflow_like",
        "pipelines/trainer_like.py": "x = 'import av'  # import av",
        "tfrecords_schema/parse.py": "import tensorflow as tf",
        "trainer/model.py": "import tensorflow\nfrom tfrecords_schema.parse import parse_sequence",
    }
    assert direction_violations(write_tree(tmp_path, tree)) == []


@pytest.mark.parametrize(
    ("sources", "culprit"),
    [
        ({"pipelines/sampling.py": "def f():\n    import cv2"}, "pipelines.sampling"),
        (
            {
                "pipelines/sampling.py": "from pipelines import splits",
                "pipelines/splits.py": "from tfrecords_schema import fake",
                "tfrecords_schema/fake.py": "import cv2",
            },
            "tfrecords_schema.fake",
        ),
        (
            {
                "pipelines/sampling.py": "from .labels.names import f",
                "pipelines/labels/__init__.py": "import cv2",
                "pipelines/labels/names.py": "",
            },
            "pipelines.labels",
        ),
        ({"pipelines/__init__.py": "import cv2", "pipelines/sampling.py": ""}, "pipelines"),
    ],
    ids=["inside a function", "two modules away", "by a package on the way", "by its own package"],
)
def test_the_checker_follows_imports_within_the_project(tmp_path, sources, culprit):
    root = write_tree(tmp_path, sources)
    assert purity_violations(root, ("pipelines.sampling",)) == [
        f"pipelines.sampling imports cv2, by {culprit}"
    ]


def test_the_checker_survives_circular_imports(tmp_path):
    sources = {
        "pipelines/sampling.py": "import pipelines.splits",
        "pipelines/splits.py": "import pipelines.sampling",
    }
    assert purity_violations(write_tree(tmp_path, sources), ("pipelines.sampling",)) == []


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
    modules = [m for m in find_modules(ROOT) if m.startswith("tfrecords_schema")]
    modules.remove("tfrecords_schema.parse")
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    run = run_python("-c", program)
    assert run.returncode == 0, run.stderr[-2000:]
    imported = {name.split(".")[0] for name in run.stdout.split()}
    assert "tfrecords_schema" in imported
    assert imported & {"tensorflow", "keras", "av", "apache_beam"} == set()
