"""Options of a build, grouped by the stage that reads them.

Those in `DatasetOptions` decide the bytes of the dataset, those in `RunOptions` only how the work is done.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from pipelines.options.base import (
    PipelineOptions,
    has_pattern,
    names,
    parse_offsets,
    parse_splits,
    region_numbers,
)
from pipelines.options.telemetry import TELEMETRY_DEFAULTS, AnnotationOptions, TelemetryOptions
from tfrecords_schema.codec import to_json
from tfrecords_schema.machine import usable_cpus
from tfrecords_schema.options import group, option, parse_bytes, show
from tfrecords_schema.spec import ImageSpec
from tfrecords_schema.split_names import standard_split

FrameTimes = Literal["rate", "names"]
SamplingMode = Literal["windows", "uniform", "last"]
ShortClips = Literal["drop", "pad", "loop"]
Resize = Literal["stretch", "crop", "letterbox"]
Interpolation = Literal["area", "nearest", "linear", "cubic", "lanczos"]
SplitBy = Literal["group", "time"]
GroupScope = Literal["dataset", "class"]
Unlisted = Literal["leave_out", "train"]
LabelAt = Literal["last", "mean", "center", "each"]

MAX_SHARDS = 99_999
"""Limit per split: shard files are numbered with five digits."""

SPLIT_NAME_RULE = "a name of small letters, digits and '_' that begins with a letter"

RATE = {"above": 0, "max": 1000, "unit": "frames/s, such as 10 or 30000/1001"}
"""Settings of an option that is a number of frames per second."""
_LATER_DEFAULTS = {"frame_times": "rate", "crop_region": None, "mask": ()}
"""Defaults of options that datasets of earlier versions do not describe."""
_BYTES = {"parse": parse_bytes, "min": 1, "metavar": "SIZE"}
_BYTES["expected"] = "a size of at least 1 byte, such as 128MiB or 1GB"


def split_name(text: str) -> str | None:
    """Returns the split that ``text`` names: ``validation`` for ``val``; None if it cannot name a split."""
    return standard_split(text) or (text if re.fullmatch(r"[a-z][a-z0-9_]*", text) else None)


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(PipelineOptions):
    """Selection of the frames of a sequence."""

    num_frames: int = option(16, "Frames per sequence", min=1)
    frame_rate: Fraction | None = option(
        None,
        "Frames per second to sample at by time, such as 10 or 30000/1001",
        default_text="every frame as it comes",
        **RATE,
    )
    frame_times: FrameTimes = option(
        "rate",
        "Times of the images in folders of frames. rate: they are --frame_rate apart; names: in their names, "
        "seconds with a fraction or digits since 1970. Then --frame_rate samples them",
    )
    stride: int | None = option(
        None,
        "Frames from the start of one window to the start of the next",
        default_text="the value of --num_frames, so that windows do not overlap",
        min=1,
    )
    sampling: SamplingMode = option(
        "windows",
        "How sequences are taken from a clip. windows: every window of --num_frames frames; uniform: one "
        "sequence with its frames spread evenly over the clip; last: one sequence of the clip's last frames",
    )
    short_clips: ShortClips = option(
        "drop",
        "How clips with fewer than --num_frames frames are handled. drop: they are left out; pad: their "
        "last frame is repeated, and image/valid_frames counts the real ones; loop: they start again",
    )

    def check_combination(self) -> None:
        """Checks that a stride is given for windows only."""
        self.require(
            self.sampling == "windows" or self.stride is None,
            f"--stride needs --sampling windows. Leave it out for --sampling {self.sampling}, "
            f"got --stride {self.stride}",
        )

    @property
    def window_stride(self) -> int:
        """The stride in effect."""
        return self.num_frames if self.stride is None else self.stride


def _parse_stream(text: str) -> int | None:
    """Returns a stream's number; None for ``"best"``."""
    return None if text == "best" else int(text)


@dataclass(frozen=True, kw_only=True)
class FootageOptions(PipelineOptions):
    """The stream to read of a video, and its rate, where the file leaves them open."""

    source_rate: Fraction | None = option(
        None,
        "Frames per second of videos that state none: raw streams, such as .hevc and .mjpeg. Labels by time "
        "need it",
        default_text="25, with a warning",
        **RATE,
    )
    video_stream: int | None = option(
        None,
        "Which video stream of a file is read: its number among them, from 0; or best, which is no picture, "
        "the default one if the file names it, and the largest",
        default_text="best",
        parse=_parse_stream,
        metavar="best|N",
        min=0,
        max=99,
        expected="best, or a number from 0 to 99",
    )


