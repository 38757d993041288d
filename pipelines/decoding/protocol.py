"""Defines the messages between a decoder process and its client, which use two pipes.

A request is a JSON object. The answer is a stream of messages: any number of RECORD (a serialized
SequenceExample) and PROGRESS (empty, sent while frames are decoded), then one RESULT or one FAILURE (JSON
objects). Each message begins with its kind and length.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pipelines.options.dataset import FootageOptions, ImageOptions, LabelOptions, SamplingOptions
from pipelines.options.telemetry import AnnotationOptions, TelemetryOptions
from pipelines.plan.descriptors import FrameSpan, Segment, Source
from pipelines.runners.child_process import pack
from tfrecords_schema.codec import LocalPath, from_json, to_json
from tfrecords_schema.moments import Moments
from tfrecords_schema.spec import SequenceSpec

REQUEST = b"Q"
RECORD = b"R"
PROGRESS = b"P"
RESULT = b"D"
FAILURE = b"F"

ANSWERS = (RECORD, PROGRESS, RESULT, FAILURE)

Stage = Literal["open", "decode", "limits", "process", "telemetry", "staging"]

DISTANCES = (0.0, 0.1, 0.5, 1.0)
"""Bounds of `SegmentResult.telemetry_frames`, seconds."""


def pack_json(kind: bytes, value: Any) -> bytes:
    """Returns a message whose payload is ``value`` as JSON."""
    return pack(kind, json.dumps(to_json(value)).encode())


@dataclass(frozen=True)
class ProbeRequest:
    """A request for the `Probe` of a file."""

    path: LocalPath
    footage: FootageOptions = field(default_factory=FootageOptions)


@dataclass(frozen=True)
class ExtentRequest:
    """A request for the `Extent` of a file, which is read but not decoded."""

    path: LocalPath
    footage: FootageOptions = field(default_factory=FootageOptions)


@dataclass(frozen=True)
class SpansRequest:
    """A request for the times of spans of a file; those beyond its end are returned without."""

    path: LocalPath
    spans: tuple[FrameSpan, ...]
    footage: FootageOptions = field(default_factory=FootageOptions)


@dataclass(frozen=True, kw_only=True)
class IndexRequest:
    """A request for the `Boundary`s at which a clip may be cut; the file is read but not decoded."""

    source: Source
    segment_length: float
    footage: FootageOptions = field(default_factory=FootageOptions)


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """A request for the records of a segment.

    Attributes:
        segment: the part of a source to build.
        spec: of the records.
        dataset_name: stored in each record.
        sampling, footage, image: options for choosing, reading and storing frames.
        label_indices: classes of the source, as indices into ``spec.label.class_names``.
        label, annotation, telemetry: options for labels and signals that do not come from the source itself.
        threads: number of decoding threads; with more than one, any damage of the footage is a failure.
        wants_times: the result is to have the times of all frames.
    """

    segment: Segment
    spec: SequenceSpec
    dataset_name: str
    sampling: SamplingOptions
    image: ImageOptions
    footage: FootageOptions = field(default_factory=FootageOptions)
    label_indices: tuple[int, ...] = ()
    label: LabelOptions = field(default_factory=LabelOptions)
    annotation: AnnotationOptions | None = None
    telemetry: TelemetryOptions | None = None
    threads: int = 1
    wants_times: bool = False


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Lines of text to show from ``start`` on, in seconds after the file's first frame."""

    start: float
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OverlayRequest:
    """A request to write the footage of a source with captions drawn on it.

    Attributes:
        build: its segment names the source; its options for records are ignored.
        captions: in order; each is shown until the next.
        output: path of the video to write.
        targets: request for the records whose labels are shown beside the captions; None for no targets.
    """

    build: BuildRequest
    captions: tuple[Caption, ...]
    output: str
    targets: BuildRequest | None = None


LIVE_STAMP = struct.Struct("<dqQ")
"""Precedes each record: `time.monotonic` of its arrival, the stream's first timestamp, dropped frames."""


@dataclass(frozen=True, kw_only=True)
class LiveRequest(BuildRequest):
    """A request for the records of a camera or stream; fails after ``timeout`` seconds without an answer."""

    address: str
    timeout: float


@dataclass(frozen=True, kw_only=True)
class SegmentCounts:
    """Counts and statistics of built segments, which can be summed.

    Attributes:
        sequences: number of records sent.
        frames: number of frames decoded.
        repeated_frames: frames in records that repeat the frame before, because no newer one was on screen.
        padded_frames: padding frames in records.
        short_clips: 1 if the clip had fewer frames than a sequence, else 0.
        breaks: places where footage could not be decoded; no sequence spans one.
        unordered_frames: frames dropped because they were not later than the frame before.
        pixel_count: pixels of the records' frames that were summed, padding excluded.
        pixel_sum, pixel_square_sum: by channel, sums over those pixels' values, 0 to 255; of a sample, if
            encoded files were stored as they are.
        pixel_frames: number of frames whose pixels were summed.
        label_counts: records of each class (for labels by frame: frames, padding excluded).
        targets, signals: moments of each target, and of each component of each signal in order, over records
            (for labels by frame and signals: over frames, padding excluded).
        telemetry_frames: frames in records, counted by the distance in time of the two rows that their values
            were interpolated between: up to each of `DISTANCES`, and above.
        frames_without_telemetry: frames that no sequence could use, because telemetry has no values there.
        without_future: sequences left out, because telemetry has no values at `--label_ahead` after them.
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
    without_future: int = 0


@dataclass(frozen=True, kw_only=True)
class SegmentResult(SegmentCounts):
    """The counts of one segment, and where its footage begins and ends.

    Attributes:
        truncated: the reason why the footage ends early or has gaps; None if it does not.
        damaged_seconds: position of the first frames that could not be decoded, after the file's first frame;
            None if all could.
        last_seconds: presentation time of the last decoded frame, after the file's first.
        first_timestamp: presentation time of the file's first frame, microseconds.
        frame_times: of each frame of the segment, used or not, its presentation time, microseconds; empty
            unless they were asked for.
    """

    truncated: str | None = None
    damaged_seconds: float | None = None
    last_seconds: float = 0.0
    first_timestamp: int = 0
    frame_times: tuple[int, ...] = ()


@dataclass(eq=False)
class DecodingFailure(Exception):  # noqa: N818 - an event of a source, not an error of the program
    """A file that could not be used.

    Attributes:
        stage: ``open``, ``decode``, ``limits`` (too many pixels, too much memory), ``process`` (the decoder
            died, hung or sent an invalid message), ``telemetry`` (invalid telemetry) or ``staging`` (the file
            cannot be copied from an object store).
        reason: in words.
        seconds: position that decoding had reached, after the file's first frame; None before it started.
    """

    stage: Stage
    reason: str
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


FileRequest = ProbeRequest | ExtentRequest | SpansRequest | IndexRequest | OverlayRequest
Request = FileRequest | BuildRequest | LiveRequest

_REQUESTS: dict[str, type[Request]] = {cls.__name__: cls for cls in get_args(Request)}


def request_to_json(request: Request) -> dict[str, Any]:
    """Returns a request as plain JSON types, the name of its class under ``ask``."""
    return {"ask": type(request).__name__, **to_json(request)}


def request_from_json(fields: dict[str, Any]) -> Request:
    """Returns the request that `request_to_json` gave ``fields`` for."""
    return from_json(_REQUESTS[fields["ask"]], fields)
