"""Folders of frames with an annotation file: ``DIR/<id>/imgs/001.jpg ...`` and ``DIR/<id>/annotation.json``.

A *sample folder* is one that holds the annotation file. Its frames are the images directly in it, or in its
one sub-folder with images. No image is opened here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from pipelines.errors import UserError
from pipelines.images.frame_names import FrameSequence, find_duplicate, order_frames
from pipelines.labels.annotations import AnnotationError, read_label
from pipelines.options.dataset import LabelOptions, SamplingOptions
from pipelines.options.telemetry import AnnotationOptions
from pipelines.plan.descriptors import Listing, SideFile, Source, SourceFailure
from pipelines.sources.files import LOCAL_FILES, Files, absolute, check_location, folder_name
from pipelines.sources.frame_labels import SampleLabel, choose_shape, label_spec, understand_label
from pipelines.sources.image_folders import (
    ImageFolder,
    find_frames,
    find_unannotated,
    walk_image_folders,
)
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.store_clients import Stored


class UnusableFolderError(Exception):
    """Why a folder of frames gives no source."""


@dataclass(frozen=True)
class _Sample:
    """A sample folder that can be used, as far as it alone tells."""

    source: Source
    label: SampleLabel
    numbered: bool


def list_frame_folders(
    root: str, *, annotation: AnnotationOptions, label: LabelOptions, sampling: SamplingOptions
) -> Listing:
    """Lists the sample folders under ``root``, with their labels.

    Args:
        root: a folder; it may itself be a sample folder.
        annotation: which file is the annotation, and where the label stands in it.
        label: whether the label is the sequence's or each frame's, and what its targets are called.
        sampling: how long sequences are; ``frame_rate`` is that at which the frames were taken.

    Raises:
        UserError: when there are no frames, no annotations, or no labels of one kind.
        OSError: when a folder cannot be read.
    """
    root, files = check_location(root), Files()
    if not files.is_folder(root):
        raise UserError(f"--input must be a folder that holds folders of frames, got {root}")
    folders = {
        folder.data_path: folder
        for folder in walk_image_folders(root, annotation.annotation, files)
    }
    _check_found(root, folders.values(), annotation.annotation)
    name = folder_name(root) or "dataset"
    root_id = "." if name in folders else name  # an id is unique
    image_folders = find_frames(folders)
    reasons = find_unannotated(folders, image_folders, annotation.annotation)
    samples: dict[str, _Sample] = {}
    for data_path, own in image_folders.items():
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
        failures=tuple(
            SourceFailure(source=source_id, stage="list", reason=failures[source_id])
            for source_id in sorted(failures)
        ),
        notes=tuple(_notes(folders.values(), samples)),
    )


def _check_found(root: str, folders: Collection[ImageFolder], annotation: str) -> None:
    with_images = [folder for folder in folders if folder.images]
    annotated = [folder for folder in folders if folder.annotated]
    if not with_images and not annotated:
        raise UserError(
            f"expected folders of frames in {root}, but it holds no images (by file name): "
            "check --input"
        )
    if not annotated:
        raise UserError(
            f"expected a file {annotation} beside the frames, but no folder in {root} has one "
            f"(there are images in {len(with_images)}, such as {with_images[0].path}): "
            "check --annotation"
        )


def _read_sample(
    source_id: str,
    folder: ImageFolder,
    image_folders: list[ImageFolder],
    annotation: AnnotationOptions,
    label: LabelOptions,
    sampling: SamplingOptions,
    files: Files,
) -> _Sample:
    if len(image_folders) != 1:
        names = ", ".join(sorted(os.path.basename(own.data_path) for own in image_folders))
        raise UnusableFolderError(
            f"frames in several folders ({names}), where one is expected"
            if image_folders
            else "no images (by file name), neither directly in it nor in a folder in it"
        )
    (images,) = image_folders
    described, frames = describe_frame_folder(
        images.path, source_id, images.images, sampling, files
    )
    annotation_path = os.path.join(folder.path, annotation.annotation)
    status = _file_status(folder.path, annotation.annotation, files)
    side_file = SideFile(
        path=absolute(annotation_path),
        data_path=os.path.join(folder.data_path, annotation.annotation),
        bytes=status.bytes,
        mtime_ns=status.mtime_ns,
    )
    try:
        with files.local(annotation_path) as local:
            found = read_label(local, side_file.data_path, annotation.label)
    except OSError as error:
        raise UnusableFolderError(f"{annotation.annotation}: {error.strerror or error}") from error
    own = understand_label(found, label, len(frames.names))
    source = replace(
        described,
        labels=() if own.shape.by_frame else own.classes,
        values=own.values,
        mtime_ns=max(described.mtime_ns, status.mtime_ns),
        telemetry=side_file if own.shape.by_frame else None,
    )
    return _Sample(source, own, frames.numbered)


def describe_frame_folder(
    path: str,
    source_id: str,
    images: Collection[str],
    sampling: SamplingOptions,
    files: Files = LOCAL_FILES,
) -> tuple[Source, FrameSequence]:
    """The source that a folder of frames is, and its frames in order.

    Args:
        path: of the folder.
        source_id: what it is called in the dataset.
        images: names of its image files.
        sampling: how long sequences are; ``frame_rate`` is that at which the frames were taken.
        files: what knows of the images.

    Raises:
        UnusableFolderError: when no sequence can be made of it.
    """
    frames = order_frames(images)
    _check_frames(frames, sampling)
    statuses = [_file_status(path, name, files) for name in frames.names]
    rate = sampling.frame_rate or Fraction(1)  # the caller has seen to it that there is one
    source = Source(
        id=source_id,
        path=absolute(path),
        data_path=source_id,
        group=source_id,
        bytes=sum(status.bytes for status in statuses),
        mtime_ns=max(status.mtime_ns for status in statuses),
        kind="frames",
        seconds=float(frames.total_slots / rate),
    )
    return source, frames


def _check_frames(frames: FrameSequence, sampling: SamplingOptions) -> None:
    """Raises `UnusableFolderError` when the frames are not distinct, or no sequence can be made of them."""
    duplicate = find_duplicate(frames.names)
    if duplicate:
        raise UnusableFolderError(
            f"{duplicate[0]} and {duplicate[1]} are one frame twice: keep one"
        )
    wanted, count = sampling.num_frames, len(frames.names)
    if frames.total_slots < wanted and sampling.short_clips == "drop":
        raise UnusableFolderError(
            f"{count} {'frame' if count == 1 else 'frames'}, where --num_frames asks for {wanted}: "
            "see --short_clips"
        )
    holes = frames.holes()
    if not holes or sampling.sampling == "uniform":
        return  # a frame picked from a hole is replaced by the next one
    runs = frames.runs()
    if any(_holds_sequence(run, frames.total_slots, sampling) for run in runs):
        return
    missing, verb = frames.describe_hole(holes[0]), "leaves"
    if len(holes) > 1:
        missing += f", and there {_count_more(len(holes) - 1)}"
        verb = "leave"
    left = f"no {wanted} frames in a row"
    if max(map(len, runs)) >= wanted:
        at_stride = f"that begin at a multiple of --stride {sampling.window_stride}"
        left += " at the end" if sampling.sampling == "last" else f" {at_stride}"
    raise UnusableFolderError(f"{missing}, which {verb} {left}")


def _count_more(holes: int) -> str:
    return "is 1 more such hole" if holes == 1 else f"are {holes} more such holes"


def _holds_sequence(run: range, total_slots: int, sampling: SamplingOptions) -> bool:
    """Whether a sequence lies within a run of slots; see `pipelines.plan.sampling`."""
    if sampling.sampling == "last":
        return run.stop == total_slots and len(run) >= sampling.num_frames
    start = -(-run.start // sampling.window_stride) * sampling.window_stride
    return start + sampling.num_frames <= run.stop


def _file_status(folder: str, name: str, files: Files) -> Stored:
    try:
        return files.status(os.path.join(folder, name))
    except OSError as error:
        raise UnusableFolderError(f"{name}: {error.strerror or error}") from error


def _common_label(
    root: str,
    samples: dict[str, _Sample],
    failures: dict[str, str],
    annotation: AnnotationOptions,
    options: LabelOptions,
) -> LabelSpec:
    """The label of the dataset; samples with one of another kind become failures."""
    if not samples:
        first = min(failures)
        raise UserError(
            f"none of {len(failures)} folders of frames in {root} can be used, "
            f"such as {first!r}: {failures[first]}"
        )
    labels = {source_id: sample.label for source_id, sample in samples.items()}
    shape = choose_shape(labels, annotation.label)
    for source_id, own in labels.items():
        if own.shape != shape:
            del samples[source_id]
            failures[source_id] = f"the label is {own.shape}, where most others are {shape}"
    classes = {name for sample in samples.values() for name in sample.label.classes}
    return label_spec(shape, classes, options, annotation.label)


def _notes(folders: Collection[ImageFolder], samples: Mapping[str, _Sample]) -> Iterator[str]:
    others = sum(folder.others for folder in folders)
    if others:
        yield f"{others} files that are not named as images were left out"
    unnumbered = sorted(source_id for source_id, sample in samples.items() if not sample.numbered)
    if unnumbered:
        yield (
            f"frames are not numbered in {len(unnumbered)} folders (such as {unnumbered[0]}): "
            "none can be known to be missing there"
        )
