"""Draws predictions on the footage, one video per source: ``--overlay``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from pipelines.build.probe import Survey, in_parallel
from pipelines.build.shard import record_request
from pipelines.decoding.client import shared_pool
from pipelines.decoding.protocol import BuildRequest, DecodingFailure, OverlayRequest
from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions
from pipelines.options.verbs import PredictionOptions
from pipelines.plan.descriptors import Segment, Source
from pipelines.prediction.captions import make_captions
from pipelines.prediction.export_info import Export
from pipelines.prediction.lines import ModelOutput, json_line
from pipelines.prediction.rows import RowOptions, make_rows
from pipelines.prediction.work import WorkFolder
from pipelines.sources.drives import find_telemetry
from tfrecords_schema import storage


def draw_overlays(
    options: PredictionOptions, export: Export, survey: Survey, work: WorkFolder
) -> str:
    """Draws the answers in the work folder on the footage; returns lines for the user.

    If ``export`` says how to read targets, those of each frame are shown beside the answers.

    Raises:
        UserError: if one cannot be drawn, after all were tried.
    """
    folder, run = Path(str(options.overlay)), options.run
    pool = shared_pool(run.decode_timeout, run.staging_size)
    label = export.info.spec.label
    meaning = ModelOutput(label=label, thresholds=export.thresholds)
    ranges = work.ranges()
    wanted = [
        source for source in survey.sources if source.id in ranges and source.kind != "telemetry"
    ]
    targets = {source.id: folder / _file_name(source.id) for source in wanted}
    if len(set(targets.values())) < len(targets):
        raise UserError(
            "--overlay would write two sources to one file, as their names differ only in .mp4: rename one"
        )

    without_targets: dict[str, str] = {}  # reasons by source

    def find_targets(source: Source) -> BuildRequest | None:
        """Returns the request for the targets of a source; None if it has none."""
        if export.targets is None:
            return None
        try:
            file = source.telemetry
            if file is None and not source.parts:
                file = find_telemetry(source, export.targets)
        except OSError as error:
            without_targets[source.id] = str(error)
            return None
        created = survey.probes[source.path].created
        source = replace(source, telemetry=file, clock_start=source.clock_start or created)
        request = record_request(Segment(source=source), export.info.spec, export.options)
        column = export.info.build_options.class_column
        return replace(request, telemetry=export.targets, label=LabelOptions(class_column=column))

    def draw(source: Source) -> str | None:
        """Draws one source; returns the reason if that failed, else None."""
        answers = work.answers_in(ranges[source.id])
        rows = make_rows(source.id, answers, RowOptions(per="sequence", output=meaning))
        captions = make_captions(
            [json_line(row, meaning) for row in rows],
            num_frames=export.spec.num_frames,
            at_end=export.predicts_last_frame,
            offsets=label.offsets,
        )
        build = record_request(Segment(source=source), export.spec, export.options)
        request = OverlayRequest(
            build=build, captions=tuple(captions), output="", targets=find_targets(source)
        )
        target = targets[source.id]
        try:
            storage.make_folder(target.parent, inside=folder)
            with storage.replacing(target, suffix=".mp4") as partial, pool.borrow() as decoder:
                request = replace(request, output=str(partial.absolute()))
                try:
                    decoder.draw(request)
                except DecodingFailure as failure:
                    if failure.stage != "telemetry":
                        raise
                    without_targets[source.id] = failure.reason
                    decoder.draw(replace(request, targets=None))
        except DecodingFailure as failure:
            return f"{failure.stage}: {failure.reason}"
        except OSError as error:
            return f"{target}: {error.strerror or error}"
        return None

    reasons = in_parallel(draw, wanted, run.local_workers, "Drawing")
    failed = [(s.id, why) for s, why in zip(wanted, reasons, strict=True) if why is not None]
    if failed:
        name, why = failed[0]
        raise UserError(
            f"{len(failed)} of {len(wanted)} sources could not be drawn, such as {name!r}: {why}; the "
            f"predictions are complete in {options.output}"
        )
    said = f"{len(wanted)} sources are drawn in {folder}"
    for name, why in sorted(without_targets.items())[:1]:
        said += f"\nnote: {len(without_targets)} of them without targets, such as {name!r}: {why}"
    return said


def _file_name(source_id: str) -> str:
    """Returns the path of a source's video in the folder of overlays."""
    inside = os.path.normpath(os.path.join(os.sep, source_id)).lstrip(os.sep)
    return inside if inside.endswith(".mp4") else f"{inside}.mp4"
