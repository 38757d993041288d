"""The checks of one record that look at its frames and their times."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence

from pipelines.validation.findings import Check, Problem, check, error, note, warning
from pipelines.validation.times import (
    MICROSECONDS,
    first_lap,
    length_of_last_run,
    longest_run,
    seconds,
    seconds_off_grid,
    seconds_off_slots,
    show_times,
)
from pipelines.validation.views import RecordView
from tfrecords_schema import spec as keys


@check(
    "frames.decode",
    reason="A picture that does not decode, or has another size, ends the training that meets "
    "it; one that was cut short is shown to the model as gray.",
    remedy="Build the dataset again; if the same pictures fail again, the disk or the source is "
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
            yield warning(f"frame {index} is damaged, and shown nevertheless: {complaint}")


@check(
    "frames.order",
    reason="A model learns motion from the order of frames; frames that go back in time teach it "
    "a motion that never was.",
    remedy="Build again from these sources; if the times are wrong in the source itself, remux "
    "it (for example `ffmpeg -i IN -c copy OUT.mp4`).",
)
def frames_order(record: RecordView) -> Iterator[Problem]:
    """Timestamps increase; a slow source's may repeat when sampled, and a looped clip begins again."""
    times = record.timestamps[: record.valid_frames]
    lap = first_lap(times)
    if record.spec.frame_rate is None and record.expected.sampling == "windows":
        # At the end it looks like padding, which `frames_padding` looks at.
        moving = len(lap) - length_of_last_run(lap) + 1 if lap else 0
        again = next((i for i in range(1, moving) if lap[i] == lap[i - 1]), None)
        if again is not None:
            yield error(f"frames {again - 1} and {again} are both at {seconds(lap[again])}")
    if len(lap) == len(times):
        return
    if record.expected.short_clips == "loop" and all(
        time == lap[index % len(lap)] for index, time in enumerate(times)
    ):
        return
    index = len(lap)
    yield error(
        f"frame {index} is at {seconds(times[index])}, before frame {index - 1} at "
        f"{seconds(times[index - 1])}"
    )


@check(
    "frames.rate",
    reason="A model's notion of speed is frames a second; a sequence sampled at another rate "
    "shows everything faster or slower than it was.",
    remedy="Build again with the --frame_rate that is wanted; check the source's own times if it "
    "stays.",
)
def frames_rate(record: RecordView) -> Iterator[Problem]:
    """Timestamps match the frame rate."""
    rate, said = record.spec.frame_rate, record.value(keys.FRAME_RATE)
    times = first_lap(record.timestamps[: record.valid_frames])
    limits = record.expected.thresholds
    if rate is not None:
        if said is not None and not math.isclose(said, rate, rel_tol=1e-6):
            yield error(f"{keys.FRAME_RATE} must be {rate:g}, as in the spec, got {said:g}")
        if record.expected.sampling == "windows" and len(times) > 1:
            off = seconds_off_grid(times, rate)
            if off > 2 * limits.timestamp_tolerance:
                yield error(
                    f"no sampling at {rate:g} frames/s gives its timestamps: they are off by {off:.3f} s "
                    f"({show_times(times)})"
                )
    elif said is not None and len(times) == record.valid_frames > 1 and times[-1] > times[0]:
        shown = (len(times) - 1) * MICROSECONDS / (times[-1] - times[0])
        if not math.isclose(said, shown, rel_tol=limits.rate_tolerance):
            yield warning(
                f"{keys.FRAME_RATE} is {said:g}, and its timestamps show {shown:g} frames/s"
            )


@check(
    "frames.start",
    reason="`pipelines` calls a record by its source and the time at which it begins; where the name says "
    "otherwise, its times, its frames or its source are another record's.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not edit records.",
)
def frames_start(record: RecordView) -> Iterator[Problem]:
    """An ``example/id`` of the kind ``SOURCE@MICROSECONDS`` names the record's source and beginning."""
    source, _, stated = record.text(keys.EXAMPLE_ID).rpartition("@")
    media, times = record.text(keys.MEDIA_ID), first_lap(record.timestamps[: record.valid_frames])
    if not source or not stated.isdecimal() or not media or not times:
        return  # another writer's id, or something that is said already
    if len(times) < record.valid_frames and record.expected.short_clips != "loop":
        return  # `frames_order` says so
    if source != media:
        yield error(f"{keys.EXAMPLE_ID} names the source {source!r}, {keys.MEDIA_ID} {media!r}")
        return
    start, rate = int(stated), record.spec.frame_rate
    tolerance = 2 * record.expected.thresholds.timestamp_tolerance
    off = abs(times[0] - start) / MICROSECONDS
    if rate is not None and record.expected.sampling == "windows":
        if seconds_off_grid(times, rate) > tolerance:
            return  # `frames_rate` says so
        off = seconds_off_slots(times, start, rate)
    if off > tolerance:
        yield error(
            f"by its id it begins at {seconds(start)}, and its timestamps are {off:.3f} s off that "
            f"({show_times(times)})"
        )


