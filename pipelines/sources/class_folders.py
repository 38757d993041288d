"""Videos sorted into folders by class, as UCF101 and HMDB51 come: ``DIR/class/**/*.mp4``, or a glob."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from pipelines.errors import UserError
from pipelines.plan.descriptors import Listing, Source, SourceFailure
from pipelines.sources.files import (
    LOCAL_FILES,
    Files,
    fixed_prefix,
    folder_name,
    has_glob,
    relative,
)
from pipelines.sources.listing import class_label, describe_file, is_video, list_failure, walk_files
from tfrecords_schema.store_clients import is_url


def is_glob(text: str, files: Files = LOCAL_FILES) -> bool:
    """Whether ``text`` holds a glob character and is not itself the name of something that exists."""
    return has_glob(text) and not files.exists(text)


def list_class_folders(root: str, files: Files = LOCAL_FILES) -> Listing:
    """Lists the videos under each folder in ``root``; the folder's name is their class.

    Raises:
        UserError: when there is no class folder, one holds no video, or a video lies outside of them.
    """
    folders, stray = files.children(root)
    stray = [name for name in stray if is_video(name)]
    if stray:
        raise UserError(
            f"expected the videos in {root} in one folder a class, but {len(stray)} directly in it "
            f"(such as {stray[0]!r}): move them into folders, or list them in a manifest"
        )
    if not folders:
        raise UserError(
            f"expected folders of videos in {root}, one a class, but it holds none: "
            "give the folder that contains the class folders"
        )
    videos: list[tuple[str, str]] = []  # path, class
    skipped = 0
    for name in folders:
        paths = list(walk_files(os.path.join(root, name), without=root, files=files))
        own = [(path, name) for path in paths if is_video(path)]
        if not own:
            raise UserError(
                f"expected videos in the class folder {os.path.join(root, name)}, "
                "but it holds none (by file name): fill it or remove it"
            )
        videos += own
        skipped += len(paths) - len(own)
    return _listing(root, videos, skipped, files)


def list_glob(pattern: str, files: Files = LOCAL_FILES) -> Listing:
    """Lists the videos that match ``pattern`` (``**`` matches any depth).

    The folders before the first glob character are the root. A video's class is the first folder below the
    root, or the root's own name when it lies directly there.

    Raises:
        UserError: when nothing matches.
    """
    root, paths = list_matching(pattern, files)
    videos = [path for path in paths if is_video(path)]
    if not videos:
        raise UserError(
            f"expected videos to match {pattern!r}, but none of {len(paths)} matching files is named as one"
        )
    labelled = []
    for path in videos:
        first, *rest = Path(_below(path, root)).parts
        labelled.append((path, first if rest else folder_name(root)))
    return _listing(root, labelled, len(paths) - len(videos), files)


def list_matching(pattern: str, files: Files = LOCAL_FILES) -> tuple[str, list[str]]:
    """The folders before the first glob character of ``pattern``, and the files that match it, sorted.

    Raises:
        UserError: when nothing matches.
    """
    paths = found = files.matching(pattern)
    if not is_url(pattern):
        paths = [path for path in found if not Path(path).is_dir()]
        resolve = functools.cache(os.path.realpath)
        paths = sorted(path for path in paths if not _goes_in_a_circle(path, resolve))
    if not paths:
        raise UserError(
            f"expected files to match {pattern!r}, but no file does"
            + (": a folder's files match with '/**' behind it" if found else ": check the pattern")
        )
    return fixed_prefix(pattern), paths


def _goes_in_a_circle(path: str, resolve: Callable[[str], str]) -> bool:
    """Whether links lead ``path`` through one folder twice."""
    folders = [resolve(str(folder)) for folder in Path(path).absolute().parents]
    return len(set(folders)) != len(folders)


def _below(path: str, root: str) -> str:
    """``path`` from ``root`` on, by way of its parents if need be."""
    return relative(path, root) if is_url(path) else os.path.relpath(path, root)


def _listing(root: str, videos: list[tuple[str, str]], skipped: int, files: Files) -> Listing:
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for path, label in videos:
        data_path = _below(path, root)
        try:
            sources.append(describe_file(path, data_path, files, labels=(label,)))
        except OSError as error:  # a link that leads nowhere
            failures.append(list_failure(data_path, error))
    notes = [f"{skipped} files that are not named as videos were left out"] if skipped else []
    return Listing(
        name=folder_name(root) or "dataset",
        sources=tuple(sorted(sources, key=lambda source: source.id)),
        label=class_label(label for _, label in videos),
        failures=tuple(failures),
        notes=tuple(notes),
    )
