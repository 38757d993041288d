"""Runs an exported model over footage: the whole of ``pipelines predict``, from options to predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.build.finish import Expected
from pipelines.build.probe import survey_footage
from pipelines.decoding.preflight import check_decoder
from pipelines.errors import UserError
from pipelines.options.verbs import PredictionOptions
from pipelines.plan.shards import estimate_segment
from pipelines.prediction.chunks import plan_chunks
from pipelines.prediction.export_info import Export, open_export
from pipelines.prediction.input_listing import list_footage
from pipelines.prediction.overlay_videos import draw_overlays
from pipelines.prediction.predict_chunks import prediction_job
from pipelines.prediction.publish import conclude
from pipelines.prediction.work import WorkFolder
from pipelines.runners.local import parse_beam_args
from pipelines.runners.progress import ProgressBar
from pipelines.runners.tasks import run_tasks


def predict_footage(options: PredictionOptions, say: Callable[[str], None]) -> None:
    """Predicts every sequence of the footage, and draws the predictions if ``--overlay`` is given.

    ``say`` receives messages for the user, one or more lines at a time.

    Raises:
        UserError: if the model or the footage cannot be used, or too many sources failed. The output is then
            what it was before.
    """
    run = options.run
    execution = parse_beam_args(run.beam_args, workers=run.local_workers)
    export = open_export(
        options.model,
        stride=options.stride,
        telemetry_template=options.telemetry,
        trusted=options.trust_model,
    )
    check_decoder(run)
    listing = list_footage(options.input, export.options)
    for note in listing.notes:
        say(f"note: {note}")
    if differing := export.differing_libraries():
        say(
            "note: the training set was made with other versions, so pixels may differ in the last bit: "
            f"{'; '.join(differing)}"
        )
    model = _load(export)
    survey = survey_footage(listing, export.options, run)
    segments, chunks = survey.segments, plan_chunks(survey.segments)
    expected = Expected(
        sources=survey.num_sources,
        tasks=len(chunks),
        failures=survey.failures,
        max_failure_rate=run.max_failure_rate,
    )
    say(
        f"{export.info.name}: predicting {len(survey.sources)} of {expected.sources} sources, about "
        f"{sum(segment.seconds for segment in segments) / 60:.1f} minutes"
    )
    work = WorkFolder.make(options.output)
    try:
        if chunks:
            rates = {path: probe.frame_rate for path, probe in survey.probes.items()}
            sequences = sum(
                estimate_segment(segment, rates[segment.source.path], export.options.sampling)
                for segment in segments
            )
            run_tasks(
                execution,
                work.store_plan(chunks),
                lambda local: prediction_job(export, model, options, expected, work, local),
                ProgressBar("Predicting", "seq", round(sequences)),
            )
            outcome = work.read_outcome()
        else:
            outcome = conclude([], expected, export.spec.num_frames, work)
        if outcome is None:
            raise UserError(
                f"{work.output} was not written, and no worker reported why: see the log above"
            )
        if outcome.failed:
            raise UserError(outcome.text)
        say(outcome.text)
    finally:
        work.remove()
    if options.overlay is not None:
        say(draw_overlays(options, export, survey.sources))


def _load(export: Export) -> Any:
    """Returns the model's handler, after loading the model once to report a broken one before any work."""
    try:
        from pipelines.prediction.exported_model import ServedModelHandler
    except ImportError as error:
        raise UserError(
            f"predicting needs TensorFlow, which is not installed ({error}): pip install 'reelbeam[trainer]'"
        ) from error
    handler = ServedModelHandler(export)
    handler.load_model()
    return handler
