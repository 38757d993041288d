"""What is passed between the stages of a build: sources, segments and shards, never frames.

All of them go to JSON and back, to be stored in the plan and sent to decoder processes. Paths may hold
bytes that are not UTF-8, as surrogate escapes (`os.fsdecode`); JSON keeps those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from tfrecords_schema.codec import LocalPath
from tfrecords_schema.spec import LabelSpec

SourceKind = Literal["video", "frames", "telemetry"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SideFile:
    """A file beside footage: telemetry, or an annotation.

    Attributes:
        path: where it lies.
        data_path: ``path`` relative to the input root, for messages.
        bytes, mtime_ns: of the file, to notice that it has changed.
    """

    path: LocalPath
    data_path: str
    bytes: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """Where a video's footage lies in its own time, by its packets. Fractions are numerator and denominator.

    Attributes:
        time_base: seconds a tick.
        first_pts: presentation time of the first frame, in ticks.
        seconds: from the first frame to the end of the last.
        frames: packets to be shown.
        cuttable, created: see `Probe`.
        tolerance: how much later than its true time a frame's presentation time may be, seconds.
        truncated: the file ends before its footage does.
    """

    time_base: tuple[int, int]
    first_pts: int
    seconds: tuple[int, int]
    frames: int
    cuttable: bool
    tolerance: tuple[int, int]
    created: float | None = None
    truncated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One file of a drive that was recorded in several.

    Attributes:
        path, data_path, bytes, mtime_ns: of the file, as a `Source` has them.
        order: place in the drive, as the file's name says.
        telemetry: its own; None when the drive has one file for all parts, or none.
        extent: in its own time; None while it is not known.
        shift: what brings its presentation times onto the scale of the first part's, seconds as a fraction.
    """

    path: LocalPath
    data_path: str
    bytes: int = 0
    mtime_ns: int = 0
    order: str = ""
    telemetry: SideFile | None = None
    extent: Extent | None = None
    shift: tuple[int, int] = (0, 1)

    @property
    def start(self) -> Fraction:
        """Presentation time of its first frame on the scale of the first part's, seconds.

        Raises:
            ValueError: while its extent is not known.
        """
        if self.extent is None:
            raise ValueError(f"{self.data_path} has no extent")
        return self.extent.first_pts * Fraction(*self.extent.time_base) + Fraction(*self.shift)

    @property
    def end(self) -> Fraction:
        """When its last frame ends, on the same scale."""
        if self.extent is None:
            raise ValueError(f"{self.data_path} has no extent")
        return self.start + Fraction(*self.extent.seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One clip to build sequences from.

    That is a video file or a span of one; several files that one drive was recorded in; a folder of frames;
    or telemetry alone.

    Attributes:
        id: unique in the dataset: ``data_path``, and the span as a media fragment (``a.mp4#t=5,10``,
            https://www.w3.org/TR/media-frags/) when it is not the whole file.
        path: where the file lies.
        data_path: ``path`` relative to the input root, as stored in records.
        group: what must not straddle splits.
        split: the split that the manifest or a split list names; None leaves it to the hash.
        labels: class names.
        values: regression targets.
        start, end: span in seconds after the file's first frame; None is its beginning or end.
        bytes, mtime_ns: of the file (of all files: their sum, and the latest), to notice that it has changed.
        kind: ``video``, ``frames`` (``path`` is a folder of images) or ``telemetry`` (``path`` is a file of
            rows).
        seconds, frames: duration and frames, where listing found them out; None leaves it to the header.
        parts: files of a drive, in order; empty for a single one.
        telemetry: what is measured along the clip, or its annotation by frame.
        telemetry_shared: ``telemetry`` is that of several sources, which a gap in the drive separates.
        telemetry_start, telemetry_row: the first frame's time (seconds) and place (frames) on the scale of
            ``telemetry``: not 0 where that began with an earlier file of the drive.
        clock_start: the first frame's time by the clock, seconds since 1970 (UTC); None when not known.
    """

    id: str
    path: LocalPath
    data_path: str
    group: str
    split: str | None = None
    labels: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    start: float | None = None
    end: float | None = None
    bytes: int = 0
    mtime_ns: int = 0
    kind: SourceKind = "video"
    seconds: float | None = None
    frames: int | None = None
    parts: tuple[Part, ...] = ()
    telemetry: SideFile | None = None
    telemetry_shared: bool = False
    telemetry_start: float = 0.0
    telemetry_row: int = 0
    clock_start: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What a video's header says: hints for planning, never trusted for counts.

    Attributes:
        duration: seconds of the whole file.
        frame_rate: frames/s.
        cuttable: the container has exact presentation times and can be entered at any keyframe, so that the
            file may be built in segments.
        created: when recording began, as the file says, seconds since 1970 (UTC); None when it does not.
    """

    duration: float
    frame_rate: float
    cuttable: bool
    created: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """The sequences of a source that start in a range of slots.

    A slot is one place of the sampling grid: the k-th sampling time, or the k-th frame where every
    frame is used (see `pipelines.plan.sampling`).

    Attributes:
        source: the clip.
        first_slot, end_slot: sequences that start in ``[first_slot, end_slot)`` belong to this segment;
            ``end_slot`` None runs to the end of the clip.
        anchor_pts, anchor_slot: a keyframe from which decoding may begin (in the stream's time base) and
            its slot; None when slots follow from time alone.
        seconds: estimated duration.
    """

    source: Source
    first_slot: int = 0
    end_slot: int | None = None
    anchor_pts: int | None = None
    anchor_slot: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One file to write, with the segments that go into it in order."""

    split: str
    index: int
    count: int
    segments: tuple[Segment, ...]

    @property
    def file(self) -> str:
        """File name in the dataset folder: ``train-00000-of-00008.tfrecord``."""
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}.tfrecord"


@dataclass(frozen=True, kw_only=True)
class SourceFailure:
    """A source that gave nothing, or not all it should have: a line of ``failures.jsonl``.

    Attributes:
        source: its id.
        stage: where it failed: ``list``, ``staging``, ``open``, ``decode``, ``limits``, ``process`` or
            ``telemetry``.
        reason: in words.
        seconds: how far into the file it was usable; None when that is not known.
        truncated: its sequences up to there were kept, and it does not count as failed.
    """

    source: str
    stage: str
    reason: str
    seconds: float | None = None
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The sources of a dataset.

    Attributes:
        name: of the dataset, from the input's own name.
        sources: sorted by id, which is unique.
        label: task, and names in label order.
        failures: sources that are named but not there.
        notes: what a user should know of how the input was understood, a line each.
    """

    name: str
    sources: tuple[Source, ...]
    label: LabelSpec
    failures: tuple[SourceFailure, ...] = ()
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """A place where a source may be cut, known from its index (see `Segment` for the fields)."""

    slot: int
    anchor_pts: int | None = None
    anchor_slot: int | None = None
    seconds: float = 0.0
