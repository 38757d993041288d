"""A segment of a video to serialized records: what a decoder process does with each request."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, pairwise
from typing import Generic, TypeVar

import numpy as np

from pipelines import frames
from pipelines.decoding.protocol import (
    BuildRequest,
    DecodingFailure,
    Index,
    IndexRequest,
    SegmentResult,
)
from pipelines.decoding.video import DecodedFrame, FrameTime, Video, open_video
from pipelines.descriptors import Probe, Segment, Source
from pipelines.options import SamplingOptions
from pipelines.planning import Boundary, clip_seconds
from pipelines.sampling import (
    CoveringFrame,
    PlacedFrame,
    Position,
    TimeGrid,
    Window,
    cover_slots,
    cut_windows,
    pick_uniform,
)
from tfrecords_schema.encode import encode_record
from tfrecords_schema.record import SequenceRecord

T = TypeVar("T", bound=FrameTime)

# A source that stops this much before its header said is reported, not only used as far as it goes.
_MISSING_SECONDS = 1.0
_MISSING_FRACTION = 0.1


@dataclass(frozen=True)
class EncodedFrame:
    """A frame as it goes into records: made once, however many sequences use it."""

    timestamp: int
    data: bytes
    pixels: int
    sums: tuple[int, ...]
    square_sums: tuple[int, ...]


def probe_file(path: str) -> Probe:
    """What the header of the file at ``path`` says.

    Raises:
        DecodingFailure: when it cannot be opened as a video.
    """
    with open_video(path) as video:
        return video.probe()


def index_clip(request: IndexRequest, on_progress: Callable[[], None] = lambda: None) -> Index:
    """Where a clip whose every frame is used may be cut: reads all packets, decodes the first frame only.

    Args:
        request: which clip.
        on_progress: called for every packet read.

    Raises:
        DecodingFailure: when the file cannot be opened or its first frame does not decode.
    """
    with open_video(request.path, on_progress) as video:
        if not video.cuttable:
            return Index()
        clip = _Clip(video, video.first_pts(), request.start, request.end)
    with open_video(request.path, on_progress) as video:
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
    segment, sampling = request.segment, request.sampling
    whole = _pass_over(request, on_progress) if sampling.sampling == "uniform" else None
    with open_video(segment.source.path, on_progress) as video:
        clip, decoded = _start_reading(video, segment, sampling, on_progress)
        watched = _Watched(decoded)
        covered = _Covered(_cover(clip, watched, segment, sampling))

        def encode(frame: DecodedFrame) -> EncodedFrame:
            return _encode(video, frame, request)

        tally = _Tally()
        for window in _cut(covered, encode, segment, sampling, whole.slots if whole else 0):
            send(encode_record(_record(window, clip, request), request.spec))
            tally.add(window)
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
        return SegmentResult(
            sequences=tally.sequences,
            frames=watched.frames,
            repeated_frames=tally.repeated_frames,
            padded_frames=tally.padded_frames,
            short_clips=int(segment.first_slot == 0 and covered.slots < sampling.num_frames),
            breaks=video.breaks,
            unordered_frames=video.unordered,
            pixel_count=tally.pixels,
            pixel_sum=tuple(tally.sums),
            pixel_square_sum=tuple(tally.square_sums),
            truncated=whole.truncated if whole else _truncation(video, clip, watched, segment),
            last_seconds=last_seconds,
        )


class _Clip:
    """The part of a file that a source is: presentation times in the stream's time base."""

    def __init__(self, video: Video, first_pts: int, start: float | None, end: float | None):
        self.time_base = video.time_base
        self.tolerance = video.tolerance
        self.first_pts = first_pts
        self.start = _exactly(start or 0)
        self.end = None if end is None else _exactly(end)
        self.start_pts = first_pts if start is None else self._first_at(self.start)
        self.end_pts = None if self.end is None else self._first_at(self.end)

    def seconds_after_first(self, pts: int) -> Fraction:
        """``pts`` in seconds after the file's first frame."""
        return (pts - self.first_pts) * self.time_base

    def time_grid(self, frame_rate: Fraction) -> TimeGrid:
        """The slots of this clip at ``frame_rate``, in seconds after the file's first frame."""
        # Beyond half a slot, it would no longer be clear which slot a frame is at.
        return TimeGrid(self.start, frame_rate, min(self.tolerance, 1 / (2 * frame_rate)))

    def slot_timestamp(self, slot: int, frame_rate: Fraction) -> int:
        """The time of ``slot`` on the scale of presentation times, microseconds."""
        seconds = self.first_pts * self.time_base + self.time_grid(frame_rate).seconds(slot)
        return round(seconds * 1_000_000)

    def end_slot(self, frame_rate: Fraction | None) -> int | None:
        """The slot before which the clip is said to end; None when slots do not follow from time."""
        if self.end is None or frame_rate is None:
            return None
        return math.ceil((self.end - self.start) * frame_rate)

    def _first_at(self, seconds: Fraction) -> int:
        """The earliest presentation time that counts as at or after ``seconds``."""
        return self.first_pts + math.ceil((seconds - self.tolerance) / self.time_base)


