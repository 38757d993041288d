"""Runs an exported model over footage: the whole of ``pipelines predict``, from options to predictions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pipelines.build.finish import Expected
from pipelines.build.preflight import check_decoder
from pipelines.build.probe import Survey, survey_footage
from pipelines.build.shard import library_versions
from pipelines.errors import FailedWorkError, UsageError, UserError
from pipelines.images.text import undrawable
from pipelines.options.verbs import PredictionOptions
from pipelines.plan.descriptors import SourceFailure
from pipelines.plan.shards import estimate_segment
from pipelines.prediction.chunks import Chunk, plan_chunks, source_order
from pipelines.prediction.export_info import Export, open_export
from pipelines.prediction.formats import RowFormat
from pipelines.prediction.input_listing import list_footage
from pipelines.prediction.lines import ModelOutput
from pipelines.prediction.live import predict_live
from pipelines.prediction.overlay_videos import draw_overlays
from pipelines.prediction.predict_chunks import prediction_job
from pipelines.prediction.publish import ChunkReport, Publication, conclude
from pipelines.prediction.rows import RowOptions
from pipelines.prediction.work import Outcome, WorkFolder
from pipelines.runners.local import Execution, parse_beam_args
from pipelines.runners.progress import ProgressBar
from pipelines.runners.tasks import run_tasks
from tfrecords_schema import storage
from tfrecords_schema.codec import to_json
from tfrecords_schema.report.pages import plural

_MAX_SAID = 5


def predict_footage(options: PredictionOptions, say: Callable[[str], None]) -> None:
    """Predicts every sequence of the footage, and draws the predictions if ``--overlay`` is given.

    ``say`` receives messages for the user, one or more lines at a time.

    Raises:
        UserError: if the model or the footage cannot be used; the output is then what it was before. Or if
            too many sources failed; the output then holds the answers for the others.
    """
    run = options.run
    execution = parse_beam_args(run.beam_args, workers=run.local_workers)
    export = open_export(
        options.model,
        stride=options.window_stride,
        telemetry_template=options.telemetry,
        trusted=options.trust_model,
    )
    export = replace(export, options=replace(export.options, footage=options.footage))
    rows = _row_options(options, export)
    row_format = RowFormat.of(options.output, options.columns or (), options.rows, rows.output)
    label = export.info.spec.label
    drawn = (*label.class_names, *label.target_names, *label.target_units)
    if options.overlay is not None and (unknown := undrawable(drawn)):
        named = ", ".join(map(repr, unknown[:_MAX_SAID]))
        say(
            f"note: overlays have question marks for letters that no font of this machine has, in {named}. "
            "Install a font that has them, such as Noto Sans"
        )
    if options.live:
        predict_live(options, export, rows, row_format, lambda: _load(export).load_model(), say)
        return
    fill = _fill(options, export)
    if options.telemetry and options.overlay is None and export.options.telemetry is None:
        raise UsageError(
            "--telemetry holds only targets for this model, which takes no signals, and targets are shown in "
            "--overlay. Give a folder for --overlay, or leave --telemetry out"
        )
    check_decoder(run)
    listing = list_footage(options.input, export)
    for note in (*listing.notes, *_describe_failures(listing.failures)):
        say(f"note: {note}")
    if differing := export.differing_libraries():
        say(
            "note: the training set was made with other versions, so pixels may differ in the last bit: "
            f"{'; '.join(differing)}"
        )
    model = _load(export)
    survey = survey_footage(listing, export.options, run)
    for note in survey.notes:
        say(note)
    publication = Publication(
        expected=Expected(
            sources=survey.num_sources,
            tasks=0,
            failures=survey.failures,
            max_failure_rate=run.max_failure_rate,
        ),
        name=listing.name,
        num_frames=export.spec.num_frames,
        rows=rows,
        format=row_format,
        fill=fill,
    )
    minutes = sum(segment.seconds for segment in survey.segments) / 60
    say(
        f"{listing.name}: predicting {len(survey.sources)} of {survey.num_sources} sources, about "
        f"{minutes:.1f} minutes, {_describe_rows(rows, export)}"
    )
    with WorkFolder.locked(options.output) as work:
        outcome = _run(options, execution, export, model, survey, publication, work, say)
        if outcome.written:
            try:
                if options.overlay is not None:
                    say(draw_overlays(options, export, survey, work))
            finally:
                work.remove()
    if outcome.failed:
        raise FailedWorkError(outcome.text)
    say(outcome.text)


def _run(
    options: PredictionOptions,
    execution: Execution,
    export: Export,
    model: Any,
    survey: Survey,
    publication: Publication,
    work: WorkFolder,
    say: Callable[[str], None],
) -> Outcome:
    """Predicts the chunks that an earlier run has not, and writes the output."""
    sampling = export.options.sampling
    chunks = plan_chunks(survey.segments)
    offsets = work.begin(_key(options, export, chunks), chunks, _source_ids(survey))
    kept = {n: report for n, report in work.reports(ChunkReport).items() if report.is_final}
    publication = replace(
        publication,
        expected=replace(publication.expected, tasks=len(chunks)),
        kept=tuple(kept.values()),
    )
    left = [chunk for chunk in chunks if chunk.index not in kept]
    if kept:
        say(f"{len(kept)} of {len(chunks)} parts are predicted already, by an interrupted run")
    if not left:
        return conclude([], publication, work)
    rates = {path: probe.frame_rate for path, probe in survey.probes.items()}
    sequences = sum(
        estimate_segment(segment, rates[segment.source.path], sampling)
        for chunk in left
        for segment in chunk.segments
    )
    run_tasks(
        execution,
        [offsets[chunk.index] for chunk in left],
        lambda local: prediction_job(export, model, options, publication, work, local),
        ProgressBar("Predicting", "seq", round(sequences)),
    )
    outcome = work.read_outcome()
    if outcome is None:
        raise UserError(
            f"{work.output} was not written, and no worker reported why: see the log above"
        )
    return outcome


def _row_options(options: PredictionOptions, export: Export) -> RowOptions:
    """Returns how answers become rows; raises `UsageError` for options that the model gives no meaning."""
    label, rate = export.info.spec.label, export.options.sampling.frame_rate
    if options.rows == "segment" and label.task == "regression":
        raise UsageError("--segments is of classes, and the model predicts values. Leave it out")
    if options.fill is not None and label.task != "regression":
        raise UsageError("--fill is of values, and the model predicts classes. Leave it out")
    angles = export.info.options.get("angle_columns") or ()
    join = options.join or ("last" if export.predicts_last_frame else "mean")
    return RowOptions(
        per=options.rows,
        output=ModelOutput(label=label, thresholds=export.thresholds),
        is_angle=tuple(name in angles for name in label.target_names),
        join=join,
        hold=0.0 if rate is None else float(1 / rate) - 1e-6,
        smooth=options.smooth,
        min_score=options.min_score,
        min_seconds=options.min_seconds,
    )


def _describe_rows(rows: RowOptions, export: Export) -> str:
    stride = export.options.sampling.window_stride
    if rows.per in ("sequence", "source"):
        return f"a row for each {rows.per}"
    covering = {
        "mean": "the mean of the sequences that cover it",
        "last": "the answer of the sequence that ends at it, or soonest after it",
    }
    return (
        f"a row for each {rows.per}. A frame has {covering[rows.join]} (--join {rows.join}, --stride "
        f"{stride}); a frame in no sequence has the answer of the nearest one"
    )


def _fill(options: PredictionOptions, export: Export) -> tuple[float, ...] | None:
    """Returns the values of ``--fill`` by target, less the targets' offsets; None without it."""
    label, fill = export.info.spec.label, options.fill
    if fill is None:
        return None
    if fill == "mean":
        train = export.info.splits.get("train")
        if train is None or not train.targets:
            raise UsageError(
                "--fill mean needs the means of the training set, which the model's export does not have. "
                "Give a number"
            )
        return tuple(target.mean for target in train.targets)
    value = 0.0 if fill == "zero" else float(fill)
    return tuple(value - offset for offset in label.offsets)


