"""The checks that look at one record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.validation.findings import Check, Problem, check, error, note, warning
from pipelines.validation.views import RecordView, to_text
from tfrecords_schema import spec as keys
from tfrecords_schema.decode import decode_record
from tfrecords_schema.spec import SpecError

_MICROSECONDS = 1e6


@check(
    "format.schema",
    reason="Readers parse every record by the spec in dataset_info.json; one that lacks a key, "
    "or has it with another type or shape, ends the training that meets it.",
    remedy="Build the dataset again with `pipelines --overwrite`; do not mix shards of two builds.",
)
def schema(record: RecordView) -> Iterator[Problem]:
    """It parses, and has every key of the spec with its type and shape."""
    for problem in record.problems:
        yield error(problem)


@check(
    "format.agreement",
    reason="A record says some things twice, and programs that read one of the two would see "
    "another record.",
    remedy="Build the dataset again with `pipelines --overwrite`.",
)
def agreement(record: RecordView) -> Iterator[Problem]:
    """Its values agree with the spec and with each other."""
    image = record.spec.image
    expected: dict[str, Any] = {}
    if image is not None:
        expected |= {
            keys.IMAGE_FORMAT: image.format.encode(),
            keys.IMAGE_COLORSPACE: image.colorspace.encode(),
            keys.IMAGE_HEIGHT: image.height,
            keys.IMAGE_WIDTH: image.width,
            keys.IMAGE_CHANNELS: image.channels,
        }
    valid, times = record.value(keys.VALID_FRAMES), record.timestamps
    if valid is not None and valid not in range(1, record.spec.num_frames + 1):
        yield error(f"{keys.VALID_FRAMES} must be 1 to {record.spec.num_frames}, got {valid}")
    elif times:
        expected[keys.START_TIMESTAMP] = times[0]
        expected[keys.END_TIMESTAMP] = times[record.valid_frames - 1]
    for key, wanted in expected.items():
        value = record.value(key)
        if value is not None and value != wanted:
            yield error(f"{key} must be {wanted!r}, got {value!r}")
    if not record.problems and not record.text(keys.EXAMPLE_ID):
        yield error(f"{keys.EXAMPLE_ID} must not be empty")
    if record.text(keys.DATASET_NAME) not in ("", record.expected.dataset_name):
        yield warning(
            f"{keys.DATASET_NAME} is {record.text(keys.DATASET_NAME)!r}, and the dataset is called "
            f"{record.expected.dataset_name!r}: a shard may come from another build"
        )
    if record.text(keys.DATA_PATH).startswith("/"):
        yield warning(
            f"{keys.DATA_PATH} must be relative to the input, got {record.text(keys.DATA_PATH)!r}"
        )


@check(
    "frames.decode",
    reason="A picture that does not decode, or has another size, ends the training that meets "
    "it; one that was cut short is shown to the model as gray.",
    remedy="Build the dataset again; if the same pictures fail again, the disk or the source is "
    "damaged.",
)
def frames_decode(record: RecordView) -> Iterator[Problem]:
    """Each picture decodes, with the size and channels of the spec."""
    for index, facts in enumerate(record.frames):
        if facts.problem is not None:
            yield error(f"frame {index} {facts.problem}")


@check(
    "frames.order",
    reason="A model learns motion from the order of frames; frames that go back in time teach it "
    "a motion that never was.",
    remedy="Build again from these sources; if the times are wrong in the source itself, remux "
    "it (for example `ffmpeg -i IN -c copy OUT.mp4`).",
)
def frames_order(record: RecordView) -> Iterator[Problem]:
    """Timestamps never decrease, except where a looped clip begins again."""
    times = record.timestamps[: record.valid_frames]
    lap = _first_lap(times)
    if len(lap) == len(times):
        return
    if record.expected.short_clips == "loop" and all(
        time == lap[index % len(lap)] for index, time in enumerate(times)
    ):
        return
    index = len(lap)
    yield error(
        f"frame {index} is at {_seconds(times[index])}, before frame {index - 1} at "
        f"{_seconds(times[index - 1])}"
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
    times = _first_lap(record.timestamps[: record.valid_frames])
    limits = record.expected.thresholds
    if rate is not None:
        if said is not None and not math.isclose(said, rate, rel_tol=1e-6):
            yield error(f"{keys.FRAME_RATE} must be {rate:g}, as in the spec, got {said:g}")
        if record.expected.sampling == "windows" and len(times) > 1:
            off = seconds_off_grid(times, rate)
            if off > 2 * limits.timestamp_tolerance:
                yield error(
                    f"no sampling at {rate:g} frames/s gives its timestamps: they are off by {off:.3f} s "
                    f"({_show_times(times)})"
                )
    elif said is not None and len(times) == record.valid_frames > 1 and times[-1] > times[0]:
        shown = (len(times) - 1) * _MICROSECONDS / (times[-1] - times[0])
        if not math.isclose(said, shown, rel_tol=limits.rate_tolerance):
            yield warning(
                f"{keys.FRAME_RATE} is {said:g}, and its timestamps show {shown:g} frames/s"
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


@check(
    "labels.classes",
    reason="Readers take the class from the index, people from the string; where they differ, "
    "one of them is wrong about the record.",
    remedy="Build the dataset again: class names and indices must come from the same "
    "dataset_info.json.",
)
def labels_classes(record: RecordView) -> Iterator[Problem]:
    """Class indices are in range, and the strings are the names of these classes."""
    names = record.spec.label.class_names
    pairs = (
        (record.context.get(keys.LABEL_INDEX), record.context.get(keys.LABEL_STRING), "label"),
        (record.context.get(keys.LABEL_INDEX), record.context.get(keys.LABEL_TEXT), "label text"),
        (
            record.column(keys.FRAME_LABEL_INDEX),
            record.column(keys.FRAME_LABEL_STRING),
            "label of frames",
        ),
    )
    for indices, strings, what in pairs:
        for index in dict.fromkeys(indices or ()):
            if index not in range(len(names)) and what != "label text":
                yield error(f"{what}: class index must be 0 to {len(names) - 1}, got {index}")
        if indices is None or strings is None:
            continue
        wanted = [names[index] if index in range(len(names)) else None for index in indices]
        got = [to_text(string) for string in strings]
        if len(got) != len(wanted):
            yield error(f"{what}: {len(wanted)} indices need as many strings, got {len(got)}")
        elif None not in wanted and got != wanted:
            place = next(i for i, (a, b) in enumerate(zip(wanted, got, strict=True)) if a != b)
            yield error(
                f"{what}: class {indices[place]} is {wanted[place]!r}, and the record says {got[place]!r}"
            )
    if record.spec.label.task == "multilabel":
        indices = record.context.get(keys.LABEL_INDEX) or []
        if len(set(indices)) != len(indices):
            yield error(f"label: a class is named twice: {indices}")


@check(
    "labels.finite",
    reason="One NaN or infinity makes the loss NaN, and every weight after it.",
    remedy="Remove or repair these rows in the manifest or telemetry and build again.",
)
def labels_finite(record: RecordView) -> Iterator[Problem]:
    """Targets, signals and the frame rate are finite numbers."""
    for name, rows in value_columns(record).items():
        bad = [i for i, value in enumerate(rows) if not math.isfinite(value)]
        if bad:
            place = f" of frame {bad[0]}" if len(rows) > 1 else ""
            yield error(f"{name}{place} must be finite, got {rows[bad[0]]}")
    rate = record.value(keys.FRAME_RATE)
    if rate is not None and not (math.isfinite(rate) and rate >= 0):
        yield error(f"{keys.FRAME_RATE} must be finite and not negative, got {rate}")


@check(
    "pictures.repeated",
    reason="A sequence of one repeated picture shows no motion; a model that is to learn motion "
    "learns to ignore it.",
    remedy="Look at the source: a frozen recording is best removed. A slow source needs a lower "
    "--frame_rate.",
)
def pictures_repeated(record: RecordView) -> Iterator[Problem]:
    """The frames of a sequence are not all the same picture."""
    images = record.images[: record.valid_frames]
    if len(images) > 1 and len(set(images)) == 1:
        yield warning(f"all its {len(images)} frames are the same picture")


@check(
    "pictures.flat",
    reason="Black and one-coloured pictures hold nothing to learn from, and often mean a decoder "
    "that failed or a covered lens.",
    remedy="Look at these sources; cut the black parts away with the manifest's start and end.",
)
def pictures_flat(record: RecordView) -> Iterator[Problem]:
    """Pictures are neither black nor of one colour throughout."""
    limits = record.expected.thresholds
    valid = record.frames[: record.valid_frames]
    flat = [i for i, f in enumerate(valid) if f.problem is None and f.std < limits.flat_std]
    if not flat:
        return
    dark = [i for i in flat if valid[i].mean < limits.black_mean]
    kind = "black" if len(dark) == len(flat) else "of one colour"
    if len(flat) == len(valid):
        yield warning(f"all its frames are {kind}")
    else:
        yield note(f"{len(flat)} of its {len(valid)} frames are {kind}, the first is {flat[0]}")


@check(
    "format.decode",
    reason="What reads the dataset in Python is `tfrecords_schema.decode`; a record that it "
    "refuses cannot be used.",
    remedy="Build the dataset again with `pipelines --overwrite`.",
)
def decodes(record: RecordView) -> Iterator[Problem]:
    """The package's own decoder takes it; asked last, of records in which nothing else is wrong."""
    try:
        decode_record(record.data, record.spec)
    except SpecError as problem:
        yield error(str(problem))


