"""Chooses records to look at, and reads them again as filmstrips for the report's template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from pipelines.validation.dataset_view import target_units
from pipelines.validation.findings import Where
from pipelines.validation.folder import DatasetFolder
from pipelines.validation.outcome import Validation
from pipelines.validation.pictures.thumbnails import FrameError, decode_frame
from pipelines.validation.result import Sample
from pipelines.validation.views import Expectation, RecordView, to_text
from tfrecords_schema import spec as keys
from tfrecords_schema.records import CorruptRecordError
from tfrecords_schema.report.filmstrips import (
    MAX_FILM_FRAMES,
    Film,
    StripFrame,
    choose_frames,
    make_film,
    make_thumbnail,
)
from tfrecords_schema.spec import ImageSpec

_MAX_SUSPECTS = 12
_MAX_SUSPECTS_PER_CHECK = 2
_MAX_PAIRS = 8


@dataclass(frozen=True)
class Filmstrip:
    """A few frames of one record.

    Attributes:
        sample: the record's place, and why it is shown.
        record: its id.
        label: its classes or targets, in words.
        classes: names of the classes; empty for targets.
        frames: chosen evenly, and the frame that a finding is about.
        film: the frames that decode, to be played; None if there are fewer than two.
    """

    sample: Sample
    record: str
    label: str
    classes: tuple[str, ...]
    frames: tuple[StripFrame, ...]
    film: Film | None


def find_leak_pairs(
    validation: Validation, folder: DatasetFolder
) -> tuple[list[tuple[str, list[Filmstrip]]], int]:
    """Returns message and filmstrips of the first pairs of records that leak, and the number of others."""
    if validation.info.spec.image is None:
        return [], 0
    leaks = [f for f in validation.result.findings if f.check.startswith("leaks.") and f.other]
    pairs = []
    for finding in leaks[:_MAX_PAIRS]:
        places = (_find_sample(validation, own) for own in (finding.where, finding.other) if own)
        strips = _read_strips(validation, folder, (place for place in places if place))
        pairs.append((finding.message, list(strips)))
    return pairs, max(0, len(leaks) - _MAX_PAIRS)


def make_strip_groups(
    validation: Validation, folder: DatasetFolder
) -> list[tuple[str, list[Filmstrip]]]:
    """Returns titles and filmstrips: records with findings, extreme records, and random ones."""
    if validation.info.spec.image is None:
        return []
    samples = validation.result.samples
    groups = {
        "With findings": _suspects(validation),
        "Extreme": [sample for sample in samples if sample.why],
        f"Drawn at random (seed {validation.options.seed})": [s for s in samples if not s.why],
    }
    read = ((title, list(_read_strips(validation, folder, own))) for title, own in groups.items())
    return [(title, strips) for title, strips in read if strips]


def _suspects(validation: Validation) -> list[Sample]:
    """Returns the first records with findings, a few per check."""
    chosen: dict[tuple[str, int], Sample] = {}
    by_check: Counter[str] = Counter()
    for finding in validation.result.findings:
        sample = _find_sample(validation, finding.where, f"{finding.check}: {finding.message}")
        full = by_check[finding.check] == _MAX_SUSPECTS_PER_CHECK
        if sample is not None and not full and finding.other is None:
            by_check[finding.check] += 1
            chosen.setdefault((sample.shard, sample.offset), sample)
    return list(chosen.values())[:_MAX_SUSPECTS]


def _find_sample(validation: Validation, where: Where, why: str = "") -> Sample | None:
    """Returns the record at ``where``; None if that is not the place of a record."""
    for split, info in validation.info.splits.items():
        if where.offset is not None and any(shard.file == where.shard for shard in info.shards):
            return Sample(
                split=split, shard=where.shard, offset=where.offset, why=why, frame=where.frame
            )
    return None


def _read_strips(
    validation: Validation, folder: DatasetFolder, samples: Iterable[Sample]
) -> Iterator[Filmstrip]:
    """Yields the filmstrips of the samples that can be read, one record in memory at a time."""
    expected = Expectation(info=validation.info)
    for sample in samples:
        try:
            data = folder.read_record(sample.shard, sample.offset)
        except (CorruptRecordError, OSError):
            continue  # a finding names the damage
        record = RecordView(data, expected, place=f"{sample.shard}@{sample.offset}")
        classes = _find_classes(record)
        yield Filmstrip(
            sample=sample,
            record=record.text(keys.EXAMPLE_ID),
            label=", ".join(classes) or _describe_targets(record) or "no label",
            classes=classes,
            frames=tuple(_choose_frames(record, sample.frame)),
            film=_make_film(record),
        )


def _find_classes(record: RecordView) -> tuple[str, ...]:
    """Returns the distinct classes of the record, or those of its frames, in their order."""
    strings = record.context.get(keys.LABEL_STRING) or record.column(keys.FRAME_LABEL_STRING)
    return tuple(dict.fromkeys(map(to_text, strings or ())))


def _describe_targets(record: RecordView) -> str:
    """Returns the targets with their units; targets by frame from the first frame to the last."""
    parts = []
    columns = record.value_columns.values()
    for (name, unit), values in zip(target_units(record.expected.info), columns, strict=False):
        span = f"{values[0]:.4g}" if len(values) == 1 else f"{values[0]:.4g} to {values[-1]:.4g}"
        parts.append(f"{name} {span} {unit}".strip())
    return ", ".join(parts)


def _make_film(record: RecordView) -> Film | None:
    """Returns the frames that decode, at their own speed, or in a second if their times are not usable."""
    image, images, times = (
        record.spec.image,
        record.images[: record.valid_frames],
        record.shown_times,
    )
    if image is None or len(images) < 2:
        return None
    frames = []
    for index in choose_frames(len(images), MAX_FILM_FRAMES):
        with suppress(FrameError):
            frames.append(decode_frame(images[index], image))
    span = (times[-1] - times[0]) / 1e6 if times else 0.0
    seconds = span * len(images) / (len(images) - 1)
    return make_film(frames, seconds if 0.1 < seconds < 60 else 1.0)


def _choose_frames(record: RecordView, marked: int | None) -> Iterator[StripFrame]:
    image, images, times = record.spec.image, record.images, record.timestamps
    if image is None or not images:
        return
    chosen = set(choose_frames(len(images)))
    if marked is not None and marked < len(images):
        chosen.add(marked)
    for index in sorted(chosen):
        yield StripFrame(
            index=index,
            seconds=times[index] / 1e6 if times else None,
            jpeg=_shrink(images[index], image),
            label=_frame_label(record, index),
            is_padding=index >= record.valid_frames,
            is_marked=index == marked,
        )


def _shrink(data: bytes, image: ImageSpec) -> str | None:
    try:
        return make_thumbnail(decode_frame(data, image))
    except FrameError:
        return None


def _frame_label(record: RecordView, index: int) -> str:
    if not record.spec.label.per_frame:
        return ""
    strings = record.column(keys.FRAME_LABEL_STRING)
    if strings:
        return to_text(strings[index])
    rows = record.steps.get(keys.FRAME_LABEL_VALUE, [])
    return ", ".join(f"{value:.4g}" for value in rows[index]) if rows else ""
