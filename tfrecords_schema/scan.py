"""Describes TFRecords of other programs by scanning them, if they have MediaSequence's keys.

`adopt` returns a `DatasetInfo` with ``adopted`` set: its records may lack keys, and hold other numbers of
frames than the spec and frames of other sizes. Readers adjust them. Needs no TensorFlow.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tfrecords_schema import spec as keys
from tfrecords_schema.example_pb2 import Feature, SequenceExample
from tfrecords_schema.examples import parse_example
from tfrecords_schema.info import DatasetInfo, ShardInfo, SplitInfo, column_statistics
from tfrecords_schema.records import file_checksum, read_file
from tfrecords_schema.spec import (
    ImageSpec,
    LabelSpec,
    SequenceSpec,
    SignalSpec,
    SpecError,
    signal_floats_key,
)

_SHARD = re.compile(r"tfrecord|-\d+-of-\d+$", re.IGNORECASE)
_SPLITS = {"train": "train", "training": "train", "test": "test"}
_SPLITS |= dict.fromkeys(("validation", "valid", "val", "validate", "dev", "eval"), "validation")
_SIGNAL = re.compile(r"([^/]+)/feature/floats")
# The name of the "signal" that holds the regression targets by frame.
_TARGETS = keys.FRAME_LABEL_VALUE.partition("/")[0]
_FORMATS = {b"\xff\xd8\xff": "JPEG", b"\x89PN": "PNG"}


class AdoptError(ValueError):
    """Records that cannot be described; the message names them and what was expected."""


@dataclass
class _Scan:
    """Counts and values of the records of a split."""

    lengths: Counter[int] = field(default_factory=Counter)
    images: Counter[tuple[str, int, int, int]] = field(default_factory=Counter)
    label_counts: Counter[int] = field(default_factory=Counter)
    labels_each: Counter[int] = field(default_factory=Counter)
    frame_counts: Counter[int] = field(default_factory=Counter)
    names: dict[int, str] = field(default_factory=dict)
    values: list[tuple[float, ...]] = field(default_factory=list)
    frame_values: list[npt.NDArray[np.float64]] = field(default_factory=list)
    signals: dict[str, list[npt.NDArray[np.float64]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    pixels: list[npt.NDArray[np.float64]] = field(default_factory=list)
    sources: set[bytes] = field(default_factory=set)
    groups: set[bytes] = field(default_factory=set)
    records: int = 0


def adopt(
    directory: str | os.PathLike[str],
    spec: SequenceSpec | None = None,
    *,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> DatasetInfo:
    """Describes the TFRecords in a local folder. Writes nothing.

    Args:
        directory: folder of TFRecord files with their splits in their names (``train-00000-of-00008``,
            ``val.tfrecord``); files whose names have no split belong to ``train``.
        spec: of the records; by default derived from them, with the median number of frames and the most
            frequent size.
        num_frames: replaces the number of frames in the spec.
        size: replaces the height and width of frames in the spec.

    Raises:
        AdoptError: if there are no records, or they have no common description.
        CorruptRecordError: if a file is damaged.
    """
    folder = Path(directory)
    files = sorted(p for p in folder.glob("*") if p.is_file() and _SHARD.search(p.name))
    if not files:
        raise AdoptError(f"{directory} must be a folder of TFRecord files, found none in it")
    scans: dict[str, _Scan] = defaultdict(_Scan)
    shards: dict[str, list[ShardInfo]] = defaultdict(list)
    for path in files:
        split = split_of(path.name)
        count = _scan_file(path, scans[split])
        shards[split].append(
            ShardInfo(
                file=path.name,
                records=count,
                bytes=path.stat().st_size,
                sha256=file_checksum(path),
            )
        )
    if not any(scan.records for scan in scans.values()):
        raise AdoptError(f"{directory} must hold records, found {len(files)} empty files")
    if spec is None:
        spec = _common_spec(scans.values())
    if num_frames is not None:
        spec = replace(spec, num_frames=num_frames)
    if size is not None and spec.image is not None:
        spec = replace(spec, image=replace(spec.image, height=size[0], width=size[1]))
    splits = {name: _describe(scans[name], spec, tuple(shards[name])) for name in scans}
    return DatasetInfo(name=folder.resolve().name, spec=spec, splits=splits, adopted=True)


def split_of(file: str) -> str:
    """Returns the split in the name of a file: ``validation`` for ``val-00000-of-00002``."""
    words = re.findall(r"[a-z]+", file.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "train")


def _scan_file(path: Path, scan: _Scan) -> int:
    count = 0
    for count, record in enumerate(read_file(path), start=1):  # noqa: B007
        try:
            _scan_record(parse_example(record.data), scan)
        except (SpecError, cv2.error) as error:
            raise AdoptError(f"{path}: the record at byte {record.offset}: {error}") from error
    return count


def _scan_record(example: SequenceExample, scan: _Scan) -> None:
    context, lists = example.context.feature, example.feature_lists.feature_list
    scan.records += 1
    frames = lists[keys.IMAGE_ENCODED].feature if keys.IMAGE_ENCODED in lists else ()
    steps = len(frames)
    if frames:
        _scan_frame(b"".join(frames[0].bytes_list.value[:1]), scan)
    tables = {
        match[1]: [step.float_list.value for step in lists[key].feature]
        for key in sorted(lists)
        if (match := _SIGNAL.fullmatch(key))
    }
    targets = tables.pop(_TARGETS, [])
    steps = steps or next((len(rows) for rows in tables.values() if rows), 0)
    if not steps:
        raise SpecError(
            f"expected {keys.IMAGE_ENCODED} or a signal's NAME/feature/floats, found neither"
        )
    scan.lengths[steps] += 1
    valid = _valid_frames(context, steps)
    for name, rows in tables.items():
        if _is_table(rows, steps):
            scan.signals[name].append(np.array(rows, np.float64)[:valid])
    if _is_table(targets, steps):
        scan.frame_values.append(np.array(targets, np.float64)[:valid])
    _scan_labels(context, scan)
    if keys.FRAME_LABEL_INDEX in lists:
        names = lists[keys.FRAME_LABEL_STRING].feature if keys.FRAME_LABEL_STRING in lists else ()
        _scan_frame_classes(lists[keys.FRAME_LABEL_INDEX].feature, names, valid, scan)
    ids = [
        _first(context, k) for k in (keys.GROUP_ID, keys.MEDIA_ID, keys.DATA_PATH, keys.EXAMPLE_ID)
    ]
    scan.groups.add(next(filter(None, ids), b""))
    scan.sources.add(next(filter(None, ids[1:]), b""))


def _scan_labels(context: Mapping[str, Feature], scan: _Scan) -> None:
    """Adds the labels of a whole record."""
    indices = context[keys.LABEL_INDEX].int64_list.value if keys.LABEL_INDEX in context else ()
    scan.labels_each[len(indices)] += 1
    scan.label_counts.update(indices)
    texts = _texts(context, keys.LABEL_STRING) or _texts(context, keys.LABEL_TEXT)
    scan.names.update(zip(indices, texts, strict=False))
    if keys.LABEL_VALUE in context and (row := context[keys.LABEL_VALUE].float_list.value):
        scan.values.append(tuple(row))


def _scan_frame_classes(
    steps: Sequence[Feature], names: Sequence[Feature], valid: int, scan: _Scan
) -> None:
    for i, step in enumerate(steps):
        indices = step.int64_list.value
        # Readers may meet a class that occurs only in padding, so it needs a name and the count 0.
        scan.frame_counts.update(indices if i < valid else dict.fromkeys(indices, 0))
    for step, name in zip(steps, names, strict=False):
        scan.names.update(zip(step.int64_list.value, _decoded(name), strict=False))


def _valid_frames(context: Mapping[str, Feature], steps: int) -> int:
    """Returns the number of frames before the padding; all if the record does not say."""
    held = context[keys.VALID_FRAMES].int64_list.value if keys.VALID_FRAMES in context else ()
    if held and held[0] < 1:
        raise SpecError(f"expected {keys.VALID_FRAMES} to be at least 1, found {held[0]}")
    return min(held[0], steps) if held else steps


def _is_table(rows: Sequence[Sequence[float]], steps: int) -> bool:
    widths = {len(row) for row in rows}
    return len(rows) == steps and len(widths) == 1 and 0 not in widths


def _scan_frame(data: bytes, scan: _Scan) -> None:
    kind = _FORMATS.get(data[:3])
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if kind else None
    if kind is None or pixels is None:
        raise SpecError("expected JPEG or PNG frames, found one that is neither")
    channels = 1 if pixels.ndim == 2 else 3
    scan.images[kind, pixels.shape[0], pixels.shape[1], channels] += 1
    flat = pixels.reshape(-1, 1 if pixels.ndim == 2 else pixels.shape[2])[:, :3].astype(np.float64)
    colours = flat[:, ::-1]
    scan.pixels.append(np.stack([colours.mean(axis=0), (colours**2).mean(axis=0)]))


def _texts(context: Mapping[str, Feature], key: str) -> list[str]:
    return _decoded(context[key]) if key in context else []


def _decoded(feature: Feature) -> list[str]:
    return [value.decode("utf-8", "replace") for value in feature.bytes_list.value]


def _first(context: Mapping[str, Feature], key: str) -> bytes:
    values = context[key].bytes_list.value if key in context else ()
    return values[0] if values else b""


def _common_spec(scans: Iterable[_Scan]) -> SequenceSpec:
    """Returns the spec of most records of all splits."""
    scans = list(scans)
    lengths = sum((scan.lengths for scan in scans), Counter[int]())
    images = sum((scan.images for scan in scans), Counter[tuple[str, int, int, int]]())
    total = sum(scan.records for scan in scans)
    image = None
    if images:
        (kind, height, width, channels), _ = images.most_common(1)[0]
        image = ImageSpec(height=height, width=width, channels=channels, format=kind)  # type: ignore[arg-type]
    signals = []
    for name in sorted({name for scan in scans for name in scan.signals}):
        sizes = {rows.shape[1] for scan in scans for rows in scan.signals.get(name, [])}
        held = sum(len(scan.signals.get(name, [])) for scan in scans)
        if len(sizes) == 1 and held == total:
            signals.append(SignalSpec(name=name, size=sizes.pop()))
    return SequenceSpec(
        num_frames=int(np.median(list(lengths.elements()))),
        image=image,
        label=_common_label(scans, total),
        signals=tuple(signals),
    )


def _common_label(scans: list[_Scan], total: int) -> LabelSpec:
    each = sum((scan.labels_each for scan in scans), Counter[int]())
    by_frame = {index for scan in scans for index in scan.frame_counts}
    by_record = sum((scan.label_counts for scan in scans), Counter[int]())
    if by_record or by_frame:
        names: dict[int, str] = {}
        for scan in scans:
            names.update(scan.names)
        classes = tuple(names.get(i, f"class {i}") for i in range(max(by_record or by_frame) + 1))
        many = by_record and set(each) != {1}
        return LabelSpec(
            task="multilabel" if many else "classification",
            class_names=classes,
            per_frame=not by_record,
        )
    by_record_widths = [len(row) for scan in scans for row in scan.values]
    by_frame_widths = [rows.shape[1] for scan in scans for rows in scan.frame_values]
    for per_frame, widths in ((False, by_record_widths), (True, by_frame_widths)):
        if len(widths) == total and len(set(widths)) == 1:
            targets = tuple(f"target {i}" for i in range(widths[0]))
            return LabelSpec(task="regression", target_names=targets, per_frame=per_frame)
    return LabelSpec()


def _describe(scan: _Scan, spec: SequenceSpec, shards: tuple[ShardInfo, ...]) -> SplitInfo:
    label = spec.label
    counts = scan.frame_counts if label.per_frame else scan.label_counts
    if label.num_classes and counts and not 0 <= min(counts) <= max(counts) < label.num_classes:
        raise AdoptError(
            f"label indices must be 0 to {label.num_classes - 1} for {label.num_classes} classes, found "
            f"{min(counts)} to {max(counts)}"
        )
    moments = np.mean(scan.pixels, axis=0) if scan.pixels and spec.image else np.zeros((2, 0))
    mean = moments[0]
    for key, count in _count_required(scan, spec).items():
        if count != scan.records:
            raise AdoptError(
                f"expected {key} in each of {scan.records} records, found it in {count}: correct the spec or "
                "the records"
            )
    values: Sequence[Any] = scan.frame_values if label.per_frame else scan.values
    return SplitInfo(
        shards=shards,
        label_counts=tuple(counts[i] for i in range(label.num_classes)),
        targets=column_statistics(values) if label.task == "regression" else (),
        signals={s.name: column_statistics(scan.signals[s.name]) for s in spec.signals},
        pixel_mean=tuple(mean.tolist()),
        pixel_std=tuple(np.sqrt(np.maximum(moments[1] - mean**2, 0)).tolist()),
        groups=len(scan.groups),
        sources=len(scan.sources),
    )


def _count_required(scan: _Scan, spec: SequenceSpec) -> dict[str, int]:
    """Returns the number of records that have each key, of those that every record must have."""
    label, held = spec.label, {}
    if spec.image is not None:
        held[keys.IMAGE_ENCODED] = scan.images.total()
    if label.task == "classification" and not label.per_frame:
        held[f"{keys.LABEL_INDEX} with one class"] = scan.labels_each[1]
    width = len(label.target_names)
    if label.task == "regression" and label.per_frame:
        fits = sum(rows.shape[1] == width for rows in scan.frame_values)
        held[f"{keys.FRAME_LABEL_VALUE} with {width} values per step"] = fits
    elif label.task == "regression":
        fits = sum(len(row) == width for row in scan.values)
        held[f"{keys.LABEL_VALUE} with {width} values"] = fits
    for signal in spec.signals:
        rows = scan.signals.get(signal.name, [])
        fits = sum(row.shape[1] == signal.size for row in rows)
        held[f"{signal_floats_key(signal.name)} with {signal.size} values per step"] = fits
    return held