@check(
    "frames.gaps",
    reason="Where frames are missing, or come at uneven times, motion looks faster than it was "
    "for a moment, and the model cannot know.",
    remedy="Look at the source there: a recorder that dropped frames, or a variable frame rate. "
    "Give --frame_rate, so that frames are sampled by time.",
)
def frames_gaps(record: RecordView) -> Iterator[Problem]:
    """Frames come at even times."""
    lap, limits = first_lap(record.timestamps[: record.valid_frames]), record.expected.thresholds
    if record.expected.sampling != "windows" or len(lap) < 4:
        return
    if record.spec.frame_rate is not None:
        yield from _find_held_frames(lap, limits.gap_factor)
        return
    steps = [(b - a, i) for i, (a, b) in enumerate(itertools.pairwise(lap)) if b > a]
    if len(steps) < 3:
        return
    usual = statistics.median(step for step, _ in steps)
    widest, index = max(steps)
    if widest > limits.gap_factor * usual:
        yield warning(
            f"{seconds(widest)} lie between frames {index} and {index + 1}, and {seconds(round(usual))} "
            "between most"
        )
        return
    jitter = statistics.fmean(abs(step - usual) for step, _ in steps) / usual
    if jitter > limits.jitter:
        yield warning(f"its frames come {jitter:.0%} off an even rate ({show_times(lap)})")


@check(
    "frames.signals",
    reason="A signal belongs to the frame in whose step it is; when its own time says otherwise, "
    "the model is told what was measured at another moment.",
    remedy="Align the telemetry again: see --time_offset and --time_origin of `pipelines dashcam`.",
)
def frames_signals(record: RecordView) -> Iterator[Problem]:
    """The times of signals are those of their frames."""
    times = record.timestamps
    for signal in record.spec.signals:
        own = record.column(keys.signal_timestamp_key(signal.name))
        off = [i for i, (a, b) in enumerate(zip(own, times, strict=False)) if a != b]
        if off:
            yield error(
                f"signal {signal.name} of frame {off[0]} is of {seconds(own[off[0]])}, the frame of "
                f"{seconds(times[off[0]])}"
            )


@check(
    "frames.padding",
    reason="Readers mask frames from image/valid_frames on; padding before it is taken for "
    "footage, and footage after it is thrown away.",
    remedy="Build again with the --short_clips policy that is wanted.",
)
def frames_padding(record: RecordView) -> Iterator[Problem]:
    """Padding is where image/valid_frames says, and nowhere else."""
    times, images, valid = record.timestamps, record.images, record.valid_frames
    if not times or valid < 1:
        return
    if valid < len(times) and record.expected.short_clips in ("drop", "loop"):
        yield error(
            f"frames from {valid} on are said to be padding, and the dataset was built with "
            f"--short_clips {record.expected.short_clips}"
        )
    for index in range(valid, len(times)):
        if times[index] != times[valid - 1] or (images and images[index] != images[valid - 1]):
            yield error(
                f"frame {index} is said to be padding, and does not repeat frame {valid - 1}"
            )
            break
    if record.expected.short_clips != "loop":
        yield from _undeclared_padding(record, times[:valid])


FRAME_CHECKS: tuple[Check[RecordView], ...] = (
    frames_decode,
    frames_order,
    frames_rate,
    frames_start,
    frames_gaps,
    frames_signals,
    frames_padding,
)


def _find_held_frames(times: Sequence[int], factor: float) -> Iterator[Problem]:
    """A picture that stood for long in what was sampled by time; at the end it is taken for padding."""
    runs = [(len(list(run)), time) for time, run in itertools.groupby(times)]
    longest, time = max(runs[:-1], default=(0, 0))
    if longest > factor * statistics.median(length for length, _ in runs):
        yield note(
            f"the source has a gap: its frame of {seconds(time)} stands for {longest} frames"
        )


def _undeclared_padding(record: RecordView, times: Sequence[int]) -> Iterator[Problem]:
    held = length_of_last_run(times)
    said = (
        f"its last {held} frames repeat one frame, which looks like padding that {keys.VALID_FRAMES} "
        "does not tell of"
    )
    if record.spec.frame_rate is None and record.expected.sampling == "windows":
        if held > 1:
            yield warning(said)
        return
    # Sampling repeats the frames of a slow source, but evenly; a picture may also have stood still.
    if 2 < held < len(times) and held >= max(
        len(times) / 2, 2 * longest_run(times[: len(times) - held]) + 1
    ):
        yield note(said)
