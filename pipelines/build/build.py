"""Builds a dataset from a listing, whatever the footage: probe, plan, build, finish."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipelines.build.finish import Totals, finish_build
from pipelines.build.growth import Growth, source_digest
from pipelines.build.output import OutputFolder
from pipelines.build.probe import survey_footage
from pipelines.build.shard import ShardBuilder, library_versions
from pipelines.errors import FailedWorkError, UsageError, UserError
from pipelines.options.dataset import DatasetOptions, RunOptions
from pipelines.plan.descriptors import Listing, Shard
from pipelines.plan.shards import Estimate, order_work, plan_shards
from tfrecords_schema.info import DatasetInfo
from tfrecords_schema.paths import absolute
from tfrecords_schema.running.progress import progress_bar
from tfrecords_schema.sources import SourceRow
from tfrecords_schema.spec import SequenceSpec

_POLL_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a build.

    Attributes:
        listing: the sources.
        builder: the common part of all shards.
        shards: the shards to build.
        estimates: expected sources, sequences and bytes by split.
        totals: numbers that the finished build is checked against.
        growth: the dataset that the shards are added to; None for a new one.
        notes: lines for the user about how footage was read.
        unmeasured: classes with footage of unknown duration.
    """

    listing: Listing
    builder: ShardBuilder
    shards: tuple[Shard, ...]
    estimates: dict[str, Estimate]
    totals: Totals
    growth: Growth | None = None
    notes: tuple[str, ...] = ()
    unmeasured: frozenset[str] = frozenset()

    def source_rows(self) -> Iterator[SourceRow]:
        """Yields a row for each listed source, with the split of its group."""
        splits = {
            segment.source.group: shard.split for shard in self.shards for segment in shard.segments
        }
        for source in self.listing.sources:
            yield SourceRow(
                id=source.id,
                group=source.group,
                split=splits.get(source.group),
                digest=source_digest(source),
            )


def make_plan(
    listing: Listing,
    options: DatasetOptions,
    run: RunOptions,
    output: OutputFolder,
    growth: Growth | None = None,
) -> Plan:
    """Probes the sources and plans the shards.

    Raises:
        UsageError: if ``--mirrored_columns`` names neither a target nor a signal, or ``--target_offset`` no
            target.
        UserError: if the dataset to add to holds other records.
    """
    rate, telemetry = options.sampling.frame_rate, options.telemetry
    spec = SequenceSpec(
        num_frames=options.sampling.num_frames,
        frame_rate=None if rate is None else float(rate),
        image=None if telemetry and telemetry.no_images else options.image.spec,
        label=listing.label,
        signals=telemetry.signals if telemetry else (),
    )
    options.label.offsets_of(spec.label.target_names)
    for column in options.label.mirrored_columns or ():
        if column not in spec.value_names:
            raise UsageError(
                f"--mirrored_columns must name targets or signals ({', '.join(spec.value_names) or 'none'}), "
                f"got {column!r}"
            )
    builder = ShardBuilder(output=output, spec=spec, options=options, versions=library_versions())
    if growth is not None:
        growth.check_spec(spec)
    survey = survey_footage(listing, options, run)
    existing = growth.existing_shards if growth else None
    shards, estimates = plan_shards(survey.segments, survey.probes, options, existing)
    names = spec.label.class_names
    labels = {source.id: source.labels for source in listing.sources} if survey.failures else {}
    classes = Counter(
        name
        for source in {failure.source for failure in survey.failures}
        for name in labels.get(source, ())
    )
    for estimate in estimates.values():
        classes.update({name: cell.sources for name, cell in estimate.classes.items()})
    fingerprints = [builder.fingerprint(shard) for shard in shards]
    if growth is not None:
        fingerprints.insert(0, growth.info.fingerprint)
    old_groups = Counter(growth.group_splits.values() if growth else ())
    return Plan(
        listing=listing,
        builder=builder,
        shards=tuple(shards),
        estimates=estimates,
        totals=Totals(
            sources=survey.num_sources + (growth.old_sources if growth else 0),
            tasks=len(shards),
            failures=survey.failures,
            max_failure_rate=run.max_failure_rate,
            by_file=survey.by_file,
            split_sources={split: estimate.sources for split, estimate in estimates.items()},
            split_groups={
                split: estimate.groups - old_groups[split] for split, estimate in estimates.items()
            },
            class_sources=tuple(classes[name] for name in names) if classes else (),
            fingerprint=hashlib.sha256("\n".join(fingerprints).encode()).hexdigest(),
            appended_to=growth.info.fingerprint if growth else "",
        ),
        growth=growth,
        notes=survey.notes,
        unmeasured=frozenset(
            name
            for source in survey.sources
            for name in source.labels
            if not survey.probes[source.path].duration
        ),
    )