def _describe_failures(failures: Sequence[SourceFailure]) -> list[str]:
    """Returns notes on sources that cannot even be listed."""
    if not failures:
        return []
    named = "; ".join(f"{f.source}: {f.reason}" for f in failures[:_MAX_SAID])
    more = f"; and {len(failures) - _MAX_SAID} more" if len(failures) > _MAX_SAID else ""
    return [f"{plural(len(failures), 'source')} cannot be predicted: {named}{more}"]


def _source_ids(survey: Survey) -> list[str]:
    """Returns the ids of all sources, with those that failed, in the order of the output."""
    keys = {s.id: source_order(s.id, s.data_path, s.start) for s in survey.sources}
    for failure in survey.failures:
        keys.setdefault(failure.source, source_order(failure.source))
    return sorted(keys, key=lambda name: keys[name])


def _key(options: PredictionOptions, export: Export, chunks: Sequence[Chunk]) -> str:
    """Returns a digest of all that decides the answers: footage, model, options and libraries."""
    digest = hashlib.sha256()
    files = [f"{export.path}/saved_model.pb"]
    variables = f"{export.path}/variables"
    for name, stored in storage.list_folder(variables).items():
        digest.update(f"{name} {stored.bytes}".encode())
        files.append(f"{variables}/{name}")
    for file in files:
        with storage.open_stream(file) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    shared = [
        options.by_frame,
        options.batch_size,
        export.options.to_json(),
        to_json(export.reading),
    ]
    for part in (library_versions(), *shared, *map(to_json, chunks)):
        digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


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
