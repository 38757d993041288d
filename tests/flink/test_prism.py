"""Tests `pipelines` on Prism, Beam's runner in Go: the same bytes and the same failures."""

import os
import shutil
import subprocess

import apache_beam
import pytest

pytestmark = pytest.mark.flink

PACKAGE = "github.com/apache/beam/sdks/v2/go/cmd/prism"
FLAGS = ("--num_frames", "8", "--frame_rate", "10", "--size", "48x64", "--seed", "1")


@pytest.fixture(scope="module")
def prism(request, cache):
    """The program of the installed Beam's version, built by Go."""
    folder = cache / f"prism-{apache_beam.__version__}"
    if (folder / "prism").exists():
        return folder / "prism"
    if not request.config.getoption("--obtain_engines", default=False):
        pytest.skip("Prism has not been built: `make test-flink` does")
    command = ["go", "install", f"{PACKAGE}@v{apache_beam.__version__}"]
    subprocess.run(command, env={**os.environ, "GOBIN": str(folder)}, check=True)
    return folder / "prism"


def test_videos_writes_same_bytes_and_reports_failures(prism, data, run, contents, tmp_path):
    for label, names in {"concert": ("demo.mp4", "demo.webm"), "dog": ("karma.mp4",)}.items():
        (tmp_path / "clips" / label).mkdir(parents=True)
        for name in names:
            shutil.copy(data / name, tmp_path / "clips" / label)
    flags = ("--input", tmp_path / "clips", *FLAGS)
    engine = ("--runner=PrismRunner", f"--prism_location={prism}")
    for output, beam_flags in (("here", ()), ("there", engine)):
        done = run("videos", *flags, "--output", tmp_path / output, *beam_flags)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert any(name.endswith(".tfrecord") for name in contents(tmp_path / "here"))

    (tmp_path / "clips/dog/broken.mp4").write_bytes(bytes(4000))
    done = run("videos", *flags, "--output", tmp_path / "broken", *engine)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "1 of 4 sources failed" in done.stderr.strip().splitlines()[-1]
