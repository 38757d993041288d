"""Which folders under the input hold frames, and which hold the annotation of those frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.images.frame_names import is_image
from pipelines.sources.files import LOCAL_FILES, Files, relative
from tfrecords_schema.store_clients import is_url


@dataclass(frozen=True)
class ImageFolder:
    """A folder under the input, whether it holds images or not.

    Attributes:
        path: where it lies.
        data_path: relative to the root; "" for the root itself.
        images: names of its files that are named as images.
        others: how many other files it holds, besides the annotation.
        annotated: it holds the annotation file.
    """

    path: str
    data_path: str
    images: tuple[str, ...]
    others: int
    annotated: bool

    @property
    def parent(self) -> str | None:
        """``data_path`` of the folder it is in; None for the root."""
        return os.path.dirname(self.data_path) if self.data_path else None


def walk_image_folders(
    root: str, annotation: str, files: Files = LOCAL_FILES
) -> Iterator[ImageFolder]:
    """Yields the folders under ``root``, parents first, but hidden ones.

    Links to folders are followed, each folder once, so that a loop of links ends.

    Args:
        root: where to begin.
        annotation: name of the annotation file.
        files: what lists folders on object stores.

    Raises:
        OSError: when a folder cannot be read.
    """
    if is_url(root):
        yield from _stored_image_folders(root, annotation, files)
        return
    seen: set[tuple[int, int]] = set()
    waiting = [(root, "")]
    while waiting:
        path, data_path = waiting.pop()
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        folders: list[str] = []
        names: list[str] = []
        with os.scandir(path) as entries:
            for entry in entries:
                (folders if _is_folder(entry) else names).append(entry.name)
        yield _image_folder(path, data_path, names, annotation)
        waiting += [
            (os.path.join(path, name), os.path.join(data_path, name))
            for name in sorted(folders, reverse=True)
            if not name.startswith(".")
        ]


def _stored_image_folders(root: str, annotation: str, files: Files) -> Iterator[ImageFolder]:
    names: dict[str, list[str]] = {"": []}
    for url in files.stored_below(root):
        data_path = relative(url, root)
        folder = os.path.dirname(data_path)
        names.setdefault(folder, []).append(os.path.basename(data_path))
        while folder:  # those that hold nothing but folders
            folder = os.path.dirname(folder)
            names.setdefault(folder, [])
    for folder in sorted(names):
        yield _image_folder(
            os.path.join(root, folder).rstrip("/"), folder, names[folder], annotation
        )


def _image_folder(path: str, data_path: str, names: list[str], annotation: str) -> ImageFolder:
    shown = [name for name in names if not name.startswith(".") and name != annotation]
    images = tuple(name for name in shown if is_image(name))
    return ImageFolder(path, data_path, images, len(shown) - len(images), annotation in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def find_frames(folders: Mapping[str, ImageFolder]) -> dict[str, list[ImageFolder]]:
    """The folders that hold the frames of each sample folder: exactly one where all is well."""
    found: dict[str, list[ImageFolder]] = {
        folder.data_path: [folder] if folder.images else []
        for folder in folders.values()
        if folder.annotated
    }
    for folder in folders.values():
        parent = folder.parent
        if parent is None or parent not in found or folders[parent].images:
            continue  # images in the sample folder itself win
        if folder.images and not folder.annotated:
            found[parent].append(folder)
    return found


def find_unannotated(
    folders: Mapping[str, ImageFolder],
    image_folders: Mapping[str, list[ImageFolder]],
    annotation: str,
) -> dict[str, str]:
    """Why folders with images are no part of the dataset, by the folder that should hold the annotation."""
    sub_folders = {
        os.path.basename(folder.data_path)
        for sample, own in image_folders.items()
        for folder in own
        if folder.data_path != sample
    }
    reasons: dict[str, str] = {}
    for folder in folders.values():
        parent = folder.parent
        if not folder.images or folder.annotated or parent in image_folders:
            continue
        name = os.path.basename(folder.data_path)
        if parent is not None and name in sub_folders:
            reasons[parent] = f"no {annotation} beside the folder {name} with its frames"
        else:
            reasons.setdefault(folder.data_path, f"no {annotation} in this folder of frames")
    return reasons