@dataclass(frozen=True, kw_only=True)
class ImageOptions(PipelineOptions):
    """Scaling and encoding of stored frames."""

    size: tuple[int, int] = option(
        (180, 320),
        "Height and width of stored frames in pixels",
        default_text="180x320",
        min=1,
        max=16384,
    )
    resize: Resize = option(
        "stretch",
        "How frames of another aspect ratio are fitted to --size. stretch: distorted; crop: cut at the "
        "edges; letterbox: padded with black",
    )
    interpolation: Interpolation = option("area", "OpenCV interpolation that scales frames")
    image_format: Literal["jpeg", "png"] = option("jpeg", "Encoding of stored frames")
    jpeg_quality: int = option(95, "Quality of JPEG frames from 1 to 100", min=1, max=100)
    grayscale: bool = option(False, "Store one channel instead of RGB")
    crop_region: str | None = option(
        None,
        "Part of the shown picture to keep, before scaling, such as 0,0.2,1,0.85: left, top, right and "
        "bottom as fractions of it, or in pixels if one is above 1",
        default_text="the whole picture",
        metavar="X0,Y0,X1,Y1",
    )
    mask: tuple[str, ...] = option(
        (),
        "Rectangles of the whole picture to make black, such as 0,0.93,1,1 for a line of text that a camera "
        "draws; the flag may be repeated",
        default_text="none",
        commas=False,
        metavar="X0,Y0,X1,Y1",
    )

    def check_combination(self) -> None:
        """Checks that rectangles are some."""
        rectangles = [("mask", text) for text in self.mask]
        rectangles += [("crop_region", self.crop_region)] if self.crop_region is not None else []
        for flag, text in rectangles:
            try:
                left, top, right, bottom = region_numbers(text)
            except ValueError:
                left = top = right = bottom = 0
            self.require(
                0 <= left < right and 0 <= top < bottom,
                f"--{flag} must be left,top,right,bottom of a rectangle, as fractions of the picture or in "
                f"whole pixels, such as 0,0.2,1,0.85, got {text!r}",
            )

    @property
    def changes_picture(self) -> bool:
        """True if parts of the picture are cut off or hidden."""
        return bool(self.crop_region or self.mask)

    @property
    def spec(self) -> ImageSpec:
        """The spec of the stored images."""
        return ImageSpec(
            height=self.size[0],
            width=self.size[1],
            channels=1 if self.grayscale else 3,
            format="JPEG" if self.image_format == "jpeg" else "PNG",
        )


@dataclass(frozen=True, kw_only=True)
class SplitOptions(PipelineOptions):
    """Assignment of groups of sources to splits."""

    splits: tuple[tuple[str, float], ...] = option(
        (("train", 0.8), ("validation", 0.1), ("test", 0.1)),
        "Fraction of the groups per split",
        default_text="train=0.8,validation=0.1,test=0.1",
        parse=parse_splits,
        metavar="NAME=FRACTION,...",
        expected="NAME=FRACTION,... with fractions that sum to 1, such as train=0.9,test=0.1",
    )
    group_by: str | None = option(
        None,
        r"Regular expression with one group, such as '_(g\d+)_', that finds a source's group in its path "
        "relative to the input. All sources of a group go to the same split",
        default_text="each video is its own group",
        metavar="REGEX",
    )
    group_scope: GroupScope = option(
        "dataset",
        "Whether sources of several classes may be one group. dataset: 'p07' is one group in all classes, "
        "such as a person; class: 'g01' is another group in each class, as in UCF101",
    )
    split_by: SplitBy = option(
        "group",
        "How sources are divided. group: whole groups go to one split; time: every source is cut into one "
        "block per split, in order of time, with a sequence's length left out between blocks",
    )
    split_lists: tuple[str, ...] = option(
        (),
        "Published split lists: NAME=FILE with one video per line (UCF101), or FILE with a video and 0, 1 "
        "or 2 per line (HMDB51). They take precedence over --splits",
        flag="split_list",
        commas=False,
        metavar="[NAME=]FILE",
    )
    unlisted: Unlisted | None = option(
        None,
        "How sources without a split are handled if others have one, from a list, a column or a folder. "
        "leave_out: they are not built; train: they join train, and --splits may take other splits out of "
        "it. No other listed split grows",
        default_text="leave_out if train is listed, else train",
    )
    stratify: bool = option(
        False,
        "Move groups so that each class is in every split, if it has as many groups as splits",
    )
    split_folders: Literal["auto", "off"] = option(
        "auto",
        "How folders named train, val, test and the like are read. auto: as splits, if all folders of their "
        "level are named so; off: as any other folder, such as a class",
    )
    seed: int = option(0, "Seed of the hash that assigns groups to splits and segments to shards")

    def check_combination(self) -> None:
        """Checks the fractions, the pattern of groups, and that a split by time has no groups."""
        text = ",".join(f"{name}={show(fraction)}" for name, fraction in self.splits)
        names = [split_name(name) for name, _ in self.splits]
        total = sum(fraction for _, fraction in self.splits)
        self.require(
            all(names)
            and all(0 <= fraction <= 1 for _, fraction in self.splits)
            and abs(total - 1) < 1e-6,
            "--splits must be NAME=FRACTION,... with fractions that sum to 1 and names that are "
            f"{SPLIT_NAME_RULE}, got {text} (sum {total:g})",
        )
        self.require(
            len(set(names)) == len(names),
            f"--splits must name each split once, got {text} (val, valid and dev mean validation)",
        )
        splits = tuple((name, part) for name, (_, part) in zip(names, self.splits, strict=True))
        object.__setattr__(self, "splits", splits)
        if self.group_by is not None:
            groups = self.compile_pattern("group_by").groups
            self.require(
                groups == 1,
                r"--group_by must capture exactly one group, such as '_(g\d+)_', "
                f"got {self.group_by!r} with {groups}",
            )
        flags = ("group_by", "group_scope", "split_lists", "unlisted", "stratify")
        others = self.changed(flags)
        self.require(
            self.split_by == "group" or not others,
            "--split_by time cuts every source into all splits. Leave out flags for groups and lists, "
            f"got {self.typed(others)}",
        )


