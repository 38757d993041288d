"""Steps that every kind of input shares: walking folders and describing files."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pipelines.errors import UserError
from pipelines.images.frame_names import is_image
from pipelines.plan.descriptors import Source, SourceFailure
from pipelines.sources.files import Files
from tfrecords_schema import storage
from tfrecords_schema.paths import absolute, fixed_prefix
from tfrecords_schema.store_clients import StorageError

T = TypeVar("T")

VIDEO_EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".gif"),
    *(".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".mxf", ".dv", ".wmv", ".asf"),
    *(".flv", ".f4v", ".ogv", ".ogg", ".rm", ".rmvb", ".nut", ".y4m", ".ivf", ".obu", ".av1"),
    *(".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg", ".wtv"),
)


class UnusableFolderError(Exception):
    """A folder of frames that gives no source. The message is the reason in its report."""


def is_glob(text: str) -> bool:
    """Returns True if ``text`` contains a glob character and is not the name of something that exists."""
    return glob.has_magic(text) and not storage.exists(text)


def find_files(location: str, expected: str, files: Files) -> tuple[str, list[str]]:
    """Returns the root of the input, and the files in it: of a folder or a glob, or a single one."""
    if storage.is_folder(location):
        walk = files.walk(location)
        return location, [os.path.join(folder, name) for folder, _, names in walk for name in names]
    if is_glob(location):
        return list_matching(location, files)
    if not storage.exists(location):
        raise UserError(f"--input must be {expected}, but there is nothing at {location}")
    return os.path.dirname(absolute(location)), [location]


def list_matching(pattern: str, files: Files) -> tuple[str, list[str]]:
    """Returns the folders before the first glob character of ``pattern``, and the sorted files that match."""
    paths = files.matching(pattern)
    if not paths:
        raise UserError(
            f"expected files to match {pattern!r}, but no file does. Check the pattern; to match the files "
            "in a folder, end it with '/**'"
        )
    return fixed_prefix(pattern), paths


def is_video(path: str) -> bool:
    """Returns True if the file name has the extension of a video."""
    return os.path.splitext(path)[1].lower() in VIDEO_EXTENSIONS


def group_images(paths: Iterable[str]) -> dict[str, list[str]]:
    """Returns the names of the images among ``paths``, by the folder that holds them."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if is_image(name):
            folders.setdefault(folder, []).append(name)
    return folders


def file_fields(path: str, data_path: str, files: Files) -> dict[str, Any]:
    """Returns the fields that `Source`, `Part` and `SideFile` share: location, size and time of a file."""
    status = files.status(path)
    fields = {"path": absolute(path), "data_path": data_path}
    return fields | {"bytes": status.bytes, "mtime_ns": status.mtime_ns}


def describe_file(
    path: str,
    data_path: str,
    files: Files,
    *,
    labels: tuple[str, ...] = (),
    split: str | None = None,
) -> Source:
    """Returns the `Source` for the whole video at ``path``, in a group of its own."""
    fields = file_fields(path, data_path, files)
    return Source(id=data_path, group=data_path, labels=labels, split=split, **fields)


def describe_all(
    items: Iterable[tuple[str, T]], describe: Callable[[str, T], Source]
) -> tuple[list[Source], list[SourceFailure]]:
    """Returns the sources, sorted by id, and the failures of those that cannot be used.

    ``describe`` receives an id and what the source is made of; it raises `OSError` or `UnusableFolderError`
    if there is none.
    """
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for source_id, item in items:
        try:
            sources.append(describe(source_id, item))
        except StorageError:
            raise  # the store fails, not the source
        except (OSError, UnusableFolderError) as error:  # for example a dangling link
            failures.append(list_failure(source_id, error))
    return sorted(sources, key=lambda source: source.id), failures


def list_failure(source_id: str, error: Exception) -> SourceFailure:
    """Returns the failure of a source that cannot be listed, for example because its file is missing."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return SourceFailure(source=source_id, stage="list", reason=reason)
