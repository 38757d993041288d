"""Tries every version that setup.py allows: each Python, with the newest packages and with the lowest.

    python tests/versions.py                                    all (`make test-versions` does this)
    python tests/versions.py --python 3.12 --resolution lowest  one environment
    python tests/versions.py --alternate                        each Python once (`.ci/run` does this)

Each combination has an environment of its own. There the package is installed, what is installed is compared
with the bounds of setup.py, the committed clips are built, validated, trained on and predicted, and a few
quick tests run. At the end the shards of all environments are compared: the same libraries must give the
same bytes on each Python. The exit status is 1 when anything failed.
"""

from __future__ import annotations

import argparse
import email
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
RESOLUTIONS = {"newest": "highest", "lowest": "lowest-direct"}
INSTALLED_EXTRAS = ("trainer", "export", "test")

CLIPS = ("demo.mp4", "demo.webm", "karma.mp4", "phone_vfr.mp4", "demo.gif")
MANIFEST = """path,split,brightness
demo.mp4,train,0.5
demo.webm,train,0.5
demo.gif,train,0.5
karma.mp4,train,1
phone_vfr.mp4,validation,0.25
"""
# Quick tests that reach what differs between versions of PyAV, OpenCV, msgspec, protobuf, Beam and Keras.
TESTS = (
    "tests/pipelines/decoding/test_conversion.py::TestToScaled::test_to_jfif_colors_are_exact",
    "tests/pipelines/decoding/test_segments.py::TestRecords",
    "tests/pipelines/decoding/test_video.py::TestColors",
    "tests/pipelines/decoding/test_video.py::TestRotation",
    "tests/pipelines/decoding/test_video.py::TestUntrustedFiles",
    "tests/pipelines/images/test_frames.py::TestEncode",
    "tests/pipelines/images/test_headers.py::TestDecoding",
    "tests/tfrecords_schema/test_codec.py",
    "tests/tfrecords_schema/test_encode_decode.py::test_encode_equals_tensorflows_serialization",
    "tests/tfrecords_schema/test_parse.py::test_decode_frames_equals_opencv",
    "tests/tfrecords_schema/test_records.py::test_we_read_what_tensorflow_writes",
    "tests/trainer/models/test_layers.py",
    "tests/trainer/models/test_network.py",
    "tests/trainer/models/test_portable.py::test_exported_files_equal_keras[gru, multilabel]",
)


class VersionsError(Exception):
    """An environment that cannot be tried, or did not pass."""


@dataclass
class Trial:
    """One environment: a Python, a resolution, and what came of it."""

    python: str
    executable: Path
    resolution: str
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    deciding: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    error: str = ""

    @property
    def name(self) -> str:
        """The name of the environment, such as ``3.12-lowest``."""
        return f"{self.python}-{self.resolution}"

    def program(self, name: str) -> Path:
        """Returns the path of a program of the environment."""
        return self.folder / "bin" / name


def main(argv: Sequence[str] | None = None) -> int:
    """Tries the environments and returns the exit status: 0 when all passed."""
    parser = argparse.ArgumentParser(description="Tries every version that setup.py allows.")
    parser.add_argument("--python", choices=PYTHONS, nargs="+", help="only these (default: all)")
    parser.add_argument("--resolution", choices=RESOLUTIONS, nargs="+", default=list(RESOLUTIONS))
    parser.add_argument(
        "--alternate",
        action="store_true",
        help="each Python once: the oldest with the lowest packages, the next with the newest, and so on",
    )
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv-versions", metavar="DIR")
    flags = parser.parse_args(argv)
    flags.folder = flags.folder.absolute()
    found = find_pythons(flags.python or PYTHONS)
    missing = [python for python in flags.python or PYTHONS if python not in found]
    if missing:
        print(f"not on this machine, so not tried: Python {', '.join(missing)}")
    if not found or (flags.python and missing):
        return 1
    trials = [
        Trial(python, executable, resolution, flags.folder / f"{python}-{resolution}")
        for python, executable in found.items()
        for resolution in resolutions_of(python, flags)
    ]
    wheel = build_wheel(flags.folder / "wheel")
    # Two at a time: installing waits for the network and the disk, and most of the steps use one CPU.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for trial in pool.map(lambda trial: tried(trial, wheel), trials):
            print(f"== {trial.name}: {trial.error or 'passed'}", flush=True)
    problems = compare_digests(trials)
    print("\n".join([*describe(trials), *problems]))
    return 1 if problems or any(trial.error for trial in trials) else 0


def resolutions_of(python: str, flags: argparse.Namespace) -> list[str]:
    """Returns the resolutions to try with a Python."""
    if flags.alternate:
        return ["newest" if PYTHONS.index(python) % 2 else "lowest"]
    return list(flags.resolution)


