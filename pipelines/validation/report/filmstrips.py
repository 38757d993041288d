"""Records as strips of small pictures, to be looked at."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2

from pipelines.validation.folder import DatasetFolder
from pipelines.validation.pictures.thumbnails import FrameError, decode_frame
from pipelines.validation.result import Sample
from pipelines.validation.views import Expectation, RecordView, to_text, value_columns
from tfrecords_schema import spec as keys
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.spec import ImageSpec

_MOST_FRAMES = 8
_HEIGHT, _MOST_WIDTH = 96, 240
_QUALITY = 75


@dataclass(frozen=True)
class StripFrame:
    """One picture of a strip: its number, time in seconds, and JPEG in base64; None if it is damaged.

    ``label`` is its own, where there are labels by frame.
    """

    index: int
    seconds: float | None
    jpeg: str | None
    padding: bool
    label: str = ""


@dataclass(frozen=True)
class Filmstrip:
    """A record to look at: where it lies, its id, label and a few of its frames."""

    sample: Sample
    record: str
    label: str
    frames: tuple[StripFrame, ...]


def make_filmstrips(
    folder: DatasetFolder, expected: Expectation, samples: Sequence[Sample]
) -> Iterator[Filmstrip]:
    """Yields the strips of the samples that can be read, one record in memory at a time."""
    for sample in samples:
        try:
            data = folder.read_record(sample.shard, sample.offset)
        except (CorruptRecordError, OSError):
            continue  # a finding says so already; there is nothing to look at
        record = RecordView(data, expected)
        yield Filmstrip(
            sample, record.text(keys.EXAMPLE_ID), describe_label(record), _frames(record, sample)
        )


def describe_label(record: RecordView) -> str:
    """Classes, or targets with their units; those of frames from the first to the last."""
    strings = record.context.get(keys.LABEL_STRING) or record.column(keys.FRAME_LABEL_STRING)
    if strings:
        return ", ".join(dict.fromkeys(record.label_strings(strings)))
    columns = list(value_columns(record).values())
    label = record.spec.label
    units = label.target_units or ("",) * len(label.target_names)
    parts = []
    for name, unit, values in zip(label.target_names, units, columns, strict=False):
        span = f"{values[0]:.4g}" if len(values) == 1 else f"{values[0]:.4g} to {values[-1]:.4g}"
        parts.append(f"{name} {span} {unit}".strip())
    return ", ".join(parts)


def _frames(record: RecordView, sample: Sample) -> tuple[StripFrame, ...]:
    image, images, times = record.spec.image, record.images, record.timestamps
    if image is None or not images:
        return ()
    count = min(_MOST_FRAMES, len(images))
    even = {round(i * (len(images) - 1) / max(count - 1, 1)) for i in range(count)}
    meant = {sample.frame} if sample.frame is not None and sample.frame < len(images) else set()
    chosen = sorted(even | meant)
    return tuple(
        StripFrame(
            index,
            times[index] / 1e6 if times else None,
            _thumbnail(images[index], image),
            index >= record.valid_frames,
            _frame_label(record, index),
        )
        for index in chosen
    )


def _frame_label(record: RecordView, index: int) -> str:
    if not record.spec.label.per_frame:
        return ""
    strings = record.column(keys.FRAME_LABEL_STRING)
    if strings:
        return to_text(strings[index])
    rows = record.steps.get(keys.FRAME_LABEL_VALUE, [])
    return ", ".join(f"{value:.4g}" for value in rows[index]) if rows else ""


def _thumbnail(data: bytes, spec: ImageSpec) -> str | None:
    try:
        pixels = decode_frame(data, spec)
    except FrameError:
        return None  # a finding says why
    height, width = pixels.shape[:2]
    scale = min(_HEIGHT / height, _MOST_WIDTH / width, 1.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    encoded, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return base64.b64encode(jpeg.tobytes()).decode() if encoded else None
