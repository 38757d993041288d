"""Fuzzes our parsers with atheris, guided by coverage.

``python tests/fuzz/fuzz.py TARGET -max_total_time=60`` takes any flags of libFuzzer. A finding is written
to the current folder as ``crash-...``; ``python tests/fuzz/fuzz.py TARGET crash-...`` runs it again.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).parent


def main() -> None:
    sys.path.insert(0, str(HERE.parents[1]))
    with atheris.instrument_imports(include=["pipelines", "tfrecords_schema"]):
        spec = importlib.util.spec_from_file_location("targets", HERE / "targets.py")
        targets = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(targets)
    name, *flags = sys.argv[1:] or [""]
    if name == "--list":
        print(*targets.TARGETS)
        return
    if name not in targets.TARGETS:
        sys.exit(f"expected one of {', '.join(targets.TARGETS)}, got {name!r}")
    target = targets.TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        given = [flag for flag in flags if not flag.startswith("-")]
        atheris.Setup([sys.argv[0], *flags, *([] if given else [corpus])], target.read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
