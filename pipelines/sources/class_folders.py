"""Videos sorted into folders by class, as UCF101 and HMDB51 come: ``DIR/class/**/*.mp4``, or a glob."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipelines.errors import UserError
from pipelines.plan.descriptors import Listing, Source
from pipelines.sources.files import Files
from pipelines.sources.listing import (
    describe_all,
    describe_file,
    is_video,
    list_matching,
    walk_files,
)
from tfrecords_schema.paths import folder_name, relative
from tfrecords_schema.spec import LabelSpec


def list_class_folders(root: str) -> Listing:
    """Lists the videos below each folder in ``root``; the folder's name is their class."""
    files = Files()
    _, folders, names = next(files.walk(root))
    stray = [name for name in names if is_video(name) and not name.startswith(".")]
    if stray:
        count = "1 video" if len(stray) == 1 else f"{len(stray)} videos"
        raise UserError(
            f"{root}: expected one folder per class, but found {count} outside any class "
            f"folder, for example {stray[0]}. Move them into class folders, or list them in a manifest"
        )
    if not folders:
        raise UserError(
            f"{root}: expected one folder of videos per class, but found no folder. "
            "Give the folder that contains the class folders"
        )
    paths: list[str] = []
    for name in folders:
        folder = os.path.join(root, name)
        own = list(walk_files(folder, files, without=root))
        if not any(map(is_video, own)):
            raise UserError(
                f"{folder}: expected videos in this class folder, but no file name has the extension of a "
                "video. Fill the folder or remove it"
            )
        paths += own
    return _listing(root, paths, files)


def list_glob(pattern: str) -> Listing:
    """Lists the videos that match ``pattern`` (``**`` matches any depth).

    The folders before the first glob character are the root. The class of a video is the first folder below
    the root, or the root's own name if the video lies directly in it.
    """
    files = Files()
    root, paths = list_matching(pattern, files)
    if not any(map(is_video, paths)):
        raise UserError(
            f"expected videos to match {pattern!r}, but none of the {len(paths)} matching files has the "
            "extension of a video. Check the pattern"
        )
    return _listing(root, paths, files)


def _listing(root: str, paths: Sequence[str], files: Files) -> Listing:
    name = folder_name(root)
    classes: dict[str, tuple[str, ...]] = {}  # the labels of each class, shared by its sources

    def describe(data_path: str, path: str) -> Source:
        class_name = data_path.split("/")[0] if "/" in data_path else name
        labels = classes.setdefault(class_name, (class_name,))
        return describe_file(path, data_path, files, labels=labels)

    videos = ((relative(path, root), path) for path in paths if is_video(path))
    sources, failures = describe_all(videos, describe)
    skipped = len(paths) - len(sources) - len(failures)
    return Listing(
        name=name or "dataset",
        sources=tuple(sources),
        label=LabelSpec(task="classification", class_names=tuple(sorted(classes))),
        failures=tuple(failures),
        notes=(f"{skipped} files that are not named as videos were left out",) if skipped else (),
    )
