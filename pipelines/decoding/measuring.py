"""Adds to frames what was measured at their times: labels and signals, from telemetry or an annotation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.footage import Footage, Frame, OnProgress
from pipelines.decoding.protocol import BuildRequest, DecodingFailure
from pipelines.labels.alignment import Aligned, Alignment, concatenate, concatenate_rows
from pipelines.labels.annotations import AnnotationError, read_label
from pipelines.labels.rows import Telemetry
from pipelines.labels.telemetry import TelemetryError, read_telemetry
from pipelines.options.telemetry import AnnotationOptions, TelemetryOptions
from pipelines.plan.descriptors import SideFile, Source

_EPOCHS = (5e8, 5e9)  # seconds since 1970 that are taken for a clock: 1985 to 2128


class Measurements:
    """The measurements of a clip, to be added to its frames.

    ``footage`` is not read here. ``packets`` is the same, opened once more, to find its first frame or to
    count frames.

    Attributes:
        by_time: rows have times. If not, row i belongs to frame i.
        frames_without: frames so far for which nothing was measured.

    Raises:
        DecodingFailure: of stage ``telemetry``, if it cannot be read or does not overlap the footage.
    """

    def __init__(
        self,
        request: BuildRequest,
        footage: Footage,
        packets: Footage,
        on_progress: OnProgress = lambda: None,
    ):
        self._clip = clip_telemetry(request, on_progress)
        self._request = request
        self._time_base = footage.time_base
        self._origin_pts = 0
        self._frame_times: NDArray[np.int64] | None = None
        self.frames_without = 0
        telemetry = self._clip.telemetry
        options = request.telemetry or TelemetryOptions(telemetry="")
        times = telemetry.times
        self.by_time = times is not None
        if times is None:
            if footage.cuttable:
                # A frame's row is its place in the whole footage, wherever reading started.
                self._frame_times, _ = packets.packet_times()
        elif request.segment.source.kind != "telemetry":
            self._origin_pts = packets.origin_pts()
            if footage.declared_seconds:
                _check_overlap(times, footage.declared_seconds, options)
        names = measured_columns(request)
        sources = [options.source_of(name) for name in names]
        self._alignment = Alignment(
            telemetry,
            columns=[column for column, _ in sources],
            interpolate=options.interpolate,
            max_gap=options.max_gap,
            angle_columns=options.angle_sources,
            ahead=[seconds for _, seconds in sources],
        )

    def measure(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yields frames with their measured values, without frames for which nothing was measured.

        No sequence spans a frame that was left out.
        """
        segment = self._request.segment
        end_slot = math.inf if segment.end_slot is None else segment.end_slot
        for frame in frames:
            if not frame.slots:
                continue
            slot = frame.slots.start
            if slot >= end_slot + self._request.sampling.num_frames:
                return  # no sequence of the segment reaches as far
            measured = self.at(frame)
            if measured is not None:
                yield frame._replace(measured=measured)
            elif segment.first_slot <= slot < end_slot:
                self.frames_without += 1

    def mismatch(self, frames: int) -> str | None:
        """Describes how the numbers of rows and ``frames`` differ; None if they match or rows have times."""
        if self.by_time or self._clip.mismatch:
            return self._clip.mismatch
        if self._frame_times is not None:
            frames = len(self._frame_times)
        source = self._request.segment.source
        rows = self._clip.telemetry.rows - source.telemetry_row
        is_shared = source.telemetry_shared and source.telemetry is not None
        if rows == frames or (is_shared and rows > frames):
            return None
        return _describe_mismatch("the telemetry", rows, frames)

    def at(self, frame: Frame) -> Aligned | None:
        """Returns what was measured at the time of a frame; None where there are no values."""
        if self.by_time:
            return self._alignment.at_time(float((frame.pts - self._origin_pts) * self._time_base))
        row = frame.rank
        if self._frame_times is not None:
            row = int(np.searchsorted(self._frame_times, frame.pts))
        return self._alignment.at_row(self._request.segment.source.telemetry_row + row)


def is_measured(request: BuildRequest) -> bool:
    """Returns True if the source has telemetry or an annotation by frame."""
    source = request.segment.source
    return source.telemetry is not None or any(part.telemetry for part in source.parts)


def measured_columns(request: BuildRequest) -> tuple[str, ...]:
    """Returns the columns of numbers that are used: targets, then signals."""
    telemetry = request.telemetry
    signals = telemetry.signal_columns if telemetry else ()
    # A column may be both.
    return tuple(dict.fromkeys((*request.spec.label.target_names, *signals)))


def read_columns(names: Sequence[str], options: TelemetryOptions | None) -> tuple[str, ...]:
    """Returns the columns that targets and signals are read from, each once."""
    return tuple(dict.fromkeys(options.source_of(name)[0] if options else name for name in names))


class ClipTelemetry(NamedTuple):
    """The telemetry of a clip.

    Attributes:
        telemetry: rows with times in seconds after the footage's first frame; with a source that is telemetry
            alone, with their own times.
        mismatch: how the numbers of rows and frames of a file differ; None if they match.
    """

    telemetry: Telemetry
    mismatch: str | None = None


def clip_telemetry(request: BuildRequest, on_progress: OnProgress = lambda: None) -> ClipTelemetry:
    """Reads the telemetry of the request's clip, or returns that of the request before for the same clip.

    Raises:
        DecodingFailure: of stage ``telemetry``.
    """
    key = (
        request.segment.source,
        request.telemetry,
        request.annotation,
        read_columns(measured_columns(request), request.telemetry),
        request.label.class_column,
    )
    try:
        if key not in _last_clip:  # successive requests are often for segments of one clip
            _last_clip.clear()
            _last_clip[key] = _load(*key, on_progress)
        return _last_clip[key]
    except (TelemetryError, AnnotationError) as error:
        raise DecodingFailure("telemetry", str(error)) from error
    except OSError as error:
        name = request.segment.source.id
        raise DecodingFailure("telemetry", f"{name}: {error.strerror or error}") from error


