"""Answers the requests to a decoder process: probes files, and turns segments of footage into records."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from pipelines.decoding.clip import (
    Clip,
    CountedFrames,
    OwnFrames,
    cover_clip,
    find_used_frames,
    start_reading,
)
from pipelines.decoding.footage import Footage, Frame, OnProgress
from pipelines.decoding.frame_folder import FrameFolder
from pipelines.decoding.joined import JoinedVideos
from pipelines.decoding.measuring import Measurements, clip_telemetry, is_measured
from pipelines.decoding.protocol import (
    BuildRequest,
    DecodingFailure,
    IndexRequest,
    SegmentResult,
    SpansRequest,
)
from pipelines.decoding.record_builder import (
    SequenceTally,
    build_record,
    encode_frame,
    microseconds,
)
from pipelines.decoding.telemetry_rows import TelemetryRows
from pipelines.decoding.video import open_video
from pipelines.options.dataset import FootageOptions
from pipelines.plan.descriptors import Boundary, Extent, FrameSpan, Probe, Segment, Source
from pipelines.plan.sampling import cut_windows, max_hold, pick_last, pick_uniform
from pipelines.plan.shards import clip_seconds
from tfrecords_schema.examples import encode_record

Reopen = Callable[[], AbstractContextManager[Footage]]

# A source that ends this much earlier than its header declares is reported as truncated.
_MIN_MISSING_SECONDS = 1.0
_MIN_MISSING_FRACTION = 0.1


@contextmanager
def open_footage(request: BuildRequest, on_progress: OnProgress) -> Iterator[Footage]:
    """Opens the footage of the request's source for one reading.

    Raises:
        DecodingFailure: if it cannot be used.
    """
    source, rate = request.segment.source, request.sampling.frame_rate
    if source.kind == "telemetry":
        max_gap = request.telemetry.max_gap if request.telemetry else math.inf
        yield TelemetryRows(clip_telemetry(request, on_progress).telemetry, rate, max_gap)
    elif source.kind == "frames":
        yield FrameFolder(source.path, request.sampling, on_progress, request.image)
    else:
        with open_video_source(source, on_progress, request.footage, request.threads) as video:
            video.max_hold = max_hold(rate)
            yield video


@contextmanager
def open_video_source(
    source: Source, on_progress: OnProgress, options: FootageOptions, threads: int = 1
) -> Iterator[Footage]:
    """Opens the video file of a source, or the several files of a drive, for decoding with ``threads``."""
    if source.parts:
        yield JoinedVideos(source.parts, on_progress, threads, options)
    else:
        # Of times that restart, a span or telemetry may mean either.
        by_time = source.telemetry or source.start is not None or source.end is not None
        with open_video(
            *(source.path, on_progress, threads), spans_restarts=not by_time, options=options
        ) as video:
            yield video


def probe_file(path: str, options: FootageOptions = FootageOptions()) -> Probe:  # noqa: B008
    """Returns the hints in the header of a video file."""
    with open_video(path, header_only=True, options=options) as video:
        return video.probe()


def find_extent(
    path: str,
    on_progress: OnProgress = lambda: None,
    options: FootageOptions = FootageOptions(),  # noqa: B008 (frozen)
) -> Extent:
    """Returns the span in time of a video file; reads all packets and decodes nothing."""
    with open_video(path, on_progress, options=options) as video:
        return video.extent()


def find_spans(
    request: SpansRequest, on_progress: OnProgress = lambda: None
) -> tuple[FrameSpan, ...]:
    """Returns the spans of a file with their times; decodes it if packets do not tell those of frames.

    Raises:
        DecodingFailure: if damage hides how many frames there are.
    """
    with open_video(request.path, on_progress, options=request.footage) as video:
        first_pts = video.first_pts()
    with open_video(request.path, on_progress, options=request.footage) as video:
        if video.cuttable:
            times, _ = video.packet_times()
            shown = times[times >= first_pts].tolist()
        else:
            shown = [frame.pts for frame in video.frames()]
        if video.damage is not None:
            reason = f"the file is damaged, so its frames cannot be counted: {video.damage.reason}"
            raise DecodingFailure("decode", reason)

    def place(span: FrameSpan) -> FrameSpan:
        if max(span.first + 1, span.stop or 0) > len(shown):
            return span
        ends = [None if n in (None, len(shown)) else shown[n] for n in (span.first, span.stop)]
        start, end = (None if t is None else (t - first_pts) * video.time_base for t in ends)
        return replace(span, start=start, end=end)

    return tuple(map(place, request.spans))


def find_boundaries(
    request: IndexRequest, on_progress: OnProgress = lambda: None
) -> tuple[Boundary, ...]:
    """Returns where a clip may be cut into segments of about ``segment_length``, if all its frames are used.

    A boundary names the keyframe at which to start decoding. Reads all packets, and decodes the first frame.
    """
    with open_video_source(request.source, on_progress, request.footage) as video:
        if not video.cuttable:
            return ()
        clip = Clip.of(request.source, video, video.first_pts())
    # Opened again: finding the first frame has read packets.
    with open_video_source(request.source, on_progress, request.footage) as video:
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
            continue  # no keyframe to start at, or no frame since the last boundary
        anchor = int(anchors[-1])
        boundaries.append(
            Boundary(
                slot=slot,
                anchor_pts=int(times[anchor]),
                anchor_slot=anchor,
                seconds=float((target - clip.start_pts) * clip.time_base),
            )
        )
    return tuple(boundaries)


def build_segment(
    request: BuildRequest,
    send: Callable[[bytes], None],
    on_progress: OnProgress,
    live: Footage | None = None,
) -> SegmentResult:
    """Decodes a segment, or ``live`` footage, and sends serialized records in order of their start.

    Raises:
        DecodingFailure: if the source cannot be opened, or no frame of it decodes.
    """
    reopen = functools.partial(open_footage, request, on_progress)
    segment, sampling = request.segment, request.sampling
    whole = (
        None if sampling.sampling == "windows" else _read_whole_clip(request, reopen, on_progress)
    )
    with nullcontext(live) if live else reopen() as footage:
        clip, frames = start_reading(footage, reopen, segment, sampling)
        total_slots, times = (whole.slots, whole.times) if whole else (0, None)
        is_used = find_used_frames(clip, segment, sampling, total_slots, times)
        if is_used is not None:
            footage.skip_unused(is_used)
        decoded = CountedFrames(frames)
        covering = CountedFrames(cover_clip(clip, decoded, segment, sampling))
        measurements = open_measurements(request, footage, reopen, on_progress)
        timed = OwnFrames(covering, clip, segment, sampling) if request.wants_times else None
        shown = covering if timed is None else timed
        measured = measurements.measure(shown) if measurements else shown
        encode = functools.partial(encode_frame, time_base=footage.time_base, request=request)
        if sampling.sampling == "windows":
            windows = cut_windows(
                measured,
                encode,
                num_frames=sampling.num_frames,
                stride=sampling.window_stride,
                first_slot=segment.first_slot,
                end_slot=segment.end_slot,
                short_clips=sampling.short_clips,
            )
        else:
            pick = pick_uniform if sampling.sampling == "uniform" else pick_last
            windows = pick(
                measured,
                encode,
                num_frames=sampling.num_frames,
                total_slots=total_slots,
                short_clips=sampling.short_clips,
            )
        tally = SequenceTally(request.spec.label.num_classes)
        without_future = 0
        targets = range(len(request.spec.label.target_names))
        for window in windows:
            last = window.frames[window.valid - 1].measured
            if last is not None and any(math.isnan(last.values[place]) for place in targets):
                without_future += 1
                continue
            record = build_record(window, request, clip)
            send(encode_record(record, request.spec))
            tally.add(window, record)
        own_times = timed.all_times() if timed else []
        last_seconds = whole.last_seconds if whole else _last_seconds(clip, decoded)
        read_to_end = whole is not None or decoded.finished
        if read_to_end and not segment.first_slot and last_seconds < clip.start:
            raise DecodingFailure(
                "decode",
                f"the clip starts at {float(clip.start):g} s, but the last frame is at "
                f"{last_seconds:g} s",
            )
        truncated = whole.truncated if whole else _find_truncation(footage, clip, decoded, segment)
        if read_to_end and truncated is None and measurements:
            truncated = measurements.mismatch(decoded.frames)
        damage = footage.damage
        damaged_seconds = None
        if damage is not None:
            damaged_at = clip.first_pts if damage.pts is None else damage.pts
            damaged_seconds = float(clip.seconds_after_first(damaged_at))
            truncated = f"{damage.reason}; {truncated}" if truncated else damage.reason
        pixels = tally.total_pixels(request.image)
        return SegmentResult(
            sequences=tally.sequences,
            frames=decoded.frames,
            repeated_frames=tally.repeated_frames,
            padded_frames=tally.padded_frames,
            short_clips=int(segment.first_slot == 0 and covering.end_slot < sampling.num_frames),
            breaks=footage.breaks,
            unordered_frames=footage.unordered,
            pixel_count=pixels.pixels,
            pixel_sum=pixels.values,
            pixel_square_sum=pixels.squares,
            pixel_frames=tally.pixels.frames,
            label_counts=tuple(tally.label_counts),
            targets=tally.targets,
            signals=tally.signals,
            telemetry_frames=(
                tuple(tally.distances) if measurements and measurements.by_time else ()
            ),
            frames_without_telemetry=measurements.frames_without if measurements else 0,
            without_future=without_future,
            truncated=truncated,
            damaged_seconds=damaged_seconds,
            last_seconds=last_seconds,
            first_timestamp=round(clip.first_pts * clip.time_base * 1_000_000),
            frame_times=tuple(microseconds(pts, clip.time_base) for pts in own_times),
        )


@dataclass(frozen=True)
class _WholeClip:
    """The findings of a first pass over a whole clip."""

    slots: int  # their number
    times: list[int] | None  # presentation times of the frames, if packets carry them
    truncated: str | None
    last_seconds: float


def _read_whole_clip(request: BuildRequest, reopen: Reopen, on_progress: OnProgress) -> _WholeClip:
    """Reads the whole clip, without decoding if packets carry the times of frames."""
    segment, sampling = request.segment, request.sampling
    with reopen() as footage, reopen() as packets:
        clip, frames = start_reading(footage, reopen, segment, sampling)
        reader, counted, inside = footage, CountedFrames(frames), None
        if footage.cuttable:
            times, _ = packets.packet_times()
            times = times[times >= clip.first_pts]
            reader = packets
            end = len(times) if clip.end_pts is None else np.searchsorted(times, clip.end_pts)
            inside = times[np.searchsorted(times, clip.start_pts) : end].tolist()
            counted = CountedFrames(Frame(int(pts), rank) for rank, pts in enumerate(times))
        measurements = open_measurements(request, footage, reopen, on_progress)
        covering = cover_clip(clip, counted, segment, sampling)
        measured = CountedFrames(measurements.measure(covering) if measurements else covering)
        for _ in measured:
            pass
        return _WholeClip(
            slots=measured.end_slot,
            times=inside,
            truncated=_find_truncation(reader, clip, counted, segment),
            last_seconds=_last_seconds(clip, counted),
        )


def open_measurements(
    request: BuildRequest, footage: Footage, reopen: Reopen, on_progress: OnProgress
) -> Measurements | None:
    """Returns the measurements of a clip, whose footage ``reopen`` opens once more; None for none."""
    if not is_measured(request):
        return None
    with reopen() as packets:
        return Measurements(request, footage, packets, on_progress)


def _last_seconds(clip: Clip, decoded: CountedFrames) -> float:
    return float(clip.seconds_after_first(decoded.last_pts)) if decoded.frames else 0.0


def _find_truncation(
    footage: Footage, clip: Clip, decoded: CountedFrames, segment: Segment
) -> str | None:
    """Returns the reason why the footage ends before the clip; None if it does not, as far as it was read."""
    if not decoded.finished:
        return None
    if footage.truncated is not None:
        return footage.truncated
    if segment.end_slot is not None:
        return None  # the last segment of the clip reports it
    source = segment.source
    expected = float(clip.start) + clip_seconds(source, footage.declared_seconds)
    if source.end is not None:
        expected = source.end
    reached = _last_seconds(clip, decoded)
    if expected - reached > max(_MIN_MISSING_SECONDS, _MIN_MISSING_FRACTION * expected):
        return f"frames end after {reached:.2f} s, but {expected:.2f} s were declared"
    return None
