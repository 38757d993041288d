"""Descriptors that pass between the stages of a build: sources, segments and shards, never frames.

They are stored in the plan and sent to decoder processes as JSON (`tfrecords_schema.codec`). Paths may hold
bytes that are not UTF-8, as surrogate escapes (`os.fsdecode`); JSON keeps those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from tfrecords_schema.codec import LocalPath
from tfrecords_schema.spec import LabelSpec

SourceKind = Literal["video", "frames", "telemetry"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SideFile:
    """A file that belongs to footage: telemetry, or an annotation.

    Attributes:
        path: of the file.
        data_path: ``path`` relative to the input root, for messages.
        bytes, mtime_ns: size and modification time of the file, which show that it has changed.
    """

    path: LocalPath
    data_path: str
    bytes: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """The time span of a video's footage, measured from its packets. Fractions are numerator and denominator.

    Attributes:
        time_base: seconds per tick.
        first_pts: presentation time of the first frame, in ticks.
        seconds: from the first frame to the end of the last.
        frames: number of packets that are shown.
        cuttable, created, states_rate: see `Probe`.
        tolerance: seconds by which a frame's presentation time may be later than its true time.
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
    states_rate: bool = True

    @property
    def start(self) -> Fraction:
        """Presentation time of the first frame in seconds."""
        return self.first_pts * Fraction(*self.time_base)

    @property
    def end(self) -> Fraction:
        """End of the last frame in seconds."""
        return self.start + Fraction(*self.seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part(SideFile):
    """One file of a drive that was recorded in several files.

    Attributes:
        order: position in the drive, from the file's name.
        telemetry: of this file; None when one file serves all parts, or there is none.
        extent: its time span; None until it is measured.
        shift: seconds, as a fraction, that convert its presentation times to the scale of the first part.
    """

    order: str = ""
    telemetry: SideFile | None = None
    extent: Extent | None = None
    shift: tuple[int, int] = (0, 1)

    @property
    def start(self) -> Fraction:
        """Presentation time of the first frame on the scale of the first part, in seconds."""
        return self._measured.start + Fraction(*self.shift)

    @property
    def end(self) -> Fraction:
        """End of the last frame on the same scale, in seconds."""
        return self._measured.end + Fraction(*self.shift)

    @property
    def _measured(self) -> Extent:
        if self.extent is None:
            raise ValueError(
                f"expected {self.data_path} to be measured before, but its extent is None"
            )
        return self.extent


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSpan:
    """A span of the frames ``[first, stop)`` of a file, counted from 0; a ``stop`` of None is its end.

    Attributes:
        start, end: seconds after the file's first frame, exactly; None until probing finds them, and for the
            end of the file.
    """

    first: int
    stop: int | None = None
    start: Fraction | None = None
    end: Fraction | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One clip: a video file or a span of one, a drive in several files, a folder of frames, or telemetry.

    Example: seconds 5 to 10 of a video, with the class ``run``::

        Source(id="a.mp4#t=5,10", path="/data/a.mp4", data_path="a.mp4", group="a.mp4",
               labels=("run",), start=5.0, end=10.0)

    Attributes:
        id: unique: ``data_path``, with the span as a media fragment (https://www.w3.org/TR/media-frags/).
        path: of the file or folder.
        data_path: ``path`` relative to the input root, as stored in records.
        group: sources of one group go to one split.
        split: the split that a manifest, a split list or a folder names; None chooses it by hash.
        labels: class names.
        values: regression targets.
        start, end: span in seconds after the file's first frame; None for its beginning or end.
        frame_span: the span, if it was given in frames; ``start`` and ``end`` are rounded then.
        bytes, mtime_ns: as in `SideFile`; for several files their sum and the latest.
        kind: of ``path``: a video file, a folder of frames, or a file of telemetry alone.
        seconds, frames: duration and number of frames, if listing found them; None uses the header.
        parts: files of a drive, in order; empty for a single one.
        telemetry: values measured along the clip, or its annotation by frame.
        telemetry_shared: several sources, separated by gaps in a drive, share ``telemetry``.
        telemetry_start, telemetry_row: seconds and frames of the drive before the first frame of the source.
        clock_start: time of the first frame, seconds since 1970 (UTC); None if unknown.
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
    frame_span: FrameSpan | None = None
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
    """Facts from a video's header: hints for planning, never trusted for counts.

    Attributes:
        duration: of the whole file, in seconds.
        frame_rate: frames/s.
        cuttable: presentation times are exact and decoding can start at any keyframe, so segments may be cut.
        created: start of the recording, seconds since 1970 (UTC); None if the file does not say.
        states_rate: False if the rate and all times are a guess.
    """

    duration: float
    frame_rate: float
    cuttable: bool
    created: float | None = None
    states_rate: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """The sequences of a source that start in a range of slots.

    A slot is one position of the sampling grid: the k-th sampling time, or the k-th frame if every
    frame is used (see `pipelines.plan.sampling`).

    Attributes:
        source: the clip.
        first_slot, end_slot: slots ``[first_slot, end_slot)`` at which sequences start; None is without end.
        anchor_pts, anchor_slot: a keyframe to start decoding at, and its slot; None if times give the slots.
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
    """One TFRecord file of a split, with its segments in order; ``index`` counts from 0 to ``count - 1``."""

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
    """A source that failed or was truncated: a line of ``failures.jsonl``.

    Attributes:
        source: id of the source.
        stage: ``list``, ``staging``, ``open``, ``decode``, ``limits``, ``process`` or ``telemetry``.
        reason: in words.
        seconds: position in the file up to which it was usable; None if unknown.
        truncated: the sequences before that position were kept, so the source does not count as failed.
    """

    source: str
    stage: str
    reason: str
    seconds: float | None = None
    truncated: bool = False


def file_id(source_id: str) -> str:
    """Returns the id of a source without its span."""
    return re.sub(r"#t=[\d.]+(,[\d.]+)?$", "", source_id)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The sources of a dataset.

    Attributes:
        name: of the dataset, taken from the input's name.
        sources: sorted by id; ids are unique.
        label: the task, and names in label order.
        failures: sources that are listed but missing.
        notes: lines for the user about how the input was interpreted.
    """

    name: str
    sources: tuple[Source, ...]
    label: LabelSpec
    failures: tuple[SourceFailure, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """A position at which a source may be cut; see `Segment` for the fields."""

    slot: int
    anchor_pts: int | None = None
    anchor_slot: int | None = None
    seconds: float = 0.0
