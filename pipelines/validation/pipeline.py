"""Runs a validation with Beam, and writes its result and its report."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from pipelines.errors import UserError
from pipelines.validation.conclude import conclude
from pipelines.validation.examine import ShardExaminer, ShardJob
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.outcome import Validation
from pipelines.validation.report.page import render_report
from pipelines.validation.result import Result
from pipelines.validation.thresholds import ValidationOptions
from pipelines.validation.views import Expectation
from tfrecords_schema.codec import from_json
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.paths import absolute
from tfrecords_schema.running.scratch import scratch_folder
from tfrecords_schema.storage import write_bytes

_MIN_BYTES_FOR_CHILDREN = 32 << 20
"""Size of a dataset that makes up for the half second that child processes take to start."""


def validate(options: ValidationOptions) -> Validation:
    """Examines a dataset with all checks, and writes the result and the report that the options ask for."""
    folder = DatasetFolder(options.tfrecords)
    info = folder.load_info()
    started = time.monotonic()
    result = _run_pipeline(folder, info, options)
    validation = Validation(options, info, result, time.monotonic() - started)
    if options.json is not None:
        text = json.dumps(validation.to_json(), indent=2)
        write_bytes(options.json, text.encode() + b"\n")
    if options.report is not None:
        write_bytes(options.report, render_report(validation, folder).encode())
    return validation


def prepare(
    folder: DatasetFolder, info: DatasetInfo, options: ValidationOptions
) -> tuple[ShardExaminer, list[ShardJob]]:
    """Returns the examiner of a validation, and the existing shards to examine, largest first.

    Without Beam, they give the same result:

        conclude(examiner, [examiner.examine(job, lambda count: None) for job in jobs])
    """
    expected = Expectation(
        info=info, thresholds=options.thresholds, sources=options.sources, seed=options.seed
    )
    jobs = _jobs(folder, info)
    old = None
    if options.against is not None:
        old_folder = DatasetFolder(options.against, flag="--against")
        old_info = old_folder.load_info()
        old_expected = replace(expected, info=old_info, other=info, sources=None)
        old = ShardExaminer(folder=old_folder, expected=old_expected)
        expected = replace(expected, other=old_info)
        jobs += _jobs(old_folder, old_info, old=True)
    examiner = ShardExaminer(folder=folder, expected=expected, old=old)
    # Otherwise a worker might begin the largest shard when the others are done.
    return examiner, sorted(jobs, key=lambda job: -job.shard.bytes)


def _run_pipeline(folder: DatasetFolder, info: DatasetInfo, options: ValidationOptions) -> Result:
    # Beam takes most of a second to import, which a wrong folder need not wait for.
    from pipelines.runners.local import parse_beam_args
    from pipelines.runners.progress import ProgressBar
    from pipelines.runners.tasks import run_tasks
    from pipelines.validation.examine_shards import validation_job

    execution = parse_beam_args(options.run.beam_args, workers=options.run.local_workers)
    if not execution.local:
        # Workers on other machines have another current folder.
        folder = replace(folder, path=absolute(folder.path))
        old = options.against
        options = replace(options, against=None if old is None else absolute(old))
    examiner, jobs = prepare(folder, info, options)
    if not jobs:
        return conclude(examiner, [])
    total = sum(job.shard.bytes for job in jobs)
    children = execution.local and execution.workers > 1 and total > _MIN_BYTES_FOR_CHILDREN
    with tempfile.TemporaryDirectory(dir=scratch_folder("validation")) as scratch:
        path = Path(scratch) / "result.json"
        if not execution.local:
            if options.json is None:
                raise UserError(
                    "with a --runner whose workers are on other machines, --json must be a path that they "
                    "and this machine share"
                )
            path = Path(f"{Path(options.json).resolve()}.part")
        run_tasks(
            execution,
            jobs,
            lambda local: validation_job(examiner, str(path), local, children=children),
            ProgressBar("Validating", "B", total, scaled=True),
        )
        result = from_json(Result, json.loads(path.read_bytes()))
        path.unlink()
        return result


def _jobs(folder: DatasetFolder, info: DatasetInfo, *, old: bool = False) -> list[ShardJob]:
    """Returns the shards that exist."""
    missing = set(folder.list_files(info).missing)
    return [
        ShardJob(split=name, shard=shard, old=old)
        for name, split in info.splits.items()
        for shard in split.shards
        if shard.file not in missing
    ]
