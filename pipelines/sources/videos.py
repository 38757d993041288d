"""``--input`` of ``pipelines videos``: class folders, a glob or a manifest."""

from __future__ import annotations

from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions, SplitOptions
from pipelines.plan.descriptors import Listing
from pipelines.sources import manifest
from pipelines.sources.class_folders import list_class_folders, list_glob
from pipelines.sources.files import check_location
from pipelines.sources.grouping import group_and_split
from pipelines.sources.listing import is_glob
from tfrecords_schema import storage


def list_videos(location: str, *, split: SplitOptions, label: LabelOptions) -> Listing:
    """Lists the videos at ``location``, with their groups and published splits."""
    return group_and_split(_list(check_location(location), label), split)


def _list(location: str, label: LabelOptions) -> Listing:
    extensions = ", ".join(manifest.EXTENSIONS)
    if location.lower().endswith(manifest.EXTENSIONS) and storage.is_file(location):
        return manifest.list_manifest(location, label)
    if label.label_columns:
        raise UserError(f"--label_columns needs a manifest ({extensions}), got --input {location}")
    if storage.is_folder(location):
        return list_class_folders(location)
    if is_glob(location):
        return list_glob(location)
    found = "got the file" if storage.exists(location) else "but there is nothing at"
    raise UserError(
        "--input must be a folder with one folder of videos per class, a glob or a manifest "
        f"({extensions}), {found} {location}"
    )
