"""Lists the ``--input`` of ``pipelines predict``: unlabelled footage of any kind that builds accept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions, LabelOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.prediction.export_info import Export
from pipelines.sources import manifest
from pipelines.sources.drives import list_drives
from pipelines.sources.files import Files, check_location
from pipelines.sources.frame_folders import describe_frame_folder
from pipelines.sources.listing import (
    UnusableFolderError,
    describe_all,
    describe_file,
    find_files,
    group_images,
    is_video,
)
from pipelines.sources.sample_folders import ImageFolder, find_image_folders
from tfrecords_schema import storage
from tfrecords_schema.paths import folder_name, relative
from tfrecords_schema.spec import LabelSpec


def list_footage(location: str, export: Export) -> Listing:
    """Lists the footage at ``location``: a video, a folder, a glob or a manifest.

    A folder is searched at any depth. If it holds no videos, each folder of images is a source, and so is an
    empty one, which fails. For a model with signals, which needs telemetry, `list_drives` lists the footage.
    The listing has the name of a single video, or of the folder.

    Raises:
        UserError: if there is nothing to predict.
    """
    listing = _list(location, export)
    is_single = is_video(location) and storage.is_file(location)
    return replace(listing, name=os.path.basename(location)) if is_single else listing


def _list(location: str, export: Export) -> Listing:
    options = export.options
    if options.telemetry is not None:
        return list_drives(
            location,
            telemetry=options.telemetry,
            label=LabelOptions(),
            sampling=options.sampling,
        )
    location, files = check_location(location), Files()
    if location.lower().endswith(manifest.EXTENSIONS) and storage.is_file(location):
        return manifest.list_manifest(location, LabelOptions(), labelled=False)
    root, paths = find_files(location, "a video, a folder, a glob or a manifest", files)
    videos = [path for path in paths if is_video(path)]
    notes: tuple[str, ...] = ()
    if videos:
        if others := len(paths) - len(videos):
            notes = (f"{others} files were skipped: their names do not end like a video's",)
        items = ((relative(path, root), path) for path in videos)
        sources, failures = describe_all(
            items, lambda data_path, path: describe_file(path, data_path, files)
        )
    else:
        folders = group_images(paths)
        _check_frames(location, len(paths), folders, options)
        annotation = export.info.options.get("annotation")
        if storage.is_folder(location):
            found = find_image_folders(root, annotation or "", Files())
            folders |= {f.path: [] for f in found.values() if _lacks_images(f, found)}

        def describe(data_path: str, folder: str) -> Source:
            if not (images := folders[folder]):
                raise UnusableFolderError("no images, by file name")
            return describe_frame_folder(folder, data_path, images, options.sampling, files)

        ids = _source_ids(folders, root)
        if ids != {folder: relative(folder, root) for folder in folders}:
            notes = ("a folder of frames has the name of the folder around it, as in a build",)
        sources, failures = describe_all(((ids[folder], folder) for folder in folders), describe)
    return Listing(
        name=folder_name(root) or "footage",
        sources=tuple(sources),
        label=LabelSpec(),
        failures=(*failures, *files.failures),
        notes=notes,
    )


def _lacks_images(folder: ImageFolder, folders: Mapping[str, ImageFolder]) -> bool:
    """Returns True for a sample folder without frames: an empty one, or one with an annotation alone."""
    is_leaf = not any(path.startswith(f"{folder.data_path}/") for path in folders)
    return bool(folder.data_path) and is_leaf and not folder.images and not folder.others


def _source_ids(folders: Mapping[str, Sequence[str]], root: str) -> dict[str, str]:
    """Returns the id of each folder of frames: its path, or that of its sample folder.

    Samples keep their frames in sub-folders of one name (``1/imgs``, ``2/imgs``); a build names them 1 and 2.
    """
    own = {folder: relative(folder, root) for folder in folders}
    split = {folder: os.path.split(path) for folder, path in own.items()}
    inner = {split[folder][1] for folder, images in folders.items() if images}
    samples = {
        folder: path if name in inner else own[folder] for folder, (path, name) in split.items()
    }
    are_samples = (
        len(inner) == 1 and "" not in samples.values() and len(set(samples.values())) == len(own)
    )
    return samples if are_samples else own


def _check_frames(
    location: str, found: int, folders: dict[str, list[str]], options: DatasetOptions
) -> None:
    if not folders:
        raise UserError(
            f"expected videos or folders of images at {location}, but none of its {found} files has a name "
            "that ends like a video or an image"
        )
    if options.sampling.frame_rate is None:
        raise UserError(
            f"{location} holds folders of images, which have no times. The model was trained without "
            "--frame_rate, on the times of videos: give videos, or a model trained with --frame_rate"
        )
