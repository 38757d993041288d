"""``--input`` of ``pipelines predict``: footage without labels, of any kind that a dataset is built from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from pipelines.descriptors import Source
from pipelines.errors import UserError
from pipelines.frame_names import is_image
from pipelines.options import DatasetOptions, LabelOptions
from pipelines.sources import manifest
from pipelines.sources.class_folders import is_glob, list_matching
from pipelines.sources.drives import list_drives
from pipelines.sources.frame_folders import UnusableFolderError, describe_frame_folder
from pipelines.sources.listing import (
    Listing,
    SourceFailure,
    describe_file,
    is_video,
    list_failure,
    walk_files,
)
from tfrecords_schema.spec import LabelSpec


def list_footage(location: str, options: DatasetOptions) -> Listing:
    """Lists the footage at ``location``: a video, a folder, a glob or a manifest.

    A folder is looked through at any depth. Where there are no videos, each folder of images is a source.
    With telemetry, which a model with signals needs, `list_drives` does it.

    Raises:
        UserError: when there is nothing to predict.
    """
    if options.telemetry is not None:
        return list_drives(
            location,
            telemetry=options.telemetry,
            label=LabelOptions(),
            sampling=options.sampling,
        )
    path = Path(location)
    if path.is_file() and location.lower().endswith(manifest.EXTENSIONS):
        return manifest.list_manifest(location, LabelOptions(), labelled=False)
    root, files = _find(location)
    videos = [file for file in files if is_video(file)]
    images = [file for file in files if is_image(os.path.basename(file))]
    if videos:
        others = len(files) - len(videos)
        notes = (f"{others} files that are not named as videos were left out",) if others else ()
        return _listing(root, videos, _describe_video, notes)
    if not images:
        raise UserError(
            f"expected videos or folders of frames at {location}, but none of {len(files)} files there is "
            "one (by file name)"
        )
    if options.sampling.frame_rate is None:
        raise UserError(
            f"folders of frames have no times, and the model was trained on every frame as it came, not at "
            f"a --frame_rate: it takes videos, got {location}"
        )
    folders: dict[str, list[str]] = {}
    for file in images:
        folders.setdefault(os.path.dirname(file), []).append(os.path.basename(file))

    def describe(folder: str, data_path: str) -> Source:
        return describe_frame_folder(folder, data_path, folders[folder], options.sampling)[0]

    return _listing(root, folders, describe, ())


def _find(location: str) -> tuple[str, list[str]]:
    """The root of the input, and the files in it."""
    if os.path.isdir(location):
        return location, list(walk_files(location))
    if is_glob(location):
        return list_matching(location)
    if not os.path.exists(location):
        raise UserError(
            f"--input must be a video, a folder, a glob or a manifest; there is nothing at {location}"
        )
    return os.path.dirname(os.path.abspath(location)), [location]


def _describe_video(path: str, data_path: str) -> Source:
    return describe_file(path, data_path)


def _listing(
    root: str,
    paths: Iterable[str],
    describe: Callable[[str, str], Source],
    notes: tuple[str, ...],
) -> Listing:
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for path in paths:
        data_path = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
        if data_path == ".":  # the root itself is a folder of frames
            data_path = Path(root).resolve().name
        try:
            sources.append(describe(path, data_path))
        except OSError as error:  # a link that leads nowhere
            failures.append(list_failure(data_path, error))
        except UnusableFolderError as error:
            failures.append(SourceFailure(source=data_path, stage="list", reason=str(error)))
    return Listing(
        name=Path(root).resolve().name or "footage",
        sources=tuple(sorted(sources, key=lambda source: source.id)),
        label=LabelSpec(),
        failures=tuple(failures),
        notes=notes,
    )
