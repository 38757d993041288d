"""What PyPI gets holds the files of the packages, and nothing that an earlier build left behind."""

import shutil
import subprocess
import tarfile
import zipfile

import pytest

from tests.processes import ROOT

PACKAGES = ("pipelines", "tfrecords_schema", "trainer")
OTHERS = ("LICENSE", "README.md", "pyproject.toml", "setup.py")


@pytest.mark.skipif(
    shutil.which("uv") is None, reason="uv, which builds as `make dist` does, is missing"
)
def test_wheel_and_sdist_hold_the_files_of_the_packages_and_no_stale_ones(tmp_path):
    pytest.importorskip("setuptools", minversion="70.1")  # it builds without a network, by itself
    source, dist = tmp_path / "source", tmp_path / "dist"
    for package in PACKAGES:
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=without)
    for name in OTHERS:
        shutil.copy(ROOT / name, source)
    files = {
        path.relative_to(source).as_posix()
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    for left in ("build/lib/pipelines/stale.py", "dist/stale.py", "reelbeam.egg-info/SOURCES.txt"):
        (source / left).parent.mkdir(parents=True)
        (source / left).write_text("build/lib/pipelines/stale.py\n")
    command = ["uv", "build", "--quiet", "--offline", "--no-build-isolation", "--out-dir", dist]
    done = subprocess.run([*command, "."], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,), (archive,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert names == files
    with tarfile.open(archive) as packed:
        held = {m.name.partition("/")[2] for m in packed.getmembers() if m.isfile()}
    assert not [name for name in held if "stale" in name]
    assert files | set(OTHERS) <= held
