"""Drives with telemetry: a video each, or several files, or a folder of frames; or telemetry alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tqdm.auto import tqdm

from pipelines.errors import UsageError, UserError
from pipelines.images.frame_names import is_image, natural_key
from pipelines.labels.telemetry import Telemetry, TelemetryError, read_telemetry
from pipelines.options.dataset import LabelOptions, SamplingOptions
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import Listing, Part, SideFile, Source, SourceFailure
from pipelines.sources.class_folders import is_glob, list_matching
from pipelines.sources.files import (
    Files,
    absolute,
    check_location,
    folder_name,
    joined,
    relative,
)
from pipelines.sources.frame_folders import UnusableFolderError, describe_frame_folder
from pipelines.sources.listing import class_label, describe_file, is_video, list_failure, walk_files
from tfrecords_schema.spec import LabelSpec

TELEMETRY_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".gpx", ".npy")
"""What is taken for telemetry where no template says so."""


@dataclass(frozen=True)
class _Video:
    """A video file, and what ``--join`` reads in its path."""

    path: str
    data_path: str
    drive: str
    order: str


def list_drives(
    location: str, *, telemetry: TelemetryOptions, label: LabelOptions, sampling: SamplingOptions
) -> Listing:
    """Lists the drives at ``location``: a folder, a glob or a single file.

    A folder without videos may hold folders of frames, each of which is a drive.

    Every telemetry file is read, so that what is wrong with it is known before anything is built.

    Raises:
        UserError: when there is nothing there, or what is there contradicts the options.
    """
    location, files = check_location(location), Files()
    root, paths = _find(location, telemetry, files)
    frames: dict[str, list[str]] = {}
    if not telemetry.no_images and not any(map(is_video, paths)):
        frames = _frame_folders(paths)
        _check_frames_can_be_timed(telemetry, sampling)
    sources: list[Source] = []
    failures: list[SourceFailure] = []
    if telemetry.no_images:
        for path in paths:
            try:
                sources.append(describe_file(path, relative(path, root), files, kind="telemetry"))
            except OSError as error:
                failures.append(list_failure(relative(path, root), error))
    elif frames:
        for path, images in frames.items():
            try:
                sources.append(_frames_source(path, images, root, telemetry, sampling, files))
            except (UnusableFolderError, OSError) as error:
                source_id = relative(path, root)
                failures.append(SourceFailure(source=source_id, stage="list", reason=str(error)))
    else:
        paths = [path for path in paths if is_video(path)]
        videos = [_describe(path, root, telemetry.join) for path in paths]
        for drive in _drives(videos):
            try:
                sources.append(_source(drive, root, telemetry, files))
            except OSError as error:
                failures.append(list_failure(drive[0].drive, error))
    columns = tuple(dict.fromkeys((*label.label_columns, *telemetry.signal_columns)))
    read: list[Source] = []
    class_names: set[str] = set()
    merged = 0
    for source in tqdm(sources, desc="Reading telemetry", unit="source", leave=False, delay=1):
        try:
            pieces = []
            for file in _side_files(source):
                with files.local(file.path) as local:
                    piece = read_telemetry(
                        local,
                        file.data_path,
                        telemetry,
                        columns=columns,
                        class_column=label.class_column,
                    )
                pieces.append(piece)
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
            f"none of {len(failures)} drives at {location} can be used, such as {first.source!r}: "
            f"{first.reason}"
        )
    return Listing(
        name=folder_name(root) or "dataset",
        sources=tuple(sorted(read, key=lambda source: source.id)),
        label=_label_spec(label, class_names),
        failures=tuple(failures),
        notes=(f"{merged} rows of telemetry repeat the one before, and were merged with it",)
        if merged
        else (),
    )


def _find(location: str, telemetry: TelemetryOptions, files: Files) -> tuple[str, list[str]]:
    """The root of the input, and the files in it that are wanted: telemetry; or videos and images."""
    what = "telemetry files" if telemetry.no_images else "videos"
    wanted: Callable[[str], bool] = _is_footage
    if telemetry.no_images:
        wanted = _telemetry_filter(telemetry.telemetry)
    if files.is_folder(location):
        root, paths = location, list(walk_files(location, files=files))
    elif is_glob(location, files):
        root, paths = list_matching(location, files)
    elif files.exists(location):
        if not is_video(location) and not telemetry.no_images:
            raise UserError(
                f"--input must be a folder of {what}, a glob or a video (by file name), got {location}"
            )
        return os.path.dirname(absolute(location)), [location]
    else:
        raise UserError(
            f"--input must be a folder of {what}, a glob or a file; there is nothing at {location}"
        )
    found = [path for path in paths if wanted(path)]
    if not found:
        raise UserError(
            f"expected {what} in {location}, but none of {len(paths)} files there is one "
            "(by file name)"
        )
    return root, found


def _is_footage(path: str) -> bool:
    return is_video(path) or is_image(os.path.basename(path))


def _frame_folders(paths: Iterable[str]) -> dict[str, list[str]]:
    """The names of the images in each folder."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
    return folders


def _check_frames_can_be_timed(telemetry: TelemetryOptions, sampling: SamplingOptions) -> None:
    if sampling.frame_rate is None:
        raise UsageError(
            "folders of frames have no times: --frame_rate must say how many frames they hold a second"
        )
    if telemetry.join is not None:
        raise UsageError("--join is for videos, and --input holds folders of frames: leave it out")


