"""Videos sorted into folders by class, as UCF101 and HMDB51 come: ``DIR/class/**/*.mp4``, or a glob."""

from __future__ import annotations

import os

from pipelines.errors import UserError
from pipelines.plan.descriptors import Listing, Source, SourceFailure
from pipelines.sources.files import LOCAL_FILES, Files
from pipelines.sources.listing import (
    class_label,
    describe_file,
    is_video,
    list_failure,
    list_matching,
    walk_files,
)
from tfrecords_schema.paths import folder_name, relative


def list_class_folders(root: str, files: Files = LOCAL_FILES) -> Listing:
    """Lists the videos below each folder in ``root``; the folder's name is their class.

    Raises:
        UserError: if there is no class folder, one holds no video, or a video lies outside the class folders.
    """
    _, folders, names = next(files.walk(root))
    stray = [name for name in names if is_video(name) and not name.startswith(".")]
    if stray:
        raise UserError(
            f"{root}: expected one folder per class, but found {_count_videos(len(stray))} outside any class "
            f"folder, for example {stray[0]}. Move them into class folders, or list them in a manifest"
        )
    if not folders:
        raise UserError(
            f"{root}: expected one folder of videos per class, but found no folder. "
            "Give the folder that contains the class folders"
        )
    class_of: dict[str, str] = {}  # by path
    skipped = 0
    for name in folders:
        folder = os.path.join(root, name)
        paths = list(walk_files(folder, without=root, files=files))
        videos = [path for path in paths if is_video(path)]
        if not videos:
            raise UserError(
                f"{folder}: expected videos in this class folder, but no file name has the extension of a "
                "video. Fill the folder or remove it"
            )
        class_of |= dict.fromkeys(videos, name)
        skipped += len(paths) - len(videos)
    return _listing(root, class_of, skipped, files)


def list_glob(pattern: str, files: Files = LOCAL_FILES) -> Listing:
    """Lists the videos that match ``pattern`` (``**`` matches any depth).

    The folders before the first glob character are the root. The class of a video is the first folder below
    the root, or the root's own name if the video lies directly in it.

    Raises:
        UserError: if no video matches.
    """
    root, paths = list_matching(pattern, files)
    class_of: dict[str, str] = {}
    for path in filter(is_video, paths):
        first, slash, _ = relative(path, root).partition("/")
        class_of[path] = first if slash else folder_name(root)
    if not class_of:
        raise UserError(
            f"expected videos to match {pattern!r}, but none of the {len(paths)} matching files has the "
            "extension of a video. Check the pattern"
        )
    return _listing(root, class_of, len(paths) - len(class_of), files)


def _count_videos(count: int) -> str:
    return "1 video" if count == 1 else f"{count} videos"


def _listing(root: str, class_of: dict[str, str], skipped: int, files: Files) -> Listing:
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for path, name in class_of.items():
        data_path = relative(path, root)
        try:
            sources.append(describe_file(path, data_path, files, labels=(name,)))
        except OSError as error:  # for example a dangling link
            failures.append(list_failure(data_path, error))
    notes = (f"{skipped} files that are not named as videos were left out",) if skipped else ()
    return Listing(
        name=folder_name(root) or "dataset",
        sources=tuple(sorted(sources, key=lambda source: source.id)),
        label=class_label(class_of.values()),
        failures=tuple(failures),
        notes=notes,
    )
