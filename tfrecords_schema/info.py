"""`DatasetInfo`: what a dataset folder says of itself in ``dataset_info.json``.

The file is written last, so a folder that has one is a complete dataset. Readers take from it
everything they need: the spec of the records, the names of the classes or targets, the shards of
each split and the statistics of their contents.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfrecords_schema.checks import check_types
from tfrecords_schema.spec import SequenceSpec, SpecError
from tfrecords_schema.storage import join, read_bytes
from tfrecords_schema.store_clients import UrlError, is_url

FORMAT_VERSION = 1
FILE_NAME = "dataset_info.json"


class DatasetInfoError(ValueError):
    """A folder that is not a complete dataset, or a description that cannot be understood."""


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """One TFRecord file: its name in the dataset folder, contents and SHA-256 (hexadecimal)."""

    file: str
    records: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        check_types(self, DatasetInfoError)
        # Readers join it to the folder: a path could lead them out of it.
        if self.file in ("", ".", "..") or "/" in self.file or "\\" in self.file:
            raise DatasetInfoError(f"a shard's file must be a plain file name, got {self.file!r}")
        if self.records < 0 or self.bytes < 0:
            raise DatasetInfoError(
                f"shard {self.file} cannot hold {self.records} records in {self.bytes} bytes"
            )


@dataclass(frozen=True, kw_only=True)
class TargetStatistics:
    """Moments of one regression target, or of one component of an input signal."""

    mean: float
    std: float
    min: float
    max: float

    def __post_init__(self) -> None:
        check_types(self, DatasetInfoError)


@dataclass(frozen=True, kw_only=True)
class SplitInfo:
    """One split: its shards in order, and the statistics of the records in them.

    Padding counts nowhere: statistics by frame (``label_counts`` and ``targets`` of labels by frame,
    ``signals``, pixels) are over the frames before each record's ``valid_frames``.

    Attributes:
        label_counts: records (frames, for labels by frame) of each class, in label order.
        targets: moments of each regression target, in the order of ``target_names``.
        signals: moments of each component of each input signal.
        pixel_mean, pixel_std: by channel, over rows of stored frames that are not padding, 0 to 255.
        pixel_frames: frames that were looked at for them, a sample or all; 0 where that is not known.
        groups: number of distinct groups.
        sources: number of distinct sources.
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

    def __post_init__(self) -> None:
        check_types(self, DatasetInfoError)

    @property
    def num_records(self) -> int:
        """Sequences in all shards."""
        return sum(shard.records for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """Bytes in all shards."""
        return sum(shard.bytes for shard in self.shards)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A dataset folder's description.

    Attributes:
        name: the dataset's name.
        spec: what each record holds.
        splits: by name (``train``, ``validation``, ``test``).
        counts: what became of the sources and clips while building (``sources``, ``failed``,
            ``truncated``, ``short_clips_dropped``, ...).
        options: the options the dataset was built with.
        versions: the versions of the libraries that decide its bytes.
        fingerprint: of the sources, options and versions; equal fingerprints mean equal datasets.
        mirrored: the targets and signals that change their sign when frames are mirrored left to right
            (lateral velocity, yaw rate, steering); empty when none does, None when nobody said.
        adopted: whether others wrote the records, which may then lack keys, hold other numbers of frames, and
            frames of other sizes (`tfrecords_schema.scan`).
        format_version: of this file.
    """

    name: str
    spec: SequenceSpec
    splits: dict[str, SplitInfo]
    counts: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    mirrored: tuple[str, ...] | None = None
    adopted: bool = False
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_types(self, DatasetInfoError)
        if unknown := set(self.mirrored or ()) - set(self.spec.value_names):
            raise DatasetInfoError(
                f"mirrored must name targets or signals ({', '.join(self.spec.value_names) or 'none'}), "
                f"got {', '.join(sorted(unknown))}"
            )

    def to_json(self) -> dict[str, Any]:
        """A dict of plain JSON types, in the order in which people want to read it."""
        fields = dataclasses.asdict(self)
        fields["spec"] = self.spec.to_json()
        for name, split in self.splits.items():
            fields["splits"][name] = {
                "records": split.num_records,
                "bytes": split.num_bytes,
                **fields["splits"][name],
            }
        return {"format_version": fields.pop("format_version"), **fields}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> DatasetInfo:
        """The description that `to_json` gave.

        Raises:
            DatasetInfoError: for another format version, or missing or ill-typed fields.
        """
        try:
            version = fields["format_version"]
            if version != FORMAT_VERSION:
                raise DatasetInfoError(
                    f"it has format version {version!r}, and this version of Reelbeam reads "
                    f"{FORMAT_VERSION}: build the dataset again, or use the version that built it"
                )
            return cls(
                name=fields["name"],
                spec=SequenceSpec.from_json(fields["spec"]),
                splits={name: _split_from_json(split) for name, split in fields["splits"].items()},
                counts=fields["counts"],
                options=fields["options"],
                versions=fields["versions"],
                fingerprint=fields["fingerprint"],
                mirrored=_mirrored(fields.get("mirrored")),
                adopted=fields.get("adopted", False),
            )
        except KeyError as error:
            raise DatasetInfoError(f"it lacks the field {error}") from error
        except (TypeError, AttributeError, SpecError) as error:
            raise DatasetInfoError(f"it garbles a field: {error}") from error

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes ``dataset_info.json`` into a local folder atomically.

        When that fails, an earlier file is as it was, and nothing else is left behind.
        """
        data = self.to_bytes()
        target = Path(directory) / FILE_NAME
        temporary = target.with_name(f".{FILE_NAME}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def to_bytes(self) -> bytes:
        """The contents of ``dataset_info.json``."""
        return (json.dumps(self.to_json(), indent=2, ensure_ascii=True) + "\n").encode()

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> DatasetInfo:
        """Reads the ``dataset_info.json`` of a folder, which may be on an object store (``s3://...``).

        Raises:
            DatasetInfoError: when the folder does not exist, is no complete dataset, or its description
                cannot be understood.
        """
        path: str | Path
        try:
            if is_url(directory):
                path = join(str(directory), FILE_NAME)
                data = read_bytes(path)
            else:
                path = Path(directory) / FILE_NAME
                if not path.parent.is_dir():
                    raise DatasetInfoError(
                        f"{directory}: expected the folder of a dataset, found none"
                    )
                data = path.read_bytes()
        except UrlError as error:
            raise DatasetInfoError(str(error)) from error
        except FileNotFoundError:
            raise DatasetInfoError(
                f"{directory} has no {FILE_NAME}, so it is not a complete dataset: "
                "finish building it with `pipelines`"
            ) from None
        except OSError as error:
            raise DatasetInfoError(f"{path} cannot be read: {error.strerror}") from error
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> DatasetInfo:
        """The description in ``data``, the contents of the file that errors call ``name``."""
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DatasetInfoError(f"{name} is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise DatasetInfoError(f"{name} must hold a JSON object, got {type(fields).__name__}")
        try:
            return cls.from_json(fields)
        except DatasetInfoError as error:
            raise DatasetInfoError(f"{name} cannot be read: {error}") from error

    def check_compatible(self, other: DatasetInfo) -> None:
        """Checks that a model made for this dataset can be used on ``other``.

        Raises:
            DatasetInfoError: naming each difference of spec: shapes, rates, classes and their order,
                targets and their units.
        """
        differences = self.spec.differences(other.spec)
        if differences:
            raise DatasetInfoError(
                f"datasets {self.name!r} and {other.name!r} differ: {'; '.join(differences)}"
            )


def _split_from_json(fields: dict[str, Any]) -> SplitInfo:
    return SplitInfo(
        shards=tuple(ShardInfo(**shard) for shard in _list(fields, "shards")),
        label_counts=tuple(_list(fields, "label_counts")),
        targets=tuple(TargetStatistics(**target) for target in _list(fields, "targets")),
        signals={
            name: tuple(TargetStatistics(**c) for c in _list(fields["signals"], name))
            for name, _ in fields["signals"].items()  # a list here is an error, not no signals
        },
        pixel_mean=tuple(_list(fields, "pixel_mean")),
        pixel_std=tuple(_list(fields, "pixel_std")),
        pixel_frames=fields.get("pixel_frames", 0),
        groups=fields["groups"],
        sources=fields["sources"],
    )


def _mirrored(names: Any) -> Any:
    # Older descriptions say nothing of it.
    return tuple(names) if isinstance(names, list) else names


def _list(fields: dict[str, Any], key: str) -> list[Any]:
    # Strings and objects can be iterated too, and must not be taken for lists.
    if not isinstance(fields[key], list):
        raise DatasetInfoError(f"{key} must be a list, got {fields[key]!r:.200}")
    return fields[key]
