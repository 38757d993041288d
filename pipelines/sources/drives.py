"""Drives with telemetry: one video each, or several files, or a folder of frames; or telemetry alone."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from tqdm import tqdm

from pipelines.errors import UsageError, UserError
from pipelines.images.frame_names import frame_key, is_image
from pipelines.labels.array_pairs import is_pairs, pairs_status
from pipelines.labels.nmea import is_nmea
from pipelines.labels.rounding import Rounding, check_targets, describe_signals
from pipelines.labels.rows import Telemetry, add_dropped
from pipelines.labels.streams import TIME
from pipelines.labels.table import Dropped
from pipelines.labels.telemetry import TelemetryError, match_columns, read_telemetry
from pipelines.options.base import has_pattern
from pipelines.options.dataset import DatasetOptions, LabelOptions, SamplingOptions
from pipelines.options.telemetry import EMBEDDED, TelemetryOptions
from pipelines.plan.descriptors import Listing, Part, SideFile, Source, SourceFailure
from pipelines.sources.classes import order_classes
from pipelines.sources.files import Files, check_location
from pipelines.sources.frame_folders import describe_frame_folder, describe_frame_folders
from pipelines.sources.listing import (
    describe_all,
    describe_file,
    file_fields,
    find_files,
    group_images,
    is_video,
    list_failure,
)
from tfrecords_schema import storage
from tfrecords_schema.paths import UrlError, absolute, folder_name, relative, resolve
from tfrecords_schema.running.progress import progress_bar
from tfrecords_schema.running.scratch import scratch_folder
from tfrecords_schema.spec import LabelSpec

_MISSING = "its telemetry is missing"
_MAX_NAMED = 5

# Of GoPro: GX010042.MP4 and GX020042.MP4, or GOPR0042.MP4 and GP010042.MP4
# (https://community.gopro.com/s/article/GoPro-Camera-File-Naming-Convention).
_CHAPTER = re.compile(
    r"(?:GOPR|(?P<kind>G[HXPLS])(?P<order>\d\d))(?P<number>\d{4}\.\w+)",
    re.ASCII | re.IGNORECASE,
)

TELEMETRY_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".gpx", ".nmea", ".npy")
"""File names that are taken for telemetry if there is no template."""


def list_drives(
    location: str, *, telemetry: TelemetryOptions, label: LabelOptions, sampling: SamplingOptions
) -> Listing:
    """Lists the drives at ``location``: a folder, a glob or a single file.

    In a folder without videos, each folder of frames is a drive. Every telemetry file is read, so that its
    errors are reported before anything is built.
    """
    location, files = check_location(location), Files()
    root, paths = _find(location, telemetry, files)
    footage = _Footage(root, telemetry, sampling, files)
    sources, failures = footage.describe(paths)
    read: list[Source] = []
    class_names: set[str] = set()
    merged, dropped, derived = 0, Dropped(), set[str]()
    offsets = dict(label.target_offset)
    read_from = {telemetry.source_of(name)[0]: name for name in label.label_columns}
    targets = [Rounding(column, offsets.get(name, 0.0)) for column, name in read_from.items()]
    signals = [Rounding(column) for column in telemetry.signal_columns]
    bar = progress_bar(
        sources, desc="Reading telemetry", unit="source", leave=False, delay=1, miniters=0
    )
    for source in bar:
        own = [source.telemetry, *(part.telemetry for part in source.parts)]
        try:
            pieces = [_read(file, telemetry, label, bar) for file in own if file is not None]
        except TelemetryError as error:
            failures.append(SourceFailure(source=source.id, stage="telemetry", reason=str(error)))
            continue
        except OSError as error:
            failures.append(list_failure(source.id, error))
            continue
        for rounding in (*targets, *signals):
            # Derived values hold the noise of positions, which float32 need not keep.
            written = [piece for piece in pieces if rounding.name not in piece.derived]
            rounding.add(np.concatenate([[], *(own.columns[rounding.name] for own in written)]))
        merged += sum(piece.merged_rows for piece in pieces)
        for piece in pieces:
            add_dropped(dropped, piece)
            derived |= piece.derived
        class_names |= {name for piece in pieces for name in piece.classes if name is not None}
        if telemetry.no_images:
            seconds = _duration(pieces[0], sampling)
            source = replace(source, seconds=seconds, frames=pieces[0].rows)
        read.append(source)
    if not read:
        first = failures[0]
        raise UserError(
            f"none of {len(failures)} drives at {location} can be used, for example {first.source!r}: "
            f"{first.reason}"
        )
    check_targets(location, targets)
    notes = [*describe_signals(signals), *describe_frame_folders(files)]
    if label != LabelOptions() and telemetry.join is None:
        # Footage without a file of labels was not meant to have any, as the test video of a competition.
        unlabelled = [failure for failure in failures if failure.reason.startswith(_MISSING)]
        failures = [failure for failure in failures if failure not in unlabelled]
        notes += _describe_unlabelled(unlabelled, len(read) + len(failures) + len(unlabelled))
    if telemetry.join is None:
        notes += _describe_chapters(read)
    if derived:
        which = " and ".join(sorted(derived))
        notes.append(f"derived from positions, where the files hold none: {which}")
    if merged:
        notes.append(
            f"{merged} rows of telemetry repeat the row before them and were merged with it"
        )
    notes += [
        f"{rows} rows of telemetry are left out because they {reason} (the first: {first})"
        for reason, (rows, first) in dropped.items()
    ]
    return Listing(
        name=folder_name(root) or "dataset",
        sources=tuple(read),
        label=_label_spec(label, class_names),
        failures=(*failures, *files.failures),
        notes=tuple(notes),
    )


def find_telemetry(source: Source, telemetry: TelemetryOptions) -> SideFile:
    """Returns the telemetry file of a video or a folder of frames; raises `OSError` if there is none."""
    root = os.path.dirname(source.path)
    return _Footage(root, telemetry, SamplingOptions(), Files()).telemetry_file(source.path, "")


def _describe_unlabelled(failures: Sequence[SourceFailure], drives: int) -> list[str]:
    if not failures:
        return []
    named = ", ".join(repr(failure.source) for failure in failures[:_MAX_NAMED])
    more = f" and {len(failures) - _MAX_NAMED} more" if len(failures) > _MAX_NAMED else ""
    reason = failures[0].reason.removeprefix(f"{_MISSING}: ")
    return [
        f"{len(failures)} of {drives} drives have no labels and are left out, because their telemetry is "
        f"missing: {named}{more} ({reason})"
    ]


def expand_columns(location: str, options: DatasetOptions) -> DatasetOptions:
    """Returns options with all targets: those of patterns such as ``x*``, and one for each time ahead.

    ``label_ahead=(0.5, 1.0)`` makes ``speed@0.5`` and ``speed@1`` of the target ``speed``.
    """
    options = _match_patterns(location, options)
    telemetry, label = options.telemetry, options.label
    if telemetry is None or not telemetry.label_ahead:
        return options
    labels, signals = label.label_columns, telemetry.signal_columns
    steps = [f"@{seconds:.9g}" for seconds in telemetry.label_ahead]

    def ahead(columns: Sequence[str]) -> tuple[str, ...]:
        """Returns the targets of columns by time, and the other columns."""
        targets = [own + step for step in steps for own in columns if own in labels]
        return (*targets, *(own for own in columns if own in signals or own not in labels))

    offsets = [(own + step, value) for own, value in label.target_offset for step in steps]
    mirrored = label.mirrored_columns
    label = replace(
        label,
        label_columns=ahead(labels)[: len(labels) * len(steps)],
        label_units=label.label_units * len(steps),
        target_offset=tuple(offsets),
        mirrored_columns=None if mirrored is None else ahead(mirrored),
    )
    telemetry = replace(telemetry, angle_columns=ahead(telemetry.angle_columns))
    return replace(options, telemetry=telemetry, label=label)


def _match_patterns(location: str, options: DatasetOptions) -> DatasetOptions:
    """Returns options with the columns of the first telemetry file in place of patterns such as ``x*``.

    The heading of GPX, NMEA and videos is always one of the angles. Text that holds NMEA has a time column.
    """
    telemetry, label = options.telemetry, options.label
    if telemetry is not None:
        named = _name_angles(location, telemetry, label)
        if named is not telemetry:
            telemetry, options = named, replace(options, telemetry=named)
    mirrored = label.mirrored_columns or ()
    typed = [label.label_columns, mirrored]
    typed += [telemetry.signal_columns, telemetry.angle_columns] if telemetry else []
    may_be_nmea = telemetry is not None and _may_be_nmea(location, telemetry)
    if telemetry is None or not (may_be_nmea or has_pattern(*typed)):
        return options
    location, files = check_location(location), Files()
    root, paths = _find(location, telemetry, files)
    footage = _Footage(root, telemetry, options.sampling, files)
    own = footage.telemetry_files(paths)
    if telemetry.no_images:
        own = (SideFile(**file_fields(path, relative(path, root), files)) for path in paths)
    file = next(own, None)
    if file is None:
        if not has_pattern(*typed):
            return options
        raise UserError(f"{location}: expected telemetry that names columns, got none")
    try:
        with storage.local_copy(file.path, scratch=scratch_folder("listing")) as local:
            if may_be_nmea and is_nmea(local):  # which has times, unlike rows of numbers
                telemetry = replace(telemetry, time_column=TIME)
            found = [match_columns(own, local, file.data_path, telemetry) for own in typed]
    except (TelemetryError, OSError) as error:
        raise UserError(str(error)) from error
    targets, mirrored, signals, angles = found
    label = replace(
        label, label_columns=targets, mirrored_columns=mirrored or label.mirrored_columns
    )
    telemetry = replace(telemetry, signal_columns=signals, angle_columns=angles)
    telemetry = _name_angles(file.path, telemetry, label)
    return replace(options, telemetry=telemetry, label=label)


def _may_be_nmea(location: str, telemetry: TelemetryOptions) -> bool:
    """Returns True for text whose first file must tell whether it is rows of numbers or NMEA."""
    is_text = (telemetry.telemetry or location).lower().endswith(".txt")
    return is_text and not telemetry.telemetry_columns and telemetry.time_column is None


def _name_angles(
    location: str, telemetry: TelemetryOptions, label: LabelOptions
) -> TelemetryOptions:
    """Returns options that name the heading of a GPS, in degrees, as an angle."""
    template, text = telemetry.telemetry or location, telemetry.time_column == TIME
    is_gps = template == EMBEDDED or template.lower().endswith((".gpx", ".nmea"))
    is_gps = is_gps or (text and _may_be_nmea(location, replace(telemetry, time_column=None)))
    used = [*label.label_columns, *telemetry.signal_columns]
    used += [name for formula in telemetry.formulas.values() for name in formula.names]
    if not is_gps or "heading" not in used or "heading" in telemetry.angle_columns:
        return telemetry
    return replace(telemetry, angle_columns=(*telemetry.angle_columns, "heading"))


def _find(location: str, telemetry: TelemetryOptions, files: Files) -> tuple[str, list[str]]:
    """Returns the root of the input, and the wanted files in it: telemetry; or videos and images."""
    what = "telemetry files" if telemetry.no_images else "videos"
    root, paths = find_files(location, f"a folder of {what}, a glob or a file", files)
    if paths == [location]:
        if not is_video(location) and not telemetry.no_images:
            raise UserError(
                f"--input must be a folder of {what}, a glob or a video (by file name), got {location}"
            )
        return root, paths
    if not telemetry.no_images:
        found = [path for path in paths if is_video(path) or is_image(os.path.basename(path))]
    elif telemetry.telemetry is None:
        found = [path for path in paths if path.lower().endswith(TELEMETRY_EXTENSIONS)]
    else:
        template = os.path.basename(telemetry.telemetry)
        parts = re.split(r"\{(?:stem|name|drive|parent)\}", template)
        pattern = re.compile(".*".join(re.escape(part) for part in parts))
        found = [path for path in paths if pattern.fullmatch(os.path.basename(path))]
    if not found:
        raise UserError(
            f"{location}: expected {what}, but none of {len(paths)} files is one (by file name)"
        )
    return root, found


@dataclass(frozen=True)
class _DriveFile:
    """A video file, the name of its drive, and what orders the files of the drive, from ``--join``."""

    path: str
    data_path: str
    drive: str
    order: str = ""


@dataclass(frozen=True)
class _Footage:
    """Describes the drives below ``root`` as sources."""

    root: str
    telemetry: TelemetryOptions
    sampling: SamplingOptions
    files: Files

    def describe(self, paths: Sequence[str]) -> tuple[list[Source], list[SourceFailure]]:
        """Returns the sources made of ``paths``, and the failures of those that cannot be used."""
        if self.telemetry.no_images:
            rows = ((relative(path, self.root), path) for path in paths)
            return describe_all(rows, self._rows_source)
        videos = [self._drive_file(path) for path in paths if is_video(path)]
        if videos and self.telemetry.join is None:
            videos = _join_chapters(videos, self._has_telemetry)
        if videos:
            return describe_all(_group_drives(videos).items(), self._video_source)
        if self.telemetry.join is not None:
            raise UsageError(
                "--join is for videos, but --input holds folders of frames. Leave it out"
            )
        folders = group_images(paths).items()
        items = ((relative(path, self.root), (path, names)) for path, names in folders)
        return describe_all(items, self._frames_source)

    def _rows_source(self, data_path: str, path: str) -> Source:
        fields = file_fields(path, data_path, self.files)
        file = SideFile(**fields)
        return Source(id=data_path, group=data_path, kind="telemetry", telemetry=file, **fields)

    def _video_source(self, name: str, drive: Sequence[_DriveFile]) -> Source:
        telemetry = [self.telemetry_file(video.path, video.drive) for video in drive]
        first = describe_file(drive[0].path, drive[0].data_path, self.files)
        if self.telemetry.join is None and len(drive) == 1:
            return replace(first, telemetry=telemetry[0])
        shared = telemetry[0] if len({file.path for file in telemetry}) == 1 else None
        parts = tuple(
            Part(
                **file_fields(video.path, video.data_path, self.files),
                order=video.order,
                telemetry=None if shared else file,
            )
            for video, file in zip(drive, telemetry, strict=True)
        )
        return replace(first, id=name, parts=parts, telemetry=shared)

    def _frames_source(self, name: str, folder: tuple[str, Sequence[str]]) -> Source:
        path, images = folder
        source = describe_frame_folder(path, name, images, self.sampling, self.files)
        return replace(source, telemetry=self.telemetry_file(path, name))

    def _drive_file(self, path: str) -> _DriveFile:
        data_path, join = relative(path, self.root), self.telemetry.join
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

    def telemetry_files(self, paths: Sequence[str]) -> Iterator[SideFile]:
        """Yields the telemetry files of the drives made of ``paths``."""
        folders = ((path, relative(path, self.root)) for path in group_images(paths))
        videos = ((path, self._drive_file(path).drive) for path in paths if is_video(path))
        for path, drive in itertools.chain(videos, folders):
            with contextlib.suppress(OSError):  # the drive is listed as failed
                yield self.telemetry_file(path, drive)

    def _has_telemetry(self, video: _DriveFile) -> bool:
        try:
            return bool(self.telemetry_file(video.path, video.drive))
        except OSError:
            return False

    def telemetry_file(self, footage: str, drive: str) -> SideFile:
        """Returns the telemetry of a video, or of a folder of frames; raises `OSError` if it is missing."""
        folder, name = os.path.split(absolute(footage))
        stem = os.path.splitext(name)[0] if is_video(name) else name
        filled = self.telemetry.template.format(
            stem=stem, name=name, parent=folder, drive=drive if self.telemetry.join else stem
        )
        try:
            path = resolve(folder, filled)
        except UrlError as error:
            raise UserError(f"--telemetry {self.telemetry.telemetry}: {error}") from error
        data_path = relative(path, self.root)
        if is_pairs(path):
            own = pairs_status(path)
            path = absolute(path)
            return SideFile(path=path, data_path=data_path, bytes=own.bytes, mtime_ns=own.mtime_ns)
        try:
            return SideFile(**file_fields(path, data_path, self.files))
        except FileNotFoundError:
            raise OSError(f"{_MISSING}: there is no {data_path}") from None


def _join_chapters(
    videos: Sequence[_DriveFile], has_telemetry: Callable[[_DriveFile], bool]
) -> list[_DriveFile]:
    """Returns the files, those of one recording's chapters with the name of the first as their drive."""
    recordings: dict[tuple[str, ...], list[_DriveFile]] = {}
    for video in videos:
        folder, name = os.path.split(video.data_path)
        match = _CHAPTER.fullmatch(name)
        order = video.data_path
        key: tuple[str, ...] = (order,)
        if match is not None:
            kind = match["kind"] or "GP"  # the first file of GP010042.MP4 is GOPR0042.MP4
            alone = "" if has_telemetry(video) else name
            key, order = (folder, kind, match["number"], alone), match["order"] or "00"
        recordings.setdefault(key, []).append(replace(video, order=order))
    found = []
    for own in recordings.values():
        drive = min(own, key=lambda video: video.order).data_path
        found += [replace(video, drive=drive) for video in own]
    return found


