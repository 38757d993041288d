"""Job servers and clusters, by stand-ins for both: what is started, asked, refused and stopped."""

from __future__ import annotations

import http.server
import json
import re
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
)

from pipelines.errors import UsageError, UserError
from pipelines.runners.job_server import FlinkCluster, has_engine, job_server
from pipelines.runners.local import parse_beam_args

# Takes the place of `java -jar JAR --job-port PORT ...`.
JOB_SERVER = f"""#!{sys.executable}
import os, sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

class Service(beam_job_api_pb2_grpc.JobServiceServicer):
    def DescribePipelineOptions(self, request, context):
        options = [beam_job_api_pb2.PipelineOptionDescriptor(name="checkpointing_interval")]
        return beam_job_api_pb2.DescribePipelineOptionsResponse(options=options)

print("pid", os.getpid(), "session", os.getsid(0), flush=True)
server = grpc.server(ThreadPoolExecutor())
beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(Service(), server)
server.add_insecure_port("localhost:" + sys.argv[sys.argv.index("--job-port") + 1])
server.start()
server.wait_for_termination()
"""


class Result:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def java(tmp_path) -> Path:
    path = tmp_path / "java"
    path.write_text(JOB_SERVER)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def cluster():
    """A stand-in of a cluster: its address, and what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            jobs = [
                {"jid": "1", "name": "mine", "end-time": 77},
                {"jid": "2", "name": "mine", "end-time": -1},
                {"jid": "3", "name": "theirs", "end-time": -1},
            ]
            answers = {"/overview": {"slots-available": 6}, "/jobs/overview": {"jobs": jobs}}
            self.answer(answers.get(self.path, []))

        def do_PATCH(self):
            self.answer({})

        def answer(self, what):
            asked.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(what).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def flink(tmp_path: Path, *flags: str) -> PipelineOptions:
    jar = tmp_path / "job-server.jar"
    jar.touch()
    return PipelineOptions(["--runner=FlinkRunner", f"--flink_job_server_jar={jar}", *flags])


def serve(options, log, unknown=(), workers=3) -> None:
    with job_server(options, unknown, log, workers=workers):
        pass


def started(log: Path) -> tuple[str, str]:
    """The ids of the job server's process and session."""
    return re.search(r"pid (\d+) session (\d+)", log.read_text()).groups()


class TestHasEngine:
    @pytest.mark.parametrize(
        "name", ["FlinkRunner", "flinkrunner", "flink", "SparkRunner", "Prism"]
    )
    def test_engines_with_a_job_server_have(self, name):
        assert has_engine(PipelineOptions([f"--runner={name}"]))

    @pytest.mark.parametrize(
        "flags",
        [
            [],
            ["--runner=DataflowRunner"],
            ["--runner=FlinkRunner", "--job_endpoint=localhost:1"],
            ["--runner=FlinkRunner", "--flink_submit_uber_jar"],
        ],
    )
    def test_others_have_not(self, flags):
        assert not has_engine(PipelineOptions(flags))


class TestJobServer:
    def test_it_runs_in_a_session_of_its_own_and_is_stopped(self, java, tmp_path):
        options = flink(tmp_path, f"--job_server_java_launcher={java}")
        with (tmp_path / "log").open("w+b") as log:
            with job_server(options, ["--checkpointing_interval=5"], log, workers=3) as cancel:
                assert options.view_as(PortableOptions).job_endpoint.startswith("localhost:")
                assert options.view_as(FlinkRunnerOptions).parallelism == 3
                pid, session = started(tmp_path / "log")
                assert session == pid
                assert Path(f"/proc/{pid}").exists()
                result = Result()
                cancel(result)
                assert result.cancelled
            assert not Path(f"/proc/{pid}").exists()
        assert not list(tmp_path.glob("reelbeam-*"))

    def test_a_flag_that_it_does_not_know_is_refused(self, java, tmp_path):
        options = flink(tmp_path, f"--job_server_java_launcher={java}")
        flags = ["--checkpointing_interval", "5", "--chekpointing=1"]
        with (tmp_path / "log").open("w+b") as log:
            with pytest.raises(UsageError, match="unknown flag --chekpointing=1"):
                serve(options, log, flags)
            assert not Path(f"/proc/{started(tmp_path / 'log')[0]}").exists()

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--job_server_java_launcher=/no/java"], "/no/java cannot be started"),
            (["--job_server_java_launcher=false"], "ended when it was started, with status 1"),
            (["--flink_job_server_jar=no.jar"], "docs/runners.md"),
        ],
    )
    def test_one_that_cannot_be_had_is_said_in_one_line(self, flags, said, tmp_path):
        with (tmp_path / "log").open("w+b") as log, pytest.raises(UserError, match=said) as raised:
            serve(flink(tmp_path, *flags), log)
        assert "\n" not in str(raised.value)

    def test_on_a_cluster_parallelism_is_its_free_slots_and_jobs_are_cancelled_there(
        self, java, cluster, tmp_path
    ):
        address, asked = cluster
        launcher = f"--job_server_java_launcher={java}"
        options = flink(tmp_path, launcher, f"--flink_master={address}", "--job_name=mine")
        with (
            (tmp_path / "log").open("w+b") as log,
            job_server(options, [], log, workers=3) as cancel,
        ):
            assert options.view_as(FlinkRunnerOptions).parallelism == 6
            cancel(Result())
        assert asked == ["GET /overview", "GET /jobs/overview", "PATCH /jobs/2?mode=cancel"]

    def test_what_the_user_gave_stays(self, java, cluster, tmp_path):
        address, asked = cluster
        options = flink(
            tmp_path,
            f"--job_server_java_launcher={java}",
            f"--flink_master={address}",
            "--parallelism=2",
            "--job_name=mine",
        )
        with (tmp_path / "log").open("w+b") as log:
            serve(options, log)
        assert options.view_as(FlinkRunnerOptions).parallelism == 2
        assert options.view_as(GoogleCloudOptions).job_name == "mine"
        assert asked == []


class TestFlinkCluster:
    def test_no_cluster_is_one_line(self):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))  # and nobody listens
            cluster = FlinkCluster(f"127.0.0.1:{held.getsockname()[1]}")
            with pytest.raises(UserError, match="no Flink cluster answers"):
                cluster.free_slots()

    def test_what_is_no_cluster_is_one_line(self, cluster):
        with pytest.raises(UserError, match="no Flink cluster answers"):
            FlinkCluster(f"http://{cluster[0]}/elsewhere").free_slots()


class TestParseBeamArgs:
    def test_a_flag_nobody_knows_is_refused_before_an_engine_starts(self):
        with pytest.raises(UsageError, match="unknown flag --nonsense"):
            parse_beam_args(["--nonsense"], workers=1)
        with pytest.raises(UsageError, match="unknown flag 3"):
            parse_beam_args(["--runner=FlinkRunner", "3"], workers=1)

    def test_a_flag_the_engine_may_know_is_passed_on(self):
        execution = parse_beam_args(["--runner=FlinkRunner", "--some_flag=3"], workers=1)
        assert execution.engine_flags == ("--some_flag=3",)
        assert not execution.local
