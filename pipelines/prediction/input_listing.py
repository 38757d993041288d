"""Lists the ``--input`` of ``pipelines predict``: unlabelled footage of any kind that builds accept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from pipelines.errors import UserError
from pipelines.images.frame_names import is_image
from pipelines.options.dataset import DatasetOptions, LabelOptions
from pipelines.plan.descriptors import Listing, Source, SourceFailure
from pipelines.sources import manifest
from pipelines.sources.drives import list_drives
from pipelines.sources.files import Files, check_location
from pipelines.sources.frame_folders import describe_frame_folder
from pipelines.sources.listing import (
    UnusableFolderError,
    describe_file,
    is_glob,
    is_video,
    list_failure,
    list_matching,
    walk_files,
)
from tfrecords_schema import storage
from tfrecords_schema.paths import folder_name, relative
from tfrecords_schema.spec import LabelSpec


def list_footage(location: str, options: DatasetOptions) -> Listing:
    """Lists the footage at ``location``: a video, a folder, a glob or a manifest.

    A folder is searched at any depth. If it holds no videos, each folder of images is a source. For a model
    with signals, which needs telemetry, `list_drives` lists the footage.

    Raises:
        UserError: if there is nothing to predict.
    """
    if options.telemetry is not None:
        return list_drives(
            location,
            telemetry=options.telemetry,
            label=LabelOptions(),
            sampling=options.sampling,
        )
    location, files = check_location(location), Files()
    if location.lower().endswith(manifest.EXTENSIONS) and storage.is_file(location):
        return manifest.list_manifest(location, LabelOptions(), labelled=False, files=files)
    root, paths = _find(location, files)
    videos = [path for path in paths if is_video(path)]
    if videos:
        others = len(paths) - len(videos)
        notes = (
            (f"{others} files were skipped: their names do not end like a video's",)
            if others
            else ()
        )
        return _listing(root, videos, lambda path, name: describe_file(path, name, files), notes)
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if is_image(name):
            folders.setdefault(folder, []).append(name)
    _check_frames(location, len(paths), folders, options)

    def describe(folder: str, data_path: str) -> Source:
        images = folders[folder]
        return describe_frame_folder(folder, data_path, images, options.sampling, files)[0]

    return _listing(root, folders, describe, ())


def _find(location: str, files: Files) -> tuple[str, list[str]]:
    """Returns the root of the input, and the files in it."""
    if storage.is_folder(location):
        return location, list(walk_files(location, files=files))
    if is_glob(location):
        return list_matching(location, files)
    if not storage.exists(location):
        raise UserError(
            f"--input must be a video, a folder, a glob or a manifest; there is nothing at {location}"
        )
    return os.path.dirname(location) or ".", [location]


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


def _listing(
    root: str,
    paths: Iterable[str],
    describe: Callable[[str, str], Source],
    notes: tuple[str, ...],
) -> Listing:
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for path in paths:
        data_path = relative(path, root)
        try:
            sources.append(describe(path, data_path))
        except OSError as error:  # a link that leads nowhere
            failures.append(list_failure(data_path, error))
        except UnusableFolderError as error:
            failures.append(SourceFailure(source=data_path, stage="list", reason=str(error)))
    return Listing(
        name=folder_name(root) or "footage",
        sources=tuple(sorted(sources, key=lambda source: source.id)),
        label=LabelSpec(),
        failures=tuple(failures),
        notes=notes,
    )
