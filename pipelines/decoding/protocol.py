"""What a decoder process and its client say to each other over two pipes.

A request is a JSON object. The answer is a stream of messages: any number of RECORD (a serialized
SequenceExample) and PROGRESS (empty: frames are being decoded), then one RESULT or one FAILURE (JSON
objects). Each is preceded by its kind and length.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.options.dataset import ImageOptions, LabelOptions, SamplingOptions
from pipelines.options.telemetry import AnnotationOptions, TelemetryOptions
from pipelines.plan.descriptors import Boundary, Segment, Source
from tfrecords_schema.codec import LocalPath, from_json, to_json
from tfrecords_schema.moments import Moments
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

Stage = Literal["open", "decode", "limits", "process", "telemetry", "staging"]

DISTANCES = (0.0, 0.1, 0.5, 1.0)
"""Bounds of `SegmentResult.telemetry_frames`, seconds."""


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """A message as bytes."""
    return HEADER.pack(kind, len(payload)) + payload


def pack_json(kind: bytes, fields: dict[str, Any]) -> bytes:
    """A message with a JSON object as bytes."""
    return pack(kind, json.dumps(fields).encode())


@dataclass(frozen=True)
class ProbeRequest:
    """Asks for the `Probe` of a file."""

    path: LocalPath


@dataclass(frozen=True)
class ExtentRequest:
    """Asks for the `Extent` of a file: it is read, not decoded."""

    path: LocalPath


@dataclass(frozen=True, kw_only=True)
class IndexRequest:
    """Asks where a clip whose every frame is used may be cut: the file is read, not decoded."""

    source: Source
    segment_length: float


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """Asks for the records of a segment.

    Attributes:
        segment: which part of which source.
        spec: of the records.
        dataset_name: stored in each record.
        sampling, image: how frames are chosen and stored.
        label_indices: classes of the source, by ``spec.label.class_names``.
        label, annotation, telemetry: where labels and signals come from, when not from the source itself.
        threads: to decode with; with more than one, whatever is the matter with the footage is a failure.
    """

    segment: Segment
    spec: SequenceSpec
    dataset_name: str
    sampling: SamplingOptions
    image: ImageOptions
    label_indices: tuple[int, ...] = ()
    label: LabelOptions = field(default_factory=LabelOptions)
    annotation: AnnotationOptions | None = None
    telemetry: TelemetryOptions | None = None
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Lines of text that are shown from ``start`` on, seconds after the file's first frame."""

    start: float
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OverlayRequest:
    """Asks for the footage of a source with captions on it.

    Attributes:
        build: whose segment is the source; what it says of records does not matter.
        captions: in order; each holds until the next.
        output: path of the video to write.
    """

    build: BuildRequest
    captions: tuple[Caption, ...]
    output: str


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
        pixel_count: pixels in the records' frames that were added up, padding excluded.
        pixel_sum, pixel_square_sum: by channel, of those pixels' values, 0 to 255; of files that were passed
            on, as a sample of them has it.
        pixel_frames: frames whose pixels were looked at.
        label_counts: records (frames that are not padding, for labels by frame) of each class.
        targets, signals: moments of each target, and of each signal's components one after the other, over
            records (frames that are not padding, for labels by frame and for signals).
        telemetry_frames: frames in records, by the distance in time of the rows between which their values
            were found: up to each of `DISTANCES`, and beyond.
        frames_without_telemetry: frames that no sequence could use, as nothing was measured then.
        truncated: why the footage ends early or has gaps, or None.
        damaged_seconds: where the first frames are that did not decode, after the file's first; None when
            all did.
        last_seconds: presentation time of the last frame decoded, after the file's first.
        first_timestamp: presentation time of the file's first frame, microseconds.
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
    pixel_frames: int = 0
    label_counts: tuple[int, ...] = ()
    targets: tuple[Moments, ...] = ()
    signals: tuple[Moments, ...] = ()
    telemetry_frames: tuple[int, ...] = ()
    frames_without_telemetry: int = 0
    truncated: str | None = None
    damaged_seconds: float | None = None
    last_seconds: float = 0.0
    first_timestamp: int = 0


class DecodingFailure(Exception):  # noqa: N818 - what happened to a source, no fault of the program
    """Why a file could not be used.

    Attributes:
        stage: ``open``, ``decode``, ``limits`` (too many pixels, too much memory), ``process`` (the decoder
            died, hung or spoke garbage), ``telemetry`` (what was measured cannot be used) or ``staging`` (it
            cannot be copied from an object store).
        reason: in words.
        seconds: how far decoding had come, after the file's first frame; None when it had not begun.
    """

    def __init__(self, stage: Stage, reason: str, seconds: float | None = None):
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
        self.seconds = seconds

    def to_json(self) -> dict[str, Any]:
        """Returns the arguments that make the equal failure."""
        return {"stage": self.stage, "reason": self.reason, "seconds": self.seconds}


@dataclass(frozen=True, kw_only=True)
class Index:
    """The answer to an `IndexRequest`."""

    boundaries: tuple[Boundary, ...] = field(default=())


Request = ProbeRequest | ExtentRequest | IndexRequest | BuildRequest | OverlayRequest

_REQUESTS: dict[str, type[Request]] = {
    "probe": ProbeRequest,
    "extent": ExtentRequest,
    "index": IndexRequest,
    "build": BuildRequest,
    "overlay": OverlayRequest,
}


def request_to_json(request: Request) -> dict[str, Any]:
    """Returns a request as plain JSON types, its kind under ``ask``."""
    ask = next(name for name, cls in _REQUESTS.items() if type(request) is cls)
    return {"ask": ask, **to_json(request)}


def request_from_json(fields: dict[str, Any]) -> Request:
    """Returns the request that `request_to_json` gave ``fields`` for.

    Raises:
        ValueError: for an unknown kind, or fields that it does not have.
    """
    cls = _REQUESTS.get(fields.get("ask", ""))
    if cls is None:
        raise ValueError(f"expected a request to {', '.join(_REQUESTS)}, got {fields.get('ask')!r}")
    return from_json(cls, fields)
