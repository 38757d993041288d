"""Chooses where a pipeline runs from Beam's flags, and runs it there.

The local runner is Beam's in-process FnApiRunner, chosen explicitly: the default ``DirectRunner`` would
first try to download another one. Its workers are threads, which suits work done in decoder processes and
native code. Engines with a job server (Flink, Spark, Prism) are started by `pipelines.runners.job_server`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult

from pipelines.errors import UnknownFlagError, UsageError, UserError
from pipelines.runners.job_log import job_log
from pipelines.runners.job_server import has_engine, job_server
from tfrecords_schema.running import interruption
from tfrecords_schema.running.surroundings import reach_this_machine_directly

_LOCAL_NAMES = ("", "local", "directrunner", "fnapirunner")


class _Pipeline(beam.Pipeline):
    """A pipeline that needs no package of Beam's interactive runner in a notebook, such as pandas."""

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        altering = beam.pipeline.alter_label_if_ipython  # adds the number of the cell to labels
        beam.pipeline.alter_label_if_ipython = lambda *_: None
        try:
            return super().apply(*args, **kwargs)
        finally:
            beam.pipeline.alter_label_if_ipython = altering


@dataclass(frozen=True)
class Execution:
    """Options that say where and how a pipeline runs.

    Attributes:
        options: Beam's pipeline options.
        local: workers are threads of this process.
        workers: tasks that run at once if this machine does the work.
        engine_flags: flags that Beam does not know, but its engine may.
    """

    options: PipelineOptions
    local: bool
    workers: int
    engine_flags: tuple[str, ...] = ()

    def pipeline(self) -> beam.Pipeline:
        """Returns a new pipeline with these options."""
        if not self.local:
            return _Pipeline(options=self.options)
        # Workers in other processes learn the options from the provision info alone.
        provision = beam_provision_api_pb2.ProvisionInfo(
            pipeline_options=JobServiceHandle.encode_pipeline_options(
                self.options.get_all_options(drop_default=True)
            ),
            retrieval_token="unused",  # noqa: S106 - nothing is retrieved; the runner wants some text
        )
        runner = FnApiRunner(provision_info=ExtendedProvisionInfo(provision))
        return _Pipeline(runner=runner, options=self.options)

    def run(self, pipeline: beam.Pipeline) -> None:
        """Runs a `pipeline` to its end; an interrupted job is cancelled where it runs.

        Raises:
            UserError: if the engine cannot be used, or the job failed there.
        """
        reach_this_machine_directly()
        with contextlib.ExitStack() as stack:
            cancel: Callable[[PipelineResult], None] = methodcaller("cancel")
            if not self.local and has_engine(self.options):
                log = stack.enter_context(job_log())
                server = job_server(pipeline.options, self.engine_flags, log, workers=self.workers)
                cancel = stack.enter_context(server)
            result = pipeline.run()
            try:
                result.wait_until_finish()
            except KeyboardInterrupt:
                interruption.lift_time_limit()
                cancel(result)
                raise
            except DataflowRuntimeException as error:
                raise UserError(
                    "the job failed on Dataflow: its page in the console (the address is above) shows the "
                    "workers' log; remove the cause and type the same command again"
                ) from error


def parse_beam_args(beam_args: Sequence[str], *, workers: int) -> Execution:
    """Parses flags for Beam, such as ``["--runner=FlinkRunner", "--flink_master=localhost:8081"]``.

    Raises:
        UsageError: for a flag that Beam does not know, or a value that it does not accept.
    """
    parser = _BeamArgumentParser(allow_abbrev=False, add_help=False)
    for options_class in PipelineOptions.__subclasses__():
        options_class._add_argparse_args(parser)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, unknown = parser.parse_known_args(list(beam_args))
            options = PipelineOptions(list(beam_args))
    except SystemExit:  # Beam's argument parsers print and exit
        *_, reason = said.getvalue().strip().splitlines() or ["no reason given"]
        raise UsageError(f"Beam did not take its flags: {reason}") from None
    if unknown and (unknown[0][:2] != "--" or not has_engine(options)):
        raise UnknownFlagError(unknown[0])
    runner = options.view_as(StandardOptions).runner or ""
    local = runner.lower() in _LOCAL_NAMES
    if local:
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers = workers
        direct.direct_running_mode = "multi_threading" if workers > 1 else "in_memory"
    # Workers never need the definitions of the main module.
    options.view_as(SetupOptions).save_main_session = False
    return Execution(options, local, workers, tuple(unknown))
