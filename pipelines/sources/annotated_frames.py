"""Folders of frames with an annotation file: ``DIR/<id>/imgs/001.jpg ...`` and ``DIR/<id>/annotation.json``.

A *sample folder* is one that holds the annotation file. Its frames are the images directly in it, or in its
only sub-folder with images. No image is opened.
"""

from __future__ import annotations

import os
from dataclasses import replace

from pipelines.errors import UserError
from pipelines.labels.annotations import AnnotationError, read_label
from pipelines.labels.rounding import Rounding, add_rows, check_targets
from pipelines.options.dataset import LabelOptions, SamplingOptions
from pipelines.options.telemetry import AnnotationOptions
from pipelines.plan.descriptors import Listing, SideFile, Source
from pipelines.sources.files import Files, check_location
from pipelines.sources.frame_folders import describe_frame_folder, describe_frame_folders
from pipelines.sources.listing import UnusableFolderError, file_fields, list_failure
from pipelines.sources.sample_folders import ImageFolder, find_image_folders, match_annotations
from pipelines.sources.sample_labels import (
    LabelShape,
    SampleLabel,
    choose_shape,
    label_spec,
    read_sample_label,
    target_names,
)
from tfrecords_schema import storage
from tfrecords_schema.paths import folder_name
from tfrecords_schema.running.scratch import scratch_folder


def list_annotated_frames(
    root: str, *, annotation: AnnotationOptions, label: LabelOptions, sampling: SamplingOptions
) -> Listing:
    """Lists the sample folders below ``root``, or ``root`` as one, with their labels."""
    root, files = check_location(root), Files()
    if not storage.is_folder(root):
        raise UserError(f"--input must be a folder that holds folders of frames, got {root}")
    folders = find_image_folders(root, annotation.annotation, files)
    if not any(folder.annotated for folder in folders.values()):
        found = sum(bool(folder.images) for folder in folders.values())
        raise UserError(
            f"{root}: expected a file {annotation.annotation} beside the frames, but no folder has one, and "
            f"{found} folders have images. Check --input and --annotation"
        )
    name = folder_name(root) or "dataset"
    root_id = "." if name in folders else name  # ids are unique
    frame_folders, reasons = match_annotations(folders, annotation.annotation)
    failures = {data_path or root_id: reason for data_path, reason in reasons.items()}
    sources: dict[str, Source] = {}
    labels: dict[str, SampleLabel] = {}
    roundings: dict[LabelShape, list[Rounding]] = {}
    for data_path, images in frame_folders.items():
        source_id = data_path or root_id
        try:
            source = describe_frame_folder(images.path, source_id, images.images, sampling, files)
            own, file = _read_label(
                folders[data_path], annotation, label, len(images.images), files
            )
        except (UnusableFolderError, AnnotationError) as error:
            failures[source_id] = str(error)
            continue
        if own.shape not in roundings:
            names = target_names(own.shape, label, annotation.label) if own.shape.targets else ()
            offsets = dict(label.target_offset)
            roundings[own.shape] = [Rounding(name, offsets.get(name, 0.0)) for name in names]
        add_rows(roundings[own.shape], own.rows)
        labels[source_id] = replace(own, rows=())  # those of all folders are too many to keep
        sources[source_id] = replace(
            source,
            values=own.values,
            labels=() if own.shape.by_frame else own.classes,
            telemetry=file if own.shape.by_frame else None,
            mtime_ns=max(source.mtime_ns, file.mtime_ns),
        )
    if not labels:
        first = min(failures)
        raise UserError(
            f"{root}: none of {len(failures)} folders of frames can be used, for example {first!r}: "
            f"{failures[first]}"
        )
    shape = choose_shape(labels, annotation.label)
    usable = {source_id: own for source_id, own in labels.items() if own.shape == shape}
    for source_id in labels.keys() - usable.keys():
        failures[source_id] = (
            f"the label is {labels[source_id].shape}, but most other labels are {shape}"
        )
    add_rows(roundings[shape], [own.values for own in usable.values() if own.values])
    spec = label_spec(
        shape, {name for own in usable.values() for name in own.classes}, label, annotation.label
    )
    check_targets(root, roundings[shape])
    others = sum(folder.others for folder in folders.values())
    notes = [f"{others} files that are not named as images were left out"] if others else []
    return Listing(
        name=name,
        sources=tuple(sources[source_id] for source_id in sorted(usable)),
        label=spec,
        failures=(
            *(list_failure(id, Exception(failures[id])) for id in sorted(failures)),
            *files.failures,
        ),
        notes=(*notes, *describe_frame_folders(files)),
    )


def _read_label(
    folder: ImageFolder,
    annotation: AnnotationOptions,
    options: LabelOptions,
    num_frames: int,
    files: Files,
) -> tuple[SampleLabel, SideFile]:
    """Returns the label of a sample folder, and the file that holds it."""
    path = os.path.join(folder.path, annotation.annotation)
    data_path = os.path.join(folder.data_path, annotation.annotation)
    try:
        file = SideFile(**file_fields(path, data_path, files))
        with storage.local_copy(path, scratch=scratch_folder("listing")) as local:
            found = read_label(local, data_path, annotation.label)
    except OSError as error:
        raise UnusableFolderError(f"{annotation.annotation}: {error.strerror or error}") from error
    return read_sample_label(found, options, num_frames), file
