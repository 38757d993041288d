"""Tests `pipelines` on Flink: the same bytes as with the local runner, even if processes die."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.flink

FLAGS = ("--num_frames", "8", "--frame_rate", "10", "--size", "48x64", "--seed", "1")
MORE_SHARDS = (*FLAGS, "--shards", "10")


@pytest.fixture(scope="module")
def embedded(job_server_jar):
    return (
        "--runner=FlinkRunner",
        "--flink_master=[local]",
        f"--flink_job_server_jar={job_server_jar}",
    )


@pytest.fixture(scope="module")
def local(clips, run, tmp_path_factory):
    """The dataset of ``clips``, built by the local runner."""
    output = tmp_path_factory.mktemp("local") / "dataset"
    done = run("videos", "--input", clips, "--output", output, *MORE_SHARDS)
    assert done.returncode == 0, done.stderr
    return output


def java_processes(jar):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # the process has ended
        if os.fsencode(jar) in command and command.startswith(b"java"):
            found.append(folder.name)
    return found


class TestEmbedded:
    def test_videos_and_validate_give_same_results_as_local_runner(
        self, clips, local, embedded, job_server_jar, run, contents, tmp_path
    ):
        # A relative --output refers to the driver's current folder, which may differ from the workers'.
        videos = ("videos", "--input", clips, "--output", "dataset", *MORE_SHARDS, *embedded)
        built = run(*videos, cwd=tmp_path)
        assert built.returncode == 0, built.stderr
        assert "Traceback" not in built.stderr
        assert contents(tmp_path / "dataset") == contents(local)

        results = []
        for folder, flags in ((local, ()), (tmp_path / "dataset", embedded)):
            result = tmp_path / f"{len(results)}.json"
            done = run("validate", "--tfrecords", folder, "--json", result, *flags)
            # A check fails, because copies of a clip are in several splits.
            assert done.returncode == 1, done.stderr
            assert "Traceback" not in done.stderr
            results.append(json.loads(result.read_text()))
        assert results[0]["findings"] == results[1]["findings"]
        assert results[0].keys() == results[1].keys()
        assert java_processes(job_server_jar) == []
        assert {path.name for path in tmp_path.iterdir()} == {"dataset", "0.json", "1.json"}

    def test_dashcam_writes_same_bytes_as_local_runner(
        self, data, embedded, run, contents, tmp_path
    ):
        drives = tmp_path / "drives"
        drives.mkdir()
        for name in ("a", "b", "c"):
            shutil.copy(data / "karma.mp4", drives / f"{name}.mp4")
            rows = [f"{i / 2},{len(name) + i * 0.25}" for i in range(200)]
            (drives / f"{name}.csv").write_text("\n".join(["t,speed", *rows]))
        flags = ("--telemetry={stem}.csv", "--time_column=t", "--label_columns=speed", *FLAGS)
        for output, engine in (("here", ()), ("there", embedded)):
            done = run("dashcam", "--input", drives, "--output", tmp_path / output, *flags, *engine)
            assert done.returncode == 0, done.stderr
        assert any(name.endswith(".tfrecord") for name in contents(tmp_path / "here"))
        assert contents(tmp_path / "there") == contents(tmp_path / "here")

    def test_too_many_failed_sources_are_reported_in_one_line(self, data, embedded, run, tmp_path):
        clips = tmp_path / "clips/dog"
        clips.mkdir(parents=True)
        shutil.copy(data / "karma.mp4", clips)
        whole = (data / "demo.webm").read_bytes()
        (clips / "broken.webm").write_bytes(whole[:4000] + bytes(len(whole) - 4000))
        flags = ("--input", clips.parent, "--output", tmp_path / "out", *FLAGS)
        done = run("videos", *flags, *embedded)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert "1 of 2 sources failed" in last
        assert "dog/broken.webm" in last

    def test_interrupted_build_stops_engine_and_continues(
        self, clips, local, embedded, job_server_jar, run, start, wait_for, contents, tmp_path
    ):
        command = (
            "videos",
            "--input",
            clips,
            "--output",
            tmp_path / "out",
            *MORE_SHARDS,
            *embedded,
        )
        with start(*command) as process:
            wait_for(lambda: any((tmp_path / "out").glob("*.tfrecord")), "a first shard")
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=120)
        assert process.returncode == 130, error
        assert "interrupted" in error.strip().splitlines()[-1]
        assert "Traceback" not in error
        assert java_processes(job_server_jar) == []
        assert not (tmp_path / "out/dataset_info.json").exists()
        kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tfrecord")}

        done = run(*command)
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / "out") == contents(local)
        complete = sum(path.stat().st_mtime_ns == kept[path] for path in kept)
        assert complete >= 1


class TestCluster:
    @pytest.fixture
    def build(self, clips, cluster, job_server_jar, start, wait_for, local, contents, tmp_path):
        """Builds, and calls ``harm`` once one shard is complete and another is being written."""
        output = tmp_path / "out"

        def has_partial_shard():
            begun = (output / "_build").glob(".train-*.partial")
            return any(begun) and any(output.glob("*.tfrecord"))

        def build(harm):
            before = cluster.workers_started()
            flags = cluster.flags(job_server_jar)
            with start(
                "videos", "--input", clips, "--output", output, *MORE_SHARDS, *flags
            ) as process:
                wait_for(
                    lambda: has_partial_shard() or process.poll() is not None, "a partial shard"
                )
                assert process.poll() is None, process.communicate()[1]
                harm()
                assert not (output / "dataset_info.json").exists(), (
                    "the build ended before the process was killed"
                )
                _, error = process.communicate(timeout=600)
            assert process.returncode == 0, error
            assert "Traceback" not in error
            assert contents(output) == contents(local)
            # The job started two workers; more mean that it was restarted.
            assert cluster.workers_started() - before > 2
            jobs = cluster.ask("/jobs/overview")["jobs"]
            newest = max(jobs, key=lambda job: job["start-time"])
            assert (newest["state"], newest["tasks"]["failed"]) == ("FINISHED", 0)
            assert re.fullmatch(r"reelbeam-\w+", newest["name"])

        return build

    def test_dead_worker_is_replaced(self, cluster, build):
        def kill_a_worker():
            os.kill(cluster.workers()[1][0], signal.SIGKILL)

        build(kill_a_worker)

    def test_build_completes_after_task_manager_dies(self, cluster, build):
        build(cluster.processes["task_manager2"].kill)