_last_clip: dict[tuple[Any, ...], ClipTelemetry] = {}


def _load(
    source: Source,
    options: TelemetryOptions | None,
    annotation: AnnotationOptions | None,
    columns: tuple[str, ...],
    class_column: str | None,
    on_progress: OnProgress,
) -> ClipTelemetry:
    """Reads the telemetry of a source: labels by frame in its annotation, one file, or one for each part."""
    if options is None:
        return ClipTelemetry(_annotation_rows(source, annotation, columns))

    def read(file: SideFile, start: float) -> Telemetry:
        own = read_telemetry(
            file.path,
            file.data_path,
            options,
            columns=columns,
            class_column=class_column,
            on_progress=on_progress,
        )
        return _placed(own, source, options, start)

    if source.telemetry is not None:
        return ClipTelemetry(read(source.telemetry, 0.0))
    pieces: list[tuple[Telemetry, int]] = []
    mismatch = None
    for part in source.parts:
        if part.telemetry is None or part.extent is None:
            raise ValueError(
                f"{part.data_path}: expected telemetry and a measured extent, got {part.telemetry} and "
                f"{part.extent}"
            )
        own = read(part.telemetry, float(part.start - source.parts[0].start))
        frames = part.extent.frames
        if own.times is None and own.rows != frames:
            mismatch = mismatch or _describe_mismatch(part.telemetry.data_path, own.rows, frames)
        pieces.append((own, frames))
    if pieces[0][0].times is None:
        return ClipTelemetry(concatenate_rows(pieces), mismatch)
    # Each piece has been placed on the clock of the source before.
    return ClipTelemetry(concatenate([(telemetry, 0.0) for telemetry, _ in pieces]))


def _check_overlap(times: NDArray[np.float64], seconds: float, options: TelemetryOptions) -> None:
    """Raises `DecodingFailure` if the telemetry and ``seconds`` of footage share too little time."""
    first, last = float(times[0]), float(times[-1])
    shared = min(last, seconds) - max(first, 0.0)
    shorter = min(last - first, seconds)
    if shared >= 0 and shared >= options.min_overlap * shorter:
        return
    if shared < 0:
        shown = "it does not overlap the footage"
    else:
        shown = (
            f"it overlaps the footage for {shared:.3f} s, which is less than --min_overlap "
            f"{options.min_overlap:g} of the {shorter:.3f} s of the shorter"
        )
    fits = options.time_offset - first
    raise DecodingFailure(
        "telemetry",
        f"{shown}: its rows span {_show_seconds(first)} to {_show_seconds(last)} s, the footage 0 to "
        f"{_show_seconds(seconds)} s. Check --time_unit, --time_offset and --time_origin. "
        f"If both begin together, use --time_offset {_show_seconds(fits)}",
    )


def _show_seconds(seconds: float) -> str:
    """Returns all digits of seconds, to the microsecond."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _describe_mismatch(name: str, rows: int, frames: int) -> str:
    return f"{name} has {rows} rows for {frames} frames: row i was used for frame i"


def _placed(
    telemetry: Telemetry, source: Source, options: TelemetryOptions, part_start: float
) -> Telemetry:
    """Returns telemetry with times in seconds after the first frame of ``source``."""
    if telemetry.times is None:
        return telemetry
    if source.kind == "telemetry":
        origin = 0.0  # its own times become those of its frames
    elif options.time_origin != "clock":
        # A first row that was dropped still tells when the telemetry began.
        first = float(telemetry.times[0]) if telemetry.start is None else telemetry.start
        from_first = telemetry.dates or options.time_origin == "first_row"
        if not from_first and _EPOCHS[0] < first < _EPOCHS[1] and first + options.time_offset > 1e7:
            when = datetime.fromtimestamp(first, timezone.utc)
            raise TelemetryError(
                f"{source.id}: expected times that count from the first frame, got {_show_seconds(first)} s, "
                f"which since 1970 is {when:%Y-%m-%d %H:%M:%S} UTC: use --time_origin first_row if the first "
                "row was taken with the first frame, or --time_origin clock"
            )
        origin = first if from_first else 0.0
        origin += source.telemetry_start - part_start
    elif source.clock_start is None:
        raise TelemetryError(
            f"{source.id}: --time_origin clock needs the recording time, but the video's header has no "
            "creation_time. Use --time_origin file with --time_offset."
        )
    else:
        origin = source.clock_start
    return concatenate([(telemetry, options.time_offset - origin)])


def _annotation_rows(
    source: Source, annotation: AnnotationOptions | None, columns: tuple[str, ...]
) -> Telemetry:
    """Returns the labels by frame of a folder as rows."""
    if source.telemetry is None or annotation is None:
        raise ValueError(f"{source.id} has no annotation")
    found = read_label(source.telemetry.path, source.telemetry.data_path, annotation.label)
    entries = found.by_frame(len(found.entries))
    if found.kind == "class":
        return Telemetry(times=None, dates=False, columns={}, classes=entries)
    values = np.asarray(entries, np.float64)
    by_name = {name: values[:, place] for place, name in enumerate(columns)}
    return Telemetry(times=None, dates=False, columns=by_name)
