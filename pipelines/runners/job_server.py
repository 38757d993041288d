"""Starts the job servers through which Beam reaches Flink, Spark and Prism.

Beam can start a job server itself. But then Ctrl-C in a terminal ends it before it can cancel the job, only
an exit handler stops it (which the `pipelines` program never runs), and its output is lost. Here it is
started in its own session, with a log file, and is always stopped.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, BinaryIO

import grpc
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
)
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.job_server import SubprocessJobServer
from apache_beam.runners.runner import PipelineResult

from pipelines.errors import UsageError, UserError
from tfrecords_schema.running import interruption
from tfrecords_schema.running.scratch import scratch_folder

EMBEDDED = ("[local]", "[auto]")
"""Values of ``--flink_master`` that start Flink in the job server itself."""
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class FlinkCluster:
    """Client of a Flink cluster; ``master`` is the address of its job manager's REST interface.

    Each call raises `UserError` if no cluster answers.
    """

    master: str

    def free_slots(self) -> int:
        """Returns the number of tasks that could begin at once, at least 1."""
        return max(1, int(self._ask("/overview", "slots-available")))

    def cancel(self, name: str) -> None:
        """Cancels the running jobs called ``name``."""
        for job in self._ask("/jobs/overview", "jobs"):
            if job["name"] == name and job["end-time"] < 0:
                self._ask(f"/jobs/{job['jid']}?mode=cancel", method="PATCH")

    def _ask(self, path: str, key: str | None = None, *, method: str = "GET") -> Any:
        """Returns Flink's answer, or its value for ``key``."""
        has_scheme = self.master.startswith(("http://", "https://"))
        url = self.master if has_scheme else f"http://{self.master}"
        request = urllib.request.Request(url.rstrip("/") + path, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
                answer = json.load(response)
            return answer if key is None else answer[key]
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"no Flink cluster answers at {url} ({error!r}): start one, or give --flink_master the "
                "host:port of its job manager's REST interface"
            ) from error


_JOB_SERVERS = {
    "flinkrunner": "apache_beam.runners.portability.flink_runner.FlinkJarJobServer",
    "sparkrunner": "apache_beam.runners.portability.spark_runner.SparkJarJobServer",
    "prismrunner": "apache_beam.runners.portability.prism_runner.PrismJobServer",
}
_START_SECONDS = 120
_STOP_SECONDS = 20
_POLL_SECONDS = 0.1


def has_engine(options: PipelineOptions) -> bool:
    """Returns True if a job server must be started here for the runner."""
    submits_itself = (
        options.view_as(FlinkRunnerOptions).flink_submit_uber_jar
        or options.view_as(SparkRunnerOptions).spark_submit_uber_jar
    )
    return (
        _runner(options) in _JOB_SERVERS
        and not options.view_as(PortableOptions).job_endpoint
        and not submits_itself
    )


@contextlib.contextmanager
def job_server(
    options: PipelineOptions, unknown: Sequence[str], log: BinaryIO, *, workers: int
) -> Iterator[Callable[[PipelineResult], None]]:
    """Runs the job server for the runner in ``options``, and completes ``options`` so that it is used.

    Args:
        options: options of the pipeline.
        unknown: flags that only the engine may know.
        log: receives the output of the job server.
        workers: tasks to run at once on Flink's embedded cluster, on this machine.

    Yields:
        A function that cancels a job, wherever it runs.

    Raises:
        UsageError: for a flag that the engine does not know.
        UserError: if the job server cannot be found or does not start.
    """
    # Beam keeps the name of a job on any runner among the options of Google Cloud.
    flink, naming = options.view_as(FlinkRunnerOptions), options.view_as(GoogleCloudOptions)
    naming.job_name = naming.job_name or f"reelbeam-{uuid.uuid4().hex}"
    on_flink, cluster = _runner(options) == "flinkrunner", FlinkCluster(flink.flink_master)
    on_cluster = on_flink and flink.flink_master not in EMBEDDED
    if on_flink and flink.parallelism < 1:
        # Flink's own default is 1.
        flink.parallelism = cluster.free_slots() if on_cluster else workers

    def cancel(result: PipelineResult) -> None:
        result.cancel()
        if on_cluster:  # where the job server's own cancellation may not arrive
            cluster.cancel(naming.job_name)

    # Removed after the job server has stopped.
    with tempfile.TemporaryDirectory(dir=scratch_folder("artifacts")) as artifacts:
        options.view_as(JobServerOptions).artifacts_dir = artifacts
        command, endpoint = _find_server(options)
        with _running(command, log) as process:
            _check_flags(endpoint, process, " ".join(command), unknown)
            options.view_as(PortableOptions).job_endpoint = endpoint
            yield cancel


def _runner(options: PipelineOptions) -> str:
    name = (options.view_as(StandardOptions).runner or "").lower()
    return name if name.endswith("runner") else f"{name}runner"


def _find_server(options: PipelineOptions) -> tuple[list[str], str]:
    """Returns the command of the job server and its endpoint. Beam downloads a missing one."""
    module, name = _JOB_SERVERS[_runner(options)].rsplit(".", 1)
    server: SubprocessJobServer = getattr(importlib.import_module(module), name)(options)
    try:
        command, endpoint = server.subprocess_cmd_and_endpoint()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"the job server of --runner {options.view_as(StandardOptions).runner} was not found: "
            f"{error}. docs/runners.md says how to install one"
        ) from error
    return [str(part) for part in command], endpoint


@contextlib.contextmanager
def _running(command: Sequence[str], log: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A terminal's Ctrl-C must not reach it: it is needed to cancel the job.
            start_new_session=True,
        )
    except OSError as error:
        raise UserError(
            f"{command[0]} cannot be started ({error.strerror}): this --runner needs it; "
            "install it, or name another with --job_server_java_launcher"
        ) from error
    try:
        yield process
    finally:
        interruption.lift_time_limit()
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _check_flags(
    endpoint: str, process: subprocess.Popen[bytes], command: str, flags: Sequence[str]
) -> None:
    """Waits until the job server answers, and checks that it knows the flags."""
    with grpc.insecure_channel(endpoint) as channel:
        ask = beam_job_api_pb2_grpc.JobServiceStub(channel).DescribePipelineOptions.future
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        answer, deadline = ask(request, wait_for_ready=True), time.monotonic() + _START_SECONDS
        while not answer.done():
            if process.poll() is not None:
                raise UserError(
                    f"the job server ended when it was started, with status {process.returncode}: see the "
                    f"log, or run its command by hand: {command}"
                )
            if time.monotonic() > deadline:
                raise UserError(
                    f"the job server did not start within {_START_SECONDS} s: see the log, or run its "
                    f"command by hand: {command}"
                )
            time.sleep(_POLL_SECONDS)
        known = {option.name for option in answer.result().options}
    for flag in flags:
        if flag.startswith("--") and flag[2:].partition("=")[0] not in known:
            raise UsageError(
                f"unknown flag {flag}: no flag of pipelines, Beam or the --runner has this name"
            )
