"""Clips sorted into folders by class, as UCF101 and HMDB51 come: ``DIR/class/**/*.mp4``, or a glob.

A clip is a video, or a folder of frames (``DIR/class/clip_001/*.jpg``), as Jester has them. Folders of splits
may lie above the classes or directly below them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions
from pipelines.plan.descriptors import Listing, Source
from pipelines.sources.classes import order_classes
from pipelines.sources.files import Files
from pipelines.sources.frame_folders import describe_frame_folder, describe_unnumbered
from pipelines.sources.listing import (
    describe_all,
    describe_file,
    group_images,
    is_video,
    list_matching,
)
from pipelines.sources.split_folders import SplitFolders, find_split_folders
from tfrecords_schema.paths import folder_name, relative
from tfrecords_schema.spec import LabelSpec

_DEFAULTS = DatasetOptions()


def list_class_folders(root: str, options: DatasetOptions = _DEFAULTS) -> Listing:
    """Lists the clips below each folder in ``root``; the folder's name is their class."""
    files = Files()
    _, folders, names = next(files.walk(root))
    _check_classified(root, [n for n in names if is_video(n) and not n.startswith(".")])
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
            paths += [os.path.join(folder, name) for name in own if not name.startswith(".")]
    clips = _find_clips(root, paths)
    clips.leave_out_top()
    splits = find_split_folders(
        [*clips, *(f"{name}/" for name in folders)], options.split, as_folders="classes"
    )
    inner = inner if splits.level == 0 else []
    files.check_distinct(os.path.join(root, name) for name in (*folders, *inner))
    _leave_out_unclassified(root, clips, splits)
    # The clips of a folder that cannot be read are unknown.
    found = [*clips, *(failure.source for failure in files.failures)]
    filled = {path.split("/", 1)[0] for path in found}
    classes = {path.split("/", 2)[1] for path in found if "/" in path} if inner else set()
    empty = [name for name in folders if name not in filled]
    empty += [name for name in inner if name.rpartition("/")[2] not in classes]
    if empty:
        raise UserError(
            f"{os.path.join(root, empty[0])}: expected videos in this class folder, or folders of frames, "
            "but no file name in it has the extension of a video, and no folder below it holds images. "
            "Fill the folder or remove it"
        )
    return _describe(root, clips, splits, files, options)


def list_glob(pattern: str, options: DatasetOptions = _DEFAULTS) -> Listing:
    """Lists the videos and the folders of images that match ``pattern`` (``**`` matches any depth).

    The folders before the first glob character are the root. The class of a clip is the first folder below
    the root that is no split, or the root's own name if the clip lies directly in it.
    """
    files = Files()
    root, paths = list_matching(pattern, files)
    clips = _find_clips(root, paths)
    if any("/" in path for path in clips):
        clips.leave_out_top()
    if not any(clips):
        raise UserError(
            f"expected videos or folders of frames to match {pattern!r}, but none of the {len(paths)} "
            "matching files has the extension of a video, or is an image in a folder below the first "
            "glob character. Check the pattern"
        )
    splits = find_split_folders(list(clips), options.split, as_folders="classes")
    _leave_out_unclassified(root, clips, splits)
    return _describe(root, clips, splits, files, options)


@dataclass
class _Clips:
    """Clips below an input, by ``data_path``.

    Attributes:
        videos: their paths.
        frames: folders of frames, and the names of their images.
        images: number of images that belong to no clip.
        others: number of files that are neither videos nor images.
    """

    videos: dict[str, str]
    frames: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    images: int = 0
    others: int = 0

    def __iter__(self) -> Iterator[str]:
        yield from self.videos
        yield from self.frames

    def leave_out(self, data_paths: Iterable[str]) -> None:
        """Removes folders of frames, and counts their images."""
        for data_path in data_paths:
            self.images += len(self.frames.pop(data_path)[1])

    def leave_out_top(self) -> None:
        """Removes the folders of frames in the input itself, which would be both clips and classes."""
        self.leave_out([path for path in self.frames if "/" not in path])


