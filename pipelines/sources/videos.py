"""``--input`` of ``pipelines videos``: class folders, a glob or a manifest, whichever it is."""

from __future__ import annotations

from dataclasses import replace

from pipelines.errors import UserError
from pipelines.options.dataset import LabelOptions, SplitOptions
from pipelines.plan.descriptors import Listing
from pipelines.sources import manifest
from pipelines.sources.class_folders import is_glob, list_class_folders, list_glob
from pipelines.sources.files import Files, check_location
from pipelines.sources.listing import group_sources
from pipelines.sources.split_lists import apply_split_lists


def list_videos(location: str, *, split: SplitOptions, label: LabelOptions) -> Listing:
    """Lists the videos at ``location``, with their groups and published splits.

    Raises:
        UserError: when there is nothing at ``location``, or what is there contradicts the options.
    """
    listing = _list(check_location(location), label, Files())
    sources, notes = apply_split_lists(listing.sources, split.split_lists)
    return replace(
        listing,
        sources=tuple(group_sources(sources, split.group_by)),
        notes=(*listing.notes, *notes),
    )


def _list(location: str, label: LabelOptions, files: Files) -> Listing:
    if location.lower().endswith(manifest.EXTENSIONS) and files.is_file(location):
        return manifest.list_manifest(location, label, files=files)
    if label.label_columns:
        raise UserError(
            f"--label_columns goes with a manifest ({', '.join(manifest.EXTENSIONS)}), "
            f"got --input {location}"
        )
    if files.is_folder(location):
        return list_class_folders(location, files)
    if is_glob(location, files):
        return list_glob(location, files)
    if files.exists(location):
        raise UserError(
            f"--input must be a folder with a folder of videos a class, a glob or a manifest "
            f"({', '.join(manifest.EXTENSIONS)}), got the file {location}"
        )
    raise UserError(f"--input must be a folder, glob or manifest; there is nothing at {location}")
