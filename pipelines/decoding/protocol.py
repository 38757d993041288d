"""What a decoder process and its client say to each other over two pipes.

A request is a JSON object. The answer is a stream of messages: any number of RECORD (a serialized
SequenceExample) and PROGRESS (empty: frames are being decoded), then one RESULT or one FAILURE (JSON
objects). Each is preceded by its kind and length.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from pipelines.descriptors import Segment
from pipelines.options import ImageOptions, SamplingOptions
from pipelines.planning import Boundary
from tfrecords_schema.spec import SequenceSpec

HEADER = struct.Struct("<cI")
REQUEST = b"Q"
RECORD = b"R"
PROGRESS = b"P"
RESULT = b"D"
FAILURE = b"F"

ANSWERS = (RECORD, PROGRESS, RESULT, FAILURE)

MAX_MESSAGE_BYTES = 2**30
"""A longer message can only be garbage on the pipe."""

Stage = Literal["open", "decode", "limits", "process"]


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """A message as bytes."""
    return HEADER.pack(kind, len(payload)) + payload


def pack_json(kind: bytes, fields: dict[str, Any]) -> bytes:
    """A message with a JSON object as bytes."""
    return pack(kind, json.dumps(fields).encode())


@dataclass(frozen=True)
class ProbeRequest:
    """Asks for the `Probe` of a file."""

    path: str

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return {"ask": "probe", "path": self.path}


@dataclass(frozen=True, kw_only=True)
class IndexRequest:
    """Asks where a clip whose every frame is used may be cut: the file is read, not decoded."""

    path: str
    start: float | None
    end: float | None
    segment_length: float

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return {"ask": "index", **dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """Asks for the records of a segment.

    Attributes:
        segment: which part of which source.
        spec: of the records.
        dataset_name: stored in each record.
        sampling, image: how frames are chosen and stored.
        label_indices: classes of the source, by ``spec.label.class_names``.
    """

    segment: Segment
    spec: SequenceSpec
    dataset_name: str
    sampling: SamplingOptions
    image: ImageOptions
    label_indices: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        sampling = dataclasses.asdict(self.sampling)
        rate = self.sampling.frame_rate
        sampling["frame_rate"] = None if rate is None else [rate.numerator, rate.denominator]
        return {
            "ask": "build",
            "segment": self.segment.to_json(),
            "spec": self.spec.to_json(),
            "dataset_name": self.dataset_name,
            "sampling": sampling,
            "image": dataclasses.asdict(self.image),
            "label_indices": list(self.label_indices),
        }


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """What became of a segment that was built, besides its records.

    Attributes:
        sequences: records sent.
        frames: frames decoded.
        repeated_frames: frames in records that repeat the one before, since no newer one was on screen.
        padded_frames: frames in records that are padding.
        short_clips: 1 when the clip had fewer frames than a sequence.
        breaks: places where footage could not be decoded and sequences stop and begin anew.
        unordered_frames: frames left out because they were not later than the one before.
        pixel_count: pixels in the records' frames, padding excluded.
        pixel_sum, pixel_square_sum: by channel, of those pixels' values, 0 to 255.
        truncated: why the footage ends early, or None.
        last_seconds: presentation time of the last frame decoded, after the file's first.
    """

    sequences: int = 0
    frames: int = 0
    repeated_frames: int = 0
    padded_frames: int = 0
    short_clips: int = 0
    breaks: int = 0
    unordered_frames: int = 0
    pixel_count: int = 0
    pixel_sum: tuple[int, ...] = ()
    pixel_square_sum: tuple[int, ...] = ()
    truncated: str | None = None
    last_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SegmentResult:
        """The result that `to_json` described."""
        sums = ("pixel_sum", "pixel_square_sum")
        return cls(**{**fields, **{name: tuple(fields[name]) for name in sums}})


class DecodingFailure(Exception):  # noqa: N818 - what happened to a source, no fault of the program
    """Why a file could not be used.

    Attributes:
        stage: ``open``, ``decode``, ``limits`` (too many pixels, too much memory) or ``process`` (the decoder
            died, hung or spoke garbage).
        reason: in words.
        seconds: how far decoding had come, after the file's first frame; None when it had not begun.
    """

    def __init__(self, stage: Stage, reason: str, seconds: float | None = None):
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
        self.seconds = seconds

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return {"stage": self.stage, "reason": self.reason, "seconds": self.seconds}


@dataclass(frozen=True, kw_only=True)
class Index:
    """The answer to an `IndexRequest`."""

    boundaries: tuple[Boundary, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types."""
        return {"boundaries": [dataclasses.asdict(boundary) for boundary in self.boundaries]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Index:
        """The index that `to_json` described."""
        return cls(boundaries=tuple(Boundary(**boundary) for boundary in fields["boundaries"]))


def request_from_json(fields: dict[str, Any]) -> ProbeRequest | IndexRequest | BuildRequest:
    """The request that `to_json` described.

    Raises:
        ValueError: when it is none that this module knows.
    """
    fields = dict(fields)
    ask = fields.pop("ask", None)
    if ask == "probe":
        return ProbeRequest(**fields)
    if ask == "index":
        return IndexRequest(**fields)
    if ask == "build":
        return _build_request_from_json(fields)
    raise ValueError(f"expected a request to probe, index or build, got {ask!r}")


def _build_request_from_json(fields: dict[str, Any]) -> BuildRequest:
    rate = fields["sampling"]["frame_rate"]
    sampling = {**fields["sampling"], "frame_rate": None if rate is None else Fraction(*rate)}
    return BuildRequest(
        segment=Segment.from_json(fields["segment"]),
        spec=SequenceSpec.from_json(fields["spec"]),
        dataset_name=fields["dataset_name"],
        sampling=SamplingOptions(**sampling),
        image=ImageOptions(**fields["image"]),
        label_indices=tuple(fields["label_indices"]),
    )