def build_dataset(plan: Plan, run: RunOptions) -> DatasetInfo:
    """Builds the planned shards, or continues an interrupted build; returns the dataset's description.

    Raises:
        UserError: if the folder holds another build, too many sources failed, or a shard was not written.
    """
    output, options = plan.builder.output, plan.builder.options.to_json()
    if plan.growth is not None:
        return _append(plan, plan.growth, run)
    output.check_free_for(options, overwrite=run.overwrite)
    with output.locked():
        # Again under the lock: another run may have finished the dataset while this one waited or planned.
        output.check_free_for(options, overwrite=run.overwrite)
        info = None if run.overwrite else output.complete_info()
        if info is None:
            return _build(plan, run)
        unfinished = output.has_unfinished_append(info)
        if not unfinished:
            output.leave_complete()
    if info.fingerprint != plan.totals.fingerprint:
        hint = (
            "continues the append that was interrupted there"
            if unfinished
            else "adds new sources to it"
        )
        raise UserError(
            f"{output.path} was built with the same options from other sources or library versions: "
            f"--append {hint}. Otherwise give another --output, or --overwrite to replace it"
        )
    return info


def _append(plan: Plan, growth: Growth, run: RunOptions) -> DatasetInfo:
    """Adds the planned shards to the dataset in the folder, or only ends what a killed append left."""
    output = plan.builder.output
    with output.locked():
        if output.complete_info() != growth.info:
            raise UserError(
                f"{output.path} was changed by another run meanwhile: type the command again"
            )
        if plan.listing.sources or plan.listing.failures:
            return _build(plan, run)
        output.leave_complete()
    return growth.info


def _build(plan: Plan, run: RunOptions) -> DatasetInfo:
    output = plan.builder.output
    offsets = output.begin(
        plan.builder.options.to_json(),
        plan.totals,
        plan.shards,
        sources=plan.source_rows(),
        growing=plan.growth.info if plan.growth else None,
    )
    if plan.shards:
        _run_pipeline(plan, offsets, run)
    elif error := finish_build(plan.builder, [], plan.totals).error:
        raise FailedWorkError(error)  # no source got as far as a shard
    info = output.complete_info()
    if info is None or info.fingerprint != plan.totals.fingerprint:
        unknown = f"{output.path} was not completed, and no worker reported why"
        raise FailedWorkError(output.stored_error() or unknown)
    return info


def import_beam_meanwhile() -> None:
    """Imports Beam in the background, which takes most of a second, while sources are listed and probed."""
    threading.Thread(
        target=importlib.import_module, args=("pipelines.build.build_shards",), daemon=True
    ).start()


def _run_pipeline(plan: Plan, offsets: Sequence[int], run: RunOptions) -> None:
    """Runs the Beam pipeline to its end."""
    from pipelines.build.build_shards import build_job
    from pipelines.runners.local import parse_beam_args
    from pipelines.runners.progress import ProgressBar
    from pipelines.runners.tasks import run_tasks

    execution = parse_beam_args(run.beam_args, workers=run.local_workers)
    builder, pool = plan.builder, (run.decode_timeout, run.staging_size)
    view: contextlib.AbstractContextManager[ProgressBar | None]
    if execution.local:
        order = order_work(plan.shards, execution.workers)
        tasks = [(offsets[index], threads) for index, threads in order]
        sequences = round(sum(estimate.sequences for estimate in plan.estimates.values()))
        view = ProgressBar("Building", "seq", sequences, tasks=len(tasks))
    else:
        # Workers elsewhere have another current folder.
        builder = replace(builder, output=OutputFolder(absolute(builder.output.path)))
        tasks = [(offset, 1) for offset in offsets]
        view = _watch_shards(builder.output, len(tasks))
    run_tasks(
        execution,
        tasks,
        lambda local: build_job(builder, pool, local),
        view,
    )


@contextlib.contextmanager
def _watch_shards(output: OutputFolder, planned: int) -> Iterator[None]:
    """Shows a bar of the shards that have appeared in the folder, as workers elsewhere send no events."""

    def update() -> None:
        with contextlib.suppress(OSError):  # the next poll may succeed
            bar.update(len(output.complete_shards()) - bar.n)

    def watch() -> None:
        update()
        while not ended.wait(_POLL_SECONDS):
            update()

    ended = threading.Event()
    watcher = threading.Thread(target=watch, daemon=True)
    with progress_bar(total=planned, desc="Building", unit="shard") as bar:
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            update()