class _Watched(Generic[T]):
    """Frames as they come, counted."""

    def __init__(self, decoded: Iterable[T]):
        self._decoded = decoded
        self.frames = 0
        self.last_pts = 0
        self.finished = False

    def __iter__(self) -> Iterator[T]:
        for frame in self._decoded:
            self.frames += 1
            self.last_pts = frame.pts
            yield frame
        self.finished = True


class _Covered(Generic[T]):
    """Covering frames as they pass; ``slots`` is how many slots there were up to the last one."""

    def __init__(self, covering: Iterable[CoveringFrame[T]]):
        self._covering = covering
        self.slots = 0

    def __iter__(self) -> Iterator[CoveringFrame[T]]:
        for frame in self._covering:
            if frame.slots:
                self.slots = frame.slots.stop
            yield frame


@dataclass
class _Tally:
    """Sums over the sequences of a segment; see `SegmentResult`."""

    sequences: int = 0
    repeated_frames: int = 0
    padded_frames: int = 0
    pixels: int = 0
    sums: list[int] = field(default_factory=list)
    square_sums: list[int] = field(default_factory=list)

    def add(self, window: Window[EncodedFrame]) -> None:
        shown = window.frames[: window.valid]
        self.sequences += 1
        self.padded_frames += len(window.frames) - window.valid
        self.repeated_frames += sum(a is b for a, b in pairwise(shown))
        if not self.sums:
            self.sums = [0] * len(shown[0].sums)
            self.square_sums = [0] * len(shown[0].sums)
        for frame in shown:
            self.pixels += frame.pixels
            for channel, (total, squares) in enumerate(
                zip(frame.sums, frame.square_sums, strict=True)
            ):
                self.sums[channel] += total
                self.square_sums[channel] += squares


def _exactly(seconds: float) -> Fraction:
    """The decimal that was written in the manifest, not the binary fraction nearest to it."""
    return Fraction(str(seconds))


def _start_reading(
    video: Video, segment: Segment, sampling: SamplingOptions, on_progress: Callable[[], None]
) -> tuple[_Clip, Iterator[DecodedFrame]]:
    """The clip, and frames from where the segment's first window needs them."""
    source = segment.source
    if not video.cuttable or not (segment.first_slot or source.start):
        decoded = video.frames()
        first = next(decoded, None)
        if first is None:
            raise DecodingFailure("decode", video.truncated or "no frame could be decoded")
        return _Clip(video, first.pts, source.start, source.end), chain([first], decoded)
    # All times count from the file's first frame, so it is decoded even if the clip lies elsewhere.
    with open_video(source.path, on_progress) as beginning:
        clip = _Clip(video, beginning.first_pts(), source.start, source.end)
    if segment.anchor_pts is not None:
        return clip, video.frames(near=segment.anchor_pts, exactly=True)
    near = clip.start_pts
    if sampling.frame_rate is not None:
        seconds = clip.time_grid(sampling.frame_rate).seconds(segment.first_slot)
        near = clip.first_pts + math.floor(seconds / clip.time_base)
    return clip, video.frames(near=near)


@dataclass(frozen=True)
class _FirstPass:
    """What a pass over a whole clip told: its slots, and how it ends."""

    slots: int
    truncated: str | None
    last_seconds: float


def _pass_over(request: BuildRequest, on_progress: Callable[[], None]) -> _FirstPass:
    """Reads the whole clip; without decoding, where packets tell."""
    segment, sampling = request.segment, request.sampling
    with (
        open_video(segment.source.path, on_progress) as video,
        open_video(segment.source.path, on_progress) as packets,
    ):
        clip, decoded = _start_reading(video, segment, sampling, on_progress)
        reader, frame_times = video, _Watched[FrameTime](decoded)
        if video.cuttable:
            times, _ = packets.packet_times()
            times = times[times >= clip.first_pts]
            reader = packets
            frame_times = _Watched(FrameTime(int(pts), rank) for rank, pts in enumerate(times))
        covered = _Covered(_cover(clip, frame_times, segment, sampling))
        for _ in covered:
            pass
        return _FirstPass(
            slots=covered.slots,
            truncated=_truncation(reader, clip, frame_times, segment),
            last_seconds=float(clip.seconds_after_first(frame_times.last_pts)),
        )


