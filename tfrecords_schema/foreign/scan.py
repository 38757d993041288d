"""Describes TFRecords of other programs by scanning them, under MediaSequence's keys or mapped to these.

Readers adjust records that lack keys, or hold other numbers of frames than the spec or frames of other sizes.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tfrecords_schema import spec as keys
from tfrecords_schema.example_pb2 import Feature, SequenceExample
from tfrecords_schema.examples import parse_example
from tfrecords_schema.foreign.files import AdoptError, plan_files, scan_foreign_file
from tfrecords_schema.foreign.records import OUR_KEYS, KeyMap
from tfrecords_schema.frame_size import frame_size
from tfrecords_schema.info import DatasetInfo, ShardInfo, SplitInfo, statistics_of
from tfrecords_schema.moments import Moments, add_each, moments_by_column
from tfrecords_schema.records import CorruptRecordError, file_checksum
from tfrecords_schema.spec import ImageSpec, LabelSpec, SequenceSpec, SignalSpec, SpecError

_SIGNAL = re.compile(r"(?!LABEL/)([^/]+)/feature/floats")  # "LABEL" holds the targets by frame
_FORMATS = {b"\xff\xd8\xff": "JPEG", b"\x89PN": "PNG"}


class ClassNames:
    """The name of each class, and where it was read first, so that two programs' orders never mix.

    ``given`` are the names that the user says, in order; records must agree with them.
    """

    def __init__(self, given: Sequence[str] = ()):
        self._first = {i: (name, "--class_names") for i, name in enumerate(given)}
        self.unnumbered: set[str] = set()

    def add(self, indices: Sequence[int], names: Sequence[bytes], place: str) -> None:
        """Adds the names of a record's classes; raises AdoptError if an earlier one contradicts them."""
        decoded = [name.decode("utf-8", "replace") for name in names]
        if not indices:
            self.unnumbered.update(decoded)
        for index, name in zip(indices, decoded, strict=False):
            known, first = self._first.setdefault(index, (name, place))
            if known != name:
                raise AdoptError(
                    f"class {index} is {known!r} in {first}, but {name!r} in {place}: two orders of classes. "
                    "Take classes by name with --map image=image/encoded,text=clip/label/string and "
                    "--rewrite, or correct the records"
                )

    def of(self, indices: Collection[int]) -> tuple[str, ...]:
        """Returns the names of all classes up to the last of ``indices``, or of those without index."""
        if not indices:
            return tuple(sorted(self.unnumbered))
        count = max(*indices, *self._first, -1) + 1
        return tuple(self._first.get(i, (f"class {i}", ""))[0] for i in range(count))