@dataclass(frozen=True, kw_only=True)
class ShardOptions(PipelineOptions):
    """Division of footage into segments and of records into shards."""

    shards: int | None = option(
        None,
        "Shard files per split, or fewer if the split has fewer segments",
        default_text="as many as --shard_size gives",
        min=1,
        max=MAX_SHARDS,
    )
    shard_size: int = option(
        128 * 2**20, "Size of a shard to aim at", default_text="128MiB", **_BYTES
    )
    segment_length: float = option(
        600.0,
        "Seconds of footage that are built as one piece. Longer sources are cut without losing a sequence",
        above=0,
        unit="s",
    )


@dataclass(frozen=True, kw_only=True)
class LabelOptions(PipelineOptions):
    """Labels of sequences."""

    label_columns: tuple[str, ...] = names(
        "Numeric columns of the manifest or the telemetry that are regression targets"
    )
    label_names: tuple[str, ...] = names("Names of the targets that --label finds", metavar="NAME")
    label_units: tuple[str, ...] = option(
        (), "Units of the targets, in their order, such as m/s,rad/s", metavar="UNIT"
    )
    target_offset: tuple[tuple[str, float], ...] = option(
        (),
        "Numbers subtracted from targets before they are stored as float32, which has 7 digits, and added to "
        "predictions again, such as time=1700000000",
        parse=parse_offsets,
        metavar="NAME=VALUE,...",
        expected="NAME=VALUE,... with targets and finite numbers, such as time=1700000000,lat=52.1",
    )
    label_at: LabelAt = option(
        "last",
        "Which value labels a sequence, if there is one per frame. last: the last frame's; mean: the mean "
        "of all; center: that of frame n // 2 of the n frames that are not padding; each: all of them",
    )
    class_column: str | None = option(
        None, "Column of the telemetry that holds each row's class", metavar="COLUMN"
    )
    classes: tuple[str, ...] = names(
        "Only the sources of these classes are built. Their order here is not that of labels",
        metavar="CLASS",
    )
    max_per_class: int | None = option(
        None,
        "Sources per class at most, over all splits, chosen by --seed",
        default_text="all",
        min=1,
    )
    class_order: str = option(
        "natural",
        "Order of classes, which gives their labels. natural: numbers by value, 2 before 10; text: as text, "
        "10 before 2; or a local file with one class per line",
        metavar="natural|text|FILE",
    )
    mirrored_columns: tuple[str, ...] | None = option(
        None,
        "Targets and signals that change their sign in a mirror, such as yaw_rate; none if no target or "
        "signal does",
        default_text="unknown, so that the trainer refuses to flip frames",
        distinct=True,
        metavar="COLUMN",
    )

    def check_combination(self) -> None:
        """Checks that targets, their names and units, and classes fit each other."""
        columns, names, units = self.label_columns, self.label_names, self.label_units
        self.require(
            not names or not columns,
            "--label_names needs --annotation. Columns have their own names, "
            f"got --label_columns {','.join(columns)} too",
        )
        flag, named = ("--label_columns", columns) if columns else ("--label_names", names)
        self.require(
            not units or not named or len(units) == len(named) or has_pattern(named),
            f"--label_units must name one unit for each of the {len(named)} in {flag}, got {len(units)}",
        )
        if not has_pattern(columns):
            self._check_offsets(columns or names)
        if self.class_column is not None:
            self.require(
                not columns,
                "labels must be classes (--class_column) or numbers (--label_columns), got both",
            )
            self.require(
                not units,
                "--label_units are units of numbers. Leave them out for --class_column, "
                f"got {','.join(units)}",
            )
            self.require(
                self.label_at != "mean",
                "--label_at mean needs numbers. For --class_column take last, center or each, "
                "got --label_at mean",
            )

    def _check_offsets(self, targets: Sequence[str]) -> None:
        offsets = dict(self.target_offset)
        text = ",".join(f"{name}={offset!r}" for name, offset in self.target_offset)
        self.require(
            len(offsets) == len(self.target_offset) and all(map(math.isfinite, offsets.values())),
            f"--target_offset must name each target once, with a finite number, got {text}",
        )
        if targets or self.class_column:
            self.offsets_of(targets)
        negated = [name for name in self.mirrored_columns or () if offsets.get(name)]
        self.require(
            not negated,
            f"--target_offset moves the zero of {', '.join(negated)}, about which --mirrored_columns changes "
            "signs. Leave it out of one of them",
        )

    def offsets_of(self, targets: Sequence[str]) -> tuple[float, ...]:
        """Returns the offset of each target; none if no offset is given.

        Raises:
            UsageError: if ``--target_offset`` names something else.
        """
        offsets = dict(self.target_offset)
        for name in offsets:
            what = (
                f"regression targets ({', '.join(targets)})"
                if targets
                else "regression targets, and there are none"
            )
            self.require(name in targets, f"--target_offset must name {what}, got {name!r}")
        return tuple(float(offsets.get(name, 0)) for name in targets) if offsets else ()


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(PipelineOptions):
    """Everything that decides the bytes of a dataset, besides its sources and library versions."""

    name: str = option("", "Name of the dataset", default_text="the name of the input")
    sampling: SamplingOptions = group(SamplingOptions, "frames of a sequence")
    footage: FootageOptions = group(FootageOptions, "footage")
    image: ImageOptions = group(ImageOptions, "stored frames")
    split: SplitOptions = group(SplitOptions, "splits")
    shard: ShardOptions = group(ShardOptions, "shards")
    label: LabelOptions = group(LabelOptions, "labels")
    annotation: AnnotationOptions | None = group(None, "folders of frames")
    telemetry: TelemetryOptions | None = group(None, "drives with telemetry")

    def check_combination(self) -> None:
        """Checks that labels of drives and of folders of frames are not mixed."""
        self.require(
            self.annotation is None or self.telemetry is None,
            "--annotation is for folders of frames, --telemetry and --no_images are for drives, got both",
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values by field name, as stored in ``dataset_info.json``."""
        fields: dict[str, Any] = {"name": self.name, **to_json(self.sampling)}
        fields |= dict(zip(("height", "width"), self.image.size, strict=True))
        groups = (self.image, self.split, self.shard, self.label, self.annotation, self.telemetry)
        for options in groups:
            fields |= to_json(options) if options else {}
        del fields["size"]
        fields["splits"] = dict(self.split.splits)
        fields["target_offset"] = dict(self.label.target_offset)
        if not self.label.target_offset:  # as before there were any
            del fields["target_offset"]
        for name, usual in {**TELEMETRY_DEFAULTS, **_LATER_DEFAULTS}.items():
            if fields.get(name) == usual:
                del fields[name]
        fields |= {name: v for name, v in to_json(self.footage).items() if v is not None}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}


@dataclass(frozen=True, kw_only=True)
class RunOptions(PipelineOptions):
    """Execution of the work; none of it changes a byte of a dataset."""

    workers: int | None = option(
        None,
        "Workers of the local runner",
        default_text="one per CPU that this process may use",
        min=1,
        max=1024,
    )
    max_failure_rate: float = option(
        0.05, "Fraction of the sources that may fail before the whole run fails", min=0, max=1
    )
    decode_timeout: float = option(
        60.0, "Seconds that a decoder may go without progress", above=0, max=86_400, unit="s"
    )
    staging_size: int = option(
        10 * 2**30,
        "Local disk space per process for copies of sources on an object store",
        default_text="10GiB",
        **_BYTES,
    )
    overwrite: bool = option(False, "Replace another build in --output")
    dry_run: bool = option(False, "Print the plan and stop")
    beam_args: tuple[str, ...] = option(
        (), "Flags for Apache Beam, such as --runner=FlinkRunner", has_flag=False, commas=False
    )

    @property
    def local_workers(self) -> int:
        """Workers of the local runner in effect."""
        return self.workers or usable_cpus()