def _cover(
    clip: _Clip, decoded: Iterable[T], segment: Segment, sampling: SamplingOptions
) -> Iterator[CoveringFrame[T]]:
    rate = sampling.frame_rate
    if rate is None:
        placed = _place_by_rank(clip, decoded, segment)
    else:
        placed = _place_by_time(clip, decoded, clip.time_grid(rate))
    return cover_slots(placed, end_slot=clip.end_slot(rate))


def _place_by_time(clip: _Clip, decoded: Iterable[T], grid: TimeGrid) -> Iterator[PlacedFrame[T]]:
    for frame in decoded:
        position = grid.position(clip.seconds_after_first(frame.pts))
        yield PlacedFrame(position, frame, frame.after_break)


def _place_by_rank(clip: _Clip, decoded: Iterable[T], segment: Segment) -> Iterator[PlacedFrame[T]]:
    # Ranks count from where reading began: from the anchor, whose slot is known, or from somewhere
    # before the clip's first frame, whose slot is 0.
    slot_of_rank_0 = segment.anchor_slot
    for frame in decoded:
        if clip.end_pts is not None and frame.pts >= clip.end_pts:
            return
        if slot_of_rank_0 is None:
            if frame.pts < clip.start_pts:
                continue
            slot_of_rank_0 = -frame.rank
        yield PlacedFrame(Position(slot_of_rank_0 + frame.rank, True), frame, frame.after_break)


def _cut(
    covered: Iterable[CoveringFrame[DecodedFrame]],
    encode: Callable[[DecodedFrame], EncodedFrame],
    segment: Segment,
    sampling: SamplingOptions,
    total_slots: int,
) -> Iterator[Window[EncodedFrame]]:
    if sampling.sampling == "uniform":
        return pick_uniform(
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


def _encode(video: Video, frame: DecodedFrame, request: BuildRequest) -> EncodedFrame:
    options = request.image
    pixels = frames.resize(
        video.to_rgb(frame),
        options.height,
        options.width,
        mode=options.resize,
        interpolation=options.interpolation,
        pixel_aspect=video.pixel_aspect(frame),
    )
    if options.grayscale:
        pixels = frames.to_gray(pixels)
    sums, square_sums = frames.pixel_sums(pixels)
    return EncodedFrame(
        timestamp=round(frame.pts * video.time_base * 1_000_000),
        data=frames.encode(pixels, options),
        pixels=options.height * options.width,
        sums=sums,
        square_sums=square_sums,
    )


def _record(window: Window[EncodedFrame], clip: _Clip, request: BuildRequest) -> SequenceRecord:
    source: Source = request.segment.source
    timestamps = [frame.timestamp for frame in window.frames]
    start = timestamps[0]
    if request.sampling.frame_rate is not None and request.sampling.sampling == "windows":
        # Several sequences may begin while one frame is on screen; they are told apart by their slots.
        start = clip.slot_timestamp(window.first_slot, request.sampling.frame_rate)
    names = request.spec.label.class_names
    return SequenceRecord(
        id=f"{source.id}@{start}",
        dataset_name=request.dataset_name,
        data_path=source.data_path,
        media_id=source.id,
        group_id=source.group,
        timestamps=timestamps,
        frame_rate=_frame_rate(timestamps[: window.valid], request.sampling),
        valid_frames=window.valid,
        frames=[frame.data for frame in window.frames],
        label_indices=request.label_indices,
        label_strings=[names[index] for index in request.label_indices],
        label_values=source.values,
    )


def _frame_rate(timestamps: list[int], sampling: SamplingOptions) -> float:
    if sampling.frame_rate is not None:
        return float(sampling.frame_rate)
    # Every frame was used, at whatever rate they really came.
    elapsed = timestamps[-1] - timestamps[0]
    return (len(timestamps) - 1) * 1e6 / elapsed if elapsed > 0 else 0.0


def _truncation(video: Video, clip: _Clip, watched: _Watched[T], segment: Segment) -> str | None:
    """Why the footage ends before the clip is over, as far as one can tell; None when it does not."""
    if not watched.finished:
        return None
    if video.truncated is not None:
        return video.truncated
    if segment.end_slot is not None:
        return None  # the segment that runs to the clip's end reports
    source = segment.source
    expected = float(clip.start) + clip_seconds(source, video.probe())
    if source.end is not None:
        expected = source.end
    reached = float(clip.seconds_after_first(watched.last_pts)) if watched.frames else 0.0
    if expected - reached > max(_MISSING_SECONDS, _MISSING_FRACTION * expected):
        return f"frames end after {reached:.2f} s, where {expected:.2f} s were declared"
    return None
