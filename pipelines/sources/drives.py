"""Drives with telemetry: one video each, or several files, or a folder of frames; or telemetry alone."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tqdm.auto import tqdm

from pipelines.errors import UsageError, UserError
from pipelines.images.frame_names import is_image, natural_key
from pipelines.labels.telemetry import Telemetry, TelemetryError, read_telemetry
from pipelines.options.dataset import LabelOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import Listing, Part, SideFile, Source, SourceFailure
from pipelines.sources.files import Files, check_location
from pipelines.sources.frame_folders import describe_frame_folder
from pipelines.sources.listing import (
    UnusableFolderError,
    class_label,
    describe_file,
    file_fields,
    is_glob,
    is_video,
    list_failure,
    list_matching,
    walk_files,
)
from pipelines.storage.scratch import scratch_folder
from tfrecords_schema import storage
from tfrecords_schema.paths import absolute, folder_name, relative, resolve
from tfrecords_schema.spec import LabelSpec

TELEMETRY_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".gpx", ".npy")
"""File names that are taken for telemetry if there is no template."""


@dataclass(frozen=True)
class _DriveFile:
    """A video file, or a folder of frames, and its place in a drive.

    Attributes:
        path: the file or folder.
        data_path: ``path`` relative to the input.
        drive: the drive's name, as ``--join`` captures it.
        order: what ``--join`` captures to order the files of a drive.
    """

    path: str
    data_path: str
    drive: str
    order: str = ""


def list_drives(
    location: str, *, telemetry: TelemetryOptions, label: LabelOptions, sampling: SamplingOptions
) -> Listing:
    """Lists the drives at ``location``: a folder, a glob or a single file.

    In a folder without videos, each folder of frames is a drive. Every telemetry file is read, so that its
    errors are reported before anything is built.

    Raises:
        UserError: if there is nothing at ``location``, or its contents contradict the options.
    """
    location, files = check_location(location), Files()
    root, paths = _find(location, telemetry, files)
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    for source_id, describe in _candidates(root, paths, telemetry, sampling, files):
        try:
            sources.append(describe())
        except (UnusableFolderError, OSError) as error:
            failures.append(list_failure(source_id, error))
    read: list[Source] = []
    class_names: set[str] = set()
    merged = 0
    for source in tqdm(sources, desc="Reading telemetry", unit="source", leave=False, delay=1):
        try:
            pieces = [_read(file, telemetry, label) for file in _telemetry_of(source)]
        except TelemetryError as error:
            failures.append(SourceFailure(source=source.id, stage="telemetry", reason=str(error)))
            continue
        except OSError as error:
            failures.append(list_failure(source.id, error))
            continue
        merged += sum(piece.merged_rows for piece in pieces)
        class_names |= {name for piece in pieces for name in piece.classes if name is not None}
        if telemetry.no_images:
            source = _with_duration(source, pieces[0], sampling)
        read.append(source)
    if not read:
        first = failures[0]
        raise UserError(
            f"none of {len(failures)} drives at {location} can be used, for example {first.source!r}: "
            f"{first.reason}"
        )
    notes = (f"{merged} rows of telemetry repeat the row before them and were merged with it",)
    return Listing(
        name=folder_name(root) or "dataset",
        sources=tuple(sorted(read, key=lambda source: source.id)),
        label=_label_spec(label, class_names),
        failures=tuple(failures),
        notes=notes if merged else (),
    )


def _find(location: str, telemetry: TelemetryOptions, files: Files) -> tuple[str, list[str]]:
    """Returns the root of the input, and the wanted files in it: telemetry; or videos and images."""
    what = "telemetry files" if telemetry.no_images else "videos"
    wanted: Callable[[str], bool] = _is_footage
    if telemetry.no_images:
        wanted = _telemetry_filter(telemetry.telemetry)
    if storage.is_folder(location):
        root, paths = location, list(walk_files(location, files=files))
    elif is_glob(location):
        root, paths = list_matching(location, files)
    elif storage.exists(location):
        if not is_video(location) and not telemetry.no_images:
            raise UserError(
                f"--input must be a folder of {what}, a glob or a video (by file name), got {location}"
            )
        return os.path.dirname(absolute(location)), [location]
    else:
        raise UserError(
            f"--input must be a folder of {what}, a glob or a file, but there is nothing at {location}"
        )
    found = [path for path in paths if wanted(path)]
    if not found:
        raise UserError(
            f"{location}: expected {what}, but none of {len(paths)} files is one (by file name)"
        )
    return root, found


def _is_footage(path: str) -> bool:
    return is_video(path) or is_image(os.path.basename(path))


def _telemetry_filter(template: str | None) -> Callable[[str], bool]:
    """Returns a function that tells whether the template may mean a path; without one, any file of rows."""
    if template is None:
        return lambda path: path.lower().endswith(TELEMETRY_EXTENSIONS)
    parts = re.split(r"\{(?:stem|name|drive|parent)\}", os.path.basename(template))
    pattern = re.compile(".*".join(re.escape(part) for part in parts))
    return lambda path: pattern.fullmatch(os.path.basename(path)) is not None


def _candidates(
    root: str,
    paths: Sequence[str],
    telemetry: TelemetryOptions,
    sampling: SamplingOptions,
    files: Files,
) -> Iterator[tuple[str, Callable[[], Source]]]:
    """Yields the id of each possible source, and a function that returns the source or raises the reason."""
    if telemetry.no_images:
        for path in paths:
            name = relative(path, root)
            yield name, functools.partial(describe_file, path, name, files, kind="telemetry")
        return
    videos = [_drive_file(path, root, telemetry.join) for path in paths if is_video(path)]
    for drive in _drives(videos):
        yield drive[0].drive, functools.partial(_video_source, drive, root, telemetry, files)
    if videos:
        return
    _check_frames_can_be_timed(telemetry, sampling)
    images: dict[str, list[str]] = {}  # by folder
    for path in paths:
        images.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
    for path, names in images.items():
        name = relative(path, root)
        folder = _DriveFile(path, name, drive=name)
        describe = functools.partial(
            _frames_source, folder, names, root, telemetry, sampling, files
        )
        yield name, describe


def _check_frames_can_be_timed(telemetry: TelemetryOptions, sampling: SamplingOptions) -> None:
    if sampling.frame_rate is None:
        raise UsageError(
            "folders of frames have no times. Give their frames per second with --frame_rate"
        )
    if telemetry.join is not None:
        raise UsageError("--join is for videos, but --input holds folders of frames. Leave it out")


def _drive_file(path: str, root: str, join: str | None) -> _DriveFile:
    data_path = relative(path, root)
    if join is None:
        return _DriveFile(path, data_path, drive=data_path)
    match = re.search(join, data_path)
    if match is None or any(group is None for group in match.groups()):
        raise UserError(
            f"--join {join!r} must match the path of every video, but does not match {data_path!r}. "
            "Adapt the expression, or leave the video out"
        )
    named = match.groupdict()
    drive = named.get("drive", match[1])
    order = named.get("order", match[2] if len(match.groups()) > 1 else data_path)
    return _DriveFile(path, data_path, drive=drive, order=order)


def _drives(videos: Iterable[_DriveFile]) -> list[list[_DriveFile]]:
    """Returns the files of each drive in order.

    Raises:
        UserError: if two files have the same place in a drive.
    """
    by_drive: dict[str, list[_DriveFile]] = {}
    for video in videos:
        by_drive.setdefault(video.drive, []).append(video)
    for name, own in by_drive.items():
        own.sort(key=lambda video: natural_key(video.order))
        for before, after in pairwise(own):
            if before.order == after.order:
                raise UserError(
                    f"--join gives {before.data_path!r} and {after.data_path!r} the same "
                    f"place {after.order!r} in the drive {name!r}. Capture the part of the path that "
                    "distinguishes them"
                )
    return [by_drive[name] for name in sorted(by_drive)]


def _video_source(
    drive: Sequence[_DriveFile], root: str, options: TelemetryOptions, files: Files
) -> Source:
    """Returns the source for the files of a drive.

    Raises:
        OSError: if one of its files is missing.
    """
    telemetry = [_telemetry_file(video, root, options, files) for video in drive]
    first = describe_file(drive[0].path, drive[0].data_path, files)
    if options.join is None:
        return replace(first, telemetry=telemetry[0])
    shared = len({file.path for file in telemetry}) == 1
    parts = tuple(
        Part(
            **file_fields(video.path, video.data_path, files),
            order=video.order,
            telemetry=None if shared else file,
        )
        for video, file in zip(drive, telemetry, strict=True)
    )
    shared_file = telemetry[0] if shared else None
    return replace(first, id=drive[0].drive, parts=parts, telemetry=shared_file)


def _frames_source(
    folder: _DriveFile,
    images: Sequence[str],
    root: str,
    telemetry: TelemetryOptions,
    sampling: SamplingOptions,
    files: Files,
) -> Source:
    """Returns the source for a folder of frames with telemetry.

    Raises:
        UnusableFolderError: if the frames give no sequence.
        OSError: if the telemetry is missing.
    """
    source, _ = describe_frame_folder(folder.path, folder.data_path, images, sampling, files)
    return replace(source, telemetry=_telemetry_file(folder, root, telemetry, files))


def _telemetry_file(
    footage: _DriveFile, root: str, options: TelemetryOptions, files: Files
) -> SideFile:
    folder = os.path.dirname(absolute(footage.path))
    name = os.path.basename(footage.path)
    stem = os.path.splitext(name)[0] if is_video(name) else name
    filled = (options.telemetry or "").format(
        stem=stem,
        name=name,
        parent=folder,
        drive=footage.drive if options.join else stem,
    )
    path = resolve(folder, filled)
    data_path = relative(path, root)
    try:
        return SideFile(**file_fields(path, data_path, files))
    except FileNotFoundError:
        raise OSError(f"its telemetry is missing: there is no {data_path}") from None


def _telemetry_of(source: Source) -> list[SideFile]:
    """Returns the telemetry files of a source: its own, or those of its parts."""
    if source.telemetry is not None:
        return [source.telemetry]
    if source.kind == "telemetry":
        return [_as_telemetry(source)]
    return [part.telemetry for part in source.parts if part.telemetry is not None]


def _as_telemetry(source: Source) -> SideFile:
    """Returns the file of a source that is telemetry alone."""
    return SideFile(
        path=source.path,
        data_path=source.data_path,
        bytes=source.bytes,
        mtime_ns=source.mtime_ns,
    )


def _read(file: SideFile, options: TelemetryOptions, label: LabelOptions) -> Telemetry:
    """Reads the columns of a telemetry file that labels and signals need."""
    columns = tuple(dict.fromkeys((*label.label_columns, *options.signal_columns)))
    with storage.local_copy(file.path, scratch=scratch_folder("listing")) as local:
        return read_telemetry(
            local, file.data_path, options, columns=columns, class_column=label.class_column
        )


def _with_duration(source: Source, telemetry: Telemetry, sampling: SamplingOptions) -> Source:
    """Returns a source that is telemetry alone, with the duration of its rows."""
    if telemetry.times is not None:
        seconds = float(telemetry.times[-1] - telemetry.times[0])
    elif sampling.frame_rate is not None:
        seconds = float(telemetry.rows / sampling.frame_rate)
    else:
        raise UsageError(
            "rows without times need --frame_rate, their number per second. Or name the --time_column"
        )
    return replace(source, telemetry=_as_telemetry(source), seconds=seconds, frames=telemetry.rows)


def _label_spec(label: LabelOptions, class_names: set[str]) -> LabelSpec:
    each = label.label_at == "each"
    if label.class_column:
        return replace(class_label(class_names), per_frame=each)
    if not label.label_columns:
        return LabelSpec()
    return LabelSpec(
        task="regression",
        target_names=label.label_columns,
        target_units=label.label_units,
        per_frame=each,
    )
