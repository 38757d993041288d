"""Finds the folders that hold frames, and the folders that hold their annotations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.images.frame_names import is_image
from pipelines.sources.files import LOCAL_FILES, Files
from tfrecords_schema.paths import relative


@dataclass(frozen=True)
class ImageFolder:
    """A folder below the input, with or without images.

    Attributes:
        path: the folder.
        data_path: ``path`` relative to the input; "" for the input itself.
        images: names of the files in it with the extension of an image.
        others: number of other files in it, without the annotation.
        annotated: True if it holds the annotation file.
    """

    path: str
    data_path: str
    images: tuple[str, ...]
    others: int
    annotated: bool

    @property
    def parent(self) -> str | None:
        """``data_path`` of the parent folder; None for the input itself."""
        return os.path.dirname(self.data_path) if self.data_path else None


def walk_image_folders(
    root: str, annotation: str, files: Files = LOCAL_FILES
) -> Iterator[ImageFolder]:
    """Yields the folders below ``root``, and ``root`` itself, in the order of `Files.walk`.

    Args:
        root: the input.
        annotation: name of the annotation file.
        files: lists objects on stores.

    Raises:
        OSError: if a folder cannot be read.
    """
    for path, _, names in files.walk(root):
        data_path = "" if path == root else relative(path, root)
        shown = [name for name in names if not name.startswith(".") and name != annotation]
        images = tuple(name for name in shown if is_image(name))
        yield ImageFolder(path, data_path, images, len(shown) - len(images), annotation in names)


def find_frames(folders: Mapping[str, ImageFolder]) -> dict[str, list[ImageFolder]]:
    """Returns the folders with the frames of each sample folder. There should be exactly one for each."""
    found: dict[str, list[ImageFolder]] = {
        folder.data_path: [folder] if folder.images else []
        for folder in folders.values()
        if folder.annotated
    }
    for folder in folders.values():
        parent = folder.parent
        if parent is None or parent not in found or folders[parent].images:
            continue  # images in the sample folder itself take precedence
        if folder.images and not folder.annotated:
            found[parent].append(folder)
    return found


def find_unannotated(
    folders: Mapping[str, ImageFolder],
    frame_folders: Mapping[str, list[ImageFolder]],
    annotation: str,
) -> dict[str, str]:
    """Returns why folders with images are left out, by the folder that should hold the annotation."""
    sub_folders = {
        os.path.basename(folder.data_path)
        for sample, own in frame_folders.items()
        for folder in own
        if folder.data_path != sample
    }
    reasons: dict[str, str] = {}
    for folder in folders.values():
        parent = folder.parent
        if not folder.images or folder.annotated or parent in frame_folders:
            continue
        name = os.path.basename(folder.data_path)
        if parent is not None and name in sub_folders:
            reasons[parent] = f"no {annotation} beside the folder {name} with its frames"
        else:
            reasons.setdefault(folder.data_path, f"no {annotation} in this folder of frames")
    return reasons