@dataclass
class SplitScan:
    """Counts and values of the records of a split.

    Attributes:
        decodes: the first frame of each record is decoded, for its size and colours.
        key_map: our keys of its records.
        names: of the classes of all splits.
        shards: its files.
        lengths, images: records of each number of frames, and of each format, height, width and channels.
        label_counts, frame_counts: records and frames of each class.
        tables: records that have each key with each number of values.
        moments: of each column of these.
        altered: the map changes some records, which readers do not know.
        untimed: some records have neither times nor a frame rate.
        rates: frame rates that records state; 0 for those that state none.
        damaged: places that cannot be read.
        sources, groups: their names.
        class_sources: sources of each class of frames (True) or of whole records (False).
        pixels: by number of channels, the sums over first frames of each channel's mean and mean square.
    """

    decodes: bool = True
    key_map: KeyMap = OUR_KEYS
    names: ClassNames = field(default_factory=ClassNames)
    shards: list[ShardInfo] = field(default_factory=list)
    lengths: Counter[int] = field(default_factory=Counter)
    images: Counter[tuple[str, int, int, int]] = field(default_factory=Counter)
    label_counts: Counter[int] = field(default_factory=Counter)
    frame_counts: Counter[int] = field(default_factory=Counter)
    tables: Counter[tuple[str, int]] = field(default_factory=Counter)
    moments: dict[tuple[str, int], tuple[Moments, ...]] = field(default_factory=dict)
    pixels: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)
    altered: bool = False
    untimed: bool = False
    rates: set[float] = field(default_factory=set)
    damaged: list[CorruptRecordError] = field(default_factory=list)
    sources: set[bytes] = field(default_factory=set)
    groups: set[bytes] = field(default_factory=set)
    class_sources: dict[tuple[bool, int], set[bytes]] = field(
        default_factory=lambda: defaultdict(set)
    )

    @property
    def records(self) -> int:
        """Number of records in all files."""
        return sum(shard.records for shard in self.shards)

    def add_file(self, path: Path) -> None:
        """Adds the intact records of a file; raises AdoptError for one that cannot be described."""
        count = 0
        for record in scan_foreign_file(path):
            if isinstance(record, CorruptRecordError):
                self.damaged.append(record)
                continue
            count += 1
            place = f"{path}: the record at byte {record.offset}"
            try:
                example = self.key_map.apply(record.data)
                self.altered |= example != parse_example(record.data)
                self._add_record(example, place)
            except AdoptError:
                raise
            except (ValueError, cv2.error) as error:
                raise AdoptError(f"{place}: {error}") from error
        size, checksum = path.stat().st_size, file_checksum(path)
        self.shards.append(ShardInfo(file=path.name, records=count, bytes=size, sha256=checksum))

    def _add_record(self, example: SequenceExample, place: str = "") -> None:
        context, lists = example.context.feature, example.feature_lists.feature_list
        steps = {key: lists[key].feature for key in lists}
        frames = steps.get(keys.IMAGE_ENCODED, ())
        if frames and self.decodes:
            self._add_frame(b"".join(frames[0].bytes_list.value[:1]))
        tables = {key: steps[key] for key in sorted(steps) if _SIGNAL.fullmatch(key)}
        length = len(frames) or next((len(rows) for rows in tables.values() if rows), 0)
        if not length:
            raise SpecError(
                f"expected frames ({keys.IMAGE_ENCODED}) or signals (NAME/feature/floats) in its feature "
                "lists, found neither"
            )
        self.lengths[length] += 1
        valid = min([length, *_held(context, keys.VALID_FRAMES, "int64_list")[:1]])
        if valid < 1:
            raise SpecError(f"expected {keys.VALID_FRAMES} to be at least 1, found {valid}")
        if keys.FRAME_LABEL_VALUE in steps:
            tables[keys.FRAME_LABEL_VALUE] = steps[keys.FRAME_LABEL_VALUE]
        for key, table in tables.items():
            if len(table) == length:
                self._add_table(key, [step.float_list.value for step in table], valid)
        self._add_table(keys.LABEL_VALUE, [_held(context, keys.LABEL_VALUE, "float_list")], 1)
        indices = _held(context, keys.LABEL_INDEX, "int64_list")
        self.tables[keys.LABEL_INDEX, len(indices)] += 1
        texts = _held(context, keys.LABEL_STRING) or _held(context, keys.LABEL_TEXT)
        self.tables[keys.LABEL_STRING, len(texts)] += 1
        self._add_names(indices, texts, place)
        self.label_counts.update(indices)
        names = steps.get(keys.FRAME_LABEL_STRING, ())
        classes = {(False, index) for index in indices}
        for i, step in enumerate(steps.get(keys.FRAME_LABEL_INDEX, ())):
            indices = step.int64_list.value
            self._add_names(indices, names[i].bytes_list.value if i < len(names) else (), place)
            classes.update((True, index) for index in indices if i < valid)
            # Readers may meet a class that occurs only in padding, so it needs a name and the count 0.
            self.frame_counts.update(indices if i < valid else dict.fromkeys(indices, 0))
        rate = next(iter(_held(context, keys.FRAME_RATE, "float_list")), 0.0)
        self.rates.add(rate)
        times = {t for step in steps.get(keys.IMAGE_TIMESTAMP, ()) for t in step.int64_list.value}
        self.untimed |= not rate > 0 and len(times) < min(2, valid)
        id_keys = (keys.GROUP_ID, keys.MEDIA_ID, keys.DATA_PATH, keys.EXAMPLE_ID)
        ids = [b"".join(_held(context, key)[:1]) for key in id_keys]
        self.groups.add(next(filter(None, ids), b""))
        source = next(filter(None, ids[1:]), b"")
        self.sources.add(source)
        for own in classes:
            self.class_sources[own].add(source)

    def _add_table(self, key: str, rows: Sequence[Sequence[float]], valid: int) -> None:
        widths = {len(row) for row in rows}
        if len(widths) == 1 and 0 not in widths:
            own = key, widths.pop()
            if own[1] > keys.MAX_VALUES:
                raise SpecError(
                    f"expected at most {keys.MAX_VALUES} values in {key}, found {own[1]}"
                )
            self.tables[own] += 1
            moments = moments_by_column(rows[:valid])
            self.moments[own] = add_each(self.moments.get(own, ()), moments)

    def _add_names(self, indices: Sequence[int], names: Sequence[bytes], place: str) -> None:
        if (last := max(indices, default=0)) >= keys.MAX_CLASSES:
            raise SpecError(f"expected label indices below {keys.MAX_CLASSES}, found {last}")
        self.names.add(indices, names, place)

    def _add_frame(self, data: bytes) -> None:
        kind, size = _FORMATS.get(data[:3]), frame_size(data)
        if size is not None and math.prod(size) > keys.MAX_PIXELS:
            raise SpecError(
                f"expected frames of at most {keys.MAX_PIXELS} pixels, found one of {size[0]}x{size[1]}"
            )
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if size else None
        if kind is None or pixels is None:
            raise SpecError("expected JPEG or PNG frames, found one that is neither")
        channels = 1 if pixels.ndim == 2 else 3
        self.images[kind, pixels.shape[0], pixels.shape[1], channels] += 1
        mean, std = (np.ravel(own)[2::-1] for own in cv2.meanStdDev(pixels))  # BGR or BGRA to RGB
        moments = np.stack([mean, std**2 + mean**2])
        self.pixels[channels] = self.pixels.get(channels, 0) + moments

    def describe(self, spec: SequenceSpec) -> SplitInfo:
        """Returns the split's files and statistics; raises AdoptError if its records are not of ``spec``."""
        label = spec.label
        counts = self.frame_counts if label.per_frame else self.label_counts
        if label.num_classes and counts and not 0 <= min(counts) <= max(counts) < label.num_classes:
            raise AdoptError(
                f"label indices must be 0 to {label.num_classes - 1} for {label.num_classes} classes, found "
                f"{min(counts)} to {max(counts)}"
            )
        tables = {s.name: (keys.signal_floats_key(s.name), s.size) for s in spec.signals}
        if label.task == "regression":
            key = keys.FRAME_LABEL_VALUE if label.per_frame else keys.LABEL_VALUE
            tables[""] = key, len(label.target_names)  # no signal has this name
        held = {}
        for key, width in tables.values():
            per_step = "" if key == keys.LABEL_VALUE else " per step"
            held[f"{key} with {width} values{per_step}"] = self.tables[key, width]
        if spec.image is not None and self.decodes:
            held[keys.IMAGE_ENCODED] = self.images.total()
        if label.task == "classification" and not label.per_frame:
            held[f"{keys.LABEL_INDEX} with one class"] = self.tables[keys.LABEL_INDEX, 1]
        for key, count in held.items():
            if count != self.records:
                raise AdoptError(
                    f"expected {key} in each of {self.records} records, found it in {count}: "
                    "correct the spec or the records"
                )
        channels = spec.image.channels if spec.image else 0
        frames = sum(count for image, count in self.images.items() if image[3] == channels)
        moments = self.pixels.get(channels, np.zeros((2, 0))) / max(frames, 1)
        mean = moments[0]
        statistics = {n: statistics_of(self.moments.get(own, ())) for n, own in tables.items()}
        is_named = b"" not in self.sources
        return SplitInfo(
            shards=tuple(self.shards),
            label_counts=tuple(counts[i] for i in range(label.num_classes)),
            targets=statistics.pop("", ()),
            signals=statistics,
            pixel_mean=tuple(mean.tolist()),
            pixel_std=tuple(np.sqrt(np.maximum(moments[1] - mean**2, 0)).tolist()),
            groups=len(self.groups) if is_named else 0,
            sources=len(self.sources) if is_named else 0,
            class_sources=tuple(
                len(self.class_sources[label.per_frame, i])
                for i in range(label.num_classes if is_named else 0)
            ),
        )