def _frames_source(
    path: str,
    images: Sequence[str],
    root: str,
    telemetry: TelemetryOptions,
    sampling: SamplingOptions,
    files: Files,
) -> Source:
    """The source that a folder of frames with telemetry is.

    Raises:
        UnusableFolderError: when no sequence can be made of the frames.
        OSError: when the telemetry is not there.
    """
    source, _ = describe_frame_folder(path, relative(path, root), images, sampling, files)
    drive = _Video(path, source.data_path, drive=source.id, order="")
    return replace(source, telemetry=_telemetry_file(drive, root, telemetry, files))


def _telemetry_filter(template: str | None) -> Callable[[str], bool]:
    """Whether a path is one that the template could mean; any file of rows where there is no template."""
    if template is None:
        return lambda path: path.lower().endswith(TELEMETRY_EXTENSIONS)
    parts = re.split(r"\{(?:stem|name|drive|parent)\}", os.path.basename(template))
    pattern = re.compile(".*".join(re.escape(part) for part in parts))
    return lambda path: pattern.fullmatch(os.path.basename(path)) is not None


def _describe(path: str, root: str, join: str | None) -> _Video:
    data_path = relative(path, root)
    if join is None:
        return _Video(path, data_path, drive=data_path, order="")
    match = re.search(join, data_path)
    if match is None or any(group is None for group in match.groups()):
        raise UserError(
            f"--join {join!r} must match the path of every video, but not {data_path!r}: "
            "adapt the expression, or leave the video out"
        )
    named = match.groupdict()
    drive = named.get("drive", match[1])
    order = named.get("order", match[2] if len(match.groups()) > 1 else data_path)
    return _Video(path, data_path, drive=drive, order=order)


def _drives(videos: Iterable[_Video]) -> list[list[_Video]]:
    """The files of each drive in order.

    Raises:
        UserError: when two have the same place in one drive.
    """
    by_drive: dict[str, list[_Video]] = {}
    for video in videos:
        by_drive.setdefault(video.drive, []).append(video)
    for name, own in by_drive.items():
        own.sort(key=lambda video: natural_key(video.order))
        for before, after in pairwise(own):
            if before.order == after.order:
                raise UserError(
                    f"--join gives {before.data_path!r} and {after.data_path!r} the same place "
                    f"{after.order!r} in the drive {name!r}: let it capture what tells them apart"
                )
    return [by_drive[name] for name in sorted(by_drive)]


def _source(drive: Sequence[_Video], root: str, options: TelemetryOptions, files: Files) -> Source:
    """The source that a drive is.

    Raises:
        OSError: when a file of it is not there.
    """
    rows = [_telemetry_file(video, root, options, files) for video in drive]
    first = describe_file(drive[0].path, drive[0].data_path, files)
    if options.join is None:
        return replace(first, telemetry=rows[0])
    parts = []
    shared = len({file.path for file in rows}) == 1
    for video, file in zip(drive, rows, strict=True):
        found = describe_file(video.path, video.data_path, files)
        parts.append(
            Part(
                path=found.path,
                data_path=found.data_path,
                bytes=found.bytes,
                mtime_ns=found.mtime_ns,
                order=video.order,
                telemetry=None if shared else file,
            )
        )
    return replace(
        first, id=drive[0].drive, parts=tuple(parts), telemetry=rows[0] if shared else None
    )


def _telemetry_file(video: _Video, root: str, options: TelemetryOptions, files: Files) -> SideFile:
    folder = os.path.dirname(absolute(video.path))
    name = os.path.basename(video.path)
    stem = os.path.splitext(name)[0] if is_video(name) else name
    filled = (options.telemetry or "").format(
        stem=stem,
        name=name,
        parent=folder,
        drive=video.drive if options.join else stem,
    )
    path = joined(folder, filled)
    data_path = relative(path, root)
    try:
        found = describe_file(path, data_path, files)
    except FileNotFoundError:
        raise OSError(f"its telemetry is missing: there is no {data_path}") from None
    return SideFile(
        path=found.path, data_path=data_path, bytes=found.bytes, mtime_ns=found.mtime_ns
    )


def _side_files(source: Source) -> list[SideFile]:
    if source.telemetry is not None:
        return [source.telemetry]
    if source.kind == "telemetry":
        return [
            SideFile(
                path=source.path,
                data_path=source.data_path,
                bytes=source.bytes,
                mtime_ns=source.mtime_ns,
            )
        ]
    return [part.telemetry for part in source.parts if part.telemetry is not None]


def _with_duration(source: Source, telemetry: Telemetry, sampling: SamplingOptions) -> Source:
    """A source that is telemetry alone, with what its rows say of its length."""
    (file,) = _side_files(source)
    if telemetry.times is not None:
        seconds = float(telemetry.times[-1] - telemetry.times[0])
    elif sampling.frame_rate is not None:
        seconds = float(telemetry.rows / sampling.frame_rate)
    else:
        raise UsageError(
            "rows without times need --frame_rate, which says how many there are a second; "
            "or name the --time_column"
        )
    return replace(source, telemetry=file, seconds=seconds, frames=telemetry.rows)


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