def tried(trial: Trial, wheel: Path) -> Trial:
    """Returns ``trial`` after its steps; a failure becomes its error, and the other trials go on."""
    try:
        install(trial, wheel)
        try_out(trial)
    except VersionsError as error:
        trial.error = str(error)
    return trial


def find_pythons(wanted: Sequence[str]) -> dict[str, Path]:
    """Returns an interpreter that runs for each of ``wanted`` that has one, on the PATH or under pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for python in wanted:
        on_path = [Path(f) / f"python{python}" for f in os.get_exec_path() if f]
        under_pyenv = sorted(
            pyenv.glob(f"{python}.*/bin/python"), key=lambda path: Version(path.parts[-3])
        )
        for candidate in [*on_path, *reversed(under_pyenv)]:
            # A shim of pyenv exists for each version, and fails for those that are not selected.
            if candidate.is_file() and version_of(candidate) == python:
                found[python] = candidate
                break
    return found


def version_of(executable: Path) -> str | None:
    """Returns the version of a Python, such as ``3.12``, or None when it does not run."""
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        run = subprocess.run(
            [executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def install(trial: Trial, wheel: Path) -> None:
    """Makes the environment anew and compares what is installed with the bounds of setup.py."""
    started = time.monotonic()
    shutil.rmtree(trial.folder, ignore_errors=True)
    uv("venv", "--python", trial.executable, trial.folder)
    declared = requirements_of(wheel)
    resolution = ["--python", trial.folder, "--resolution", RESOLUTIONS[trial.resolution]]
    problems = []
    for extras in (INSTALLED_EXTRAS, *((e,) for e in extras_of(declared) - {*INSTALLED_EXTRAS})):
        wanted = [r for r in declared if applies(r, trial.python, extras)]
        # Each as a requirement of its own, since the lowest version is sought of no other. A missing wheel
        # must fail here, not be built for minutes from its source.
        listed = trial.folder / f"{'-'.join(extras)}.txt"
        lines = [f"{r.name}[{','.join(r.extras)}]{r.specifier}\n" for r in wanted]
        listed.write_text("".join(lines), encoding="utf-8")
        wheels = [word for r in wanted for word in ("--only-binary", r.name)]
        pinned = trial.folder / f"{'-'.join(extras)}-pinned.txt"
        uv("pip", "compile", *resolution, *wheels, "--no-annotate", "--output-file", pinned, listed)
        lines = [r for r in pinned.read_text(encoding="utf-8").splitlines() if "==" in r]
        pins = [Requirement(line) for line in lines if not line.startswith("#")]
        versions = {pin.name: next(iter(pin.specifier)).version for pin in pins}
        if extras == INSTALLED_EXTRAS:
            uv("pip", "install", "--python", trial.folder, "--requirements", pinned)
            uv("pip", "install", "--python", trial.folder, "--no-deps", wheel)
            trial.versions = versions
        else:  # an extra answers for its own bounds: together with others, more than the lowest may be needed
            wanted = [r for r in wanted if not applies(r, trial.python, ())]
        if trial.resolution == "lowest":
            problems += check_bounds(wanted, versions)
    trial.seconds["install"] = time.monotonic() - started
    if problems:
        raise VersionsError("; ".join(problems))


def build_wheel(folder: Path) -> Path:
    """Returns a wheel of this checkout, built from its source distribution: what either lacks fails."""
    shutil.rmtree(folder, ignore_errors=True)
    uv("build", "--out-dir", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def requirements_of(wheel: Path) -> list[Requirement]:
    """Returns the requirements that a wheel declares, with their markers."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    return [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]


def extras_of(declared: Sequence[Requirement]) -> set[str]:
    """Returns the extras that the markers of ``declared`` name."""
    named = set()
    for requirement in declared:
        _, separator, rest = str(requirement.marker or "").partition("extra == ")
        if separator:
            named.add(rest.split('"')[1])
    return named


def applies(requirement: Requirement, python: str, extras: Sequence[str]) -> bool:
    """Returns whether a Python and some extras of the package need ``requirement``."""
    environment: dict[str, Any] = {**default_environment(), "python_version": python}
    return requirement.marker is None or any(
        requirement.marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
    )


def check_bounds(requirements: Sequence[Requirement], versions: Mapping[str, str]) -> list[str]:
    """Returns the lower bounds that are not the lowest versions installed: nobody has tried such a bound."""
    lowest: dict[str, str] = {}
    for requirement in requirements:
        bounds = [s.version for s in requirement.specifier if s.operator == ">="]
        lowest[requirement.name] = max([lowest.get(requirement.name, "0"), *bounds], key=Version)
    return [
        f"setup.py allows {name}>={bound}, but the lowest that can be installed is {versions[name]}"
        for name, bound in lowest.items()
        if Version(versions[name]) != Version(bound)
    ]


