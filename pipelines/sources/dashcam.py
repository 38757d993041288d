"""``--input`` of ``pipelines dashcam``: folders of frames with annotations, or drives with telemetry."""

from __future__ import annotations

from dataclasses import replace

from pipelines.errors import UsageError
from pipelines.options.dataset import DatasetOptions, ImageOptions
from pipelines.plan.descriptors import Listing
from pipelines.sources.annotated_frames import list_annotated_frames
from pipelines.sources.drives import list_drives
from pipelines.sources.listing import group_sources
from pipelines.sources.split_lists import apply_split_lists


def check_dashcam_options(options: DatasetOptions) -> None:
    """Checks that the options name one origin of labels and signals, and do not contradict each other.

    Raises:
        UsageError: if they do not.
    """
    annotation, telemetry, label = options.annotation, options.telemetry, options.label
    if annotation is None and telemetry is None:
        raise UsageError(
            "labels must come either from annotation files (--annotation and --label, for folders of frames) "
            "or from telemetry (--telemetry, for drives), got neither"
        )
    if annotation is not None:
        if label.label_columns or label.class_column:
            raise UsageError(
                "--label_columns and --class_column name columns of telemetry. For folders of frames, "
                "find the label with --label"
            )
        if options.sampling.frame_rate is None:
            raise UsageError(
                "folders of frames have no times. Give their frames per second with --frame_rate"
            )
        if options.split.split_by == "time":
            raise UsageError("--split_by time is for drives. Folders of frames are never divided")
        return
    if label.label_names:
        raise UsageError(
            "--label_names needs --annotation. Columns of telemetry already have names"
        )
    if telemetry and not (label.label_columns or label.class_column or telemetry.signal_columns):
        raise UsageError(
            "--label_columns, --class_column or --signal_columns must name columns of the telemetry, got none"
        )
    if telemetry and telemetry.no_images and options.image != ImageOptions():
        raise UsageError("--no_images excludes the flags for images, such as --size")
    if telemetry:
        stray = [
            column
            for column in telemetry.angle_columns
            if column not in (*label.label_columns, *telemetry.signal_columns)
        ]
        if stray:
            raise UsageError(
                f"--angle_columns must be among --label_columns and --signal_columns, got {stray[0]!r}"
            )


def list_dashcam(location: str, options: DatasetOptions) -> Listing:
    """Lists the dash-cam footage at ``location``, with its groups and published splits.

    Raises:
        UserError: if there is nothing at ``location``, or its contents contradict the options.
    """
    if options.annotation is not None:
        listing = list_annotated_frames(
            location,
            annotation=options.annotation,
            label=options.label,
            sampling=options.sampling,
        )
    elif options.telemetry is not None:
        listing = list_drives(
            location,
            telemetry=options.telemetry,
            label=options.label,
            sampling=options.sampling,
        )
    else:
        raise ValueError("options must pass check_dashcam_options first")
    sources, notes = apply_split_lists(listing.sources, options.split.split_lists)
    return replace(
        listing,
        sources=tuple(group_sources(sources, options.split.group_by)),
        notes=(*listing.notes, *notes),
    )