def _find_clips(root: str, paths: Collection[str]) -> _Clips:
    """Returns the videos among ``paths``, and the folders below ``root`` with images and without videos."""
    clips = _Clips({relative(path, root): path for path in paths if is_video(path)})
    folders = group_images(paths)
    beside_videos = set(map(os.path.dirname, clips.videos.values())) if folders else set()
    for folder, names in folders.items():
        if folder in beside_videos or not folder.startswith(f"{root.rstrip('/')}/"):
            clips.images += len(names)
        else:
            clips.frames[relative(folder, root)] = (folder, names)
    clips.others = len(paths) - len(clips.videos) - sum(map(len, folders.values()))
    return clips


def _leave_out_unclassified(root: str, clips: _Clips, splits: SplitFolders) -> None:
    """Leaves out images directly in folders that are splits; raises `UserError` for videos."""
    if splits.level is None:
        return
    _check_classified(root, [path for path in clips.videos if not splits.divide(path)[1]])
    clips.leave_out([path for path in clips.frames if not splits.divide(path)[1]])


def _check_classified(root: str, outside: Collection[str]) -> None:
    if outside:
        count = "1 video" if len(outside) == 1 else f"{len(outside)} videos"
        raise UserError(
            f"{root}: expected one folder per class, but found {count} outside any class folder, "
            f"for example {min(outside)}. Move them into class folders, or list them in a manifest"
        )


def _describe(
    root: str, clips: _Clips, splits: SplitFolders, files: Files, options: DatasetOptions
) -> Listing:
    name = folder_name(root)
    classes: dict[str, tuple[str, ...]] = {}  # the labels of each class, shared by its sources
    deeper: dict[str, None] = {}  # examples of folders below a class
    unnumbered: list[str] = []
    if clips.frames and options.sampling.frame_rate is None:
        raise UserError(
            f"{root} holds folders of frames, for example {min(clips.frames)}, which have no times. Give "
            "their frames per second with --frame_rate, or a glob of the videos alone"
        )

    def describe(data_path: str, path: str | None) -> Source:
        split, folders = splits.divide(data_path)
        class_name = folders[0] if folders else name
        labels = classes.setdefault(class_name, (class_name,))
        if len(deeper) < 2 and (len(folders) > 1 or not (path or folders)):
            deeper[folders[1] if folders else data_path] = None
        if path is not None:
            return describe_file(path, data_path, files, labels=labels, split=split)
        folder, images = clips.frames[data_path]
        source, ordered = describe_frame_folder(folder, data_path, images, options.sampling, files)
        if not ordered.numbered:
            unnumbered.append(data_path)
        return replace(source, labels=labels, split=split)

    items = chain(clips.videos.items(), dict.fromkeys(clips.frames).items())
    sources, failures = describe_all(items, describe)
    for failure in files.failures:
        if failure.source.endswith("/") and (inside := splits.divide(failure.source)[1]):
            classes.setdefault(inside[0], (inside[0],))  # the class of a folder that cannot be read
    notes = list(splits.notes)
    if len(classes) == 1 and len(deeper) >= (1 if splits.level == 1 else 2):
        (only,), example = classes, " and ".join(deeper)
        message = (
            f"all {len(sources)} clips are of the one class {only}. If the folders in it are the classes "
            f"({example}), give {only} as --input"
        )
        if splits.level == 1:
            raise UserError(f"{message}. If not, give --split_folders off")
        notes.append(message)
    if clips.frames:
        notes.append(
            f"{len(clips.frames)} folders of images are clips of {options.sampling.frame_rate} frames per "
            "second (--frame_rate)"
        )
    notes += describe_unnumbered(unnumbered)
    if clips.others:
        notes.append(f"{clips.others} files that are not named as videos were left out")
    if clips.images:
        notes.append(f"{clips.images} images that are not in a folder of their own were left out")
    return Listing(
        name=name or "dataset",
        sources=tuple(sources),
        label=LabelSpec(task="classification", class_names=order_classes(classes, options.label)),
        failures=(*failures, *files.failures),
        notes=tuple(notes),
    )
