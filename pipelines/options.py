"""What a build is made with: frozen options that check themselves.

The options are grouped by the stage that reads them. Those in `DatasetOptions` decide the bytes of the
dataset and are stored in its ``dataset_info.json``; those in `RunOptions` decide only how the work is done.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from fractions import Fraction
from string import Formatter
from typing import Any, Literal, get_args

import jmespath

from pipelines.errors import UsageError
from tfrecords_schema.spec import ImageSpec, SignalSpec, SpecError

SamplingMode = Literal["windows", "uniform", "last"]
ShortClips = Literal["drop", "pad", "loop"]
Resize = Literal["stretch", "crop", "letterbox"]
Interpolation = Literal["area", "nearest", "linear", "cubic", "lanczos"]
SplitBy = Literal["group", "time"]
LabelAt = Literal["last", "mean", "center", "each"]
TimeUnit = Literal["s", "ms", "us"]
TimeOrigin = Literal["file", "clock"]
Interpolate = Literal["linear", "nearest", "hold"]

_MAX_TIMEOUT = 86_400

MAX_SHARDS = 99_999
"""Of a split: shard files are numbered with five digits."""


SPLIT_NAME_RULE = "a name of small letters, digits and '_' that begins with a letter"


def is_split_name(text: str) -> bool:
    """Whether ``text`` may name a split, and so the files of its shards."""
    return bool(re.fullmatch(r"[a-z][a-z0-9_]*", text))


def _check(holds: bool, expected: str, received: object) -> None:
    if not holds:
        raise UsageError(f"{expected}, got {received}")


def _check_choice(flag: str, value: str, choices: Any) -> None:
    _check(
        value in get_args(choices), f"{flag} must be one of {', '.join(get_args(choices))}", value
    )


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Which frames make a sequence.

    Attributes:
        num_frames: frames a sequence.
        frame_rate: frames/s to sample at by time; None takes every frame as it comes.
        stride: frames from the start of one window to the start of the next; None is ``num_frames``.
        sampling: ``windows`` slides over the clip; ``uniform`` takes one sequence a clip, its frames
            spread evenly over the whole of it; ``last`` takes one, the clip's last frames.
        short_clips: what becomes of a clip with fewer than ``num_frames`` frames: ``drop`` it, ``pad`` it
            with its last frame (counted by ``image/valid_frames``), or ``loop`` it.
    """

    num_frames: int = 16
    frame_rate: Fraction | None = None
    stride: int | None = None
    sampling: SamplingMode = "windows"
    short_clips: ShortClips = "drop"

    def __post_init__(self) -> None:
        _check(self.num_frames >= 1, "--num_frames must be at least 1", self.num_frames)
        _check(
            self.frame_rate is None or 0 < self.frame_rate <= 1000,
            "--frame_rate must be above 0 and at most 1000 frames/s",
            self.frame_rate,
        )
        _check(self.stride is None or self.stride >= 1, "--stride must be at least 1", self.stride)
        _check_choice("--sampling", self.sampling, SamplingMode)
        _check_choice("--short_clips", self.short_clips, ShortClips)
        _check(
            self.sampling == "windows" or self.stride is None,
            f"--stride goes with --sampling windows; leave it out for --sampling {self.sampling}",
            f"--stride {self.stride}",
        )

    @property
    def window_stride(self) -> int:
        """The stride in effect."""
        return self.num_frames if self.stride is None else self.stride


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How a frame is scaled and stored. Sizes are in pixels, quality is JPEG's 1 to 100."""

    height: int = 180
    width: int = 320
    resize: Resize = "stretch"
    interpolation: Interpolation = "area"
    image_format: Literal["jpeg", "png"] = "jpeg"
    jpeg_quality: int = 95
    grayscale: bool = False

    def __post_init__(self) -> None:
        for value in (self.height, self.width):
            _check(
                1 <= value <= 16384,
                "--size must be HEIGHTxWIDTH, each 1 to 16384, such as 180x320",
                f"{self.height}x{self.width}",
            )
        _check_choice("--resize", self.resize, Resize)
        _check_choice("--interpolation", self.interpolation, Interpolation)
        _check(
            self.image_format in ("jpeg", "png"),
            "--image_format must be jpeg or png",
            self.image_format,
        )
        _check(1 <= self.jpeg_quality <= 100, "--jpeg_quality must be 1 to 100", self.jpeg_quality)

    @property
    def spec(self) -> ImageSpec:
        """The stored image these options give."""
        return ImageSpec(
            height=self.height,
            width=self.width,
            channels=1 if self.grayscale else 3,
            format="JPEG" if self.image_format == "jpeg" else "PNG",
        )


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which split a group of sources goes to.

    Attributes:
        splits: fraction of the groups by split name; they sum to 1.
        group_by: regular expression with one group, searched in each source's path relative to the input;
            what it captures is the source's group. None makes every source video its own group.
        split_lists: ``NAME=FILE`` (UCF101: a video a line) or ``FILE`` (HMDB51: a video and 0, 1 or 2).
        split_by: ``group`` deals whole groups to splits; ``time`` cuts every source into a block a split, in
            order of time, with a sequence's length left out between blocks.
        seed: of the hash that deals groups to splits and segments to shards.
    """

    splits: tuple[tuple[str, float], ...] = (("train", 0.8), ("validation", 0.1), ("test", 0.1))
    group_by: str | None = None
    split_by: SplitBy = "group"
    split_lists: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        expected = "--splits must be NAME=FRACTION,... with fractions that sum to 1"
        names = [name for name, _ in self.splits]
        _check(bool(names) and len(set(names)) == len(names), expected, self._splits_text())
        for name, fraction in self.splits:
            _check(is_split_name(name), expected, self._splits_text())
            _check(0 <= fraction <= 1, expected, self._splits_text())
        total = sum(fraction for _, fraction in self.splits)
        _check(abs(total - 1) < 1e-6, expected, f"{self._splits_text()} (sum {total:g})")
        if self.group_by is not None:
            try:
                groups = re.compile(self.group_by).groups
            except (re.error, OverflowError, RecursionError) as error:
                raise UsageError(
                    f"--group_by must be a regular expression, got {self.group_by!r}: {error}"
                ) from error
            _check(
                groups == 1,
                r"--group_by must capture exactly one group, such as '_(g\d+)_'",
                f"{self.group_by!r} with {groups}",
            )
        _check_choice("--split_by", self.split_by, SplitBy)
        _check(
            self.split_by == "group" or not (self.group_by or self.split_lists),
            "--split_by time cuts every drive into all splits: leave out --group_by and --split_list",
            "both",
        )

    def _splits_text(self) -> str:
        return ",".join(f"{name}={fraction:g}" for name, fraction in self.splits)


@dataclass(frozen=True, kw_only=True)
class ShardOptions:
    """How work and records are cut up.

    Attributes:
        shards: files a split (fewer when it has fewer segments); None derives it from ``shard_size``.
        shard_size: bytes a shard to aim at.
        segment_length: seconds of footage that are built as one piece; a longer source is cut.
    """

    shards: int | None = None
    shard_size: int = 128 * 2**20
    segment_length: float = 600.0

    def __post_init__(self) -> None:
        _check(
            self.shards is None or 1 <= self.shards <= MAX_SHARDS,
            f"--shards must be 1 to {MAX_SHARDS}",
            self.shards,
        )
        _check(self.shard_size >= 1, "--shard_size must be at least 1 byte", self.shard_size)
        _check(
            0 < self.segment_length < math.inf,
            "--segment_length must be above 0 s, and finite",
            self.segment_length,
        )


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What a sequence is labelled with.

    Attributes:
        label_columns: numeric columns, of a manifest or of telemetry, that are regression targets.
        label_names: names of the targets, where an annotation file gives none.
        label_units: of the targets.
        label_at: which frame's value a sequence takes, where there is one for each: the ``last`` frame's, the
            ``mean`` of all, the ``center`` one's (number ``n // 2``, from 0, of the ``n`` that are not
            padding); ``each`` keeps them all.
        class_column: column of telemetry that holds the class of each row.
    """

    label_columns: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    label_units: tuple[str, ...] = ()
    label_at: LabelAt = "last"
    class_column: str | None = None

    def __post_init__(self) -> None:
        _check_names("--label_columns", self.label_columns)
        _check_names("--label_names", self.label_names)
        _check(
            not self.label_names or not self.label_columns,
            "--label_names goes with --annotation; columns have names of their own",
            f"--label_columns {','.join(self.label_columns)} too",
        )
        if self.label_columns:
            _check(
                not self.label_units or len(self.label_units) == len(self.label_columns),
                f"--label_units must name as many units as --label_columns names columns "
                f"({len(self.label_columns)})",
                len(self.label_units),
            )
        else:
            _check(
                not (self.label_units and self.label_names)
                or len(self.label_units) == len(self.label_names),
                f"--label_units must name as many units as there are --label_names "
                f"({len(self.label_names)})",
                len(self.label_units),
            )
        _check_choice("--label_at", self.label_at, LabelAt)
        _check(
            self.class_column is None or not self.label_columns,
            "labels must be classes (--class_column) or numbers (--label_columns)",
            "both",
        )
        _check(
            self.class_column is None or not self.label_units,
            "--label_units are of numbers; leave them out for --class_column",
            ",".join(self.label_units),
        )
        _check(
            self.class_column is None or self.label_at != "mean",
            "--label_at mean goes with numbers; for --class_column take last, center or each",
            "--label_at mean",
        )


