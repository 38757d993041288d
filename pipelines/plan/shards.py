"""Plans sources into segments and shards: pure and deterministic.

The plan depends only on the sources, their probes and the options, not on the order of listing or the number
of workers. It holds one descriptor per segment and never a frame.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from pipelines.options.dataset import MAX_SHARDS, DatasetOptions, ImageOptions, SamplingOptions
from pipelines.plan.descriptors import Boundary, Probe, Segment, Shard, Source
from pipelines.plan.hashing import hash_fraction
from pipelines.plan.sampling import count_windows, max_hold
from pipelines.plan.splits import assign_splits
from tfrecords_schema.moments import Moments, moments_by_column
from tfrecords_schema.tables import Cell

# Shards per split even of a small dataset, if it has as many segments: workers build whole shards, and
# readers mix records by reading several shards at a time.
MIN_SHARDS = 8

# Encoded bytes per pixel, measured on dash-cam and action footage scaled to 180x320: JPEG by quality
# (interpolated), PNG. Used for estimates only.
_JPEG_BYTES_PER_PIXEL = ((1, 0.03), (50, 0.09), (75, 0.13), (90, 0.23), (95, 0.33), (100, 0.85))
_PNG_BYTES_PER_PIXEL = 1.6
_SIGNAL_BYTES = 24  # a signal's value and time in one frame, measured
_CONTEXT_BYTES = 550  # the context of a record, measured

# With more threads, scaling and encoding its frames takes longer than decoding them.
_MAX_THREADS = 8

# Even a still picture at one frame/s takes more: containers alone need 10 bytes per frame.
_MIN_BYTES_PER_SECOND = 10


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The estimated contents of a split, derived from headers, which may be wrong.

    Attributes:
        classes: sources and sequences by class; empty when only frames have classes.
        targets: moments of each regression target over the sources; empty when only frames have values.
    """

    sources: int
    groups: int
    segments: int
    shards: int
    sequences: int
    bytes: int
    classes: dict[str, Cell] = field(default_factory=dict)
    targets: tuple[Moments, ...] = ()


def clip_seconds(source: Source, declared: float) -> float:
    """Returns the estimated duration of a clip in footage of ``declared`` seconds.

    The size of the file limits it, so that a wrong header or manifest cannot make a plan of a million
    segments.
    """
    end = source.end if source.end is not None else declared
    if source.end is not None and declared:
        end = min(end, declared)
    if source.bytes and source.kind == "video":
        end = min(end, source.bytes / _MIN_BYTES_PER_SECOND)
    return max(0.0, end - (source.start or 0.0))


def time_boundaries(
    seconds: float, sampling: SamplingOptions, segment_length: float
) -> list[Boundary]:
    """Returns the boundaries of a clip that is sampled by time: one every ``segment_length`` seconds."""
    if sampling.frame_rate is None:
        raise ValueError("expected a clip that is sampled by time, got a frame_rate of None")
    slots_per_segment = max(1, math.ceil(Fraction(segment_length) * sampling.frame_rate))
    total = math.ceil(Fraction(seconds) * sampling.frame_rate)
    return [
        Boundary(slot=slot, seconds=float(slot / sampling.frame_rate))
        for slot in range(slots_per_segment, total, slots_per_segment)
    ]


def cut_segments(source: Source, seconds: float, boundaries: Sequence[Boundary]) -> list[Segment]:
    """Cuts a clip of about ``seconds`` at ``boundaries``; the last segment runs to the end of the clip."""
    starts = [Boundary(slot=0), *boundaries]
    return [
        Segment(
            source=source,
            first_slot=start.slot,
            end_slot=None if end is None else end.slot,
            anchor_pts=start.anchor_pts,
            anchor_slot=start.anchor_slot,
            seconds=max(0.0, (seconds if end is None else end.seconds) - start.seconds),
        )
        for start, end in zip(starts, [*boundaries, None], strict=True)
    ]


def estimate_sequences(seconds: float, probe_rate: float, sampling: SamplingOptions) -> float:
    """Returns the number of sequences expected in ``seconds`` of one clip."""
    if sampling.sampling != "windows":
        return 1
    if _is_broken(probe_rate, sampling):
        return 0
    slots = math.floor(seconds * float(sampling.frame_rate or probe_rate))
    if slots < sampling.num_frames:
        return 0 if sampling.short_clips == "drop" else 1
    return count_windows(slots, num_frames=sampling.num_frames, stride=sampling.window_stride)


def _is_broken(probe_rate: float, sampling: SamplingOptions) -> bool:
    """Returns True if footage of ``probe_rate`` frames/s has a break after nearly every frame."""
    hold = max_hold(sampling.frame_rate)
    return sampling.num_frames > 1 and 0 < probe_rate < 1 / hold


def estimate_segment(segment: Segment, probe_rate: float, sampling: SamplingOptions) -> float:
    """Returns the number of sequences expected in a segment of footage with ``probe_rate`` frames/s."""
    if segment.end_slot is None:
        return estimate_sequences(segment.seconds, probe_rate, sampling)
    if _is_broken(probe_rate, sampling):
        return 0
    stride = sampling.window_stride
    return segment.end_slot // stride - segment.first_slot // stride  # windows that start in it


