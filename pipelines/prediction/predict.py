"""Runs an exported model over footage: the whole of ``pipelines predict``, from options to predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.build.probe import cut_sources, probe_sources
from pipelines.decoding.client import shared_pool
from pipelines.decoding.preflight import check_decoder
from pipelines.errors import UserError
from pipelines.options.dataset import RunOptions
from pipelines.options.verbs import PredictionOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.plan.shards import estimate_segment
from pipelines.prediction.chunks import Chunk, plan_chunks
from pipelines.prediction.export_info import Export, open_export
from pipelines.prediction.input_listing import list_footage
from pipelines.prediction.overlay_videos import draw_overlays
from pipelines.prediction.predict_chunks import PredictFootage, SequenceBuilder
from pipelines.prediction.publish import Expected, Outcome, conclude
from pipelines.prediction.work import WorkFolder
from pipelines.runners.local import Execution, parse_beam_args
from pipelines.runners.progress import ProgressBar
from pipelines.runners.tasks import LocalRun, run_tasks
from pipelines.storage.scratch import scratch_folder


@dataclass(frozen=True)
class _Plan:
    """The plan of a prediction.

    Attributes:
        export: the model's description.
        sources, chunks: the usable footage; sources that failed already are in ``expected``.
        expected: numbers that the finished run is checked against.
        sequences: estimated number of sequences.
        minutes: estimated duration of the footage.
    """

    export: Export
    sources: tuple[Source, ...]
    chunks: list[Chunk]
    expected: Expected
    sequences: int
    minutes: float


def predict_footage(options: PredictionOptions, say: Callable[[str], None]) -> None:
    """Predicts every sequence of the footage, and draws the predictions if ``--overlay`` is given.

    Args:
        options: the options of ``pipelines predict``.
        say: receives messages for the user, one or more lines at a time.

    Raises:
        UserError: if the model or the footage cannot be used, or too many sources failed. The output is then
            what it was before.
    """
    run = options.run
    execution = parse_beam_args(run.beam_args, workers=run.local_workers)
    export = open_export(options.model, stride=options.stride, telemetry_template=options.telemetry)
    check_decoder(run)
    listing = list_footage(options.input, export.options)
    for note in (*listing.notes, *_notes(export)):
        say(f"note: {note}")
    model = _load(export)
    plan = _plan(export, listing, run)
    say(
        f"{export.info.name}: predicting {len(plan.sources)} of {plan.expected.sources} sources, about "
        f"{plan.minutes:.1f} minutes"
    )
    builder = SequenceBuilder(export.spec, export.options, batch_size=options.batch_size, run=run)
    work = WorkFolder.make(options.output)
    try:
        if plan.chunks:
            outcome = _run(execution, plan, builder, model, work)
        else:
            outcome = conclude([], plan.expected, work)
        if outcome.error is not None:
            listed = f" (see {work.failures_path})" if outcome.failed + outcome.truncated else ""
            raise UserError(f"{outcome.error}{listed}")
        say(_describe(outcome, plan.expected, work))
    finally:
        work.remove()
    if options.overlay is not None:
        say(draw_overlays(options, export, builder, plan.sources))


def _notes(export: Export) -> Iterator[str]:
    differing = export.differing_libraries()
    if differing:
        yield (
            "the training set was made with other versions, so pixels may differ in the last bit: "
            f"{'; '.join(differing)}"
        )


def _plan(export: Export, listing: Listing, run: RunOptions) -> _Plan:
    """Probes the sources, and cuts them into chunks."""
    options, pool = export.options, shared_pool(run.decode_timeout, run.staging_size)
    survey = probe_sources(
        listing.sources, options, pool, run.local_workers, max_failure_rate=run.max_failure_rate
    )
    segments, uncut = cut_sources(survey, options, pool, run.local_workers)
    failures = (*listing.failures, *survey.failures, *uncut)
    chunks = plan_chunks(segments)
    rates = {path: probe.frame_rate for path, probe in survey.probes.items()}
    return _Plan(
        export=export,
        sources=survey.sources,
        chunks=chunks,
        expected=Expected(
            sources=len(survey.sources) + len({failure.source for failure in failures}),
            chunks=len(chunks),
            failures=failures,
            max_failure_rate=run.max_failure_rate,
            num_frames=export.spec.num_frames,
        ),
        sequences=round(
            sum(estimate_segment(s, rates[s.source.path], options.sampling) for s in segments)
        ),
        minutes=sum(segment.seconds for segment in segments) / 60,
    )


def _load(export: Export) -> Any:
    """Returns the model's handler, after loading the model once to report a broken one before any work."""
    try:
        from pipelines.prediction.exported_model import ServedModelHandler
    except ImportError as error:
        raise UserError(
            f"predicting needs TensorFlow, which is not installed ({error}): pip install 'reelbeam[trainer]'"
        ) from error
    handler = ServedModelHandler(export.path, export.info, export.spec, export.reading)
    handler.load_model()
    return handler


def _run(
    execution: Execution, plan: _Plan, builder: SequenceBuilder, model: Any, work: WorkFolder
) -> Outcome:
    """Runs the Beam pipeline to its end."""

    def make_job(local: LocalRun | None) -> PredictFootage:
        return PredictFootage(
            work=work,
            builder=builder,
            model=model,
            label=plan.export.info.spec.label,
            expected=plan.expected,
            local=local,
        )

    view = ProgressBar("Predicting", "seq", plan.sequences)
    run_tasks(execution, work.store_plan(plan.chunks), make_job, view, scratch_folder("claims"))
    if view.errors:
        raise UserError(view.errors[0])
    outcome = work.read_outcome()
    if outcome is None:
        raise UserError(
            f"{work.output} was not written, and no worker reported why: see the log above"
        )
    return Outcome(**outcome)


def _describe(outcome: Outcome, expected: Expected, work: WorkFolder) -> str:
    lines = [
        f"{outcome.sequences} sequences of {expected.sources - outcome.failed} sources are predicted in "
        f"{work.output}"
    ]
    for what, count in (("failed", outcome.failed), ("truncated", outcome.truncated)):
        if count:
            lines.append(f"{count} sources {what}: see {work.failures_path}")
    if outcome.short_clips:
        lines.append(f"{outcome.short_clips} clips were shorter than {expected.num_frames} frames")
    return "\n".join(lines)