@dataclass(frozen=True, kw_only=True)
class AnnotationOptions:
    """Where the label of a folder of frames stands.

    Attributes:
        annotation: name of a JSON file in each folder.
        label: JMESPath expression (https://jmespath.org) that finds the label in it.
    """

    annotation: str
    label: str

    def __post_init__(self) -> None:
        _check(
            bool(self.annotation) and "/" not in self.annotation,
            "--annotation must be the name of a file in each folder, such as annotation.json",
            repr(self.annotation),
        )
        try:
            jmespath.compile(self.label)
        except jmespath.exceptions.JMESPathError as error:
            reason = " ".join(str(error).split())
            raise UsageError(
                "--label must be a JMESPath expression, such as '[0].velocity', "
                f"got {self.label!r}: {reason}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class TelemetryOptions:
    """What is measured along a drive, where it stands and how it meets the frames.

    Attributes:
        telemetry: path of a video's telemetry, relative to the video's folder, with ``{stem}`` (the file's
            name without its extension), ``{name}`` (with it), ``{parent}`` (its folder) and ``{drive}``.
        telemetry_columns: names of the columns, for files without a header.
        time_column: column of times; None: row i belongs to frame i.
        time_unit: of numbers in it.
        time_offset: seconds added to the telemetry's times.
        time_origin: ``file``: times count from the first frame, and dates from the telemetry's first;
            ``clock``: times are dates or seconds since 1970 (UTC), and the video's creation time is its first
            frame's.
        interpolate: how a value between two rows is found.
        max_gap: seconds between two rows beyond which nothing is interpolated.
        angle_columns: columns of degrees, which go around: 359 and 1 are 2 apart.
        signal_columns: columns that become input signals, one each.
        signal_units: of the signals.
        no_images: sequences of signals alone, from the telemetry alone.
        join: regular expression with two groups (named ``drive`` and ``order``, or not), the drive's name and
            the order of the file in it (or one, the drive's name), searched in each video's path relative to
            the input; None: a video is a drive.
    """

    telemetry: str | None = None
    telemetry_columns: tuple[str, ...] = ()
    time_column: str | None = None
    time_unit: TimeUnit = "s"
    time_offset: float = 0.0
    time_origin: TimeOrigin = "file"
    interpolate: Interpolate = "linear"
    max_gap: float = 2.0
    angle_columns: tuple[str, ...] = ()
    signal_columns: tuple[str, ...] = ()
    signal_units: tuple[str, ...] = ()
    no_images: bool = False
    join: str | None = None

    def __post_init__(self) -> None:
        _check(
            self.telemetry is not None or self.no_images,
            "--telemetry must say where a video's telemetry lies, such as '{stem}.csv'",
            "none",
        )
        _check_template(self.telemetry or "")
        for flag in ("telemetry_columns", "angle_columns", "signal_columns"):
            _check_names(f"--{flag}", getattr(self, flag))
        _check(
            not self.signal_units or len(self.signal_units) == len(self.signal_columns),
            f"--signal_units must name as many units as --signal_columns names columns "
            f"({len(self.signal_columns)})",
            len(self.signal_units),
        )
        _check_choice("--time_unit", self.time_unit, TimeUnit)
        _check_choice("--time_origin", self.time_origin, TimeOrigin)
        _check_choice("--interpolate", self.interpolate, Interpolate)
        _check(math.isfinite(self.time_offset), "--time_offset must be finite", self.time_offset)
        _check(0 < self.max_gap < math.inf, "--max_gap must be above 0 s, and finite", self.max_gap)
        self._check_times()
        _check(
            not (self.no_images and self.join),
            "--join is for videos; leave it out for --no_images",
            f"--join {self.join!r}",
        )
        _check(
            not self.no_images or bool(self.signal_columns),
            "--no_images needs --signal_columns to make sequences of",
            "none",
        )
        if self.join is not None:
            try:
                pattern = re.compile(self.join)
            except (re.error, OverflowError, RecursionError) as error:
                raise UsageError(
                    f"--join must be a regular expression, got {self.join!r}: {error}"
                ) from error
            groups, names = pattern.groups, set(pattern.groupindex)
            _check(
                not names or names == {"drive", "order"} or (names == {"drive"} and groups == 1),
                "the groups of --join must be named drive and order, or not be named",
                repr(self.join),
            )
            _check(
                groups in (1, 2),
                r"--join must capture the drive, and the order of the file in it, such as '(\w+)_(\d+)\.mp4'",
                f"{self.join!r} with {groups} groups",
            )
        try:
            self.signals  # noqa: B018 - names that cannot be keys of a record are refused
        except SpecError as error:
            raise UsageError(f"--signal_columns: {error}: rename the column") from error

    def _check_times(self) -> None:
        """Times that are not read cannot be shifted."""
        may_have_times = self.time_column is not None or (
            self.telemetry is None or self.telemetry.lower().endswith(".gpx")
        )
        plain = TelemetryOptions.__dataclass_fields__
        for flag in ("time_unit", "time_offset", "time_origin", "interpolate", "max_gap"):
            _check(
                may_have_times or getattr(self, flag) == plain[flag].default,
                f"--{flag} goes with --time_column, which names the column of times",
                f"--{flag} {getattr(self, flag)}",
            )

    @property
    def signals(self) -> tuple[SignalSpec, ...]:
        """What the signal columns become in records."""
        units = self.signal_units or ("",) * len(self.signal_columns)
        return tuple(
            SignalSpec(name=name, unit=unit)
            for name, unit in zip(self.signal_columns, units, strict=True)
        )


_TEMPLATE_FIELDS = ("stem", "name", "parent", "drive")


def _check_template(template: str) -> None:
    expected = "--telemetry may hold {stem}, {name}, {parent} and {drive}, such as '{stem}.csv'"
    try:
        parsed = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError:
        parsed = [("", "{", "", None)]
    plain = all(
        name in _TEMPLATE_FIELDS and not specification and conversion is None
        for _, name, specification, conversion in parsed
    )
    _check(plain, expected, repr(template))


def _check_names(flag: str, names: tuple[str, ...]) -> None:
    text = ",".join(names)
    _check(all(names), f"{flag} must be names, separated by commas", f"an empty one in {text!r}")
    _check(len(set(names)) == len(names), f"{flag} must be distinct", text)


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """Everything that decides the bytes of a dataset, besides its sources and library versions."""

    name: str
    sampling: SamplingOptions = SamplingOptions()
    image: ImageOptions = ImageOptions()
    split: SplitOptions = SplitOptions()
    shard: ShardOptions = ShardOptions()
    label: LabelOptions = LabelOptions()
    annotation: AnnotationOptions | None = None
    telemetry: TelemetryOptions | None = None

    def to_json(self) -> dict[str, Any]:
        """Flag names to plain JSON values, as stored in ``dataset_info.json``."""
        fields: dict[str, Any] = {"name": self.name}
        for group in (self.sampling, self.image, self.split, self.shard, self.label):
            fields |= dataclasses.asdict(group)
        for source in (self.annotation, self.telemetry):
            fields |= dataclasses.asdict(source) if source else {}
        if self.sampling.frame_rate is not None:
            fields["frame_rate"] = str(self.sampling.frame_rate)
        fields["splits"] = dict(self.split.splits)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a build is run; none of it changes a byte of the dataset.

    Attributes:
        workers: of the local runner; None is one a CPU this process may use.
        max_failure_rate: fraction of the sources that may fail before the build does.
        decode_timeout: seconds a decoder may go without progress.
        overwrite: replace another build in the output folder.
        dry_run: print the plan and stop.
        beam_args: flags for Beam itself (``--runner=...``).
    """

    workers: int | None = None
    max_failure_rate: float = 0.05
    decode_timeout: float = 60.0
    overwrite: bool = False
    dry_run: bool = False
    beam_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(
            self.workers is None or 1 <= self.workers <= 1024,
            "--workers must be 1 to 1024",
            self.workers,
        )
        _check(
            0 <= self.max_failure_rate <= 1,
            "--max_failure_rate must be 0 to 1",
            self.max_failure_rate,
        )
        _check(
            0 < self.decode_timeout <= _MAX_TIMEOUT,
            f"--decode_timeout must be above 0 and at most {_MAX_TIMEOUT} s",
            self.decode_timeout,
        )

    @property
    def local_workers(self) -> int:
        """Workers of the local runner in effect."""
        return self.workers or usable_cpus()


def usable_cpus() -> int:
    """CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