def _estimate_record_bytes(options: DatasetOptions) -> float:
    telemetry, num_frames = options.telemetry, options.sampling.num_frames
    signals = _SIGNAL_BYTES * len(telemetry.signal_columns) if telemetry else 0
    if telemetry and telemetry.no_images:
        return _CONTEXT_BYTES + num_frames * signals
    return num_frames * (signals + estimate_frame_bytes(options.image))


def estimate_frame_bytes(image: ImageOptions) -> float:
    """Returns the bytes expected of one encoded frame."""
    pixels, quality = math.prod(image.size), image.jpeg_quality
    if image.image_format == "png":
        return pixels * _PNG_BYTES_PER_PIXEL * (1 / 3 if image.grayscale else 1)
    for (low, least), (high, most) in pairwise(_JPEG_BYTES_PER_PIXEL):
        if quality < high:
            return pixels * (least + (quality - low) / (high - low) * (most - least))
    return pixels * most


def plan_shards(
    segments: Sequence[Segment],
    probes: Mapping[str, Probe],
    options: DatasetOptions,
    existing: Mapping[str, int] | None = None,
) -> tuple[list[Shard], dict[str, Estimate]]:
    """Assigns segments to the shards of their splits.

    Groups decide splits. The segments of a split, in the order of a seeded hash, go one by one to the shard
    with the least estimated footage, so shards are of similar size and each holds a random mix. ``probes``
    are by source path. Returns the shards by split and index, and the estimated contents of each split.
    In a dataset that grows, shards are numbered from ``existing`` of their split on.
    """
    split_options, sampling = options.split, options.sampling
    split_of_group = assign_splits(
        (segment.source for segment in segments), split_options.splits, split_options.seed
    )
    by_split: dict[str, list[Segment]] = {name: [] for name, _ in split_options.splits}
    by_split |= {name: [] for name in sorted(set(split_of_group.values()) - by_split.keys())}
    for segment in segments:
        by_split[split_of_group[segment.source.group]].append(segment)

    shards: list[Shard] = []
    estimates: dict[str, Estimate] = {}
    record_bytes = _estimate_record_bytes(options)
    for split, own in by_split.items():
        own.sort(
            key=lambda s: (
                hash_fraction("order", split_options.seed, s.source.id, s.first_slot),
                s.source.id,
                s.first_slot,
            )
        )
        sequences, sources, by_class = 0.0, Counter[str](), Counter[str]()
        for segment in own:
            count = estimate_segment(segment, probes[segment.source.path].frame_rate, sampling)
            sequences += count
            for name in segment.source.labels:
                by_class[name] += count  # type: ignore[assignment]
                sources[name] += not segment.first_slot  # each source has one such segment
        num_bytes = round(sequences * record_bytes)
        wanted = options.shard.shards or max(
            MIN_SHARDS, math.ceil(num_bytes / options.shard.shard_size)
        )
        first = (existing or {}).get(split, 0)
        dealt = _deal(own, min(len(own), wanted, max(1, MAX_SHARDS - first)))
        shards += [
            Shard(split=split, index=i, count=first + len(dealt), segments=tuple(part))
            for i, part in enumerate(dealt, first)
        ]
        estimates[split] = Estimate(
            sources=len({s.source.id for s in own}),
            groups=len({s.source.group for s in own}),
            segments=len(own),
            shards=len(dealt),
            sequences=round(sequences),
            bytes=num_bytes,
            classes={name: Cell(sources[name], round(by_class[name])) for name in sources},
            targets=moments_by_column(
                s.source.values for s in own if s.source.values and not s.first_slot
            ),
        )
    return shards, estimates


def order_work(shards: Sequence[Shard], workers: int) -> list[tuple[int, int]]:
    """Returns the index of each shard in the order in which ``workers`` should build them, and its threads.

    Shards with the most footage come first, so that workers finish at about the same time. Shards that may
    still be building when no other is left to start are decoded by several threads, which keeps all CPUs
    busy; the others by one, because threads cost a sixth more CPU time.
    """
    costs = [sum(segment.seconds or 1.0 for segment in shard.segments) for shard in shards]
    order = sorted(range(len(shards)), key=lambda index: -costs[index])
    # One more than CPUs, as in FFmpeg: one thread waits while its frame is scaled and encoded.
    most = min(workers + 1, _MAX_THREADS) if workers > 1 else 1
    work, left = [], sum(costs)
    for index in order:
        left -= costs[index]
        # When one worker runs out of shards, each of the others may need as long as this shard takes.
        runs_last = left < costs[index] * (2 * workers - 3)
        work.append((index, most if runs_last else 1))
    return work


def _deal(segments: Sequence[Segment], count: int) -> list[list[Segment]]:
    """Assigns each of ``segments`` in order to the least loaded of ``count`` shards, the first of equals."""
    shards: list[list[Segment]] = [[] for _ in range(count)]
    loads = [(0.0, 0, index) for index in range(count)]
    for segment in segments:
        seconds, held, index = heapq.heappop(loads)
        shards[index].append(segment)
        # The number of segments breaks ties of unknown durations, so that no shard stays empty.
        heapq.heappush(loads, (seconds + segment.seconds, held + 1, index))
    return shards
