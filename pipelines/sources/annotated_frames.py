"""Folders of frames with an annotation file: ``DIR/<id>/imgs/001.jpg ...`` and ``DIR/<id>/annotation.json``.

A *sample folder* is one that holds the annotation file. Its frames are the images directly in it, or in its
only sub-folder with images. No image is opened.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from pipelines.errors import UserError
from pipelines.labels.annotations import AnnotationError, read_label
from pipelines.options.dataset import LabelOptions, SamplingOptions
from pipelines.options.telemetry import AnnotationOptions
from pipelines.plan.descriptors import Listing, SideFile, Source
from pipelines.sources.files import Files, check_location
from pipelines.sources.frame_folders import (
    UnusableFolderError,
    describe_frame_folder,
    file_status,
)
from pipelines.sources.listing import list_failure
from pipelines.sources.sample_folders import (
    ImageFolder,
    find_frames,
    find_unannotated,
    walk_image_folders,
)
from pipelines.sources.sample_labels import SampleLabel, choose_shape, label_spec, read_sample_label
from pipelines.storage.scratch import scratch_folder
from tfrecords_schema import storage
from tfrecords_schema.paths import absolute, folder_name
from tfrecords_schema.spec import LabelSpec


@dataclass(frozen=True)
class _Sample:
    """The source of a sample folder, its label, and whether its frames are numbered."""

    source: Source
    label: SampleLabel
    numbered: bool


def list_annotated_frames(
    root: str, *, annotation: AnnotationOptions, label: LabelOptions, sampling: SamplingOptions
) -> Listing:
    """Lists the sample folders below ``root``, with their labels.

    Args:
        root: a folder; it may itself be a sample folder.
        annotation: name of the annotation file, and the expression that finds the label in it.
        label: whether the label is for the sequence or for each frame, and the names of its targets.
        sampling: length of sequences; ``frame_rate`` is the rate at which the frames were recorded.

    Raises:
        UserError: if there are no frames, no annotations, or no labels of one kind.
        OSError: if a folder cannot be read.
    """
    root, files = check_location(root), Files()
    if not storage.is_folder(root):
        raise UserError(f"--input must be a folder that holds folders of frames, got {root}")
    folders = {
        folder.data_path: folder
        for folder in walk_image_folders(root, annotation.annotation, files)
    }
    _check_found(root, folders.values(), annotation.annotation)
    name = folder_name(root) or "dataset"
    root_id = "." if name in folders else name  # ids are unique
    frame_folders = find_frames(folders)
    reasons = find_unannotated(folders, frame_folders, annotation.annotation)
    samples: dict[str, _Sample] = {}
    for data_path, own in frame_folders.items():
        source_id = data_path or root_id
        try:
            samples[source_id] = _read_sample(
                source_id, folders[data_path], own, annotation, label, sampling, files
            )
        except (UnusableFolderError, AnnotationError) as error:
            reasons[data_path] = str(error)
    failures = {data_path or root_id: reason for data_path, reason in reasons.items()}
    spec = _common_label(root, samples, failures, annotation, label)
    return Listing(
        name=name,
        sources=tuple(samples[source_id].source for source_id in sorted(samples)),
        label=spec,
        failures=tuple(list_failure(id, Exception(failures[id])) for id in sorted(failures)),
        notes=tuple(_notes(folders.values(), samples)),
    )


def _check_found(root: str, folders: Collection[ImageFolder], annotation: str) -> None:
    with_images = [folder for folder in folders if folder.images]
    annotated = [folder for folder in folders if folder.annotated]
    if not with_images and not annotated:
        raise UserError(
            f"{root}: expected folders of frames, but no file name has the extension of an image. "
            "Check --input"
        )
    if not annotated:
        raise UserError(
            f"{root}: expected a file {annotation} beside the frames, but no folder has one. There are "
            f"images in {len(with_images)} folders, for example {with_images[0].path}. Check --annotation"
        )


def _read_sample(
    source_id: str,
    folder: ImageFolder,
    frame_folders: list[ImageFolder],
    annotation: AnnotationOptions,
    label: LabelOptions,
    sampling: SamplingOptions,
    files: Files,
) -> _Sample:
    if len(frame_folders) != 1:
        names = ", ".join(sorted(os.path.basename(own.data_path) for own in frame_folders))
        raise UnusableFolderError(
            f"expected frames in one folder, but found them in several ({names})"
            if frame_folders
            else "no images (by file name), neither in this folder nor in its sub-folders"
        )
    (images,) = frame_folders
    source, frames = describe_frame_folder(images.path, source_id, images.images, sampling, files)
    annotation_path = os.path.join(folder.path, annotation.annotation)
    data_path = os.path.join(folder.data_path, annotation.annotation)
    status = file_status(folder.path, annotation.annotation, files)
    try:
        with storage.local_copy(annotation_path, scratch=scratch_folder("listing")) as local:
            found = read_label(local, data_path, annotation.label)
    except OSError as error:
        raise UnusableFolderError(f"{annotation.annotation}: {error.strerror or error}") from error
    own = read_sample_label(found, label, len(frames.names))
    source = replace(source, values=own.values, mtime_ns=max(source.mtime_ns, status.mtime_ns))
    if own.shape.by_frame:
        file = SideFile(
            path=absolute(annotation_path),
            data_path=data_path,
            bytes=status.bytes,
            mtime_ns=status.mtime_ns,
        )
        source = replace(source, telemetry=file)
    else:
        source = replace(source, labels=own.classes)
    return _Sample(source, own, frames.numbered)


def _common_label(
    root: str,
    samples: dict[str, _Sample],
    failures: dict[str, str],
    annotation: AnnotationOptions,
    options: LabelOptions,
) -> LabelSpec:
    """Returns the label of the dataset; moves samples with a label of another kind to ``failures``."""
    if not samples:
        first = min(failures)
        raise UserError(
            f"{root}: none of {len(failures)} folders of frames can be used, for example {first!r}: "
            f"{failures[first]}"
        )
    labels = {source_id: sample.label for source_id, sample in samples.items()}
    shape = choose_shape(labels, annotation.label)
    for source_id, own in labels.items():
        if own.shape != shape:
            del samples[source_id]
            failures[source_id] = f"the label is {own.shape}, but most other labels are {shape}"
    classes = {name for sample in samples.values() for name in sample.label.classes}
    return label_spec(shape, classes, options, annotation.label)


def _notes(folders: Collection[ImageFolder], samples: Mapping[str, _Sample]) -> Iterator[str]:
    others = sum(folder.others for folder in folders)
    if others:
        yield f"{others} files that are not named as images were left out"
    unnumbered = sorted(source_id for source_id, sample in samples.items() if not sample.numbered)
    if unnumbered:
        yield (
            f"frames are not numbered in {len(unnumbered)} folders (for example {unnumbered[0]}), "
            "so missing ones cannot be noticed there"
        )
