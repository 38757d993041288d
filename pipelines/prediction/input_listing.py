"""Lists the ``--input`` of ``pipelines predict``: unlabelled footage of any kind that builds accept."""

from __future__ import annotations

from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions, LabelOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.sources import manifest
from pipelines.sources.drives import list_drives
from pipelines.sources.files import Files, check_location
from pipelines.sources.frame_folders import describe_frame_folder
from pipelines.sources.listing import (
    describe_all,
    describe_file,
    find_files,
    group_images,
    is_video,
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

        def describe(data_path: str, folder: str) -> Source:
            images = folders[folder]
            return describe_frame_folder(folder, data_path, images, options.sampling, files)

        items = ((relative(folder, root), folder) for folder in folders)
        sources, failures = describe_all(items, describe)
    return Listing(
        name=folder_name(root) or "footage",
        sources=tuple(sources),
        label=LabelSpec(),
        failures=(*failures, *files.failures),
        notes=notes,
    )


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