@dataclass(frozen=True, kw_only=True)
class AdoptPlan:
    """The files of a folder of records by split, and how to read their records.

    Example: ``AdoptPlan(files={"train": [Path("kinetics/train-00000-of-00001")]}).scan()``.

    Attributes:
        files: by split, in order.
        key_map: our keys of the records.
        class_names: of all classes in order; by default those that records say.
    """

    files: Mapping[str, Sequence[Path]]
    key_map: KeyMap = OUR_KEYS
    class_names: tuple[str, ...] = ()

    def scan(self) -> dict[str, SplitScan]:
        """Reads all intact records; raises AdoptError for the first that cannot be described."""
        names = ClassNames(self.class_names)
        scans = {
            split: SplitScan(key_map=self.key_map, names=names) for split, own in self.files.items()
        }
        for split, files in self.files.items():
            for path in files:
                scans[split].add_file(path)
        if not any(scan.records for scan in scans.values()):
            count = sum(map(len, self.files.values()))
            raise AdoptError(f"the files must hold records, found {count} empty files")
        return scans


def adopt(
    directory: str | os.PathLike[str],
    spec: SequenceSpec | None = None,
    *,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    plan: AdoptPlan | None = None,
) -> DatasetInfo:
    """Describes the TFRecords in a local folder, which have MediaSequence's keys. Writes nothing.

    Args:
        directory: folder of TFRecord files.
        spec: of the records; by default derived from them, with the median number of frames and the most
            frequent size.
        num_frames: replaces the number of frames in the spec.
        size: replaces the height and width of frames in the spec.
        plan: its files; by default those that `plan_files` finds.

    Raises:
        AdoptError: if there are no records, or they have no common description.
        CorruptRecordError: if a file is damaged.
    """
    plan = plan or AdoptPlan(files=plan_files(directory))
    scans = plan.scan()
    for scan in scans.values():
        if scan.damaged:
            raise scan.damaged[0]
    if any(scan.altered for scan in scans.values()):
        raise AdoptError(
            "readers take images in feature lists, and integers from 0 as labels. Copy the records into a "
            "new dataset with --rewrite DIR"
        )
    spec = common_spec(list(scans.values()), spec, num_frames=num_frames, size=size)
    if spec.label.num_classes and not any(s.label_counts or s.frame_counts for s in scans.values()):
        raise AdoptError(
            f"records name their classes ({', '.join(spec.label.class_names):.100}) without indices, which "
            "readers need: copy them into a new dataset with --rewrite"
        )
    splits = {name: scan.describe(spec) for name, scan in scans.items()}
    name = Path(directory).resolve().name
    rate = common_rate(list(scans.values()))
    options = {} if rate is None else {"frame_rate": str(rate)}
    return DatasetInfo(name=name, spec=spec, splits=splits, options=options, adopted=True)


