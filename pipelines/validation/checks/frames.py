"""The checks of a record's frames and their times."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence

from pipelines.validation.findings import Problem, check, error, note, warning
from pipelines.validation.times import (
    MICROSECONDS,
    format_seconds,
    format_times,
    runs_of,
    seconds_off_grid,
    seconds_off_slots,
)
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys


@check(
    reason="A picture that does not decode, or has another size, ends the training. One that was "
    "cut short reaches the model partly gray.",
    remedy="Build the dataset again. If the same pictures fail again, the disk or the source is "
    "damaged.",
)
def frames_decode(record: RecordView) -> Iterator[Problem]:
    """Each picture decodes, with the size and channels of the spec."""
    pictures = record.pictures
    if pictures is None:
        return
    for index, problem in enumerate(pictures.problems):
        if problem is not None:
            yield error(f"frame {index} {problem}")
    for index, complaint in enumerate(pictures.complaints):
        if complaint is not None:
            yield warning(f"frame {index} decodes, but is damaged: {complaint}")


@check(
    reason="A model learns motion from the order of frames. Frames that go back in time teach it a "
    "motion that did not happen.",
    remedy="Build again from these sources. If the times are wrong in the source itself, remux it "
    "(for example `ffmpeg -i IN -c copy OUT.mp4`).",
)
def frames_order(record: RecordView) -> Iterator[Problem]:
    """Times do not go back, except in a looped clip; in windows of all frames, none repeats."""
    times, lap = record.shown_times, record.lap
    if record.spec.frame_rate is None and record.expected.by_windows:
        # Repeats at the end look like padding, which `frames_padding` checks.
        moving = len(lap) - runs_of(lap)[-1][0] + 1 if lap else 0
        repeat = next((i for i in range(1, moving) if lap[i] == lap[i - 1]), None)
        if repeat is not None:
            time = format_seconds(lap[repeat])
            yield error(f"frames {repeat - 1} and {repeat} are both at {time}")
    if len(lap) == len(times):
        return
    looped = all(time == lap[index % len(lap)] for index, time in enumerate(times))
    if looped and record.expected.options.short_clips == "loop":
        return
    index = len(lap)
    yield error(
        f"frame {index} is at {format_seconds(times[index])}, before frame {index - 1} at "
        f"{format_seconds(times[index - 1])}"
    )


@check(
    reason="A model judges speed by frames per second. A sequence sampled at another rate shows "
    "everything faster or slower.",
    remedy="Build again with the --frame_rate that is wanted. If the problem stays, check the "
    "source's times.",
)
def frames_rate(record: RecordView) -> Iterator[Problem]:
    """Timestamps match the frame rate."""
    rate, said = record.spec.frame_rate, record.value(keys.FRAME_RATE)
    times, limits = record.lap, record.expected.thresholds
    if rate is not None:
        if said is not None and not math.isclose(said, rate, rel_tol=1e-6):
            yield error(f"{keys.FRAME_RATE} must be {rate:g}, as in the spec, got {said:g}")
        if record.expected.by_windows and len(times) > 1:
            off = seconds_off_grid(times, rate)
            if off > 2 * limits.timestamp_tolerance:
                yield error(
                    f"no sampling at {rate:g} frames/s gives its timestamps: they are off by {off:.3f} s "
                    f"({format_times(times)})"
                )
    elif said is not None and len(times) == record.valid_frames > 1 and times[-1] > times[0]:
        shown = (len(times) - 1) * MICROSECONDS / (times[-1] - times[0])
        if not math.isclose(said, shown, rel_tol=limits.rate_tolerance):
            yield warning(
                f"{keys.FRAME_RATE} is {said:g}, but its timestamps show {shown:g} frames/s"
            )


@check(
    reason="`pipelines` names a record by its source and its start time. If the record disagrees "
    "with its name, its times, frames or source are those of another record.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not edit records.",
)
def frames_start(record: RecordView) -> Iterator[Problem]:
    """The record begins as an ``example/id`` of the kind ``SOURCE@MICROSECONDS`` says."""
    source, _, stated = record.text(keys.EXAMPLE_ID).rpartition("@")
    media, times = record.text(keys.MEDIA_ID), record.lap
    if not source or not stated.isdecimal() or not media or not times:
        return  # an id of another writer, or a record with other errors
    if len(times) < record.valid_frames and record.expected.options.short_clips != "loop":
        return  # `frames_order` reports it
    if source != media:
        yield error(
            f"{keys.EXAMPLE_ID} names the source {source!r}, but {keys.MEDIA_ID} is {media!r}"
        )
        return
    start, rate = int(stated), record.spec.frame_rate
    tolerance = 2 * record.expected.thresholds.timestamp_tolerance
    off = abs(times[0] - start) / MICROSECONDS
    if rate is not None and record.expected.by_windows:
        if seconds_off_grid(times, rate) > tolerance:
            return  # `frames_rate` reports it
        off = seconds_off_slots(times, start, rate)
    if off > tolerance:
        yield error(
            f"by its id it begins at {format_seconds(start)}, but its timestamps differ from that by "
            f"{off:.3f} s ({format_times(times)})"
        )


@check(
    reason="Where frames are missing, or come at uneven times, motion looks faster than it was, "
    "and the model cannot know.",
    remedy="Look at the source there: a recorder that dropped frames, or a variable frame rate. "
    "Give --frame_rate, so that frames are sampled by time.",
)
def frames_gaps(record: RecordView) -> Iterator[Problem]:
    """Frames come at even times."""
    lap, limits = record.lap, record.expected.thresholds
    if not record.expected.by_windows or len(lap) < 4:
        return
    if record.spec.frame_rate is not None:
        # A frame that stands for many samples at the end is taken for padding instead.
        runs = runs_of(lap)
        longest, time = max(runs[:-1], default=(0, 0))
        if longest > limits.gap_factor * statistics.median(length for length, _ in runs):
            yield note(
                f"the source has a gap: its frame at {format_seconds(time)} stands for {longest} frames"
            )
        return
    steps = [(b - a, i) for i, (a, b) in enumerate(itertools.pairwise(lap)) if b > a]
    if len(steps) < 3:
        return
    usual = statistics.median(step for step, _ in steps)
    widest, index = max(steps)
    if widest > limits.gap_factor * usual:
        yield warning(
            f"frames {index} and {index + 1} are {format_seconds(widest)} apart, most are "
            f"{format_seconds(round(usual))} apart"
        )
        return
    jitter = statistics.fmean(abs(step - usual) for step, _ in steps) / usual
    if jitter > limits.jitter:
        yield warning(f"its frames are {jitter:.0%} off an even rate ({format_times(lap)})")


@check(
    reason="A signal belongs to the frame with the same index. If its own time differs, the model "
    "gets what was measured at another moment.",
    remedy="Align the telemetry again: see --time_offset and --time_origin of `pipelines dashcam`.",
)
def frames_signals(record: RecordView) -> Iterator[Problem]:
    """The times of signals are those of their frames."""
    times = record.timestamps
    for signal in record.spec.signals:
        own = record.column(keys.signal_timestamp_key(signal.name))
        off = next((i for i, (a, b) in enumerate(zip(own, times, strict=False)) if a != b), None)
        if off is not None:
            yield error(
                f"signal {signal.name} of frame {off} is at {format_seconds(own[off])}, but the frame is at "
                f"{format_seconds(times[off])}"
            )


@check(
    reason="Readers mask frames from image/valid_frames on. Padding before it is taken for "
    "footage, and footage after it is ignored.",
    remedy="Build again with the --short_clips policy that is wanted.",
)
def frames_padding(record: RecordView) -> Iterator[Problem]:
    """Padding starts at image/valid_frames."""
    times, images, valid = record.timestamps, record.images, record.valid_frames
    policy = record.expected.options.short_clips
    if not times or valid < 1:
        return
    if valid < len(times) and policy in ("drop", "loop"):
        yield error(
            f"frames from {valid} on are marked as padding, but the dataset was built with "
            f"--short_clips {policy}"
        )
    for index in range(valid, len(times)):
        if times[index] != times[valid - 1] or (images and images[index] != images[valid - 1]):
            yield error(
                f"frame {index} is marked as padding, but does not repeat frame {valid - 1}"
            )
            break
    if policy != "loop":
        yield from _find_unmarked_padding(record, times[:valid])


def _find_unmarked_padding(record: RecordView, times: Sequence[int]) -> Iterator[Problem]:
    *others, (held, _) = runs_of(times)
    message = (
        f"its last {held} frames repeat one frame, which looks like padding, but {keys.VALID_FRAMES} does "
        "not mark them"
    )
    if record.spec.frame_rate is None and record.expected.by_windows:
        if held > 1:
            yield warning(message)
        return
    # A slow source repeats frames too, but evenly; a picture may also have stood still.
    longest = max((length for length, _ in others), default=0)
    if 2 < held < len(times) and held >= max(len(times) / 2, 2 * longest + 1):
        yield note(message)