RECORD_CHECKS: tuple[Check[RecordView], ...] = (
    schema,
    agreement,
    frames_decode,
    frames_order,
    frames_rate,
    frames_padding,
    labels_classes,
    labels_finite,
    pictures_repeated,
    pictures_flat,
)
"""All but `decodes`, which depends on what these find."""


def value_columns(record: RecordView) -> dict[str, list[float]]:
    """By name (``target speed``, ``signal IMU[2]``), the float values of a record: one, or one a frame."""
    columns: dict[str, list[float]] = {}
    names = record.spec.label.target_names
    values = record.context.get(keys.LABEL_VALUE)
    rows = [values] if values else record.steps.get(keys.FRAME_LABEL_VALUE, [])
    for place, name in enumerate(names):
        if rows:
            columns[target_column(name)] = [row[place] for row in rows]
    for signal in record.spec.signals:
        rows = record.steps.get(keys.signal_floats_key(signal.name), [])
        for place in range(signal.size if rows else 0):
            columns[signal_column(signal.name, place)] = [row[place] for row in rows]
    return columns


def target_column(name: str) -> str:
    """What `value_columns` calls a regression target."""
    return f"target {name}"


def signal_column(name: str, component: int) -> str:
    """What `value_columns` calls a component of an input signal."""
    return f"signal {name}[{component}]"


