"""Builds a dataset from a listing, whatever the footage: probe, plan, build, finish."""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.build.finish import Totals, finish_build
from pipelines.build.output import OutputFolder
from pipelines.build.plan_file import plan_lines, shard_offsets
from pipelines.build.probe import cut_sources, probe_sources
from pipelines.build.progress import ShardWatcher
from pipelines.build.shard import ShardBuilder, library_versions
from pipelines.decoding.client import shared_pool
from pipelines.errors import UsageError, UserError
from pipelines.options.dataset import DatasetOptions, RunOptions
from pipelines.plan.descriptors import Listing, Shard
from pipelines.plan.shards import Estimate, order_work, plan_shards
from pipelines.storage.scratch import scratch_folder
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.paths import absolute
from tfrecords_schema.spec import SequenceSpec


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a build.

    Attributes:
        listing: the sources.
        shards: the shards to build.
        estimates: expected sources, sequences and bytes by split.
        totals: numbers that the finished build is checked against.
    """

    listing: Listing
    shards: tuple[Shard, ...]
    estimates: dict[str, Estimate]
    totals: Totals


def sequence_spec(listing: Listing, options: DatasetOptions) -> SequenceSpec:
    """Returns the spec of the records that a build will write."""
    rate, telemetry = options.sampling.frame_rate, options.telemetry
    return SequenceSpec(
        num_frames=options.sampling.num_frames,
        frame_rate=None if rate is None else float(rate),
        image=None if telemetry and telemetry.no_images else options.image.spec,
        label=listing.label,
        signals=telemetry.signals if telemetry else (),
    )


def _check_mirrored(spec: SequenceSpec, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in spec.value_names:
            raise UsageError(
                f"--mirrored_columns must name targets or signals ({', '.join(spec.value_names) or 'none'}), "
                f"got {column!r}"
            )


def make_plan(
    listing: Listing, options: DatasetOptions, run: RunOptions, output: OutputFolder
) -> Plan:
    """Probes the sources and plans the shards.

    Raises:
        UsageError: if ``--mirrored_columns`` names neither a target nor a signal.
    """
    _check_mirrored(sequence_spec(listing, options), options.label.mirrored_columns or ())
    pool = shared_pool(run.decode_timeout, run.staging_size)
    survey = probe_sources(
        listing.sources, options, pool, run.local_workers, max_failure_rate=run.max_failure_rate
    )
    segments, uncut = cut_sources(survey, options, pool, run.local_workers)
    failures = (*listing.failures, *survey.failures, *uncut)
    shards, estimates = plan_shards(segments, survey.probes, options)
    builder = _builder(listing, options, output)
    fingerprints = "\n".join(builder.fingerprint(shard) for shard in shards)
    return Plan(
        listing=listing,
        shards=tuple(shards),
        estimates=estimates,
        totals=Totals(
            sources=len(survey.sources) + len({failure.source for failure in failures}),
            split_sources={split: estimate.sources for split, estimate in estimates.items()},
            split_groups={split: estimate.groups for split, estimate in estimates.items()},
            shards=len(shards),
            failures=failures,
            max_failure_rate=run.max_failure_rate,
            fingerprint=hashlib.sha256(fingerprints.encode()).hexdigest(),
        ),
    )


def build_dataset(
    plan: Plan, options: DatasetOptions, run: RunOptions, output: OutputFolder
) -> DatasetInfo:
    """Builds the planned shards into ``output``, or continues an interrupted build.

    Returns:
        The description of the complete dataset.

    Raises:
        UserError: if the folder holds another build, too many sources failed, or a shard was not written.
    """
    output.check_free_for(options.to_json(), overwrite=run.overwrite)
    with output.locked():
        # Again under the lock: another run may have finished the dataset while this one waited or planned.
        output.check_free_for(options.to_json(), overwrite=run.overwrite)
        info = None if run.overwrite else output.complete_info()
        if info is None:
            return _build(plan, options, run, output)
        output.leave_complete()
    if info.fingerprint != plan.totals.fingerprint:
        raise UserError(
            f"{output.path} was built with the same options from other sources or library versions: "
            "give another --output, or --overwrite to replace it"
        )
    return info


def _build(
    plan: Plan, options: DatasetOptions, run: RunOptions, output: OutputFolder
) -> DatasetInfo:
    builder = _builder(plan.listing, options, output)
    output.begin(
        options.to_json(),
        plan_lines(plan.shards, plan.totals),
        {shard.file for shard in plan.shards},
    )
    errors: list[str] = []
    if plan.shards:
        errors = _run_pipeline(builder, plan, run)
    elif error := finish_build(builder, [], plan.totals).error:  # no source got as far as a shard
        errors = [error]
    info = None if errors else output.complete_info()
    if info is None:
        unknown = f"{output.path} was not completed, and no worker reported why"
        raise UserError(errors[0] if errors else output.stored_error() or unknown)
    return info


def _builder(listing: Listing, options: DatasetOptions, output: OutputFolder) -> ShardBuilder:
    return ShardBuilder(
        output=output,
        spec=sequence_spec(listing, options),
        options=options,
        versions=library_versions(),
    )


def import_beam_meanwhile() -> None:
    """Imports Beam in the background, which takes most of a second, while sources are listed and probed."""
    threading.Thread(
        target=importlib.import_module, args=("pipelines.build.build_shards",), daemon=True
    ).start()


def _run_pipeline(builder: ShardBuilder, plan: Plan, run: RunOptions) -> list[str]:
    """Runs the Beam pipeline to its end; returns the errors of local workers."""
    from pipelines.build.build_shards import BuildDataset
    from pipelines.runners.local import parse_beam_args
    from pipelines.runners.progress import ProgressBar
    from pipelines.runners.tasks import LocalRun, ProgressView, run_tasks

    execution = parse_beam_args(run.beam_args, workers=run.local_workers)
    offsets = shard_offsets(builder.output)
    view: ProgressView
    if execution.local:
        order = order_work(plan.shards, execution.workers)
        tasks = [(offsets[index], threads) for index, threads in order]
        sequences = round(sum(estimate.sequences for estimate in plan.estimates.values()))
        view = ProgressBar("Building", "seq", sequences, tasks=len(tasks))
    else:
        # Workers elsewhere have another current folder.
        builder = replace(builder, output=OutputFolder(absolute(builder.output.path)))
        tasks = [(offset, 1) for offset in offsets]
        view = ShardWatcher(builder.output, planned=len(tasks))

    def make_job(local: LocalRun | None) -> BuildDataset:
        return BuildDataset(
            builder, decode_timeout=run.decode_timeout, staging_size=run.staging_size, local=local
        )

    run_tasks(execution, tasks, make_job, view, scratch_folder("claims"))
    return view.errors
