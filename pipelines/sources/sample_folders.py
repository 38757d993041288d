"""Finds the folders that hold frames, and the folders that hold their annotations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.images.frame_names import is_image
from pipelines.sources.files import Files
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


def find_image_folders(root: str, annotation: str, files: Files) -> dict[str, ImageFolder]:
    """Returns ``root`` and the folders below it by ``data_path``, in the order of `Files.walk`."""
    found = {}
    for path, _, names in files.walk(root):
        data_path = "" if path == root else relative(path, root)
        shown = [name for name in names if name != annotation]
        images = tuple(name for name in shown if is_image(name))
        others = len(shown) - len(images)
        found[data_path] = ImageFolder(path, data_path, images, others, annotation in names)
    return found


def match_annotations(
    folders: Mapping[str, ImageFolder], annotation: str
) -> tuple[dict[str, ImageFolder], dict[str, str]]:
    """Returns the folder with the frames of each sample folder, and why other folders are left out.

    Both are by the ``data_path`` of the folder that holds the annotation, or should hold it. Images in the
    sample folder itself take precedence over those in its sub-folders.
    """
    found: dict[str, list[ImageFolder]] = {
        key: [] for key, folder in folders.items() if folder.annotated
    }
    unannotated: list[tuple[ImageFolder, str | None]] = []
    for key, folder in folders.items():
        parent = os.path.dirname(key) if key else None
        if folder.images and folder.annotated:
            found[key].append(folder)
        elif folder.images and parent not in found:
            unannotated.append((folder, parent))
        elif folder.images and parent is not None and not folders[parent].images:
            found[parent].append(folder)
    sub_folders = {
        os.path.basename(folder.data_path)
        for key, own in found.items()
        for folder in own
        if folder.data_path != key
    }
    reasons: dict[str, str] = {}
    for folder, parent in unannotated:
        name = os.path.basename(folder.data_path)
        if parent is not None and name in sub_folders:
            reasons[parent] = f"no {annotation} beside the folder {name} with its frames"
        else:
            reasons.setdefault(folder.data_path, f"no {annotation} in this folder of frames")
    for data_path, own in found.items():
        if not own:
            reason = "no images (by file name), neither in this folder nor in its sub-folders"
            reasons[data_path] = reason
        elif len(own) > 1:
            names = ", ".join(sorted(os.path.basename(folder.data_path) for folder in own))
            reasons[data_path] = (
                f"expected frames in one folder, but found them in several ({names})"
            )
    return {data_path: own[0] for data_path, own in found.items() if len(own) == 1}, reasons
