"""``--input`` of ``pipelines dashcam``: folders of frames with annotations, or drives with telemetry."""

from __future__ import annotations

import itertools

from pipelines.errors import UsageError
from pipelines.options.dataset import DatasetOptions, ImageOptions
from pipelines.plan.descriptors import Listing
from pipelines.sources.annotated_frames import list_annotated_frames
from pipelines.sources.drives import list_drives
from pipelines.sources.grouping import group_and_split
from pipelines.sources.split_folders import apply_split_folders


def check_dashcam_options(options: DatasetOptions) -> None:
    """Raises `UsageError` unless the options name one origin of labels and signals and fit each other."""
    telemetry, label, require = options.telemetry, options.label, options.require
    if options.annotation is not None:
        require(
            not (label.label_columns or label.class_column),
            "--label_columns and --class_column name columns of telemetry. For folders of frames, "
            "find the label with --label",
        )
        require(
            options.split.split_by != "time",
            "--split_by time is for drives. Folders of frames are never divided",
        )
        return
    if telemetry is None:
        raise UsageError(
            "labels must come either from annotation files (--annotation and --label, for folders of frames) "
            "or from telemetry (--telemetry, for drives), got neither"
        )
    numbers = (*label.label_columns, *telemetry.signal_columns)
    require(
        not label.label_names,
        "--label_names needs --annotation. Columns of telemetry already have names",
    )
    require(
        bool(numbers or label.class_column),
        "--label_columns, --class_column or --signal_columns must name columns of the telemetry, got none",
    )
    require(
        not telemetry.no_images or options.image == ImageOptions(),
        "--no_images excludes the flags for images, such as --size",
    )
    require(
        not telemetry.label_ahead or (bool(label.label_columns) and label.label_at == "last"),
        "--label_ahead needs --label_columns, and values after the last frame, so no other --label_at",
    )
    computed_from = itertools.chain(*(own.names for own in telemetry.formulas.values()))
    known = {*numbers, *computed_from}
    for column in telemetry.angle_columns:
        require(
            column in known,
            "--angle_columns must be among --label_columns, --signal_columns and the columns in --derive, "
            f"got {column!r}",
        )


def list_dashcam(location: str, options: DatasetOptions) -> Listing:
    """Lists the dash-cam footage at ``location``, with its groups and published splits."""
    annotation, telemetry = options.annotation, options.telemetry
    label, sampling = options.label, options.sampling
    if annotation is not None:
        listing = list_annotated_frames(
            location, annotation=annotation, label=label, sampling=sampling
        )
    elif telemetry is not None:
        listing = list_drives(location, telemetry=telemetry, label=label, sampling=sampling)
    else:
        raise ValueError("options must pass check_dashcam_options first")
    split = options.split
    return group_and_split(apply_split_folders(listing, split), split, label)
