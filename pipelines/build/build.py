"""A dataset from a listing: probe, plan, build, finish. Every kind of footage goes this way."""

from __future__ import annotations

import functools
import hashlib
import importlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.build.finish import Totals, finish_build
from pipelines.build.output import OutputFolder
from pipelines.build.plan_file import plan_lines, shard_places
from pipelines.build.probe import cut_sources, survey_sources
from pipelines.build.progress import Progress, shards_shown
from pipelines.build.shard import ShardBuilder, library_versions
from pipelines.build.stored_output import open_output
from pipelines.decoding.client import shared_pool
from pipelines.errors import UsageError, UserError
from pipelines.options.dataset import DatasetOptions, RunOptions
from pipelines.plan.descriptors import Listing, Shard
from pipelines.plan.shards import Estimate, order_work, plan_shards
from pipelines.sources.files import absolute
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.spec import SequenceSpec


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build is going to do.

    Attributes:
        listing: what to build from.
        shards: what to build.
        estimates: by split, what to expect.
        totals: for the end of the build.
    """

    listing: Listing
    shards: tuple[Shard, ...]
    estimates: dict[str, Estimate]
    totals: Totals


def sequence_spec(listing: Listing, options: DatasetOptions) -> SequenceSpec:
    """What the records of a dataset will hold."""
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
        UsageError: when a column that is said to mirror is neither target nor signal.
    """
    _check_mirrored(sequence_spec(listing, options), options.label.mirrored_columns or ())
    pool = shared_pool(run.decode_timeout, run.staging_size)
    survey = survey_sources(
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
    """Builds what is planned into ``output``, or finishes what an interrupted run began.

    Returns:
        The description of the complete dataset.

    Raises:
        UserError: when the folder is taken, too many sources failed, or a shard could not be written.
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
    if plan.shards:
        errors = _run_pipeline(builder, plan, run)
    else:
        # No source came as far as a shard.
        outcome = finish_build(builder, [], plan.totals)
        errors = [outcome.error] if outcome.error else []
    if errors:
        raise UserError(errors[0])
    info = output.complete_info()
    if info is None:
        raise UserError(
            output.stored_error() or f"{output.path} was not completed, and no worker said why"
        )
    return info


def _builder(listing: Listing, options: DatasetOptions, output: OutputFolder) -> ShardBuilder:
    return ShardBuilder(
        output=output,
        spec=sequence_spec(listing, options),
        options=options,
        versions=library_versions(),
    )


def import_beam_meanwhile() -> None:
    """Starts to import what building needs: most of a second, which probing need not wait for."""
    threading.Thread(
        target=importlib.import_module, args=("pipelines.build.transforms",), daemon=True
    ).start()


def _run_pipeline(builder: ShardBuilder, plan: Plan, run: RunOptions) -> list[str]:
    """Runs the Beam pipeline to its end; returns what went wrong."""
    import apache_beam as beam

    from pipelines.build.transforms import BuildDataset
    from pipelines.runners.events import EventReader
    from pipelines.runners.local import parse_beam_args

    execution = parse_beam_args(run.beam_args, workers=run.local_workers)
    stage = functools.partial(
        BuildDataset, decode_timeout=run.decode_timeout, staging_size=run.staging_size
    )
    places = shard_places(builder.output)
    pipeline = execution.pipeline()
    if not execution.local:
        # Workers elsewhere have another current folder.
        output = open_output(absolute(builder.output.path))
        work = beam.Create([[(place, 1)] for place in places], reshuffle=False)
        builds = stage(replace(builder, output=output), events=None)
        _ = pipeline | "Work" >> work | "Build" >> builds
        with shards_shown(output, planned=len(plan.shards)):
            execution.run(pipeline)
        return []
    sequences = sum(estimate.sequences for estimate in plan.estimates.values())
    progress = Progress(sequences=sequences, shards=len(plan.shards))
    with progress, EventReader(progress.hear) as events:
        order = order_work(plan.shards, execution.workers)
        everything = [(places[index], threads) for index, threads in order]
        work = beam.Create([everything] * execution.workers, reshuffle=False)
        _ = pipeline | "Work" >> work | "Build" >> stage(builder, events=events.descriptor)
        execution.run(pipeline)
    return progress.errors
