"""A stand-in for the Dataflow service, as far as a job needs one: its jobs run where only Beam is installed.

It speaks the part of https://cloud.google.com/dataflow/docs/reference/rest that the runner uses. A new job is
run as its staged files say, and its state is told until it is over.
"""

from __future__ import annotations

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

JOB_ID = "2026-01-01_stand-in"

# What a worker does: the staged package is installed already, and the pipeline is all there is besides.
_RUN = """
import sys
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

pipeline = beam_runner_api_pb2.Pipeline()
with open(sys.argv[1], "rb") as file:
    pipeline.ParseFromString(file.read())
for environment in pipeline.components.environments.values():
    # The container that Dataflow would start is this very process.
    assert environment.urn == common_urns.environments.DOCKER.urn, environment.urn
    environment.urn = python_urns.EMBEDDED_PYTHON
    environment.payload = b""
    del environment.dependencies[:]
FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()
"""


class DataflowStandIn:
    """Serves on a port of this machine while it is open.

    Args:
        python: interpreter of the environment that a worker is; `pip` there installs from ``wheels`` alone.
        wheels: folder of wheels.

    Attributes:
        endpoint: what ``--dataflow_endpoint`` is to be.
        jobs: as they were asked for.
        said: by the installation and the run of the last job.
    """

    def __init__(self, python: Path, wheels: Path):
        self._python = python
        self._wheels = wheels
        self.jobs: list[dict[str, Any]] = []
        self.said = ""
        self._state = "JOB_STATE_PENDING"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> DataflowStandIn:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        standin = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path.split("?")[0].endswith("/jobs"), self.path
                standin.jobs.append(json.loads(body))
                threading.Thread(target=standin._run, daemon=True).start()
                self._answer(standin._job())

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path.endswith("/messages") or path.endswith("/metrics"):
                    self._answer({})
                else:
                    assert path.endswith(f"/jobs/{JOB_ID}"), self.path
                    self._answer(standin._job())

            def _answer(self, fields: dict[str, Any]) -> None:
                data = json.dumps(fields).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nothing goes to the test's output."""

        return Handler

    def _job(self) -> dict[str, Any]:
        return {"id": JOB_ID, "name": self.jobs[-1]["name"], "currentState": self._state}

    def _run(self) -> None:
        environment = self.jobs[-1]["environment"]
        self._state = "JOB_STATE_RUNNING"
        graph = environment["sdkPipelineOptions"]["options"]["pipelineUrl"]
        packages = [package["location"] for package in environment["workerPools"][0]["packages"]]
        install = [self._python, "-m", "pip", "install", "--no-index", "--find-links", self._wheels]
        steps = [
            [*install, *(place for place in packages if place.endswith(".tar.gz"))],
            [self._python, "-c", _RUN, graph],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, cwd="/", check=False)
            self.said += done.stdout + done.stderr
            if done.returncode:
                self._state = "JOB_STATE_FAILED"
                return
        self._state = "JOB_STATE_DONE"
