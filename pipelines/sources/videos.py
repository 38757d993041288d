"""``--input`` of ``pipelines videos``: class folders, a glob or a manifest."""

from __future__ import annotations

from pipelines.errors import UserError
from pipelines.options.dataset import DatasetOptions, LabelOptions, SamplingOptions, SplitOptions
from pipelines.plan.descriptors import Listing
from pipelines.sources import manifest
from pipelines.sources.class_folders import list_class_folders, list_glob
from pipelines.sources.files import check_location
from pipelines.sources.grouping import group_and_split
from pipelines.sources.listing import is_glob
from pipelines.sources.split_folders import apply_split_folders
from tfrecords_schema import storage

_SAMPLING = SamplingOptions()


def list_videos(
    location: str,
    *,
    split: SplitOptions,
    label: LabelOptions,
    sampling: SamplingOptions = _SAMPLING,
) -> Listing:
    """Lists the clips at ``location``, with their groups and splits, of the wanted classes."""
    options = DatasetOptions(split=split, label=label, sampling=sampling)
    return group_and_split(_list(check_location(location), options), split, label)


def _list(location: str, options: DatasetOptions) -> Listing:
    extensions = ", ".join(manifest.EXTENSIONS)
    if location.lower().endswith(manifest.EXTENSIONS) and storage.is_file(location):
        listing = manifest.list_manifest(location, options.label)
        listed = any(source.split for source in listing.sources)
        return listing if listed else apply_split_folders(listing, options.split)
    if options.label.label_columns:
        raise UserError(f"--label_columns needs a manifest ({extensions}), got --input {location}")
    if storage.is_folder(location):
        return list_class_folders(location, options)
    if is_glob(location):
        return list_glob(location, options)
    found = "got the file" if storage.exists(location) else "but there is nothing at"
    raise UserError(
        "--input must be a folder with one folder of clips per class, a glob or a manifest "
        f"({extensions}), {found} {location}"
    )