def try_out(trial: Trial) -> None:
    """Builds the committed clips, validates, trains, predicts, and runs a few tests."""
    clips, dataset = trial.folder / "clips", trial.folder / "dataset"
    model, predictions = trial.folder / "run", trial.folder / "predictions.jsonl"
    clips.mkdir()
    for name in CLIPS:
        shutil.copy(ROOT / "tests" / "data" / name, clips)
    (clips / "manifest.csv").write_text(MANIFEST, encoding="utf-8")
    sampling = ["--num_frames", "8", "--frame_rate", "5", "--size", "64x64"]
    label = ["--label_columns", "brightness", "--label_units", "1"]
    pipelines, trainer = trial.program("pipelines"), trial.program("trainer")
    footage = ["--input", clips / "manifest.csv"]
    run(trial, "build", [pipelines, "videos", *footage, "--output", dataset, *label, *sampling])
    info = json.loads((dataset / "dataset_info.json").read_text(encoding="utf-8"))
    trial.deciding, trial.digest = info["versions"], digest_of(dataset)
    run(trial, "validate", [pipelines, "validate", "--tfrecords", dataset])
    run(trial, "train", [trainer, "--tfrecords", dataset, "--output", model, "--epochs", "1"])
    run(
        trial,
        "predict",
        [pipelines, "predict", "--model", model, *footage, "--output", predictions],
    )
    quiet = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow and not flink"]
    run(trial, "test", [trial.program("python"), "-m", "pytest", *quiet, *TESTS])


def digest_of(dataset: Path) -> str:
    """Returns the SHA-256 of the names and bytes of a dataset's shards."""
    digest = hashlib.sha256()
    shards = sorted(dataset.glob("*.tfrecord"))
    if not shards:
        raise VersionsError(f"{dataset} holds no shard")
    for shard in shards:
        digest.update(shard.name.encode() + hashlib.sha256(shard.read_bytes()).digest())
    return digest.hexdigest()


def compare_digests(trials: Sequence[Trial]) -> list[str]:
    """Returns the trials whose shards differ though the libraries that decide their bytes are the same."""
    groups: dict[tuple[tuple[str, str], ...], dict[str, list[str]]] = {}
    for trial in trials:
        if trial.digest:
            same = groups.setdefault(tuple(sorted(trial.deciding.items())), {})
            same.setdefault(trial.digest, []).append(trial.name)
    return [
        f"shards differ with the same libraries ({', '.join(' '.join(item) for item in deciding)}): "
        + " and ".join(", ".join(names) for names in by_digest.values())
        for deciding, by_digest in groups.items()
        if len(by_digest) > 1
    ]


def describe(trials: Sequence[Trial]) -> list[str]:
    """Returns a table with a line for each environment: versions, seconds by step, and what came of it."""
    packages = (
        "apache-beam",
        "av",
        "opencv-python-headless",
        "numpy",
        "protobuf",
        "tensorflow",
        "keras",
    )
    steps = ("install", "build", "validate", "train", "predict", "test")
    rows = [["environment", *packages, *(f"{step} s" for step in steps), "shards", "result"]]
    for trial in trials:
        versions = [trial.versions.get(name, "-") for name in packages]
        seconds = [f"{trial.seconds[step]:.0f}" if step in trial.seconds else "-" for step in steps]
        result = "FAILED" if trial.error else "passed"
        rows.append([trial.name, *versions, *seconds, trial.digest[:8] or "-", result])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*table, *(f"{trial.name}: {trial.error}" for trial in trials if trial.error)]


def uv(*arguments: object) -> str:
    """Runs the uv of this environment and returns its output.

    Raises:
        VersionsError: with what uv said, when it fails.
    """
    command = [sys.executable, "-m", "uv", "--quiet", *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise VersionsError(f"uv {arguments[0]} {arguments[1]} failed:\n{ran.stderr[-3000:]}")
    return ran.stdout


def run(trial: Trial, step: str, command: Sequence[object]) -> str:
    """Runs a step of a trial from the root of the project, notes its seconds, and returns its output.

    Raises:
        VersionsError: with the end of what the step printed, when it fails.
    """
    started = time.monotonic()
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "repeatable", "TF_CPP_MIN_LOG_LEVEL": "2"}
    ran = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    trial.seconds[step] = time.monotonic() - started
    if ran.returncode:
        shown = (ran.stdout + ran.stderr)[-6000:]
        raise VersionsError(f"{step} failed with status {ran.returncode}:\n{shown}")
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main())