def _describe_chapters(sources: Sequence[Source]) -> list[str]:
    joined = [source for source in sources if source.parts]
    if not joined:
        return []
    named = "; ".join(
        ", ".join(part.data_path for part in source.parts) for source in joined[:_MAX_NAMED]
    )
    more = f" and {len(joined) - _MAX_NAMED} more" if len(joined) > _MAX_NAMED else ""
    return [
        f"files of {len(joined)} drives are read as one, as their names are those of a recording's chapters: "
        f"{named}{more}. --join '(.*)' makes each file a drive"
    ]


def _group_drives(videos: Sequence[_DriveFile]) -> dict[str, list[_DriveFile]]:
    """Returns the files of each drive in order, by its name."""
    by_drive: dict[str, list[_DriveFile]] = {}
    for video in videos:
        by_drive.setdefault(video.drive, []).append(video)
    for name, own in by_drive.items():
        own.sort(key=lambda video: frame_key(video.order))
        for before, after in pairwise(own):
            if before.order == after.order:
                raise UserError(
                    f"--join gives {before.data_path!r} and {after.data_path!r} the same "
                    f"place {after.order!r} in the drive {name!r}. Capture the part of the path that "
                    "distinguishes them"
                )
    return dict(sorted(by_drive.items()))


def _read(
    file: SideFile, options: TelemetryOptions, label: LabelOptions, bar: tqdm[Source]
) -> Telemetry:
    """Reads the columns of a telemetry file that labels and signals need; the bar shows that time passes."""
    names = (*label.label_columns, *options.signal_columns)
    columns = [options.source_of(name)[0] for name in names]
    with storage.local_copy(file.path, scratch=scratch_folder("listing")) as local:
        return read_telemetry(
            local,
            file.data_path,
            options,
            columns=columns,
            class_column=label.class_column,
            on_progress=functools.partial(bar.update, 0),
        )


def _duration(rows: Telemetry, sampling: SamplingOptions) -> float:
    """Returns the seconds that the rows of a source without images span."""
    if rows.times is not None:
        return float(rows.times[-1] - rows.times[0])
    if sampling.frame_rate is None:
        raise UsageError(
            "the telemetry has no times: name its --time_column, or give its rows per second as --frame_rate"
        )
    return float(rows.rows / sampling.frame_rate)


def _label_spec(label: LabelOptions, class_names: set[str]) -> LabelSpec:
    each = label.label_at == "each"
    if label.class_column:
        classes = order_classes(class_names, label)
        return LabelSpec(task="classification", class_names=classes, per_frame=each)
    if not label.label_columns:
        return LabelSpec()
    return LabelSpec(
        task="regression",
        target_names=label.label_columns,
        target_units=label.label_units,
        target_offsets=label.offsets_of(label.label_columns),
        per_frame=each,
    )
