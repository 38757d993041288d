"""What is passed between the stages of a build: sources, segments and shards, never frames.

All of them go to JSON and back, to be stored in the plan and sent to decoder processes. Paths may hold
bytes that are not UTF-8, as surrogate escapes (`os.fsdecode`); JSON keeps those.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Source:
    """One clip to build sequences from: a video file, or a span of one.

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
        bytes, mtime_ns: of the file, to notice that it has changed.
    """

    id: str
    path: str
    data_path: str
    group: str
    split: str | None = None
    labels: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    start: float | None = None
    end: float | None = None
    bytes: int = 0
    mtime_ns: int = 0

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Source:
        """The source that `to_json` described."""
        return cls(
            **{**fields, "labels": tuple(fields["labels"]), "values": tuple(fields["values"])}
        )


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a video's header says: hints for planning, never trusted for counts.

    Attributes:
        duration: seconds of the whole file.
        frame_rate: frames/s.
        cuttable: the container has exact presentation times and can be entered at any keyframe, so that the
            file may be built in segments.
    """

    duration: float
    frame_rate: float
    cuttable: bool

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The sequences of a source that start in a range of slots.

    A slot is one place of the sampling grid: the k-th sampling time, or the k-th frame where every
    frame is used (see `pipelines.sampling`).

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

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Segment:
        """The segment that `to_json` described."""
        return cls(**{**fields, "source": Source.from_json(fields["source"])})


@dataclass(frozen=True, kw_only=True)
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

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Shard:
        """The shard that `to_json` described."""
        segments = tuple(Segment.from_json(segment) for segment in fields["segments"])
        return cls(**{**fields, "segments": segments})
