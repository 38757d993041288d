"""Clips sorted into folders by class, as UCF101 and HMDB51 come: ``DIR/class/**/*.mp4``, or a glob.

A clip is a video, or a folder of frames (``DIR/class/clip_001/*.jpg``), as Jester has them. Folders of splits
may lie above the classes or directly below them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NoReturn

from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.sources import listing
from pipelines.sources.classes import order_classes
from pipelines.sources.files import Files, check_distinct
from pipelines.sources.frame_folders import describe_frame_folder, describe_frame_folders
from pipelines.sources.split_folders import SplitFolders, find_split_folders
from tfrecords_schema.paths import absolute, folder_name, relative
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.tables import name_some

_DEFAULTS = DatasetOptions()


def list_class_folders(root: str, options: DatasetOptions = _DEFAULTS) -> Listing:
    """Lists the clips below each folder in ``root``; the folder's name is their class."""
    files = Files()
    _, folders, names = next(files.walk(root))
    if outside := list(filter(listing.is_video, names)):
        _refuse_unclassified(root, outside)
    if not folders:
        raise UserError(
            f"{root}: expected one folder of videos per class, but found no folder. "
            "Give the folder that contains the class folders"
        )
    paths: list[str] = []
    inner: list[str] = []  # the folders in ``folders``
    for top in folders:
        for folder, below, own in files.walk(os.path.join(root, top), without=root):
            if folder == os.path.join(root, top):
                inner += [f"{top}/{name}" for name in below]
            paths += [os.path.join(folder, name) for name in own]
    return _list_clips(root, paths, files, options, folders, inner)


def list_glob(pattern: str, options: DatasetOptions = _DEFAULTS) -> Listing:
    """Lists the videos and the folders of images that match ``pattern`` (``**`` matches any depth).

    The folders before the first glob character are the root. The class of a clip is the first folder below
    the root that is no split, or the root's own name if all clips lie directly in it.
    """
    files = Files()
    return _list_clips(*listing.list_matching(pattern, files), files, options)


def _list_clips(
    root: str,
    paths: Collection[str],
    files: Files,
    options: DatasetOptions,
    folders: Collection[str] = (),
    inner: Collection[str] = (),
) -> Listing:
    """Lists the clips among ``paths``; ``folders`` in the root, and those in them, must not be empty."""
    images = listing.group_images(paths)
    unread = [failure.source for failure in files.failures]
    nested = bool(folders) or any(path.endswith("/") for path in unread)
    clips, nested = _find_clips(root, paths, images, nested=nested)
    splits = find_split_folders([*clips, *unread], options.split, as_folders="classes")
    for key in [key for key in clips if len(splits.divide(key)[1]) < nested + (key[-1] == "/")]:
        if key[-1] != "/":
            _refuse_unclassified(root, [path for path in clips if not splits.divide(path)[1]])
        del clips[key]  # images directly in a split or a class
    if folders:
        folders = (*folders, *inner) if splits.level == 0 else folders
        _check_folders(root, folders, (*clips, *unread), splits)
    elif not clips:
        raise UserError(
            f"{root}: expected videos or folders of frames to match the pattern, but none of the "
            f"{len(paths)} matching files has the extension of a video, or is an image in a folder below "
            "the first glob character. Check the pattern"
        )
    name = folder_name(root) or "dataset"
    classes: dict[str, tuple[str, ...]] = {}  # the labels of each class, shared by its sources

    def describe(data_path: str, path: str) -> Source:
        split, above = splits.divide(data_path)
        class_name = above[0] if nested else name
        labels = classes.setdefault(class_name, (class_name,))
        if path not in images:
            return listing.describe_file(path, data_path, files, labels=labels, split=split)
        source = describe_frame_folder(path, data_path, images[path], options.sampling, files)
        return replace(source, labels=labels, split=split)

    items = ((key.rstrip("/"), path) for key, path in clips.items())
    sources, failures = listing.describe_all(items, describe)
    # The classes of folders that cannot be read.
    names = {own for path in unread if path.endswith("/") for own in splits.divide(path)[1][:1]}
    names |= classes.keys()
    notes = list(splits.notes)
    if len(names) == 1 and (
        inside := {own for key in clips for own in splits.divide(key)[1][nested:][:1]}
    ):
        (only,) = names
        notes.append(
            f"all clips are of the one class {only}. If the folders in it are the classes "
            f"({name_some(sorted(inside))}), give {only} as --input"
        )
        if splits.level == 1:
            raise UserError(f"{notes[-1]}. If not, give --split_folders off")
    frames = sum(key[-1] == "/" for key in clips)
    if frames and options.sampling.frame_times == "rate":
        notes.append(
            f"{frames} folders of images are clips of {options.sampling.frame_rate} frames per second "
            "(--frame_rate)"
        )
    used = sum(len(images.get(path, [path])) for path in clips.values())
    if used < len(paths):
        notes.append(
            f"{len(paths) - used} files that are neither videos nor in folders of frames were left out"
        )
    return Listing(
        name=name,
        sources=tuple(sources),
        label=LabelSpec(task="classification", class_names=order_classes(names, options.label)),
        failures=(*failures, *files.failures),
        notes=(*notes, *describe_frame_folders(files)),
    )


def _find_clips(
    root: str, paths: Iterable[str], images: Iterable[str], *, nested: bool
) -> tuple[dict[str, str], bool]:
    """Returns the videos and folders of images by path relative to ``root``, and if they lie in classes.

    The path of a folder ends with a slash. It holds no videos and is not a class itself.
    """
    clips = {relative(path, root): path for path in paths if listing.is_video(path)}
    no_clips = {os.path.dirname(path) for path in clips.values()} if images else set()
    frames = {f"{relative(f, root)}/": f for f in images if f not in no_clips}
    nested = nested or any("/" in key.rstrip("/") for key in (*clips, *frames))
    here = absolute(root)
    clips |= {
        key: path
        for key, path in frames.items()
        if key.count("/") > nested and absolute(path) != here
    }
    return clips, nested


def _refuse_unclassified(root: str, outside: Collection[str]) -> NoReturn:
    raise UserError(
        f"{root}: expected one folder per class, but found {len(outside)} videos outside any class folder, "
        f"for example {min(outside)}. Move them into class folders, or list them in a manifest"
    )


def _check_folders(
    root: str, folders: Iterable[str], clips: Iterable[str], splits: SplitFolders
) -> None:
    """Raises `UserError` for two folders that are one, and for a class without a clip."""
    check_distinct(os.path.join(root, name) for name in folders)
    filled: set[str] = set()
    for path in clips:
        filled |= {path.split("/", 1)[0], *splits.divide(path)[1][:1]}
    for name in folders:
        if os.path.basename(name) not in filled:
            raise UserError(
                f"{os.path.join(root, name)}: expected videos in this class folder, or folders of frames, "
                "but no file name in it has the extension of a video, and no folder below it holds images. "
                "Fill the folder or remove it"
            )