def _held(context: Mapping[str, Feature], key: str, kind: str = "bytes_list") -> Sequence[Any]:
    """Returns the values of a key; none if the record lacks it, or has it with another type."""
    return getattr(context[key], kind).value if key in context else ()


def common_rate(scans: list[SplitScan]) -> Fraction | None:
    """Returns the frame rate that all records state, in frames/s; None if they state none or several."""
    rates = {rate for scan in scans for rate in scan.rates}
    if len(rates) != 1 or not 0 < (rate := rates.pop()) < math.inf:
        return None
    return Fraction(rate).limit_denominator(1001)


def common_spec(
    scans: list[SplitScan],
    spec: SequenceSpec | None = None,
    *,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> SequenceSpec:
    """Returns ``spec``, or that of most records of all splits, with another number of frames or size."""
    spec = spec or _spec_of_most(scans)
    if num_frames is not None:
        spec = replace(spec, num_frames=num_frames)
    if size is not None and spec.image is not None:
        spec = replace(spec, image=replace(spec.image, height=size[0], width=size[1]))
    return spec


def _spec_of_most(scans: list[SplitScan]) -> SequenceSpec:
    lengths = sum((scan.lengths for scan in scans), Counter[int]())
    images = sum((scan.images for scan in scans), Counter[tuple[str, int, int, int]]())
    total = sum(scan.records for scan in scans)
    image = None
    if images:
        (kind, height, width, channels), _ = images.most_common(1)[0]
        image = ImageSpec(height=height, width=width, channels=channels, format=kind)  # type: ignore[arg-type]
    tables = sum((scan.tables for scan in scans), Counter[tuple[str, int]]())
    common = [table for table, count in sorted(tables.items()) if count == total]
    return SequenceSpec(
        num_frames=int(np.median(list(lengths.elements()))),
        image=image,
        label=_common_label(scans, common),
        signals=tuple(
            SignalSpec(name=match[1], size=width)
            for key, width in common
            if (match := _SIGNAL.fullmatch(key))
        ),
    )


def _common_label(scans: list[SplitScan], tables: Sequence[tuple[str, int]]) -> LabelSpec:
    """Returns the labels of most records; ``tables`` are in all of them."""
    by_frame = {index for scan in scans for index in scan.frame_counts}
    by_record = sum((scan.label_counts for scan in scans), Counter[int]())
    if by_record or by_frame or scans[0].names.unnumbered:
        classes = scans[0].names.of(by_record or by_frame)
        counted = keys.LABEL_INDEX if by_record else keys.LABEL_STRING
        per_frame = bool(by_frame) and not by_record
        many = not per_frame and (counted, 1) not in tables
        return LabelSpec(
            task="multilabel" if many else "classification",
            class_names=classes,
            per_frame=per_frame,
        )
    for key, width in reversed(tables):  # those of the whole record first
        if key in (keys.LABEL_VALUE, keys.FRAME_LABEL_VALUE):
            targets = tuple(f"target {i}" for i in range(width))
            per_frame = key == keys.FRAME_LABEL_VALUE
            return LabelSpec(task="regression", target_names=targets, per_frame=per_frame)
    return LabelSpec()