def seconds_off_grid(times: Sequence[int], frame_rate: float) -> float:
    """How far ``times`` are from any sampling at ``frame_rate``; 0 or less when there is one that gives them.

    A frame sampled at a time is the last one presented at or before it. So with samples at
    ``start + k * period``, each sample lies at or after its own frame, and before the next frame that
    differs from it. The starts that fit all of them are an interval; what is returned is by how much its ends
    have crossed. No knowledge of the source's own rate is needed: a slow source repeats frames, and an
    irregular one comes late, but only as long as the frame before it stays.

    Args:
        times: microseconds, not decreasing.
        frame_rate: frames/s.

    Returns:
        Seconds.
    """
    period = _MICROSECONDS / frame_rate
    earliest = max(time - k * period for k, time in enumerate(times))
    latest, following = math.inf, math.inf
    for k in range(len(times) - 1, -1, -1):
        if k + 1 < len(times) and times[k + 1] > times[k]:
            following = times[k + 1]
        latest = min(latest, following - k * period)
    return (earliest - latest) / _MICROSECONDS


def _first_lap(times: Sequence[int]) -> Sequence[int]:
    """``times`` up to where they first go back."""
    for index in range(1, len(times)):
        if times[index] < times[index - 1]:
            return times[:index]
    return times


def _undeclared_padding(record: RecordView, times: Sequence[int]) -> Iterator[Problem]:
    held = _length_of_last_run(times)
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
        len(times) / 2, 2 * _longest_run(times[: len(times) - held]) + 1
    ):
        yield note(said)


def _length_of_last_run(times: Sequence[int]) -> int:
    return next(
        (n for n, time in enumerate(reversed(times)) if time != times[-1]),
        len(times),
    )


def _longest_run(times: Sequence[int]) -> int:
    longest = run = 0
    for index, time in enumerate(times):
        run = run + 1 if index and time == times[index - 1] else 1
        longest = max(longest, run)
    return longest


def _seconds(time: int) -> str:
    return f"{time / _MICROSECONDS:.3f} s"


def _show_times(times: Sequence[int], most: int = 8) -> str:
    shown = ", ".join(f"{time / _MICROSECONDS:.3f}" for time in times[:most])
    return shown + (", ..." if len(times) > most else "")
