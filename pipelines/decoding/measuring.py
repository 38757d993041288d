"""What was measured when a frame was taken: its labels and signals, from telemetry or an annotation."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.footage import Footage, FrameTime
from pipelines.decoding.protocol import DISTANCES, BuildRequest, DecodingFailure
from pipelines.labels.alignment import Aligned, Alignment, concatenate, concatenate_rows
from pipelines.labels.annotations import AnnotationError, read_label
from pipelines.labels.telemetry import Telemetry, TelemetryError, read_telemetry
from pipelines.options.telemetry import TelemetryOptions
from pipelines.plan.descriptors import SideFile, Source
from pipelines.plan.sampling import CoveringFrame

F = TypeVar("F", bound=FrameTime)


@dataclass(frozen=True)
class MeasuredFrame(Generic[F]):
    """A frame with what was measured then; None where nothing is measured in this dataset."""

    frame: F
    measured: Aligned | None

    @property
    def distance_class(self) -> int:
        """Which of `SegmentResult.telemetry_frames` counts it."""
        distance = self.measured.distance if self.measured else 0.0
        return sum(distance > bound for bound in DISTANCES)


class Measurements:
    """Brings what was measured along a clip to its frames.

    Args:
        request: which clip, and what is wanted of it.
        footage: of the clip, which is not read here.
        packets: the same, opened once more, to find its first frame or count frames in.

    Raises:
        DecodingFailure: of stage ``telemetry``, when it cannot be read, or is of another time.
    """

    def __init__(self, request: BuildRequest, footage: Footage[Any], packets: Footage[Any]):
        clip = clip_telemetry(request)
        telemetry = clip.telemetry
        options = request.telemetry or TelemetryOptions(telemetry="")
        source = request.segment.source
        self._time_base = footage.time_base
        self._row_of_first = source.telemetry_row
        self._clip = clip
        self._is_shared = source.telemetry_shared and source.telemetry is not None
        self.by_time = telemetry.times is not None
        self._origin_pts = 0
        self._frame_times: NDArray[np.int64] | None = None
        self.frames_without = 0
        self._segment = request.segment
        self._beyond: int | None = None  # the first slot that no sequence of the segment reaches
        if request.segment.end_slot is not None:
            self._beyond = request.segment.end_slot + request.sampling.num_frames
        if self.by_time and source.kind != "telemetry":
            self._origin_pts = packets.origin_pts()
        if not self.by_time and footage.cuttable:
            # A frame's row is its place in the whole of the footage, wherever reading began.
            self._frame_times, _ = packets.packet_times()
        elif (
            source.kind != "telemetry" and telemetry.times is not None and footage.declared_seconds
        ):
            _check_overlap(telemetry.times, footage.declared_seconds)
        self._alignment = Alignment(
            telemetry,
            columns=measured_columns(request),
            interpolate=options.interpolate,
            max_gap=options.max_gap,
            angle_columns=options.angle_columns,
        )

    def measure(
        self, covering: Iterable[CoveringFrame[F]]
    ) -> Iterator[CoveringFrame[MeasuredFrame[F]]]:
        """Leaves out the frames for which nothing was measured, so that no sequence runs over them."""
        for item in covering:
            if not item.slots:
                continue
            if self._beyond is not None and item.slots.start >= self._beyond:
                return
            measured = self._at(item.frame)
            if measured is None:
                self.frames_without += self._is_own(item.slots.start)
            else:
                yield CoveringFrame(item.slots, MeasuredFrame(item.frame, measured))

    def mismatch(self, frames: int) -> str | None:
        """What is wrong with a telemetry of rows for ``frames`` frames in all; None when they go together."""
        if self.by_time or self._clip.mismatch:
            return self._clip.mismatch
        if self._frame_times is not None:
            frames = len(self._frame_times)
        rows = self._clip.telemetry.rows - self._row_of_first
        if rows == frames or (self._is_shared and rows > frames):
            return None
        return _describe_mismatch("the telemetry", rows, frames)

    def _is_own(self, slot: int) -> bool:
        """Whether the frame at ``slot`` is this segment's to count, and not the one's before or after."""
        segment = self._segment
        return segment.first_slot <= slot and (segment.end_slot is None or slot < segment.end_slot)

    def _at(self, frame: FrameTime) -> Aligned | None:
        if self.by_time:
            return self._alignment.at_time(float((frame.pts - self._origin_pts) * self._time_base))
        row = frame.rank
        if self._frame_times is not None:
            row = int(np.searchsorted(self._frame_times, frame.pts))
        return self._alignment.at_row(self._row_of_first + row)


def is_measured(request: BuildRequest) -> bool:
    """Whether the source has something measured by frame."""
    source = request.segment.source
    return source.telemetry is not None or any(part.telemetry for part in source.parts)


def measured_columns(request: BuildRequest) -> tuple[str, ...]:
    """The columns of numbers wanted: targets, then signals."""
    telemetry = request.telemetry
    signals = telemetry.signal_columns if telemetry else ()
    # A column may be both.
    return tuple(dict.fromkeys((*request.spec.label.target_names, *signals)))


@dataclass(frozen=True)
class ClipTelemetry:
    """What was measured along a clip.

    Attributes:
        telemetry: on the scale of seconds after the footage's first frame; of telemetry alone, its own.
        mismatch: how the rows of a file and its frames do not go together; None where nothing shows it.
    """

    telemetry: Telemetry
    mismatch: str | None = None


def clip_telemetry(request: BuildRequest) -> ClipTelemetry:
    """What was measured along the request's clip.

    Raises:
        DecodingFailure: of stage ``telemetry``.
    """
    try:
        return _load(request.segment.source, _Wanted.of(request))
    except (TelemetryError, AnnotationError) as error:
        raise DecodingFailure("telemetry", str(error)) from error
    except OSError as error:
        name = request.segment.source.id
        raise DecodingFailure("telemetry", f"{name}: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Wanted:
    """What is read from telemetry, hashable."""

    columns: tuple[str, ...]
    class_column: str | None
    class_names: tuple[str, ...]
    expression: str | None
    options: TelemetryOptions | None

    @classmethod
    def of(cls, request: BuildRequest) -> _Wanted:
        return cls(
            columns=measured_columns(request),
            class_column=request.label.class_column,
            class_names=request.spec.label.class_names,
            expression=request.annotation.label if request.annotation else None,
            options=request.telemetry,
        )


@functools.lru_cache(maxsize=1)
def _load(source: Source, wanted: _Wanted) -> ClipTelemetry:
    # The segments of one clip come one after the other as often as not.
    options = wanted.options
    if options is None:
        return ClipTelemetry(_annotation_rows(source, wanted))
    if source.telemetry is not None:
        own = _read(source.telemetry, wanted, options)
        return ClipTelemetry(_placed(own, source, options, 0.0))
    pieces: list[tuple[Telemetry, int]] = []
    mismatch = None
    for part in source.parts:
        if part.telemetry is None or part.extent is None:
            raise ValueError(f"{part.data_path} has no telemetry, or no extent")
        own = _read(part.telemetry, wanted, options)
        frames = part.extent.frames
        if own.times is None and own.rows != frames:
            mismatch = mismatch or _describe_mismatch(part.telemetry.data_path, own.rows, frames)
        start = float(part.start - source.parts[0].start)
        pieces.append((_placed(own, source, options, start), frames))
    if pieces[0][0].times is None:
        return ClipTelemetry(concatenate_rows(pieces), mismatch)
    return ClipTelemetry(concatenate([(telemetry, 0.0) for telemetry, _ in pieces]))


def _describe_mismatch(name: str, rows: int, frames: int) -> str:
    return f"{name} has {rows} rows for {frames} frames: row i was taken for frame i"


def _read(file: SideFile, wanted: _Wanted, options: TelemetryOptions) -> Telemetry:
    return read_telemetry(
        file.path,
        file.data_path,
        options,
        columns=wanted.columns,
        class_column=wanted.class_column,
    )


def _placed(
    telemetry: Telemetry, source: Source, options: TelemetryOptions, part_start: float
) -> Telemetry:
    """The telemetry with its times on the clip's scale: seconds after the first frame of ``source``.

    Telemetry alone keeps its own times, which become those of its frames.
    """
    if telemetry.times is None:
        return telemetry
    if source.kind == "telemetry":
        origin = 0.0
    elif options.time_origin == "file":
        origin = float(telemetry.times[0]) if telemetry.dates else 0.0
        origin += source.telemetry_start - part_start
    elif source.clock_start is None:
        raise TelemetryError(
            f"{source.id}: --time_origin clock needs to know when the video was recorded, and its "
            "header does not say (creation_time): use --time_origin file with --time_offset"
        )
    else:
        origin = source.clock_start
    return concatenate([(telemetry, options.time_offset - origin)])


def _annotation_rows(source: Source, wanted: _Wanted) -> Telemetry:
    """The labels by frame of a folder, as rows."""
    if source.telemetry is None or wanted.expression is None:
        raise ValueError(f"{source.id} has no annotation")
    found = read_label(source.telemetry.path, source.telemetry.data_path, wanted.expression)
    entries = found.by_frame(len(found.rows or found.numbers or found.classes))
    if found.classes:
        return Telemetry(times=None, dates=False, columns={}, classes=found.classes)
    values = np.asarray(entries, np.float64)
    columns = {name: values[:, place] for place, name in enumerate(wanted.columns)}
    return Telemetry(times=None, dates=False, columns=columns)


def _check_overlap(times: NDArray[np.float64], seconds: float) -> None:
    first, last = float(times[0]), float(times[-1])
    if last < 0 or first > seconds:
        raise DecodingFailure(
            "telemetry",
            f"its rows lie from {first:.6g} to {last:.6g} s, and the footage from 0 to {seconds:.6g} s: "
            "see --time_unit, --time_offset and --time_origin",
        )
