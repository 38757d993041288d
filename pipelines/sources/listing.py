"""`Listing`: what every kind of input comes down to, and what they share in making it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from pipelines.errors import UserError
from pipelines.plan.descriptors import Source, SourceFailure
from pipelines.sources.files import LOCAL_FILES, Files, absolute
from tfrecords_schema.spec import LabelSpec
from tfrecords_schema.store_clients import is_url

VIDEO_EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".gif"),
    *(".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".mxf", ".dv", ".wmv", ".asf"),
    *(".flv", ".f4v", ".ogv", ".ogg", ".rm", ".rmvb", ".nut", ".y4m", ".ivf", ".obu", ".av1"),
    *(".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg"),
)


def walk_files(
    root: str, *, without: str | None = None, files: Files = LOCAL_FILES
) -> Iterator[str]:
    """Yields the paths of the files under ``root``, sorted; hidden ones are left out.

    Links to folders are followed, each folder once, so that a loop of links ends; and never to ``without``.

    Raises:
        OSError: when a folder cannot be read.
    """
    if is_url(root):
        yield from files.stored_below(root)
        return
    seen: set[tuple[int, int]] = set()
    if without is not None:
        status = os.stat(without)
        seen.add((status.st_dev, status.st_ino))
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_raise):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield os.path.join(folder, name)


def _raise(error: OSError) -> None:
    raise error


def list_failure(source_id: str, error: OSError) -> SourceFailure:
    """What is reported of a source whose file is not there."""
    return SourceFailure(source=source_id, stage="list", reason=error.strerror or str(error))


def is_video(path: str) -> bool:
    """Whether the file name ends as a video's does."""
    return os.path.splitext(path)[1].lower() in VIDEO_EXTENSIONS


def describe_file(
    path: str, data_path: str, files: Files = LOCAL_FILES, **fields: object
) -> Source:
    """The `Source` that is the whole file at ``path``, in a group of its own.

    Raises:
        OSError: when there is no such file.
    """
    status = files.status(path)
    source = Source(
        id=data_path,
        path=absolute(path),
        data_path=data_path,
        group=data_path,
        bytes=status.bytes,
        mtime_ns=status.mtime_ns,
    )
    return replace(source, **fields)  # type: ignore[arg-type]


def group_sources(sources: Iterable[Source], group_by: str | None) -> list[Source]:
    """Sources with the group that ``group_by`` captures from each one's path.

    Raises:
        UserError: when the expression does not match a source.
    """
    if group_by is None:
        return list(sources)
    pattern, grouped = re.compile(group_by), []
    for source in sources:
        match = pattern.search(source.data_path)
        if source.group != source.data_path:
            raise UserError(
                f"--group_by and the manifest's group column both name the group of {source.id!r}: "
                "use one of them"
            )
        if not match or match[1] is None:
            raise UserError(
                f"--group_by {group_by!r} must match the path of every source, "
                f"but not {source.data_path!r}: adapt the expression, or leave the source out"
            )
        grouped.append(replace(source, group=match[1]))
    return grouped


def class_label(names: Iterable[str]) -> LabelSpec:
    """The `LabelSpec` of one class a sequence, with names sorted."""
    return LabelSpec(task="classification", class_names=tuple(sorted(set(names))))
