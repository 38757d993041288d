"""A segment of footage to serialized records: what a decoder process does with each request."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pipelines.decoding.clip import Clip, Covered, Watched, cover_clip, start_reading
from pipelines.decoding.damage import Damage
from pipelines.decoding.footage import Footage, FrameTime
from pipelines.decoding.frame_folder import open_frame_folder
from pipelines.decoding.joined import JoinedVideos
from pipelines.decoding.measuring import MeasuredFrame, Measurements, clip_telemetry, is_measured
from pipelines.decoding.protocol import (
    BuildRequest,
    DecodingFailure,
    Index,
    IndexRequest,
    SegmentResult,
)
from pipelines.decoding.record_builder import EncodedFrame, RecordMaker, Tally, encode_frame
from pipelines.decoding.rows import TelemetryRows
from pipelines.decoding.video import open_video
from pipelines.decoding.wanted import find_wanted
from pipelines.options.dataset import SamplingOptions
from pipelines.plan.descriptors import Boundary, Extent, Probe, Segment, Source
from pipelines.plan.sampling import CoveringFrame, Window, cut_windows, pick_last, pick_uniform
from pipelines.plan.shards import clip_seconds
from tfrecords_schema.encode import encode_record

OnProgress = Callable[[], None]


@contextmanager
def open_footage(request: BuildRequest, on_progress: OnProgress) -> Iterator[Footage[Any]]:
    """Opens the footage of the request's source for one reading.

    Args:
        request: which source, and what to make of it.
        on_progress: called for every packet or frame that is read, whatever becomes of it.

    Raises:
        DecodingFailure: when it cannot be used.
    """
    source, rate = request.segment.source, request.sampling.frame_rate
    if source.kind == "telemetry":
        max_gap = request.telemetry.max_gap if request.telemetry else math.inf
        yield TelemetryRows(clip_telemetry(request).telemetry, rate, max_gap)
    elif source.kind == "frames":
        if rate is None:
            raise ValueError("a folder of frames needs a frame rate")
        yield open_frame_folder(source.path, rate, on_progress, request.image)
    else:
        with open_video_source(source, on_progress, request.threads) as video:
            yield video


@contextmanager
def open_video_source(
    source: Source, on_progress: OnProgress, threads: int = 1
) -> Iterator[Footage[Any]]:
    """Opens a video file, or the several that a drive consists of, to be decoded by ``threads``."""
    if source.parts:
        yield JoinedVideos(source.parts, on_progress, threads)
    else:
        with open_video(source.path, on_progress, threads) as video:
            yield video


# A source that stops this much before its header said is reported, not only used as far as it goes.
_MISSING_SECONDS = 1.0
_MISSING_FRACTION = 0.1

Covering = Iterable[CoveringFrame[MeasuredFrame[Any]]]


def probe_file(path: str) -> Probe:
    """What the header of the file at ``path`` says.

    Raises:
        DecodingFailure: when it cannot be opened as a video.
    """
    with open_video(path, header_only=True) as video:
        return video.probe()


def find_extent(path: str, on_progress: Callable[[], None] = lambda: None) -> Extent:
    """Where the footage in the file at ``path`` lies in time: reads all packets, decodes nothing.

    Raises:
        DecodingFailure: when it cannot be opened as a video.
    """
    with open_video(path, on_progress) as video:
        return video.extent()


def index_clip(request: IndexRequest, on_progress: Callable[[], None] = lambda: None) -> Index:
    """Where a clip whose every frame is used may be cut: reads all packets, decodes the first frame only.

    Args:
        request: which clip.
        on_progress: called for every packet read.

    Raises:
        DecodingFailure: when the file cannot be opened or its first frame does not decode.
    """
    with open_video_source(request.source, on_progress) as video:
        if not video.cuttable:
            return Index()
        clip = Clip(video, video.first_pts(), request.source.start, request.source.end)
    with open_video_source(request.source, on_progress) as video:
        times, keys = video.packet_times()
    inside = times >= clip.start_pts
    if clip.end_pts is not None:
        inside &= times < clip.end_pts
    times, keys = times[inside], keys[inside]
    key_slots = np.flatnonzero(keys)
    ticks = math.ceil(Fraction(request.segment_length) / clip.time_base)
    boundaries: list[Boundary] = []
    for target in range(clip.start_pts + ticks, int(times[-1]) if len(times) else 0, ticks):
        slot = int(np.searchsorted(times, target))
        anchors = key_slots[key_slots <= slot]
        if not len(anchors) or (boundaries and boundaries[-1].slot == slot):
            continue  # no keyframe to begin at, or no frame since the last boundary
        anchor = int(anchors[-1])
        boundaries.append(
            Boundary(
                slot=slot,
                anchor_pts=int(times[anchor]),
                anchor_slot=anchor,
                seconds=float((target - clip.start_pts) * clip.time_base),
            )
        )
    return Index(boundaries=tuple(boundaries))


def build_segment(
    request: BuildRequest, send: Callable[[bytes], None], on_progress: Callable[[], None]
) -> SegmentResult:
    """Decodes a segment and sends its records in order of their start.

    Args:
        request: which segment, and how.
        send: takes each serialized record.
        on_progress: called for every packet read.

    Raises:
        DecodingFailure: when the source cannot be opened or holds no frame that decodes.
    """

    def reopen() -> AbstractContextManager[Footage[Any]]:
        return open_footage(request, on_progress)

    segment, sampling = request.segment, request.sampling
    whole = None if sampling.sampling == "windows" else _pass_over(request, reopen)
    with reopen() as footage:
        clip, decoded = start_reading(footage, reopen, segment, sampling)
        wanted = find_wanted(
            clip,
            segment,
            sampling,
            total_slots=whole.slots if whole else 0,
            times=whole.times if whole else None,
        )
        if wanted is not None:
            footage.want(wanted)
        watched = Watched(decoded)
        measuring = _Measuring(request, footage, reopen)
        shown = Covered(cover_clip(clip, watched, segment, sampling))
        covered = Covered(measuring.measure(shown))

        def encode(item: MeasuredFrame[Any]) -> EncodedFrame:
            return encode_frame(footage, item, request)

        maker, tally = RecordMaker(request, clip), Tally(request.spec.label.num_classes)
        for window in _cut(covered, encode, segment, sampling, whole.slots if whole else 0):
            record = maker.record(window)
            send(encode_record(record, request.spec))
            tally.add(window, record)
        last_seconds = float(clip.seconds_after_first(watched.last_pts)) if watched.frames else 0.0
        if whole:
            last_seconds = whole.last_seconds
        read_to_end = whole is not None or watched.finished
        if read_to_end and not segment.first_slot and last_seconds < clip.start:
            raise DecodingFailure(
                "decode",
                f"the clip begins at {float(clip.start):g} s, where the last frame is at "
                f"{last_seconds:g} s",
            )
        truncated = whole.truncated if whole else _truncation(footage, clip, watched, segment)
        if read_to_end and truncated is None:
            truncated = measuring.mismatch(watched.frames)
        damage = footage.damage
        if damage is not None:
            truncated = f"{damage.reason}; {truncated}" if truncated else damage.reason
        pixels = tally.total_pixels(request.image)
        return SegmentResult(
            sequences=tally.sequences,
            frames=watched.frames,
            repeated_frames=tally.repeated_frames,
            padded_frames=tally.padded_frames,
            short_clips=int(segment.first_slot == 0 and shown.slots < sampling.num_frames),
            breaks=footage.breaks,
            unordered_frames=footage.unordered,
            pixel_count=pixels.pixels,
            pixel_sum=pixels.values,
            pixel_square_sum=pixels.squares,
            pixel_frames=tally.pixels.frames,
            label_counts=tuple(tally.label_counts),
            targets=tally.targets,
            signals=tally.signals,
            telemetry_frames=tuple(tally.distances) if measuring.by_time else (),
            frames_without_telemetry=measuring.frames_without,
            truncated=truncated,
            damaged_seconds=_damaged_seconds(clip, damage),
            last_seconds=last_seconds,
            first_timestamp=round(clip.first_pts * clip.time_base * 1_000_000),
        )


@dataclass(frozen=True)
class _FirstPass:
    """What a pass over a whole clip told: its slots, and how it ends.

    ``times`` are the presentation times of its frames, where packets tell them.
    """

    slots: int
    times: list[int] | None
    truncated: str | None
    last_seconds: float


def _pass_over(
    request: BuildRequest, reopen: Callable[[], AbstractContextManager[Footage[Any]]]
) -> _FirstPass:
    """Reads the whole clip; without decoding, where packets tell."""
    segment, sampling = request.segment, request.sampling
    with reopen() as footage, reopen() as packets:
        clip, decoded = start_reading(footage, reopen, segment, sampling)
        reader, frame_times, inside = footage, Watched[FrameTime](decoded), None
        if footage.cuttable:
            times, _ = packets.packet_times()
            times = times[times >= clip.first_pts]
            reader = packets
            end = len(times) if clip.end_pts is None else np.searchsorted(times, clip.end_pts)
            inside = times[np.searchsorted(times, clip.start_pts) : end].tolist()
            frame_times = Watched(FrameTime(int(pts), rank) for rank, pts in enumerate(times))
        measuring = _Measuring(request, footage, reopen)
        covered = Covered(measuring.measure(cover_clip(clip, frame_times, segment, sampling)))
        for _ in covered:
            pass
        return _FirstPass(
            slots=covered.slots,
            times=inside,
            truncated=_truncation(reader, clip, frame_times, segment),
            last_seconds=float(clip.seconds_after_first(frame_times.last_pts)),
        )


class _Measuring:
    """`Measurements` of a clip that has any; frames as they are, of one that has none."""

    def __init__(
        self,
        request: BuildRequest,
        footage: Footage[Any],
        reopen: Callable[[], AbstractContextManager[Footage[Any]]],
    ):
        self._measurements: Measurements | None = None
        if is_measured(request):
            with reopen() as packets:
                self._measurements = Measurements(request, footage, packets)

    @property
    def by_time(self) -> bool:
        return self._measurements is not None and self._measurements.by_time

    @property
    def frames_without(self) -> int:
        return self._measurements.frames_without if self._measurements else 0

    def measure(
        self, covering: Iterable[CoveringFrame[Any]]
    ) -> Iterator[CoveringFrame[MeasuredFrame[Any]]]:
        if self._measurements is None:
            return (CoveringFrame(item.slots, MeasuredFrame(item.frame, None)) for item in covering)
        return self._measurements.measure(covering)

    def mismatch(self, frames: int) -> str | None:
        return self._measurements.mismatch(frames) if self._measurements else None


def _cut(
    covered: Covering,
    encode: Callable[[MeasuredFrame[Any]], EncodedFrame],
    segment: Segment,
    sampling: SamplingOptions,
    total_slots: int,
) -> Iterator[Window[EncodedFrame]]:
    if sampling.sampling != "windows":
        pick = pick_uniform if sampling.sampling == "uniform" else pick_last
        return pick(
            covered,
            encode,
            num_frames=sampling.num_frames,
            total_slots=total_slots,
            short_clips=sampling.short_clips,
        )
    return cut_windows(
        covered,
        encode,
        num_frames=sampling.num_frames,
        stride=sampling.window_stride,
        first_slot=segment.first_slot,
        end_slot=segment.end_slot,
        short_clips=sampling.short_clips,
    )


def _damaged_seconds(clip: Clip, damage: Damage | None) -> float | None:
    """How far into the file damage begins."""
    if damage is None:
        return None
    return 0.0 if damage.pts is None else float(clip.seconds_after_first(damage.pts))


def _truncation(
    footage: Footage[Any], clip: Clip, watched: Watched[Any], segment: Segment
) -> str | None:
    """Why the footage ends before the clip is over, as far as one can tell; None when it does not."""
    if not watched.finished:
        return None
    if footage.truncated is not None:
        return footage.truncated
    if segment.end_slot is not None:
        return None  # the segment that runs to the clip's end reports
    source = segment.source
    expected = float(clip.start) + clip_seconds(source, footage.declared_seconds)
    if source.end is not None:
        expected = source.end
    reached = float(clip.seconds_after_first(watched.last_pts)) if watched.frames else 0.0
    if expected - reached > max(_MISSING_SECONDS, _MISSING_FRACTION * expected):
        return f"frames end after {reached:.2f} s, where {expected:.2f} s were declared"
    return None
