"""Reads and writes ``dataset_info.json``, the description of a dataset folder.

The file is written last, so a folder that has one is a complete dataset. It holds all that readers need.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tfrecords_schema.codec import check_fields, from_json, parse_json, to_json
from tfrecords_schema.moments import Moments
from tfrecords_schema.paths import StrPath, UrlError, join
from tfrecords_schema.records import MAX_RECORD_BYTES
from tfrecords_schema.spec import MAX_TEXT_BYTES, SequenceSpec
from tfrecords_schema.storage import is_folder, read_bytes, write_bytes

FORMAT_VERSION = 1
FILE_NAME = "dataset_info.json"


class DatasetInfoError(ValueError):
    """A folder that is not a complete dataset, or a description that cannot be read."""


def _is_file_name(name: str) -> bool:
    """Returns True if a file in a folder may have this name, so that it cannot point outside of it."""
    return name not in ("", ".", "..") and not set("/\\\0") & set(name) and len(name) <= 255


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """One TFRecord file: its name in the dataset folder, its contents and its SHA-256 (hexadecimal)."""

    file: str
    records: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        check_fields(self, DatasetInfoError)
        # Readers join the name to the folder, so a path could point outside of it.
        if not _is_file_name(self.file):
            raise DatasetInfoError(
                f"a shard's file must be a plain file name, got {self.file!r:.300}"
            )
        if self.records < 0 or self.bytes < 0:
            raise DatasetInfoError(
                f"shard {self.file} cannot hold {self.records} records in {self.bytes} bytes"
            )


@dataclass(frozen=True, kw_only=True)
class TargetStatistics:
    """Statistics of one regression target, or of one component of an input signal.

    ``count`` is the number of values, 0 if an earlier version built the dataset.
    """

    mean: float
    std: float
    min: float
    max: float
    count: int = 0


def statistics_of(moments: Iterable[Moments]) -> tuple[TargetStatistics, ...]:
    """Returns the statistics of each column from its moments."""
    return tuple(
        TargetStatistics(mean=m.mean, std=m.std, min=m.min, max=m.max, count=m.count)
        for m in moments
    )


@dataclass(frozen=True, kw_only=True)
class SplitInfo:
    """One split: its shards in order, and statistics of their records.

    Padding frames are left out of all statistics by frame: labels by frame, signals and pixels.

    Attributes:
        shards: its files, in order.
        label_counts: records (or frames, for labels by frame) of each class, in label order.
        targets: statistics of each regression target as stored, less its offset, in the order of
            ``target_names``.
        signals: statistics of each component of each input signal.
        pixel_mean, pixel_std: by channel, 0 to 255, over the stored frames.
        pixel_frames: number of frames that these were computed from, a sample or all; 0 when unknown.
        groups: number of distinct groups.
        sources: number of distinct sources.
        class_sources: sources with records (or frames) of each class, in label order; empty when unknown.
    """

    shards: tuple[ShardInfo, ...]
    label_counts: tuple[int, ...] = ()
    targets: tuple[TargetStatistics, ...] = ()
    signals: dict[str, tuple[TargetStatistics, ...]] = field(default_factory=dict)
    pixel_mean: tuple[float, ...] = ()
    pixel_std: tuple[float, ...] = ()
    pixel_frames: int = 0
    groups: int = 0
    sources: int = 0
    class_sources: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, DatasetInfoError)
        numbers = (self.pixel_frames, self.groups, self.sources, *self.label_counts)
        if min(numbers) < 0:
            raise DatasetInfoError(f"the counts of a split cannot be negative, got {min(numbers)}")

    @property
    def num_records(self) -> int:
        """Records in all shards."""
        return sum(shard.records for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """Bytes in all shards."""
        return sum(shard.bytes for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The options of a build that readers depend on; defaults when the dataset does not say.

    Attributes:
        sampling: how sequences were taken from a clip: ``windows``, ``uniform`` or ``last``.
        short_clips: what was done with clips shorter than a sequence: ``drop``, ``pad`` or ``loop``.
        label_at: the frame whose measured value a sequence has as its label: ``last``, ``center``, ``mean``
            or ``each``; None when labels were not measured but belong to whole sources.
        class_column, annotation, telemetry: where measured labels came from; None for nowhere.
        angle_columns: columns in degrees, where 359 and 1 are 2 apart.
        frame_rate: frames/s after sampling, exactly.
        frame_times: how images in folders got their times, ``rate`` or ``names``.
        source_rate, video_stream: how videos were read.
        resize, interpolation, jpeg_quality, crop_region, mask: how frames were stored.
    """

    sampling: str = "windows"
    short_clips: str = ""
    label_at: str | None = None
    class_column: str | None = None
    annotation: str | None = None
    telemetry: str | None = None
    angle_columns: tuple[str, ...] = ()
    frame_rate: Fraction | None = None
    frame_times: str = "rate"
    source_rate: Fraction | None = None
    video_stream: int | None = None
    resize: str | None = None
    interpolation: str | None = None
    jpeg_quality: int | None = None
    crop_region: str | None = None
    mask: tuple[str, ...] = ()

    @classmethod
    def read(cls, options: dict[str, Any]) -> BuildOptions:
        """Reads `DatasetInfo.options`; options that are missing or of another type keep their defaults."""
        is_measured = {"telemetry", "annotation"} & options.keys()
        options = {"label_at": "last", **options} if is_measured else {**options, "label_at": None}
        read = {}
        for name in [own.name for own in dataclasses.fields(cls) if own.name in options]:
            with contextlib.suppress(ValueError):
                read[name] = getattr(from_json(cls, {name: options[name]}), name)
        return cls(**read)

    @property
    def labels_whole_sources(self) -> bool:
        """All sequences of a source have one label, which was not measured over time."""
        return not (self.class_column or self.annotation or self.telemetry)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The description of a dataset folder.

    Example::

        info = DatasetInfo.load("dataset")
        info.spec.image_shape  # (16, 180, 320, 3)
        info.spec.label.class_names  # ("run", "walk")
        info.splits["train"].num_records  # 1234

    Attributes:
        name: the dataset's name.
        spec: the keys, types and shapes of its records.
        splits: by name (``train``, ``validation``, ``test``).
        counts: of sources and frames during the build (``sources``, ``failed``, ``truncated``,
            ``short_clips_dropped``, ...).
        dropped: sources of each class, in label order, that gave no sequence, by reason (``short_clips``,
            ``failed``). Sources whose class is only known from their frames are not in it.
        options: all options of the build, as JSON; see `build_options`.
        versions: versions of the libraries that decided the records' bytes.
        fingerprint: digest of the sources, options and versions; equal fingerprints mean equal datasets.
        mirrored: targets and signals whose sign changes when frames are mirrored left to right (lateral
            velocity, yaw rate, steering); empty for none, None when unknown.
        adopted: another program wrote the records, which may lack keys, and hold other numbers and sizes of
            frames than ``spec`` says (`tfrecords_schema.foreign`).
        format_version: of the file.
    """

    name: str
    spec: SequenceSpec
    splits: dict[str, SplitInfo]
    counts: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, tuple[int, ...]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    mirrored: tuple[str, ...] | None = None
    adopted: bool = False
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_fields(self, DatasetInfoError)
        # Names of shards begin with the split's when datasets are merged.
        if wrong := [name for name in self.splits if not _is_file_name(name)]:
            raise DatasetInfoError(f"a split's name must be one of a file, got {wrong[0]!r:.300}")
        if unknown := set(self.mirrored or ()) - set(self.spec.value_names):
            raise DatasetInfoError(
                f"mirrored must name targets or signals ({', '.join(self.spec.value_names) or 'none':.300}), "
                f"got {', '.join(sorted(unknown)):.300}"
            )

    @property
    def max_record_bytes(self) -> int:
        """Limit of a record: 64 MiB, and twice the bytes of all that the spec says it holds."""
        spec, label = self.spec, self.spec.label
        if self.adopted:  # its records may hold more
            return MAX_RECORD_BYTES
        pixels = math.prod(spec.image.shape) if spec.image else 0
        numbers = len(label.target_names) + sum(signal.size for signal in spec.signals)
        names = 8 * sum(map(len, label.class_names))  # in UTF-8
        step = 2 * pixels + 8 * numbers + MAX_TEXT_BYTES
        return min(MAX_RECORD_BYTES, (64 << 20) + spec.num_frames * step + names)

    @property
    def build_options(self) -> BuildOptions:
        """The options that readers depend on, typed."""
        return BuildOptions.read(self.options)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON types, in the order of the file: version first, totals at each split's start."""
        fields = {**to_json(self), "options": self.options}
        if not self.spec.label.target_offsets:  # as before there were any
            del fields["spec"]["label"]["target_offsets"]
        for name, split in self.splits.items():
            totals = {"records": split.num_records, "bytes": split.num_bytes}
            fields["splits"][name] = {**totals, **fields["splits"][name]}
        return {"format_version": fields.pop("format_version"), **fields}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> DatasetInfo:
        """Returns the description that `to_json` gave ``fields`` for.

        Raises:
            DatasetInfoError: for another format version, or a field that is missing or has another type.
        """
        version = fields.get("format_version")
        if version is None:
            raise DatasetInfoError("it lacks the field 'format_version'")
        if version != FORMAT_VERSION:
            raise DatasetInfoError(
                f"it has format version {version!r:.100}, and this version of Reelbeam reads "
                f"{FORMAT_VERSION}: build the dataset again, or use the version that built it"
            )
        return from_json(cls, fields, error=DatasetInfoError)

    def save(self, directory: StrPath) -> None:
        """Writes ``dataset_info.json`` into a local folder atomically.

        If writing fails, an earlier file stays as it was, and no other file is left behind.
        """
        write_bytes(join(directory, FILE_NAME), self.to_bytes())

    def to_bytes(self) -> bytes:
        """Returns the contents of ``dataset_info.json``."""
        return (json.dumps(self.to_json(), indent=2, ensure_ascii=True) + "\n").encode()

    @classmethod
    def load(cls, directory: StrPath) -> DatasetInfo:
        """Reads the ``dataset_info.json`` of a folder, which may be on an object store (``s3://...``).

        Raises:
            DatasetInfoError: if the folder does not exist or is not a complete dataset, or if its description
                cannot be read.
        """
        path = join(directory, FILE_NAME)
        try:
            data = read_bytes(path)
        except UrlError as error:
            raise DatasetInfoError(str(error)) from error
        except (FileNotFoundError, NotADirectoryError):
            problem = f"{directory}: expected the folder of a dataset, found none"
            with contextlib.suppress(FileNotFoundError):  # there is no such bucket
                if is_folder(directory):
                    problem = (
                        f"{directory} has no {FILE_NAME}, so it is not a complete dataset: "
                        "finish building it with `pipelines`, or describe records of another program with "
                        "`pipelines adopt`"
                    )
            raise DatasetInfoError(problem) from None
        except OSError as error:
            raise DatasetInfoError(f"{path} cannot be read: {error.strerror}") from error
        return cls.from_bytes(data, path)

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> DatasetInfo:
        """Returns the description in ``data``, the contents of a file that errors call ``name``."""
        try:
            fields = parse_json(data)
        except ValueError as error:
            raise DatasetInfoError(f"{name} is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise DatasetInfoError(f"{name} must hold a JSON object, got {type(fields).__name__}")
        try:
            return cls.from_json(fields)
        except DatasetInfoError as error:
            raise DatasetInfoError(f"{name} cannot be read: {error}") from error
