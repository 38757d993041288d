"""A job for Dataflow, submitted to a stand-in and run from what was staged where only Beam is installed.

`make test-dataflow` sets up what this needs: an environment with ``reelbeam[gcp]``, and wheels.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.runners.dataflow_standin import DataflowStandIn
from tests.processes import ROOT

SUBMITTER = Path(os.environ.get("REELBEAM_DATAFLOW", ""))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "REELBEAM_DATAFLOW" not in os.environ, reason="make test-dataflow sets up what this needs"
    ),
]

BUILD = ("--num_frames", "4", "--frame_rate", "5", "--size", "32x48", "--splits", "train=1")
WORKERS = (
    *("--machine_type=n2d-highcpu-8", "--max_num_workers=50", "--disk_size_gb=40"),
    "--sdk_container_image=images.example/reelbeam:1",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What is in the repository of the packages: a build of it leaves things behind."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pipelines", "tfrecords_schema", "trainer"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory, write_video):
    root = tmp_path_factory.mktemp("footage") / "clips"
    for name in ("run/a.mp4", "run/b.mp4", "walk/c.mkv", "walk/d.avi"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / name, frames=60, codec="mpeg4" if name.endswith("avi") else "libx264")
    return root


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """The interpreter of a new environment that holds Beam and what installing needs."""
    folder = tmp_path_factory.mktemp("worker")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    wheels = ["--no-index", "--find-links", SUBMITTER / "wheels"]
    beam = ["apache-beam", "setuptools", "wheel"]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wheels, *beam], check=True)
    held = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True)
    for missing in ("reelbeam", "opencv", "tensorflow", "tqdm"):
        assert missing not in held.stdout
    return python


def run_pipelines(*arguments, cwd):
    return subprocess.run(
        [SUBMITTER / "bin/python", "-m", "pipelines", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def submit(standin, clips, output, tmp_path, *, cwd):
    for name in ("staging", "temp"):
        (tmp_path / name).mkdir(exist_ok=True)
    return run_pipelines(
        *("videos", "--input", clips, "--output", output, *BUILD),
        *("--runner=DataflowRunner", "--project=stand-in", "--region=europe-west4"),
        *(f"--staging_location={tmp_path}/staging", f"--temp_location={tmp_path}/temp"),
        *(f"--dataflow_endpoint={standin.endpoint}", "--no_auth", "--setup_file=./setup.py"),
        *WORKERS,
        cwd=cwd,
    )


def shard_checksums(folder):
    found = sorted(folder.glob("*.tfrecord"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_worker_finds_all_it_needs_and_writes_the_same_shards(checkout, clips, worker, tmp_path):
    here = run_pipelines(
        "videos", "--input", clips, "--output", tmp_path / "here", *BUILD, cwd=checkout
    )
    assert here.returncode == 0, here.stderr
    there = tmp_path / "there"
    with DataflowStandIn(worker, SUBMITTER / "wheels") as standin:
        done = submit(standin, clips, there, tmp_path, cwd=checkout)
        assert done.returncode == 0, done.stderr[-2000:] + standin.said[-2000:]
    assert f"clips is complete in {there}" in done.stdout
    assert shard_checksums(there) == shard_checksums(tmp_path / "here")
    assert len(shard_checksums(there)) == 4
    assert {path.name for path in (tmp_path / "staging").iterdir()} == {
        "pipeline.pb",
        "workflow.tar.gz",
        "submission_environment_dependencies.txt",
    }
    # The graph does not grow with the footage: it says where the plan is.
    assert (tmp_path / "staging/pipeline.pb").stat().st_size < 200_000
    assert b"a.mp4" not in (tmp_path / "staging/pipeline.pb").read_bytes()
    check_workers(standin.jobs[0]["environment"]["workerPools"][0])


def check_workers(pool):
    """What was asked for is what the job asks the service for."""
    assert pool["machineType"] == "n2d-highcpu-8"
    assert pool["diskSizeGb"] == 40
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 50
    (image,) = pool["sdkHarnessContainerImages"]
    assert image["containerImage"] == "images.example/reelbeam:1"


def test_a_job_that_fails_is_one_line(checkout, clips, tmp_path):
    nothing = tmp_path / "no wheels"
    nothing.mkdir()
    with DataflowStandIn(Path(str(shutil.which("false"))), nothing) as standin:
        done = submit(standin, clips, tmp_path / "there", tmp_path, cwd=checkout)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "the job failed on Dataflow" in done.stderr.splitlines()[-1]
